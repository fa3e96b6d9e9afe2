#!/usr/bin/env python
"""Tune a network on the splits of its study file and register the winner. See --help for every option."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("tune", __doc__, networks=True, study=""))
