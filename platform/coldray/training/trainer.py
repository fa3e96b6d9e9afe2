"""Train a task and evaluate its weights: in the calling process, or by workers of a Ray cluster.

A model states what is special to it as a :class:`~coldray.training.task.TrainingTask`; then ::

    result = train(task, config, storage=Path("runs"), name="two-tower", resume=True)
    module.load_state_dict(result.weights)

What a training needs is checked before anything long begins.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

import ray
import torch

from coldray.core.errors import ClusterError, ConfigError, DataError, OutputError
from coldray.core.files import check_writable
from coldray.training.checkpoint import MANIFEST, Snapshot, latest_checkpoint, save_checkpoint
from coldray.training.cluster.workers import OneWorker
from coldray.training.config import TrainingConfig
from coldray.training.gradients import Divergence
from coldray.training.history import TrainingResult
from coldray.training.loop import TrainingLoop
from coldray.training.progress import TrainingListener, current_listener
from coldray.training.state import diverged, training_result
from coldray.training.task import TrainingTask


def _require_trainable(task: TrainingTask, config: TrainingConfig) -> None:
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
    if task.n_examples < config.workers:
        raise DataError(f"{task.name} has {task.n_examples} examples for {config.workers} workers. Use fewer workers.")
    if config.batch_size > task.n_examples:
        raise ConfigError(
            f"batch_size is {config.batch_size:,}, but {task.name} has {task.n_examples:,} training examples. Use "
            f"{task.n_examples:,} or less."
        )
    if config.batch_size < config.workers:
        raise ConfigError(
            f"batch_size is {config.batch_size} for {config.workers} workers; it counts the examples of all of them. "
            f"Use {config.workers} or more."
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
            "use_gpu=False."
        )
    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if workers > cpus:
        raise ConfigError(f"workers is {workers}, but the Ray cluster has {cpus} CPUs. Use {cpus} or fewer.")
    if use_gpu and not gpus:
        raise ConfigError("use_gpu is set, but the Ray cluster has no GPU. Use use_gpu=False.")
    if use_gpu and workers > gpus:
        raise ConfigError(f"workers is {workers}, but the Ray cluster has {gpus} GPUs. Use {gpus} or fewer.")


def _require_storage(storage: Path | None, name: str, resume: bool) -> None:
    """Refuse a folder that cannot be written, or that holds another run's checkpoints.

    Raises
    ------
    ConfigError
        If the name is no folder name, or a resume has no storage to resume from.
    OutputError
        If the folder cannot be written, or has checkpoints that nobody asked to resume.
    """
    if not name or Path(name).name != name:
        raise ConfigError(f"The name of a training is the name of its folder; {name!r} cannot be one.")
    if storage is None:
        if resume:
            raise ConfigError("resume is set, but there is no storage to resume from. Give the folder of the run.")
        return
    if not resume and any((storage / name).glob(f"*/{MANIFEST}")):
        raise OutputError(
            f"{storage / name} has checkpoints of an earlier training. Set resume to go on with it, or use another "
            "name."
        )
    check_writable(storage)


CPU = torch.device("cpu")


class _Kept:
    """Where the trainings of a context are kept, and how many there have been."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.trainings = folder, itertools.count()


_kept: ContextVar[_Kept | None] = ContextVar("kept", default=None)


@contextmanager
def keeping(folder: Path) -> Iterator[None]:
    """Let all trainings begun meanwhile that name no storage go on from checkpoints in `folder`, and leave them there.

    A model's `fit` trains without storage; this is how whoever waits for one does not wait again for what is done. The
    trainings are told from one another by their order.
    """
    token = _kept.set(_Kept(folder))
    try:
        yield
    finally:
        _kept.reset(token)


def train(
    task: TrainingTask,
    config: TrainingConfig,
    *,
    storage: Path | None = None,
    name: str = "training",
    resume: bool = False,
    listener: TrainingListener | None = None,
) -> TrainingResult:
    """Train until the epochs or the patience run out, and return the best weights.

    One worker without a GPU trains in the calling process, whose random state is left alone; anything else is done by
    Ray Train on the cluster this process is connected to, which replaces lost workers and goes on from the last
    checkpoint.

    Parameters
    ----------
    task, config
        What is trained, and how.
    storage
        Folder of runs, which all nodes of a cluster must share; None keeps no checkpoint beyond the training, but
        within :func:`keeping`.
    name
        Name of the run: its checkpoints are in that folder of `storage`.
    resume
        Go on from the last checkpoint of that name, if there is one. A training that had ended is not repeated.
    listener
        Told of every epoch; by default the one of :func:`~coldray.training.progress.watching`.

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
        If workers failed otherwise, or were lost more often than `config.max_failures`.
    """
    kept = _kept.get()
    if storage is None and kept is not None:
        storage, name, resume = kept.folder, f"{name}-{next(kept.trainings)}", True
    _require_trainable(task, config)
    _require_storage(storage, name, resume)
    listener = listener or current_listener()
    try:
        if config.workers == 1 and not config.use_gpu:
            result = _train_here(task, config, None if storage is None else storage / name, resume, listener)
        else:
            from coldray.training.cluster.distributed import train_on_cluster  # Ray Train takes seconds to import

            require_cluster(config.workers, config.use_gpu)
            result = train_on_cluster(task, config, storage, name, resume, listener)
    except BaseException:
        with suppress(Exception):  # why the training failed is the error to see
            listener.training_ended(None)
        raise
    listener.training_ended(result)
    return result


def _train_here(
    task: TrainingTask, config: TrainingConfig, run: Path | None, resume: bool, listener: TrainingListener
) -> TrainingResult:
    latest = latest_checkpoint(run) if run is not None and resume else None

    def keep(snapshot: Callable[[], Snapshot]) -> None:
        nonlocal latest
        if run is not None:
            latest = save_checkpoint(run, snapshot(), config.num_to_keep)

    with torch.random.fork_rng(devices=[]):
        loop = TrainingLoop(task, config, OneWorker(), CPU, listener, keep)
        if latest is not None:
            loop.restore(latest)
        try:
            loop.run()
        except Divergence as divergence:
            raise diverged(loop.describe(divergence), latest) from divergence
    return training_result(loop.progress, loop.best, config.workers, "cpu", latest)
