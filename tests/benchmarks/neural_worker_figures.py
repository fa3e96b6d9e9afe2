"""Networks trained by two workers against one, and by a GPU against the CPU: the same metric at the end, how fast."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

import ray
import torch
from figures import SkippedError, data_folder, figure

from coldray.cli.ray.cluster import start_ray
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.experiments.folds import prepare_task
from coldray.features.builder import FeatureConfig
from coldray.models.neural.base import METRIC
from coldray.models.registry import NETWORKS, model_type
from coldray.training.history import EpochRecord
from coldray.training.options import FitConfig
from coldray.training.progress import TrainingListener

EPOCHS = 6
"""The defaults otherwise; by then every network has left the lists that it begins with."""
BY_WORKERS = {"one worker": FitConfig(), "two": FitConfig(workers=2)}


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


@figure("neural_gpu_gap", unit=METRIC, bar=0.01)
@figure("neural_gpu_speed_ratio", unit="×", bar=1.0, better="higher")
def one_gpu() -> dict[str, float]:
    """A GPU, in its own precision, against the CPU of the machine, over all networks on ml-100k.

    The largest difference of the metric, and the median over the networks of how many times as many examples a second
    are trained on; both rates are told.
    """
    if not torch.cuda.is_available():
        raise SkippedError("no GPU")
    data = load_dataset(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")))
    fold = next(interaction_splits(data, protocol="leave-last")).test_fold
    start_ray()
    try:
        rates: list[list[float]] = []
        gaps = [gap(name, fold, {"CPU": FitConfig(), "GPU": FitConfig(device="cuda")}, rates) for name in NETWORKS]
    finally:
        ray.shutdown()
    return {
        "neural_gpu_gap": max(gaps),
        "neural_gpu_speed_ratio": statistics.median(on_gpu / on_cpu for on_cpu, on_gpu in rates),
    }


class Rates(TrainingListener):
    """Keeps the examples a second of each epoch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def epoch_done(self, record: EpochRecord) -> None:
        self.epochs.append(record.examples_per_second)


def gap(
    name: str, fold: Any, ways: Mapping[str, FitConfig] = BY_WORKERS, rates: list[list[float]] | None = None
) -> float:
    """Return by how much the best validation metric differs between two ways to train; tell it, and keep the rates."""
    kind = model_type(name)
    train = prepare_task(fold, FeatureConfig(), reads=kind(kind.config_type()).reads).train
    best, told, measured = [], [], []
    config = kind.config_type.model_validate({"epochs": EPOCHS, "patience": None, "refit": False})
    for way, how in ways.items():
        epochs = Rates()
        model: Any = kind(config).fit(train, options=how.options(epochs))
        best.append(float(model.history[METRIC].max()))
        measured.append(statistics.median(epochs.epochs))
        told.append(f"{best[-1]:.4f} by {way} ({measured[-1]:,.0f} examples/s)")
    print(f"{name}: {METRIC} {', '.join(told)}", file=sys.stderr, flush=True)
    if rates is not None:
        rates.append(measured)
    return abs(best[0] - best[1])
