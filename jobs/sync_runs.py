#!/usr/bin/env python
"""Send what studies have logged, and the tracking server has not taken yet, to the server. See --help."""

import sys

from coldray.cli.command import sync_main

if __name__ == "__main__":
    sys.exit(sync_main(__doc__))
