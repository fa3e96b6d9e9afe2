"""The live display of a running training, and its plain lines where there is no terminal."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from coldray.cli.lines import timed
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import StepProgress, TrainingListener, TrainingPlan

LINE_SECONDS = 10.0
"""Without a terminal: the shortest time between two lines on how far the training is."""


class TrainingProgress(TrainingListener):
    """Shows the epoch, its loss, the validation metric and the best so far, the throughput and the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.plan: TrainingPlan | None = None
        self.metric = ""
        self.step: StepProgress | None = None
        self.record: EpochRecord | None = None
        self.best: tuple[float, int] | None = None
        self.last_line = time.monotonic()
        self.bar = Progress(
            TextColumn("[bold]epochs"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left at most"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task("epochs", total=None)
        self.live: Live | None = None

    def training_started(self, plan: TrainingPlan) -> None:
        """Say what is trained, and start the display."""
        again = self.plan is not None
        self.plan, self.metric, self.step = plan, plan.metric or "", None
        where = f"{plan.workers} worker{'s' if plan.workers > 1 else ''} on {plan.device}"
        begin = f", from epoch {plan.first_epoch + 1}" if plan.first_epoch else ""
        verb = "workers were replaced: training goes on" if again else f"training {plan.name}"
        self._print(
            f"{verb}: {plan.n_examples:,} examples, up to {plan.epochs} epochs of {plan.steps_per_epoch:,} steps, "
            f"{where}{begin}"
        )
        self.bar.reset(self.task, total=plan.epochs, completed=plan.first_epoch)
        if self.console.is_terminal and self.live is None:
            self.live = Live(
                get_renderable=self.render, console=self.console, refresh_per_second=4, vertical_overflow="crop"
            )
            self.live.start()

    def step_done(self, progress: StepProgress) -> None:
        """Show how far the epoch is."""
        self.step = progress
        self._heartbeat()

    def epoch_done(self, record: EpochRecord) -> None:
        """Show the epoch and keep the best."""
        self.record, self.step = record, None
        self.bar.update(self.task, completed=record.epoch + 1)
        value = record.metrics.get(self.metric)
        if value is not None and (self.best is None or value > self.best[0]):
            self.best = (value, record.epoch)
        self._heartbeat()

    def training_ended(self, result: TrainingResult | None) -> None:
        """Stop the display and say how it ended; another training may follow."""
        if self.live is not None:
            self.live.stop()
            self.live = None
        self.plan, self.best, self.record = None, None, None
        if result is None:
            self._print("training failed")
            return
        best = (
            ""
            if result.best_metric is None
            else f", {self.metric} {result.best_metric:.4f} in epoch {result.best_epoch + 1}"
        )
        why = "no better for a while" if result.reason == "patience" else "all epochs trained"
        self._print(f"training done: {len(result.history)} epochs, {why}{best}")

    def render(self) -> RenderableType:
        """Return the display as it stands."""
        lines: list[RenderableType] = [self.bar]
        if self.step is not None:
            lines.append(Text.assemble(("  now    ", "cyan"), self._step(self.step)))
        if self.record is not None:
            lines.append(Text.assemble(("  last   ", "cyan"), self._epoch(self.record)))
        if self.best is not None:
            best = f"{self.metric} {self.best[0]:.4f}  epoch {self.best[1] + 1}"
            lines.append(Text.assemble(("  best   ", "bold green"), best))
        return Group(*lines)

    def _step(self, step: StepProgress) -> str:
        return (
            f"epoch {step.epoch + 1}, step {step.step:,}/{step.steps_per_epoch:,}  loss {step.loss:.4f}  "
            f"{step.examples_per_second:,.0f} examples/s"
        )

    def _epoch(self, record: EpochRecord) -> str:
        value = record.metrics.get(self.metric)
        validated = "" if value is None else f"  {self.metric} {value:.4f}"
        return (
            f"epoch {record.epoch + 1}  loss {record.loss:.4f}{validated}  {record.examples_per_second:,.0f} examples/s"
        )

    def _heartbeat(self) -> None:
        """Without a terminal, say something now and then."""
        if self.live is not None or time.monotonic() - self.last_line < LINE_SECONDS:
            return
        self.last_line = time.monotonic()
        line = self._step(self.step) if self.step else self._epoch(self.record) if self.record else ""
        best = f"  (best {self.best[0]:.4f})" if self.best else ""
        self._print(f"{line}{best}{self._left()}")

    def _left(self) -> str:
        remaining = self.bar.tasks[0].time_remaining
        return f"  {remaining:,.0f} s left at most" if remaining else ""

    def _print(self, message: str) -> None:
        self.console.print(timed(message), highlight=False)
