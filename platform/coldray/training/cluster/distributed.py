"""Training by several workers, or on GPUs: the same loop inside Ray Train.

Events of the workers reach the process that called for the training through a mailbox. Where the nodes of a cluster do
not see the same folder, checkpoints of workers would be lost: that is found out before.
"""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import TorchTrainer, get_device
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from threadpoolctl import threadpool_limits

from coldray.core.errors import CheckpointError, ColdrayError, OutputError, TrainingFailedError
from coldray.core.files import replacing
from coldray.training.checkpoint import Snapshot, latest_checkpoint, position_of, read_checkpoint, write_checkpoint
from coldray.training.cluster.mailbox import Delivery, Forwarding, new_mailbox
from coldray.training.cluster.workers import OneWorker, ProcessGroupWorkers, WorkerGroup
from coldray.training.config import TrainingConfig
from coldray.training.gradients import Divergence
from coldray.training.history import TrainingResult
from coldray.training.loop import TrainingLoop
from coldray.training.options import FitOptions
from coldray.training.state import diverged, training_result
from coldray.training.task import TrainingTask


def _require_shared(folder: Path) -> None:
    """Check that every node of the cluster reads in `folder` what this process writes there.

    Raises
    ------
    OutputError
        If the folder cannot be written, or a node does not see it.
    """
    nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    if len(nodes) < 2:
        return
    mark = uuid.uuid4().hex
    path = folder / f".shared-{mark}"
    with replacing(path) as temporary:
        temporary.write_text(mark, encoding="ascii")
    try:
        found = ray.get([_reads.options(scheduling_strategy=_on(node)).remote(path, mark) for node in nodes])
    finally:
        path.unlink(missing_ok=True)
    blind = sorted(host for host, reads in found if not reads)
    if blind:
        raise OutputError(
            f"{folder} is not shared by the nodes of the cluster: {', '.join(blind)} cannot read there what "
            f"{socket.gethostname()} writes. Give a folder on storage that all nodes have at one path, such as NFS."
        )


def _on(node: dict[str, str]) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


@ray.remote(num_cpus=0)
def _reads(path: Path, mark: str) -> tuple[str, bool]:
    try:
        return socket.gethostname(), path.read_text(encoding="ascii") == mark
    except OSError:
        return socket.gethostname(), False


_CPUS_PER_WORKER = 1
_POLL_SECONDS = "0.5"
"""How often Ray Train looks at its workers: each checkpoint waits for that, and one not seen yet is lost with them. Its
own two seconds would be most of a short epoch. Whoever sets RAY_TRAIN_HEALTH_CHECK_INTERVAL_S keeps their choice."""


def train_on_cluster(
    task: TrainingTask, config: TrainingConfig, options: FitOptions, run: Path | None
) -> TrainingResult:
    """Train with Ray Train; see :func:`coldray.training.trainer.train`.

    Parameters
    ----------
    run
        Folder of the checkpoints; None keeps none beyond the training.

    Raises
    ------
    CheckpointError
        If the checkpoint to resume from is damaged or of another training.
    DivergedError
        If the loss, the gradient or a weight is not finite any more.
    TrainingFailedError
        If workers failed otherwise, or were lost more often than allowed.
    """
    with _folder(run) as folder:
        _require_shared(folder.parent)
        initial = latest_checkpoint(folder)
        mailbox = new_mailbox()
        forwarded = options.model_copy(update={"listener": Forwarding(mailbox)})
        parameters = {"task": ray.put(task), "config": config, "options": forwarded, "initial": initial}
        with Delivery(mailbox, lambda _: options.listener):
            failure = _fit(_train_worker, {**parameters, "mailbox": mailbox}, options, folder)[1]
        error = ray.get(mailbox.error.remote())
        latest = latest_checkpoint(folder)
        if isinstance(error, str):
            raise diverged(error, latest if run else None)
        if error is not None:
            raise error
        if failure is not None or latest is None:
            raise _failed(task, failure, latest if run else None) from failure
        snapshot = read_checkpoint(latest)
    device = "cuda" if options.device == "cuda" else "cpu"
    return training_result(snapshot.progress, snapshot.best, options.workers, device, latest if run else None)


@contextmanager
def _folder(run: Path | None) -> Iterator[Path]:
    """Yield an absolute folder, one for the time of the block if none is given."""
    if run is not None:
        yield run.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="coldray-training-") as temporary:
        yield Path(temporary) / "training"


