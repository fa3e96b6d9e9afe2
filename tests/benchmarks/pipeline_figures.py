"""Two stages on real data, against what either stage reaches alone."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from figures import data_folder, figure

import coldray
from coldray.experiments.space import load_study

METRIC = "ndcg@10"
SINGLE = ("ease", "deepfm", "item_knn", "als")
"""Models that might be best alone, each searched by its own study file with as many trials as the pipeline."""
TRIALS = 8


@figure("two_stage_over_single", unit="×", bar=1.03, better="higher")
def two_stages() -> float:
    """EASE with DeepFM behind it over the best single model, by validation, in test ndcg@10 on ml-100k temporal."""
    data = coldray.load_dataset("ml-100k", data_dir=data_folder("ml-100k"))
    folder = Path(__file__).parents[2] / "tune_spaces"
    validation, test = {}, {}
    with TemporaryDirectory() as runs:
        for name in (*SINGLE, "two_stages"):
            changes = {"search.trials": TRIALS, "splits.protocol": "temporal", "splits.n_splits": 1}
            changes |= {"search.trials": 20} if name == "ease" else {}  # its grid has no more
            study = coldray.tune(load_study(folder / f"{name}.yaml", changes), data, output=runs, quiet=True)
            validation[name] = study.result.selection.winner.mean(METRIC)
            test[name] = study.test[METRIC]
            told = f"{name}: validation {validation[name]:.4f}, test {test[name]:.4f}, {dict(study.config)}"
            print(told, file=sys.stderr)
    best = max(SINGLE, key=validation.__getitem__)
    print(f"the best single model on validation is {best}", file=sys.stderr)
    return test["two_stages"] / test[best]
