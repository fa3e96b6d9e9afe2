"""Two stages on real data, against what either stage reaches alone."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figures import data_folder, figure

import coldray
from coldray.experiments.space import load_study

METRIC = "ndcg@10"
TRIALS = 8
SINGLE: dict[str, dict[str, Any]] = {
    "ease": {"search.trials": 20},  # its whole grid
    "knn": {"search.trials": TRIALS},
    "als": {"search.trials": TRIALS},
    "deepfm": {"space": {"loss": {"choice": ["pointwise", "pairwise"]}}, "search.trials": 2, "scheduler": None},
}
"""Models that might be best alone, and what differs from their study files. Of DeepFM the same is searched as in the
pipeline, where its loss is; one of its trainings takes a minute."""


@figure("two_stage_over_single", unit="×", bar=1.03, better="higher")
def two_stages() -> float:
    """EASE with DeepFM behind it over the best single model, by validation, in test ndcg@10 on ml-100k temporal."""
    data = coldray.load_dataset("ml-100k", data_dir=data_folder("ml-100k"))
    folder = Path(__file__).parents[2] / "tune_spaces"
    validation, test = {}, {}
    with TemporaryDirectory() as runs:
        for name, changes in {**SINGLE, "two_stages": {"search.trials": TRIALS}}.items():
            settings = {**changes, "splits.protocol": "temporal", "splits.n_splits": 1}
            study = coldray.tune(load_study(folder / f"{name}.yaml", settings), data, output=runs, quiet=True)
            validation[name] = study.result.selection.winner.mean(METRIC)
            test[name] = study.test[METRIC]
            told = f"{name}: validation {validation[name]:.4f}, test {test[name]:.4f}, {dict(study.config)}"
            print(told, file=sys.stderr, flush=True)
    best = max(SINGLE, key=validation.__getitem__)
    print(f"the best single model on validation is {best}", file=sys.stderr)
    return test["two_stages"] / test[best]
