"""The training loop: the same in the calling process and in each of several workers.

All that is random is seeded by position (see :mod:`~coldray.training.row_random`), so an epoch that is replayed, or
resumed half-way, gives the result of one that was not interrupted. On a GPU, sums whose order is not fixed (scattered
gradients of an embedding, say) make that true only up to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

import torch

from coldray.core.errors import ModelError
from coldray.training.batches import Batches, share
from coldray.training.checkpoint import (
    Identity,
    Snapshot,
    identify,
    read_checkpoint,
    require_same,
)
from coldray.training.cluster.workers import WorkerGroup
from coldray.training.config import TrainingConfig
from coldray.training.gradients import Divergence, GradientStep
from coldray.training.history import EpochRecord
from coldray.training.options import FitOptions
from coldray.training.progress import RateLimit, StepProgress, TrainingListener, TrainingPlan
from coldray.training.row_random import (
    BatchRows,
    Purpose,
    batch_rows,
    derived_generator,
    derived_seed,
    seed_default_generator,
)
from coldray.training.state import Progress, told_of_memory
from coldray.training.task import Step, TrainingTask
from coldray.training.validation import evaluate_module


def _warmup_steps(config: TrainingConfig, epoch_steps: int) -> int:
    """Return over how many steps the learning rate rises."""
    return math.ceil(config.warmup_epochs * epoch_steps)


def learning_rate(config: TrainingConfig, step: int, epoch_steps: int, reductions: int = 0) -> float:
    """Return the learning rate of a step.

    Parameters
    ----------
    step
        Number of the step in the whole training, from 0.
    epoch_steps
        Steps of an epoch.
    reductions
        How often the plateau schedule has lowered the rate so far.

    Notes
    -----
    With W steps of warm-up out of T: step ``s < W`` has ``(s + 1) / W`` of the full rate, so that no step is wasted on
    a rate of zero. A cosine has ``(1 + cos(π (s - W) / (T - W))) / 2`` of it; with warm restarts the place in the
    period and its length stand for s - W and T - W.
    """
    warmup = _warmup_steps(config, epoch_steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "cosine":
        done = (step - warmup) / (config.epochs * epoch_steps - warmup)
        return config.learning_rate * (1 + math.cos(math.pi * min(done, 1.0))) / 2
    if config.schedule == "restarts":
        return config.learning_rate * (1 + math.cos(math.pi * _of_period(config, step - warmup, epoch_steps))) / 2
    if config.schedule == "plateau":
        return config.learning_rate * config.plateau_factor**reductions
    return config.learning_rate


def _of_period(config: TrainingConfig, step: int, epoch_steps: int) -> float:
    """Return what is done of the cosine that a step, counted from the end of the warm-up, is in."""
    done, period = float(step), config.restart_epochs * epoch_steps
    while done >= period:
        done, period = done - period, period * config.restart_factor
    return done / period


Keep: TypeAlias = Callable[[Callable[[], Snapshot]], None]
"""Keeps a checkpoint; called by all workers alike, of which those that write ask for the snapshot."""


def _step_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Return the type the module computes in."""
    if precision != "auto":
        dtype: torch.dtype = getattr(torch, precision)
        return dtype
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def _new_module(task: TrainingTask, seed: int, device: torch.device) -> torch.nn.Module:
    """Return the task's module with the weights of that seed; torch's global generator is left seeded."""
    seed_default_generator(derived_seed(seed, Purpose.WEIGHTS), device)
    module = task.build().to(device)
    for name, value in module.state_dict().items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
            raise ModelError(
                f"{task.name}: {name!r} of the module is no dense tensor, so no checkpoint can hold it. Register it "
                "with persistent=False and build it anew in build()."
            )
    return module


