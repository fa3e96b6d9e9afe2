#!/usr/bin/env python
"""Serve the champion of the MLflow registry behind HTTP until interrupted. See --help for every option."""

import sys

from coldray.cli.command import serve_main

if __name__ == "__main__":
    sys.exit(serve_main(__doc__))
