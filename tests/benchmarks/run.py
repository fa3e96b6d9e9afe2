"""Measure all figures, or those named: ``python tests/benchmarks/run.py [FIGURE...]``."""

import sys

import figures
import kernel_figures  # noqa: F401 - importing registers its figures
import marec_figures  # noqa: F401 - importing registers its figures
import ranking_figures  # noqa: F401
import scale_figures  # noqa: F401
import training_figures  # noqa: F401

if __name__ == "__main__":
    sys.exit(figures.main())
