#!/usr/bin/env python
"""Make lists for all users of parquet histories with a registered model, restartable by partition. See --help."""

import sys

from coldray.cli.command import recommend_main

if __name__ == "__main__":
    sys.exit(recommend_main(__doc__))
