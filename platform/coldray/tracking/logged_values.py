"""What studies and comparisons find, as the metrics and parameters that MLflow keeps."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mlflow.entities import Metric

from coldray.experiments.inspection.measure import Inspection
from coldray.experiments.inspection.slices import named
from coldray.experiments.results import FoldMetrics, Lift, common_metrics, mean_metric, std_metric


def fold_metrics(prefix: str, folds: Sequence[FoldMetrics]) -> list[Metric]:
    """Return means, standard deviations and, by step, the value of each split; ``@`` becomes ``_at_``."""
    if not folds:
        return []
    logged = []
    for name in common_metrics(folds):
        key = f"{prefix}_{name.replace('@', '_at_')}"
        logged.append(metric_of(key, mean_metric(tuple(folds), name)))
        logged.append(metric_of(f"{key}_std", std_metric(tuple(folds), name)))
        logged += [metric_of(f"{key}_split", fold.value(name), step) for step, fold in enumerate(folds)]
    return logged


def lift_metrics(lifts: Mapping[str, Lift]) -> list[Metric]:
    """Return each difference to a baseline and its adjusted p, by metric; ``@`` becomes ``_at_``."""
    logged = []
    for name, lift in lifts.items():
        key = name.replace("@", "_at_")
        logged += [metric_of(f"lift_{key}", lift.difference), metric_of(f"lift_{key}_p", lift.p_adjusted)]
    return logged


def inspection_metrics(inspections: Sequence[Inspection]) -> list[Metric]:
    """Return the costs of a winner and its metrics on parts of the test, means over splits; ``@`` becomes ``_at_``."""
    if not inspections:
        return []
    found: dict[str, list[float]] = {}
    for one in inspections:
        found.setdefault("fit_seconds", []).append(one.costs.fit_seconds)
        found.setdefault("score_seconds", []).append(one.costs.score_seconds)
        if one.costs.fit_peak_bytes is not None:
            found.setdefault("fit_peak_bytes", []).append(one.costs.fit_peak_bytes)
        for name, value in named(one.slices):
            found.setdefault(f"test.{name.replace('@', '_at_')}", []).append(value)
    return [metric_of(name, statistics.fmean(values)) for name, values in found.items()]


def metric_of(key: str, value: float, step: int = 0) -> Metric:
    """Return a metric with the time of now."""
    return Metric(key, value, int(time.time() * 1000), step)


def params_of(values: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as MLflow keeps them: text."""
    return {
        name: value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict) else str(value)
        for name, value in values.items()
    }
