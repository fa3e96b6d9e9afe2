#!/usr/bin/env python
"""Check a dataset and its split before anything is tuned on it: sizes, overlap, leaks, ratings, factors. See --help."""

import sys

from coldray.cli.command import check_main

if __name__ == "__main__":
    sys.exit(check_main(__doc__))
