#!/usr/bin/env python
"""Tune MARec on cold-item splits and register the winner. See --help for every option."""

import sys
from pathlib import Path

from coldray.cli.command import main

STUDY = Path(__file__).resolve().parents[1] / "tune_spaces" / "marec.yaml"

if __name__ == "__main__":
    sys.exit(main(__doc__, STUDY))
