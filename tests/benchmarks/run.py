"""Measure all figures, or those named: ``python tests/benchmarks/run.py [FIGURE...]``."""

import sys

import batch_figures  # noqa: F401 - importing registers its figures
import classical_figures  # noqa: F401 - importing registers its figures
import command_figures  # noqa: F401
import docs_figures  # noqa: F401
import feature_figures  # noqa: F401 - importing registers its figures
import figures
import gram_figures  # noqa: F401
import ingest_figures  # noqa: F401
import job_figures  # noqa: F401 - importing registers its figures
import kernel_figures  # noqa: F401 - importing registers its figures
import marec_figures  # noqa: F401 - importing registers its figures
import moment_figures  # noqa: F401
import mutation_figures  # noqa: F401
import neural_figures  # noqa: F401
import neural_worker_figures  # noqa: F401
import pipeline_figures  # noqa: F401
import ranking_figures  # noqa: F401
import rating_figures  # noqa: F401
import retrieval_figures  # noqa: F401
import scale_figures  # noqa: F401
import sequence_figures  # noqa: F401
import serving_figures  # noqa: F401
import sparse_figures  # noqa: F401
import study_figures  # noqa: F401
import suite_figures  # noqa: F401
import training_figures  # noqa: F401
import user_figures  # noqa: F401
import warming_figures  # noqa: F401

if __name__ == "__main__":
    sys.exit(figures.main())
