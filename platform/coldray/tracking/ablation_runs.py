"""An ablation on the MLflow tracking server: one parent run, one nested run a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from mlflow.entities import Metric

from coldray.experiments.ablation.result import AblationResult, LossCurve, ModeResult
from coldray.experiments.edges import edge_words
from coldray.tracking.logged_values import fold_metrics, lift_metrics, metric_of, params_of
from coldray.tracking.runs import StudyTracker


class AblationTracker(StudyTracker):
    """Logs the modes of an ablation, its curves and its files."""

    kind: ClassVar[str] = "ablation"

    def log_ablation(self, result: AblationResult, artifacts: Sequence[Path]) -> None:
        """Log each mode as a nested run, the training curves by epoch, and the files on the parent run."""
        for mode in result.modes:
            self._log_mode(mode)
        self.spool.log(self._study_id, [*_summary(result), *_curves(result.curves)])
        self._log_files(artifacts, "ablation")

    def _log_mode(self, mode: ModeResult) -> None:
        key = self._key(mode.name)
        if self.spool.status.get(key) == "FINISHED":
            return
        if key not in self.spool.status:
            self.spool.add("run", key, name=mode.name, tags={"coldray.kind": "mode"}, parent=self._study_id)
        edges = {"coldray.edges": edge_words(mode.edges)} if mode.edges else {}
        tags = {"coldray.mode": mode.name, **edges}
        metrics = [*fold_metrics("test", mode.folds), *lift_metrics(mode.lifts)]
        self.spool.log(key, metrics, params_of(mode.config), tags)
        self.spool.end(key, "FINISHED")


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
    ]
