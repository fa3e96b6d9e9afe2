"""What a training needs, checked before anything long begins."""

from __future__ import annotations

from pathlib import Path

import ray

from coldray.core.errors import ClusterError, ConfigError, DataError, OutputError
from coldray.core.files import check_writable
from coldray.training.checkpoint import MANIFEST
from coldray.training.config import TrainingConfig
from coldray.training.files.task import FilesTask
from coldray.training.task import TrainingTask


def require_trainable(task: TrainingTask, config: TrainingConfig) -> None:
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
    if isinstance(task, FilesTask) and len(task.examples_of.files) < config.workers:
        n_files = len(task.examples_of.files)
        raise ConfigError(
            f"workers is {config.workers}, but {task.name} has {n_files} files of examples, and each worker needs one "
            f"of its own. Use {n_files} workers or fewer, or write the examples to more files."
        )
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


def require_storage(storage: Path | None, name: str, resume: bool) -> None:
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
