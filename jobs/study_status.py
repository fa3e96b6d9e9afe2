#!/usr/bin/env python
"""Show how far a running or finished study is: progress, the best trials, failures and the time left. See --help."""

import sys

from coldray.cli.command import status_main

if __name__ == "__main__":
    sys.exit(status_main(__doc__))
