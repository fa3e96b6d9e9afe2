#!/usr/bin/env python
"""Tune several models on the same cold-item splits and register the best. See --help for every option."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("compare", __doc__, comparison=["coldstart"]))
