"""An ablation on the MLflow tracking server: one parent run, one nested run a mode."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mlflow.entities import Metric, RunTag

from coldray.tracking.runs import (
    PARENT_TAG,
    StudyTracker,
    fold_metrics,
    lift_metrics,
    metric_of,
    params_of,
    server_call,
)
from coldray.tuning.ablation_result import AblationResult, LossCurve, ModeResult

BATCH_LIMIT = 1000
"""Metrics that MLflow takes in one call."""


class AblationTracker(StudyTracker):
    """Logs the modes of an ablation, its curves and its files."""

    kind: ClassVar[str] = "ablation"

    @server_call
    def log_ablation(self, result: AblationResult, artifacts: Sequence[Path]) -> None:
        """Log each mode as a nested run, the training curves by epoch, and the files on the parent run."""
        for mode in result.modes:
            self._log_mode(mode)
        self._log_all(self.run_id, _summary(result))
        self._log_all(self.run_id, _curves(result.curves))
        for path in artifacts:
            self.client.log_artifact(self.run_id, str(path), "ablation")

    def _log_mode(self, mode: ModeResult) -> None:
        tags = {PARENT_TAG: self.run_id, "coldray.kind": "mode"}
        run_id = self.client.create_run(self.experiment_id, tags=tags, run_name=mode.name).info.run_id
        self._trials[mode.name] = run_id
        metrics = [*fold_metrics("test", mode.folds), *lift_metrics(mode.lifts)]
        self.client.log_batch(run_id, params=params_of(mode.config), tags=[RunTag("coldray.mode", mode.name)])
        self._log_all(run_id, metrics)
        self.client.set_terminated(run_id, "FINISHED")

    def _log_all(self, run_id: str, metrics: Sequence[Metric]) -> None:
        for start in range(0, len(metrics), BATCH_LIMIT):
            self.client.log_batch(run_id, metrics=metrics[start : start + BATCH_LIMIT])


def _summary(result: AblationResult) -> list[Metric]:
    baseline, full = result.modes[0], result.modes[-1]
    pairs = [("baseline", baseline), ("full", full)]
    logged = [metric for name, mode in pairs for metric in fold_metrics(f"{name}_test", mode.folds)]
    return [*logged, metric_of("ablation_seconds", result.seconds)]


def _curves(curves: Mapping[str, Sequence[LossCurve]]) -> list[Metric]:
    """Return each term of each fold by epoch."""
    return [
        metric_of(f"{term.replace(' ', '_')}/{curve.fold.replace(' / ', '_').replace(' ', '_')}", float(value), epoch)
        for term, of_folds in curves.items()
        for curve in of_folds
        for epoch, value in enumerate(curve.values)
        if math.isfinite(value)
    ]
