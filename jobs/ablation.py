#!/usr/bin/env python
"""Compare MARec with and without its learned refinements over splits and seeds. See --help for every option."""

import sys
from pathlib import Path

from coldray.cli.command import ablation_main

STUDY = Path(__file__).resolve().parents[1] / "tune_spaces" / "marec_plus.yaml"

if __name__ == "__main__":
    sys.exit(ablation_main(__doc__, STUDY))
