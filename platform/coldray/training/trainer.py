"""Train a task and evaluate its weights: in the calling process, or by workers of a Ray cluster.

A model states what is special to it as a :class:`~coldray.training.task.TrainingTask`; then ::

    result = train(task, config, FitOptions(workers=2, checkpoints=Path("run")))
    module.load_state_dict(result.weights)

What a training needs is checked before anything long begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import ray
import torch

from coldray.core.errors import ClusterError, ConfigError, DataError
from coldray.core.files import check_writable
from coldray.training.checkpoint import Snapshot, latest_checkpoint, save_checkpoint
from coldray.training.cluster.workers import OneWorker
from coldray.training.config import TrainingConfig
from coldray.training.gradients import Divergence
from coldray.training.history import TrainingResult
from coldray.training.loop import TrainingLoop
from coldray.training.options import FitOptions
from coldray.training.state import diverged, training_result
from coldray.training.task import TrainingTask

CPU = torch.device("cpu")


def _require_trainable(task: TrainingTask, config: TrainingConfig, workers: int) -> None:
    """Refuse a configuration that does not suit the task.

    Raises
    ------
    DataError
        If there is nothing to train on, or fewer examples than workers.
    ConfigError
        If parameters contradict the size of the data or each other.
    """
    if task.n_examples < 1:
        raise DataError(f"{task.name} has no training example. Filter less, or check the split.")
    if task.n_examples < workers:
        raise DataError(f"{task.name} has {task.n_examples} examples for {workers} workers. Use fewer workers.")
    if config.batch_size > task.n_examples:
        raise ConfigError(
            f"batch_size is {config.batch_size:,}, but {task.name} has {task.n_examples:,} training examples. Use "
            f"{task.n_examples:,} or less."
        )
    if config.batch_size < workers:
        raise ConfigError(
            f"batch_size is {config.batch_size} for {workers} workers; it counts the examples of all of them. "
            f"Use {workers} or more."
        )
    if config.warmup_epochs >= config.epochs:
        raise ConfigError(
            f"warmup_epochs is {config.warmup_epochs:g}, but training has only {config.epochs} epochs. Use less."
        )
    if config.schedule == "plateau" and not task.n_validation_users:
        raise ConfigError(
            f"schedule is 'plateau', but {task.name} has no validation users to see a plateau by. Use 'cosine' or "
            "'constant', or give it validation users."
        )


def require_cluster(workers: int, use_gpu: bool) -> None:
    """Refuse to ask a cluster for what it does not have: Ray would wait for it.

    Raises
    ------
    ClusterError
        If Ray does not run.
    ConfigError
        If the cluster has fewer CPUs or GPUs than there are workers.
    """
    if not ray.is_initialized():
        raise ClusterError(
            f"Training with {workers} workers{' on GPUs' if use_gpu else ''} needs a Ray cluster, and this process is "
            "not connected to any. Connect with coldray.cli.ray.cluster.connected_ray, or use workers=1 and "
            "device='cpu'."
        )
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if workers > cpus:
        raise ConfigError(f"workers is {workers}, but the Ray cluster has {cpus} CPUs. Use {cpus} or fewer.")
    if use_gpu and not gpus:
        raise ConfigError("device is 'cuda', but the Ray cluster has no GPU. Use device='cpu'.")
    if use_gpu and workers > gpus:
        raise ConfigError(f"workers is {workers}, but the Ray cluster has {gpus} GPUs. Use {gpus} or fewer.")


def train(
    task: TrainingTask, config: TrainingConfig, options: FitOptions = FitOptions(), *, refit: bool = False
) -> TrainingResult:
    """Train until the epochs or the patience run out, and return the best weights.

    One worker without a GPU trains in the calling process, whose random state is left alone; anything else is done by
    Ray Train on the cluster this process is connected to, which replaces lost workers and goes on from the last
    checkpoint.

    Parameters
    ----------
    task, config
        What is trained, and how.
    options
        By how many workers and where, who is told of every epoch, and where checkpoints are kept: a training goes on
        from its own, and one that had ended is not repeated.
    refit
        Whether it trains again on all that another one of the same task held out a part of: its checkpoints are kept
        apart.

    Raises
    ------
    ConfigError, DataError, ClusterError, OutputError
        If it cannot begin: see :mod:`~coldray.training.trainer`.
    CheckpointError
        If the checkpoint to resume from is damaged or of another training.
    DivergedError
        If the loss, the gradient or a weight is not finite any more.
    NumericalError
        If a validation metric is not finite.
    TrainingFailedError
        If workers failed otherwise, or were lost more often than `options.max_failures`.
    """
    _require_trainable(task, config, options.workers)
    run = None if options.checkpoints is None else options.checkpoints / f"{task.name}{'-refit' if refit else ''}"
    if run is not None:
        check_writable(run.parent)
    try:
        if options.workers == 1 and options.device != "cuda":
            result = _train_here(task, config, options, run)
        else:
            from coldray.training.cluster.distributed import train_on_cluster  # Ray Train takes seconds to import

            require_cluster(options.workers, options.device == "cuda")
            result = train_on_cluster(task, config, options, run)
    except BaseException:
        with suppress(Exception):  # why the training failed is the error to see
            options.listener.training_ended(None)
        raise
    options.listener.training_ended(result)
    return result


def _train_here(task: TrainingTask, config: TrainingConfig, options: FitOptions, run: Path | None) -> TrainingResult:
    latest = None if run is None else latest_checkpoint(run)

    def keep(snapshot: Callable[[], Snapshot]) -> None:
        nonlocal latest
        if run is not None:
            latest = save_checkpoint(run, snapshot(), options.num_to_keep)

    with torch.random.fork_rng(devices=[]):
        loop = TrainingLoop(task, config, options, OneWorker(), CPU, keep)
        if latest is not None:
            loop.restore(latest)
        try:
            loop.run()
        except Divergence as divergence:
            raise diverged(loop.describe(divergence), latest) from divergence
    return training_result(loop.progress, loop.best, 1, "cpu", latest)
