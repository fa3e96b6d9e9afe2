#!/usr/bin/env python
"""Tune MARec on cold-item splits and register the winner. See --help for every option."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("tune", __doc__, study="marec"))
