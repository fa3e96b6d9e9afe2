#!/usr/bin/env python
"""Make lists for all users of parquet histories with a registered model, restartable by partition. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("recommend", __doc__))
