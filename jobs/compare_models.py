#!/usr/bin/env python
"""Compare any of the models on the same splits: quality, significance, costs, nearest items. See --help."""

import sys
from pathlib import Path

from coldray.cli.command import comparison_main

COMPARISON = Path(__file__).resolve().parents[1] / "tune_spaces" / "compare_models.yaml"

if __name__ == "__main__":
    sys.exit(comparison_main(__doc__, COMPARISON, "compare_models.py"))
