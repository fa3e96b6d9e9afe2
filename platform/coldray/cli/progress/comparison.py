"""How far the study of one entry of a comparison is."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from coldray.cli.progress.study import StudyProgress
from coldray.data.dataset import Dataset
from coldray.experiments.space import StudyConfig
from coldray.reports.labels import counted


class EntryProgress(StudyProgress):
    """Shows a study as one of several: which one, instead of the data, which all have in common."""

    def __init__(self, console: Console, place: str, track: str) -> None:
        super().__init__(console)
        self.place, self.track = place, track

    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Say whose turn it is."""
        self.searched = config.searched
        self.stage(
            f"[{self.place}] {config.name}: {config.model}, {self.track} track, {counted(config.n_trials, 'trial')}"
        )