class TrainingLoop:
    """One worker's part of a training.

    Parameters
    ----------
    task, config
        What is trained, and how.
    options
        The precision, how often a checkpoint is kept, and who is told of every epoch, by worker 0.
    workers
        The workers that train together.
    device
        Where this one computes.
    keep
        Keeps checkpoints.
    """

    def __init__(
        self,
        task: TrainingTask,
        config: TrainingConfig,
        options: FitOptions,
        workers: WorkerGroup,
        device: torch.device,
        keep: Keep,
    ) -> None:
        self.task, self.config, self.options = task, config, options
        self.workers, self.device, self.keep = workers, device, keep
        self.listener = options.listener if workers.rank == 0 else TrainingListener()
        with self._told_of_memory():
            self.module = _new_module(task, config.seed, device)
        workers.copy_from_first(self.module.state_dict().values())
        self.dtype = _step_dtype(options.precision, device)
        self.descend = GradientStep(self.module, config, workers, device, self.dtype)
        self.progress = Progress()
        self.best = self._weights()
        self.steps = len(Batches(task.n_examples, config.batch_size, config.seed, 0))
        self.limit = RateLimit()

    @property
    def identity(self) -> Identity:
        """What this training is of."""
        return identify(
            self.task.name, self.task.n_examples, self.config, self.options.precision, self.module.state_dict()
        )

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        CheckpointError
            If it cannot be read or is of another training.
        """
        snapshot = read_checkpoint(path)
        require_same(path, snapshot.identity, self.identity)
        self.progress = snapshot.progress
        self.best = dict(snapshot.best)
        self.module.load_state_dict(snapshot.model)
        groups = self.descend.optimizer.state_dict()["param_groups"]
        state = {int(number): dict(values) for number, values in snapshot.optimizer.items()}
        self.descend.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if snapshot.scaler:
            self.descend.scaler.load_state_dict(dict(snapshot.scaler))
        self.progress.decide(self.config)

    def snapshot(self) -> Snapshot:
        """Return the training as it stands."""
        state = self.descend.optimizer.state_dict()["state"]
        optimizer = {str(number): values for number, values in state.items()}
        model = self.module.state_dict()
        return Snapshot(self.identity, self.progress, model, self.best, optimizer, self.descend.scaler.state_dict())

    def run(self) -> None:
        """Train until the epochs or the patience run out; :attr:`best` then holds the weights to use.

        Raises
        ------
        Divergence
            If the loss, a gradient or a weight is not finite any more.
        CatalogTooLargeError
            If memory runs out.
        """
        self.listener.training_started(
            TrainingPlan(
                name=self.task.name,
                metric=self.task.metric if self.task.n_validation_users else None,
                epochs=self.config.epochs,
                first_epoch=self.progress.epoch,
                steps_per_epoch=self.steps,
                n_examples=self.task.n_examples,
                workers=self.workers.size,
                device=self.device.type,
                history=tuple(self.progress.history),
                n_parameters=sum(parameter.numel() for parameter in self.descend.parameters),
            )
        )
        with self._told_of_memory():
            while self.progress.reason is None:
                self._epoch()

    def _told_of_memory(self) -> AbstractContextManager[None]:
        return told_of_memory(self.task.name, self.config.batch_size, self.workers.size, self.device)

    def describe(self, divergence: Divergence) -> str:
        """Return where in the training it diverged, and how."""
        progress = self.progress
        return (
            f"{self.task.name} diverged in epoch {progress.epoch}, step {progress.step} of {self.steps}, at learning "
            f"rate {self._learning_rate(progress.step):.3g}: {divergence}."
        )

    def _epoch(self) -> None:
        progress = self.progress
        before, started = progress.seconds, time.perf_counter()
        batches = Batches(self.task.n_examples, self.config.batch_size, self.config.seed, progress.epoch)
        speed = self._steps(batches, before - started)
        rate = self._learning_rate(self.steps - 1)
        metrics = self._validate()
        record = EpochRecord(
            epoch=progress.epoch,
            loss=progress.loss / progress.examples,
            parts={name: value / progress.examples for name, value in progress.parts.items()},
            metrics=metrics,
            learning_rate=rate,
            examples_per_second=speed,
            seconds=before + time.perf_counter() - started,
        )
        progress.end_epoch(record)
        progress.decide(self.config)
        self.listener.epoch_done(record)
        if progress.reason is not None or progress.epoch % self.options.checkpoint_every == 0:
            self.keep(self.snapshot)

    def _steps(self, batches: Batches, offset: float) -> float:
        """Make the steps that are left of an epoch; return examples a second, time for checkpoints not counted."""
        progress, every = self.progress, self.options.checkpoint_every_steps
        resumed, busy, speed = progress.examples, 0.0, 0.0
        self.module.train()
        while progress.step < self.steps:
            started = time.perf_counter()
            loss = self._step(batches)
            busy += time.perf_counter() - started
            speed = (progress.examples - resumed) / busy
            if self.limit.passed():
                rate = self._learning_rate(progress.step - 1)
                self.listener.step_done(StepProgress(progress.epoch, progress.step, self.steps, loss, rate, speed))
            if every is not None and progress.step % every == 0 and progress.step < self.steps:
                progress.seconds = offset + time.perf_counter()
                self._require_finite()
                self.keep(self.snapshot)
        return speed

    def _step(self, batches: Batches) -> float:
        """Make one step and return the mean loss of its batch."""
        seed, epoch, step, rank = self.config.seed, self.progress.epoch, self.progress.step, self.workers.rank
        everybodys = batches.examples(step)
        mine = share(len(everybodys), rank, self.workers.size)
        examples, n_batch = everybodys[mine], len(everybodys)
        generator = derived_generator(seed, Purpose.BATCH, epoch, step)
        batch = {
            name: tensor.to(self.device, non_blocking=True)
            for name, tensor in self.task.batch(examples, generator).items()
        }
        seed_default_generator(derived_seed(seed, Purpose.MODULE, epoch, step, rank), self.device)  # for dropout
        where = Step(epoch, epoch + step / self.steps, self.workers, mine.start)
        rows = BatchRows(mine.start, n_batch, derived_seed(seed, Purpose.ROWS, epoch, step))
        with (
            batch_rows(self.module, rows),
            torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
        ):
            loss = self.task.loss(self.module, batch, where)
        sums = self.descend(loss, len(examples), n_batch, self._learning_rate(step))
        self.progress.add(sums, n_batch)
        return sums.loss / n_batch

    def _learning_rate(self, step: int) -> float:
        number = self.progress.epoch * self.steps + step
        return learning_rate(self.config, number, self.steps, self.progress.reductions)

    def _validate(self) -> dict[str, float]:
        """Return the validation metrics if this epoch ends with any; keep the weights if they are the best."""
        self._require_finite()
        if not self.task.n_validation_users:
            self.progress.best_epoch = self.progress.epoch
            self.best = self._weights()
            return {}
        done = self.progress.epoch + 1
        if done % self.config.validate_every and done < self.config.epochs:
            return {}
        metrics = evaluate_module(self.task, self.module, self.workers, self.device, self.config.seed).metrics
        if self.progress.judge(metrics[self.task.metric], self.config):
            self.best = self._weights()
        return dict(metrics)

    def _require_finite(self) -> None:
        """Keep weights that are no good from being taken for the best, and from a checkpoint."""
        for name, parameter in self.module.named_parameters():
            if not bool(torch.isfinite(parameter).all()):
                raise Divergence(f"weight {name!r} is not finite")

    def _weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().cpu().clone() for name, tensor in self.module.state_dict().items()}
