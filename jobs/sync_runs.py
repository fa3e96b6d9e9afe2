#!/usr/bin/env python
"""Send what studies have logged, and the tracking server has not taken yet, to the server. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("sync", __doc__))
