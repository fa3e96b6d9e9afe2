#!/usr/bin/env python
"""Check a dataset and its split before anything is tuned on it: sizes, overlap, leaks, ratings, factors. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("check", __doc__))
