"""Networks trained by two workers against one: the same global batch, and the same validation metric at the end."""

from __future__ import annotations

import sys
import time
from typing import Any

import ray
from figures import data_folder, figure

from coldray.data.interaction_splits import interaction_splits
from coldray.data.sources import SourceConfig, load_dataset
from coldray.features.builder import FeatureConfig
from coldray.models.neural import METRIC
from coldray.models.registry import NETWORKS, model_type
from coldray.tuning.folds import prepare_task
from coldray.workflows.cluster import start_ray

EPOCHS = 6
"""The defaults otherwise; by then every network has left the lists that it begins with."""


@figure("neural_two_workers_gap", unit=METRIC, bar=0.01)
def two_workers() -> float:
    """The largest difference over all networks, each on ml-100k with a tenth held out to validate on."""
    data = load_dataset(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")))
    fold = next(interaction_splits(data, protocol="leave-last")).test_fold
    start_ray(cpus=2)
    try:
        return max(gap(name, fold) for name in NETWORKS)
    finally:
        ray.shutdown()


def gap(name: str, fold: Any) -> float:
    """Return by how much the best validation metric of two workers differs from that of one; tell both."""
    kind = model_type(name)
    train = prepare_task(fold, FeatureConfig(), reads=kind(kind.config_type()).reads).train
    best, seconds = [], []
    for workers in (1, 2):
        started = time.perf_counter()
        settings = {"epochs": EPOCHS, "patience": None, "refit": False, "workers": workers}
        model: Any = kind(kind.config_type.model_validate(settings)).fit(train)
        best.append(float(model.history[METRIC].max()))
        seconds.append(time.perf_counter() - started)
    print(
        f"{name}: {METRIC} {best[0]:.4f} by one worker ({seconds[0]:.0f} s), {best[1]:.4f} by two ({seconds[1]:.0f} s)",
        file=sys.stderr,
        flush=True,
    )
    return abs(best[0] - best[1])
