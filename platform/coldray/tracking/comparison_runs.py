"""Comparisons and ablations on the MLflow tracking server.

Of a comparison there is one parent run, under it one run a study, under that its trials; of an ablation one parent run
and one nested run a mode.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mlflow.entities import Metric

from coldray.data.dataset import Dataset
from coldray.experiments.ablation.result import AblationResult, LossCurve, ModeResult
from coldray.experiments.comparison.config import Comparison, Entry
from coldray.experiments.comparison.result import ComparisonResult, FailedEntry
from coldray.experiments.edges import edge_words
from coldray.tracking.logged_values import fold_metrics, inspection_metrics, lift_metrics, metric_of, params_of
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


class ComparisonTracker(StudyTracker):
    """Logs what a comparison found on its parent run, and gives every entry a tracker of its own."""

    kind: ClassVar[str] = "comparison"

    def __init__(self, tracking_uri: str, experiment: str, **options: Any) -> None:
        super().__init__(tracking_uri, experiment, **options)
        self.studies: dict[str, StudyTracker] = {}
        """The tracker of each entry that has begun, by name."""
        self._open_studies: dict[str, StudyTracker] = {}

    def comparison_started(
        self, comparison: Comparison, dataset: Dataset, comparison_id: str, protocol: Mapping[str, str]
    ) -> None:
        """Open the parent run with the dataset as its input and the protocol as tags."""
        self._study_id = comparison_id
        config = comparison.config
        settings = {
            "baseline": config.baseline,
            "entries": ", ".join(entry.name for entry in comparison.entries),
            "candidates": config.candidates,
            "splits": len(config.splits.seeds) * config.splits.n_splits,
            "search.trials": config.search.trials,
            "search.seed": config.search.seed,
            "selection.metric": config.selection.metric,
        }
        tags = {"coldray.comparison": config.name, "coldray.comparison_id": comparison_id}
        self._open(config.name, dataset, tags, settings, protocol)

    def of_entry(self, entry: Entry) -> StudyTracker:
        """Return the tracker of an entry's study, whose run lies below that of the comparison."""
        tags = {
            "coldray.comparison_id": self._study_id,
            "coldray.entry": entry.name,
            "coldray.track": entry.track,
        }
        tracker = StudyTracker(self.tracking_uri, self.experiment, tags=tags, spool=self.spool, parent=self._study_id)
        self.studies[entry.name] = self._open_studies[entry.name] = tracker
        return tracker

    def log_comparison(
        self, result: ComparisonResult, artifacts: Sequence[Path], reports: Mapping[str, Path] | None = None
    ) -> None:
        """Log what was found, the files on the parent run, and what each study found on its own.

        Parameters
        ----------
        reports
            The report of each entry's study, by name.
        """
        for entry in result.entries:
            tracker = self.studies.get(entry.name)
            if tracker is None:  # vectors by file, of which there is no study
                measured = [("val", entry.validation), ("test", entry.folds)]
                values = [one for part, folds in measured for one in fold_metrics(f"{entry.name}_{part}", folds)]
                self.spool.log(self._study_id, values)
                continue
            report = (reports or {}).get(entry.name)
            tracker.finish(entry.study, [report] if report else [])
            self.spool.log(tracker.key, [*lift_metrics(entry.over_baseline), *inspection_metrics(entry.inspections)])
            self._open_studies.pop(entry.name).close(failed=False)
        for failed in result.failed:
            self._log_failure(failed)
        champion = result.entry(result.champion)
        found = {
            "champion": champion.name,
            "champion.track": champion.track,
            "champion.model": champion.model,
            **{f"champion.{name}": value for name, value in champion.config.items()},
        }
        metrics = [
            *fold_metrics("test", champion.folds),
            *fold_metrics("val", champion.validation),
            metric_of("comparison_seconds", result.seconds),
        ]
        tags: dict[str, Any] = {"coldray.champion_run_id": {"run": self.studies[champion.name].key}}
        if "forms" in result.protocol:
            tags["protocol.forms"] = result.protocol["forms"]
        self.spool.log(self._study_id, metrics, params_of(found), tags)
        self.spool.log(self.studies[champion.name].key, tags={"coldray.champion": "true"})
        self._log_files(artifacts, "comparison")

    def _log_failure(self, failed: FailedEntry) -> None:
        tracker = self._open_studies.pop(failed.name, None)
        if tracker is not None:  # one that could not begin has no run
            self.spool.log(tracker.key, tags={"coldray.error": failed.reason})
            tracker.close(failed=True)

    def close(self, *, failed: bool, interrupted: bool = False) -> int:
        """End the parent run, and the runs of studies that are still open with it."""
        for tracker in self._open_studies.values():
            tracker.close(failed=failed, interrupted=interrupted)
        return super().close(failed=failed, interrupted=interrupted)
