"""How far a training is, in words, and how long what is under way may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from coldray.reports.labels import duration_label
from coldray.training.history import EpochRecord, TrainingResult
from coldray.training.progress import StepProgress, TrainingListener, TrainingPlace, TrainingPlan


class Pace:
    """Tells the time left of something by the share that is done of it, and was when it was first asked."""

    def __init__(self) -> None:
        self._started, self._first = 0.0, -1.0

    def left(self, share: float) -> float | None:
        """Return the seconds left at the pace so far; None as long as there is none."""
        if self._first < 0:
            self._started, self._first = time.monotonic(), share
        if share <= self._first:
            return None
        return (time.monotonic() - self._started) * (1 - share) / (share - self._first)

    def words(self, share: float, form: str) -> str:
        """Return the time left, in the place of ``{}``; nothing as long as it is not known."""
        left = self.left(share)
        return "" if left is None else form.format(duration_label(left))


class ShownTraining(TrainingListener):
    """A training as a display shows it.

    Parameters
    ----------
    place
        Which one it is.
    changed
        Called after each event.
    say
        Told how it began and ended, if given.
    """

    def __init__(
        self, place: TrainingPlace, changed: Callable[[ShownTraining], None], say: Callable[[str], None] | None = None
    ) -> None:
        self.place, self._changed, self._say = place, changed, say or (lambda message: None)
        self.plan: TrainingPlan | None = None
        self.step: StepProgress | None = None
        self.record: EpochRecord | None = None
        self.best: tuple[float, int] | None = None
        self.pace = Pace()
        self.ended = False

    def training_started(self, plan: TrainingPlan) -> None:
        """Say what is trained."""
        again = self.plan is not None and not self.ended
        if self.ended:  # the next of the same fit: a refit on what the first held out
            self.place, self.best = replace(self.place, nth=self.place.nth + 1), None
        self.plan, self.step, self.record, self.ended, self.pace = plan, None, None, False, Pace()
        for record in plan.history:
            self._keep(record)
        self.pace.left(self.share)
        where = f"{plan.workers} worker{'s' if plan.workers > 1 else ''} on {plan.device}"
        begin = f", from epoch {plan.first_epoch + 1}" if plan.first_epoch else ""
        size = f" of {plan.n_parameters:,} parameters" if plan.n_parameters else ""
        verb = "workers were replaced: training goes on" if again else f"training {plan.name}{size}"
        self._say(
            f"{self.place.words}: {verb}, {plan.n_examples:,} examples, up to {plan.epochs} epochs of "
            f"{plan.steps_per_epoch:,} steps, {where}{begin}"
        )
        self._changed(self)

    def step_done(self, progress: StepProgress) -> None:
        """Keep how far the epoch is."""
        self.step = progress
        self._changed(self)

    def epoch_done(self, record: EpochRecord) -> None:
        """Keep the epoch, and the best."""
        self._keep(record)
        self._changed(self)

    def training_ended(self, result: TrainingResult | None) -> None:
        """Say how it ended."""
        self.ended = True
        if result is None:
            self._say(f"{self.place.words}: training failed")
        else:
            why = "no better for a while" if result.reason == "patience" else "all epochs trained"
            best = "" if self.best is None else f", {self._metric} {self.best[0]:.4f} in epoch {self.best[1] + 1}"
            self._say(f"{self.place.words}: training done, {len(result.history)} epochs, {why}{best}")
        self._changed(self)

    def _keep(self, record: EpochRecord) -> None:
        self.record, self.step = record, None
        value = record.metrics.get(self._metric)
        if value is not None and (self.best is None or value > self.best[0]):
            self.best = (value, record.epoch)

    @property
    def _metric(self) -> str:
        return (self.plan.metric if self.plan else None) or ""

    @property
    def share(self) -> float:
        """What is done, as a share of the most epochs there will be."""
        if self.plan is None:
            return 0.0
        begun = 0.0 if self.step is None else self.step.step / self.step.steps_per_epoch
        epochs = 0 if self.record is None else self.record.epoch + 1
        return 1.0 if self.ended else min((epochs + begun) / self.plan.epochs, 1.0)

    @property
    def words(self) -> str:
        """Epoch, loss, validation metric and the best of it, throughput and the time left."""
        now = self.step or self.record
        if self.plan is None or now is None:
            return "begins"
        value = None if self.record is None else self.record.metrics.get(self._metric)
        parts = [f"epoch {now.epoch + 1}/{self.plan.epochs}"]
        if self.step is not None:
            parts.append(f"step {self.step.step:,}/{self.step.steps_per_epoch:,}")
        parts.append(f"loss {now.loss:.4f}")
        if value is not None:
            parts.append(f"{self._metric} {value:.4f}")
        if self.best is not None and value != self.best[0]:
            parts.append(f"best {self.best[0]:.4f}")
        parts.append(f"{now.examples_per_second:,.0f} examples/s")
        return ", ".join(filter(None, (*parts, self.pace.words(self.share, "{} left at most"))))
