#!/usr/bin/env python
"""Compare any of the models on the same splits: quality, significance, costs, nearest items. See --help."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("compare", __doc__, comparison=["compare_models"]))
