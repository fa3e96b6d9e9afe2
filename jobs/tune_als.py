#!/usr/bin/env python
"""Tune ALS on each category of Amazon data, or on another dataset, and test each choice. See --help."""

import sys
from pathlib import Path

from coldray.cli.command import categories_main

STUDY = Path(__file__).resolve().parents[1] / "tune_spaces" / "als.yaml"

if __name__ == "__main__":
    sys.exit(categories_main(__doc__, STUDY, Path(__file__).name))
