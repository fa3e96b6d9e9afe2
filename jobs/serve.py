#!/usr/bin/env python
"""Serve the champion of the MLflow registry behind HTTP until interrupted. See --help for every option."""

import sys

from coldray.command.app import job

if __name__ == "__main__":
    sys.exit(job("serve", __doc__))
