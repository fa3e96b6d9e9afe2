#!/usr/bin/env python
"""Tune several models on the same cold-item splits and register the best. See --help for every option."""

import sys
from pathlib import Path

from coldray.cli.command import comparison_main

COMPARISON = Path(__file__).resolve().parents[1] / "tune_spaces" / "coldstart.yaml"

if __name__ == "__main__":
    sys.exit(comparison_main(__doc__, COMPARISON, "tune_coldstart.py"))
