#!/usr/bin/env python
"""Tune ALS on each category of Amazon data, or on another dataset, and test each choice. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("tune", __doc__, study="als", phase="all"))