def _fit(
    worker: Callable[[dict[str, Any]], Any],
    parameters: dict[str, Any],
    options: FitOptions,
    run: Path,
) -> tuple[Any, Exception | None]:
    """Run a function in all workers; return what worker 0 returned, and what made Ray Train give up."""
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", _POLL_SECONDS)
    resources = {"CPU": _CPUS_PER_WORKER, **({"GPU": 1} if options.device == "cuda" else {})}
    trainer = TorchTrainer(
        worker,
        train_loop_config=parameters,
        scaling_config=ray.train.ScalingConfig(
            num_workers=options.workers, use_gpu=options.device == "cuda", resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=run.name,
            storage_path=str(run.parent),
            failure_config=ray.train.FailureConfig(max_failures=options.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=options.num_to_keep),
            logging_config=ray.train.LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg] # types are Train V1's
        ),
    )
    try:
        with _own_interrupts():
            return trainer.fit().return_value, None  # type: ignore[attr-defined] # likewise
    except ray.train.TrainingFailedError as error:
        return None, error


@contextmanager
def _own_interrupts() -> Iterator[None]:
    """Take Ctrl-C back after the block: Ray Train leaves a handler behind that ends the process with success."""
    if threading.current_thread() is not threading.main_thread():
        yield  # as in a trial: nobody may set handlers there
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _failed(task: TrainingTask, failure: Exception | None, checkpoint: Path | None) -> TrainingFailedError:
    """Return the error of workers that failed for a reason that is not ours: a bug of a task, a lost machine."""
    reasons = getattr(failure, "worker_failures", None) or {0: failure or "no checkpoint was kept"}
    lines = [f"worker {rank}: {_cause(reason)}" for rank, reason in sorted(reasons.items())]
    way_out = f" Resume from {checkpoint}." if checkpoint else ""
    return TrainingFailedError(f"The workers of {task.name} failed: {'; '.join(lines)}.{way_out}")


@contextmanager
def _reporting_errors(mailbox: Any) -> Iterator[None]:
    """Bring our own errors to the calling process.

    An error of one worker alone has to fail its process, for the others wait for it; but then all are started again,
    and would meet the same error (see :func:`_train_worker`).
    """
    try:
        yield
    except ColdrayError as error:
        ray.get(mailbox.fail.remote(error))
        raise


def _cause(reason: Exception | str) -> str:
    """Return an error in one line; what Ray wraps is a traceback, whose last line says it."""
    line = (str(reason).strip().splitlines() or [""])[-1]
    name = type(reason).__name__
    return line if isinstance(reason, str) or "Error" in line.split(":")[0] else f"{name}: {line}"


def _set_up() -> tuple[WorkerGroup, torch.device]:
    """Return the workers and this one's device; take no more threads than CPUs."""
    torch.set_num_threads(_CPUS_PER_WORKER)
    threadpool_limits(_CPUS_PER_WORKER)
    workers = ProcessGroupWorkers() if ray.train.get_context().get_world_size() > 1 else OneWorker()
    return workers, get_device()


def _train_worker(parameters: Mapping[str, Any]) -> None:
    """Do one worker's part; the result is in the last checkpoint."""
    mailbox = parameters["mailbox"]
    if ray.get(mailbox.error.remote()) is not None:
        return  # started again after an error that would only come again
    workers, device = _set_up()
    with _reporting_errors(mailbox):
        task = ray.get(parameters["task"])
        loop = TrainingLoop(task, parameters["config"], parameters["options"], workers, device, _report)
        checkpoint = _newest(parameters["initial"], ray.train.get_checkpoint())
        try:
            if checkpoint is not None:
                loop.restore(checkpoint)
            loop.run()
        except CheckpointError as error:  # this and a divergence come to all workers alike, so none waits for another
            ray.get(mailbox.fail.remote(error))
        except Divergence as divergence:
            ray.get(mailbox.fail.remote(loop.describe(divergence)))


def _newest(initial: Path | None, reported: ray.train.Checkpoint | None) -> Path | None:
    """Return the further one of the checkpoint there was before and the last that Ray Train committed."""
    found = [] if initial is None else [initial]
    if reported is not None:
        found.append(Path(reported.path))  # all nodes share the storage
    return max(found, key=position_of, default=None)


def _report(snapshot: Callable[[], Snapshot]) -> None:
    """Hand a checkpoint to Ray Train, which copies it to the storage; all workers wait for that."""
    if ray.train.get_context().get_world_rank() != 0:
        ray.train.report({})
        return
    taken = snapshot()
    metrics = {"epoch": taken.progress.epoch, "step": taken.progress.step}
    with tempfile.TemporaryDirectory() as temporary:
        write_checkpoint(Path(temporary), taken)
        ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(temporary))
