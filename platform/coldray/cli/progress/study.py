"""The live display of a running study, and its plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from coldray.cli.lines import timed
from coldray.cli.ray.machines import free_words
from coldray.data.dataset import Dataset
from coldray.experiments.listeners import StudyListener
from coldray.experiments.results import FoldMetrics, TrialResult, mean_metric
from coldray.experiments.search.shared import SharedStatus
from coldray.experiments.space import StudyConfig
from coldray.reports.labels import config_label, counted

SHOWN_RUNNING = 4
LINE_SECONDS = 10.0
"""Without a terminal: the longest silence while trials run."""


class StudyProgress(StudyListener):
    """Shows how far a study is, the best configuration so far, and what is being waited for."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.metric = ""
        self.searched: tuple[str, ...] = ()
        self.n_splits = 0
        self.best: TrialResult | None = None
        self.counts = {"finished": 0, "pruned": 0, "failed": 0}
        self.running: dict[str, tuple[int, Mapping[str, Any], int]] = {}
        self.computing: list[SharedStatus] = []
        self.computed = 0
        self.waiting = ""
        """What no trial runs for, which the display shows after a while."""
        self.last_line = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]trials"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("trials", total=None)
        self.live: Live | None = None

    def study_started(self, config: StudyConfig, dataset: Dataset, study_id: str, protocol: Mapping[str, str]) -> None:
        """Say what will be done."""
        self.searched = config.searched
        self.show_dataset(study_id, dataset)

    def show_dataset(self, study_id: str, dataset: Dataset) -> None:
        """Say what the data are."""
        label = " (synthetic)" if dataset.synthetic else ""
        unclicked = f" ({dataset.n_unclicked_items:,} of them without clicks)" if dataset.n_unclicked_items else ""
        self.stage(
            f"{study_id}: {dataset.name}{label}, {dataset.n_users:,} users × {dataset.n_items:,} items{unclicked}, "
            f"{dataset.interactions.nnz:,} interactions"
        )

    def stage(self, message: str) -> None:
        """Print one line."""
        self._print(Text(message))

    def search_started(self, n_trials: int, n_splits: int, metric: str) -> None:
        """Start the display."""
        self.metric, self.n_splits = metric, n_splits
        self.bar.reset(self.task, total=n_trials)
        self.last_line = time.monotonic()
        self.stage(f"searching: {counted(n_trials, 'trial')} × {counted(n_splits, 'split')}, validation {metric}")
        if self.console.is_terminal:
            self.live = Live(
                get_renderable=self.render, console=self.console, refresh_per_second=4, vertical_overflow="crop"
            )
            self.live.start()

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Show the trial among the running ones."""
        self.running[trial_id] = (number, config, 0)

    def trial_reported(self, trial_id: str, folds: Sequence[FoldMetrics]) -> None:
        """Show one more split done."""
        if trial_id in self.running:
            number, config, _ = self.running[trial_id]
            self.running[trial_id] = (number, config, len(folds))

    def trial_ended(self, trial: TrialResult) -> None:
        """Count the trial and keep the best."""
        self.running.pop(trial.trial_id, None)
        self.counts[trial.status] += 1
        self.bar.advance(self.task)
        better = trial.status == "finished" and (
            self.best is None or trial.quality(self.metric) > self.best.quality(self.metric)
        )
        if better:
            self.best = trial
        if trial.status == "failed":
            self._print(Text.assemble((f"trial {trial.number} failed:", "red"), f" {trial.error}"))
        elif better and self.live is None:
            self._line(f"best so far: {self._best()}")
        else:
            self._heartbeat()

    def shared(self, status: Sequence[SharedStatus]) -> None:
        """Show what trials are waiting for."""
        self.computing = [entry for entry in status if entry.state == "running"]
        self.computed = len(status) - len(self.computing)
        self._heartbeat()

    def search_ended(self) -> None:
        """Stop the display."""
        if self.live is not None:
            self.computing = []
            self.live.stop()
            self.live = None
        done = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        self.stage(
            f"search done: {done or 'no trial ended'}; {counted(self.computed, 'shared computation')}, each done once"
        )

    def render(self) -> RenderableType:
        """Return the display as it stands."""
        parts: list[RenderableType] = [self.bar]
        if self.best is not None:
            parts.append(Text.assemble(("  best   ", "bold green"), self._best()))
        rows = Table.grid(padding=(0, 1))
        for number, config, splits in sorted(self.running.values(), key=lambda entry: entry[0])[:SHOWN_RUNNING]:
            rows.add_row(
                Text(f"  #{number:<4}", "cyan"),
                Text(f"{splits}/{self.n_splits} splits"),
                Text(config_label(config, self.searched)),
            )
        parts.append(rows)
        parts += [
            Text.assemble(("  waiting for ", "yellow"), f"{entry.label}, {entry.seconds:.0f} s")
            for entry in self.computing[:SHOWN_RUNNING]
        ]
        if self.waiting and not self.running:
            parts.append(Text(f"  {self.waiting}", "yellow"))
        if self.computed:
            parts.append(Text(f"  {self.computed} shared computations done, each once for all trials", "dim"))
        return Group(*parts)

    def _best(self) -> str:
        if self.best is None:
            return ""
        mean = mean_metric(self.best.folds, self.metric)
        return f"{self.metric} {mean:.4f}  trial {self.best.number}  {config_label(self.best.config, self.searched)}"

    def _heartbeat(self) -> None:
        """Say something now and then without a terminal; in one, what is waited for while nothing runs."""
        if self.live is not None and not self.running and time.monotonic() - self.last_line > LINE_SECONDS:
            self.last_line, self.waiting = time.monotonic(), _waiting()
        if self.live is None and time.monotonic() - self.last_line > LINE_SECONDS and self.metric:
            waiting = f"; waiting for {self.computing[0].label}" if self.computing else ""
            running = f"{len(self.running)} running" if self.running else _waiting()
            self._line(f"{sum(self.counts.values())} trials done, {running}{waiting}")

    def _print(self, message: Text) -> None:
        self.console.print(timed(message), highlight=False)

    def _line(self, message: str) -> None:
        self.last_line = time.monotonic()
        self.stage(message)


def _waiting() -> str:
    """Return what a search waits for of which no trial runs: a place first, then a worker in it."""
    free = free_words()
    return f"waiting for a worker (a trial takes 1 CPU or more; free are {free})" if free else "waiting for a worker"
