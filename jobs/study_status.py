#!/usr/bin/env python
"""Show how far a running or finished study is: progress, the best trials, failures and the time left. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("status", __doc__))
