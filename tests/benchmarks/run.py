"""Measure all figures, or those named: ``python tests/benchmarks/run.py [FIGURE...]``."""

import sys

import figures
import ranking_figures  # noqa: F401 - importing registers its figures

if __name__ == "__main__":
    sys.exit(figures.main())
