#!/usr/bin/env python
"""Tune a network on the splits of its study file and register the winner. See --help for every option."""

import sys
from pathlib import Path

from coldray.cli.command import networks_main

SPACES = Path(__file__).resolve().parents[1] / "tune_spaces"

if __name__ == "__main__":
    sys.exit(networks_main(__doc__, SPACES))
