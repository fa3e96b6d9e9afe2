#!/usr/bin/env python
"""Compare MARec with and without its learned refinements over splits and seeds. See --help for every option."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("ablation", __doc__, study="marec_plus"))
