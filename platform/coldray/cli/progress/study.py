"""The live display of a running study, and its plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from coldray.cli.lines import timed
from coldray.cli.progress.training import Pace, ShownTraining
from coldray.cli.ray.machines import free_words
from coldray.data.dataset import Dataset
from coldray.experiments.listeners import StudyListener
from coldray.experiments.results import FoldMetrics, TrialResult, mean_metric
from coldray.experiments.search.shared_results import SharedStatus
from coldray.experiments.space import StudyConfig
from coldray.reports.labels import config_label, counted
from coldray.training.progress import TrainingPlace

_SHOWN_RUNNING = 4
LINE_SECONDS = 10.0
"""Without a terminal: the longest silence while trials run."""


@dataclass
class _Running:
    """A trial that runs."""

    number: int
    config: Mapping[str, Any]
    splits: int = 0
    fit: float = 0.0
    """What is done of the fit on the next split: half of it may be a refit."""
    pace: Pace = field(default_factory=Pace)

    def share(self, n_splits: int) -> float:
        """Return what is done of the trial."""
        return (self.splits + self.fit) / n_splits


class StudyProgress(StudyListener):
    """Shows how far a study and its trainings are, the best configuration so far, and what is being waited for."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.metric = ""
        self.searched: tuple[str, ...] = ()
        self.n_splits = 0
        self.best: TrialResult | None = None
        self.counts = {"finished": 0, "pruned": 0, "failed": 0}
        self.running: dict[str, _Running] = {}
        self.trainings: dict[TrainingPlace, ShownTraining] = {}
        """Those that go on."""
        self.searching = False
        self.pace = Pace()
        self.n_trials = self.ended_here = 0
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
            TextColumn("{task.fields[left]}"),
            console=console,
        )
        self.task = self.bar.add_task("trials", total=None, left="")
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
        self.metric, self.n_splits, self.n_trials = metric, n_splits, n_trials
        self.searching, self.pace, self.ended_here = True, Pace(), 0
        self.pace.left(0.0)
        self.bar.reset(self.task, total=n_trials)
        self.last_line = time.monotonic()
        self.stage(f"searching: {counted(n_trials, 'trial')} × {counted(n_splits, 'split')}, validation {metric}")
        self._show()

    def _show(self) -> None:
        """Draw, in a terminal, while a search or a training goes on."""
        wanted = self.console.is_terminal and (self.searching or bool(self.trainings))
        if wanted and self.live is None:
            self.live = Live(
                get_renderable=self.render, console=self.console, refresh_per_second=4, vertical_overflow="crop"
            )
            self.live.start()
        elif not wanted and self.live is not None:
            self.live.stop()
            self.live = None

    def trial_started(self, trial_id: str, number: int, config: Mapping[str, Any]) -> None:
        """Show the trial among the running ones."""
        self.running[trial_id] = _Running(number, config)
        self.running[trial_id].pace.left(0.0)

    def trial_reported(self, trial_id: str, folds: Sequence[FoldMetrics]) -> None:
        """Show one more split done."""
        running = self.running.get(trial_id)
        if running is not None and len(folds) > running.splits:  # an epoch is reported too
            running.splits, running.fit = len(folds), 0.0

    def training_of(self, place: TrainingPlace) -> ShownTraining:
        """Show the training among those that go on; of one outside the trials also say how it began and ended."""
        return ShownTraining(place, self._trained, self.stage if place.trial is None else None)

    def _trained(self, training: ShownTraining) -> None:
        place = training.place
        if training.ended:
            self.trainings.pop(place, None)
        else:
            self.trainings[place] = training
        for trial in self.running.values():
            if trial.number == place.trial:
                trial.fit = (min(place.nth, 1) + training.share) / 2
        self._show()
        self._heartbeat()

    def trial_ended(self, trial: TrialResult) -> None:
        """Count the trial and keep the best."""
        self.ended_here += self.running.pop(trial.trial_id, None) is not None
        for place in [one for one in self.trainings if one.trial == trial.number]:  # stopped early, or lost
            del self.trainings[place]
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
        self.computing, self.searching = [], False
        self.running.clear()  # of a search that was interrupted
        self.trainings.clear()
        self._show()
        done = ", ".join(f"{count} {status}" for status, count in self.counts.items() if count)
        self.stage(
            f"search done: {done or 'no trial ended'}; {counted(self.computed, 'shared computation')}, each done once"
        )

    def render(self) -> RenderableType:
        """Return the display as it stands."""
        trainings = [Text(f"  {line}") for line in self._trainings()]
        if not self.searching:
            return Group(*trainings)
        self.bar.update(self.task, left=self._left())
        parts: list[RenderableType] = [self.bar]
        if self.best is not None:
            parts.append(Text.assemble(("  best   ", "bold green"), self._best()))
        rows = Table.grid(padding=(0, 1))
        for trial in sorted(self.running.values(), key=lambda entry: entry.number)[:_SHOWN_RUNNING]:
            rows.add_row(
                Text(f"  #{trial.number:<4}", "cyan"),
                Text(f"{trial.splits}/{self.n_splits} splits"),
                Text(config_label(trial.config, self.searched)),
            )
        parts += [rows, *trainings]
        parts += [
            Text.assemble(("  waiting for ", "yellow"), f"{entry.label}, {entry.seconds:.0f} s")
            for entry in self.computing[:_SHOWN_RUNNING]
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
        if time.monotonic() - self.last_line <= LINE_SECONDS:
            return
        if self.live is not None:
            if self.searching and not self.running:
                self.last_line, self.waiting = time.monotonic(), _waiting()
            return
        self.last_line = time.monotonic()
        if self.searching:
            waiting = f"; waiting for {self.computing[0].label}" if self.computing else ""
            running = f"{len(self.running)} running" if self.running else _waiting()
            left = self._left()
            self.stage(f"{sum(self.counts.values())} trials done, {running}{waiting}{left and f', {left}'}")
        for line in self._trainings():
            self.stage(line)

    def _trainings(self) -> list[str]:
        """Return a line for each training that goes on, with the time left of its trial."""
        of_trials = {trial.number: trial for trial in self.running.values()}
        lines = []
        for place, training in list(self.trainings.items())[:_SHOWN_RUNNING]:
            trial = of_trials.get(-1 if place.trial is None else place.trial)
            left = trial and trial.pace.words(trial.share(self.n_splits), "; about {} left for the trial")
            lines.append(f"{place.words}: {training.words}{left or ''}")
        return lines

    def _left(self) -> str:
        """Return the time left of the search, by the trials of this process; those that ended before took none."""
        trials = self.n_trials - sum(self.counts.values()) + self.ended_here
        done = self.ended_here + sum(trial.share(self.n_splits) for trial in list(self.running.values()))
        return self.pace.words(done / trials, "about {} left") if trials else ""

    def _print(self, message: Text) -> None:
        self.console.print(timed(message), highlight=False)

    def _line(self, message: str) -> None:
        self.last_line = time.monotonic()
        self.stage(message)


def _waiting() -> str:
    """Return what a search waits for of which no trial runs: a place first, then a worker in it."""
    free = free_words()
    return f"waiting for a worker (a trial takes 1 CPU or more; free are {free})" if free else "waiting for a worker"
