"""A search by Ray Tune: every configuration of a study, evaluated on validation data."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import ray
from ray import tune
from ray.actor import ActorHandle
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldray.core.errors import ColdrayError, FailureBudgetError, SearchInterruptedError
from coldray.data.splits.items import TuningSplit
from coldray.evaluation.ratings import is_error
from coldray.experiments.folds import begin_tasks, share_training, wait_for_tasks
from coldray.experiments.listeners import StudyListener
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import TrialResult, reached
from coldray.experiments.search.events import TuneEvents
from coldray.experiments.search.memory import largest_fit_bytes
from coldray.experiments.search.proposals import Proposals, proposer
from coldray.experiments.search.shared import fit_ahead
from coldray.experiments.search.shared_results import SharedResults
from coldray.experiments.search.trial import TrialPlan, run_trials
from coldray.experiments.space import StudyConfig

_POLL_SECONDS = 0.5
"""How often the shared computations are looked at for the progress display."""
_NO_EPOCH = 1_000_000
"""More epochs than any training has: the training itself decides when it ends."""
_TUNE_SETTINGS = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
}
"""Ray Tune prints nothing and keeps no state: a study goes on from its own record, and ends at once when it has to."""


@dataclass(frozen=True)
class SearchOutcome:
    """All trials of a search."""

    trials: tuple[TrialResult, ...]
    seconds: float


def search(
    config: StudyConfig,
    splits: Sequence[TuningSplit],
    *,
    study_id: str,
    record: StudyRecord | None = None,
    listener: StudyListener | None = None,
) -> SearchOutcome:
    """Evaluate configurations on train and validation data; test data is not in `splits`.

    Parameters
    ----------
    study_id
        Name of the search.
    record
        What is known of trials from before, which is not computed again. If it is to be kept up to date, it has to be
        among the listeners.

    Raises
    ------
    SearchInterruptedError
        If not all trials ended.
    FailureBudgetError
        If more trials failed than the study bears.
    DataError
        If the folds cannot be prepared.
    """
    started = time.perf_counter()
    for variable, value in _TUNE_SETTINGS.items():
        os.environ.setdefault(variable, value)
    # One misses the files in which Ray Tune would have kept what trials report; one tells of a machine that is busy.
    for source in ("ray.tune.analysis.experiment_analysis", "ray.tune.utils.util"):
        logging.getLogger(source).setLevel(logging.ERROR)
    watcher, record = listener or StudyListener(), record or StudyRecord()
    events = TuneEvents(watcher, config, len(splits), record)
    allowed = config.failures.allowed(config.n_trials)
    if len(events.ended) < config.n_trials:
        _run(config, splits, study_id, record, watcher, events, allowed)
    else:
        watcher.stage(f"all {config.n_trials} trials have ended before; none is run again")
        _tell_ended(watcher, config, len(splits), record)
        watcher.search_ended()
    if events.failure is not None:
        raise events.failure
    _check_failures(events.ended, allowed, config)
    if len(events.ended) < config.n_trials:
        raise SearchInterruptedError(
            f"The search was interrupted: {len(events.ended)} of {config.n_trials} trials ended. Nothing was selected, "
            "tested or registered."
        )
    return SearchOutcome(tuple(events.ended[key] for key in sorted(events.ended)), time.perf_counter() - started)


def _run(
    config: StudyConfig,
    splits: Sequence[TuningSplit],
    study_id: str,
    record: StudyRecord,
    watcher: StudyListener,
    events: TuneEvents,
    allowed: int,
) -> None:
    """Run the trials that have not ended before."""
    watcher.stage(f"preparing {len(splits)} split{'s' * (len(splits) != 1)}: features and folds")
    # It lives and dies with the driver: another node may be lost, and what was computed there is computed again.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    shared = SharedResults.options(scheduling_strategy=here)  # type: ignore[attr-defined]
    events.mailbox = results = shared.remote(config.search.gpus_per_trial)
    prepared = begin_tasks([split.fold for split in splits], config)  # while the process of the results starts
    clicks = config.splits.schedule if config.splits.warms_items else ()
    share_training(results, prepared, clicks, people=config.kind.reads_users)
    ahead = _ahead(config, record, list(prepared.values()), results)  # its process starts meanwhile, too
    wait_for_tasks(prepared)
    tasks = {(split.fold.seed, split.fold.split): prepared[split.fold.name] for split in splits}
    epochs = config.scheduler is not None and config.scheduler.by == "epochs"
    metric = config.selection.metric
    asked = config.model, config.candidates, config.cutoffs, metric, study_id
    plan = TrialPlan(*asked, config.fit, epochs, record.checkpoints(config.model))
    trainable = tune.with_parameters(run_trials, plan=plan, tasks=tasks, results=results)
    resources = _trial_resources(config, splits)
    chosen = scheduler(config, len(splits))
    if not epochs:  # what their epochs reached is not recorded
        _remember(chosen, record.ended.values(), metric)
    _tell_ended(watcher, config, len(splits), record)
    # Ray Tune wants a folder for every trial; what is in them is of no use later.
    with tempfile.TemporaryDirectory(prefix="coldray-tune-") as folder:
        tuner = tune.Tuner(
            tune.with_resources(trainable, resources),
            tune_config=tune.TuneConfig(
                num_samples=(config.n_trials - len(record.ended)) * (config.failures.retries + 1),
                search_alg=Proposals(config, record, _parallel(resources)),
                scheduler=chosen,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name=study_id,
                storage_path=folder,
                callbacks=[events],
                verbose=0,
                stop=_Stop(events, allowed),
            ),
        )
        try:
            with _Watching(results, watcher):
                tuner.fit()
        finally:
            watcher.search_ended()
        for task in ahead:
            ray.cancel(task, force=True)
        ray.kill(results)  # after an interruption Ray may be gone, too


def _ahead(
    config: StudyConfig, record: StudyRecord, tasks: Sequence[ray.ObjectRef[Any]], results: ActorHandle[Any]
) -> list[ray.ObjectRef[None]]:
    """Begin with what trials share, as the first of them needs it; nothing where that one has ended before."""
    if not config.kind.fits_by_shared_results or 0 in record.ended:
        return []
    try:
        first = config.configured(proposer(config).propose(0))
    except ColdrayError:  # the trial will say so
        return []
    return [fit_ahead.remote(first, config.fit, tasks, results)]


def _trial_resources(config: StudyConfig, splits: Sequence[TuningSplit]) -> dict[str, float]:
    """Return what Ray reserves for a trial: a CPU, GPUs, and the memory that the largest fit of the space holds.

    Where a fit needs more than Ray has to give on any node, though it fits, one trial after the other is run there.
    Where memory leaves room for fewer trials than a node has CPUs, each is given the CPUs that would be idle.
    """
    data = splits[0].fold.dataset
    need = largest_fit_bytes(config, data.n_users, data.n_items)
    nodes = ray.nodes()  # type: ignore[no-untyped-call]
    largest = max((node["Resources"].get("memory", 0.0) for node in nodes if node["Alive"]), default=0.0)
    memory = int(min(need, largest))
    return {"cpu": _cpus_per_trial(memory), "gpu": config.search.gpus_per_trial, "memory": memory}


def _cpus_per_trial(memory: int) -> int:
    """Return how many CPUs each trial can have without any node running fewer trials for it."""
    if not memory:
        return 1
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    shares = [node["CPU"] // max(node.get("memory", 0.0) // memory, 1) for node in nodes if node.get("CPU")]
    return max(1, int(min(shares, default=1)))


def _parallel(resources: Mapping[str, float]) -> int:
    """Return how many trials the cluster has room for at once, one at least."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    room = (
        min(node.get(name.upper() if name != "memory" else name, 0) // need for name, need in resources.items() if need)
        for node in nodes
    )
    return max(1, int(sum(room)))


def _tell_ended(watcher: StudyListener, config: StudyConfig, n_splits: int, record: StudyRecord) -> None:
    watcher.search_started(config.n_trials, n_splits, config.selection.metric)
    for trial in list(record.ended.values()):
        watcher.trial_ended(trial)


class _Stop(tune.Stopper):
    """Ends the search when too many trials have failed, or one who watches has failed."""

    def __init__(self, events: TuneEvents, allowed: int) -> None:
        self._events, self._allowed = events, allowed

    def __call__(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        if self._events.failure is not None or len(_failed(self._events.ended)) > self._allowed:
            self._events.stopping = True
        return self._events.stopping


def _failed(ended: Mapping[int, TrialResult]) -> list[TrialResult]:
    return [trial for trial in ended.values() if trial.status == "failed"]


def _check_failures(ended: Mapping[int, TrialResult], allowed: int, config: StudyConfig) -> None:
    failed = _failed(ended)
    if len(failed) <= allowed or len(ended) == config.n_trials == len(failed):
        return  # where all failed, the selection says so
    causes = Counter((trial.error or "").partition(":")[0] for trial in failed)
    cause, times = causes.most_common(1)[0]
    example = next(trial for trial in failed if (trial.error or "").partition(":")[0] == cause)
    raise FailureBudgetError(
        f"{len(failed)} of {config.n_trials} trials failed; failures.max_failed_trials: "
        f"{config.failures.max_failed_trials} bears {allowed}. {times} with {cause}, such as trial {example.number}: "
        f"{example.error}. What ended is kept: find the cause or allow more failures, then go on with --resume."
    )


class _Watching:
    """Tells the listener about shared computations while trials run, from a thread of the driver."""

    def __init__(self, results: ActorHandle[Any], listener: StudyListener) -> None:
        self.results, self.listener, self.done = results, listener, threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self.done.wait(_POLL_SECONDS):
            self._look()

    def _look(self) -> None:
        with suppress(ray.exceptions.RayError):  # who watches is not who fails
            self.listener.shared(ray.get(self.results.status.remote()))

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.done.set()
        self.thread.join(_POLL_SECONDS)
        if kind is None:  # what came after the last look counts too
            self._look()


def scheduler(config: StudyConfig, n_splits: int) -> TrialScheduler:
    """Return ASHA over splits or epochs if the study asks for it, else let every trial run to its end."""
    chosen = config.scheduler
    if chosen is None or (chosen.by == "splits" and n_splits == 1):
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    splits = chosen.by == "splits"
    return ASHAScheduler(
        time_attr="splits_done" if splits else "epochs_done",
        metric=config.selection.metric,
        mode="min" if is_error(config.selection.metric) else "max",
        max_t=n_splits if splits else _NO_EPOCH,
        grace_period=min(chosen.grace_splits, n_splits) if splits else chosen.grace_epochs,
        reduction_factor=chosen.reduction_factor,
    )


def _remember(chosen: TrialScheduler, ended: Sequence[TrialResult] | Any, metric: str) -> None:
    """Tell a scheduler what trials reached that ended before it was made: it holds others against them."""
    for trial in ended:
        stub: Any = SimpleNamespace(trial_id=trial.trial_id)  # of a trial, ASHA reads nothing else
        nobody: Any = None
        chosen.on_trial_add(nobody, stub)
        for done in range(1, len(trial.folds) + 1):
            mean = reached(metric, [fold.metrics for fold in trial.folds[:done]])
            chosen.on_trial_result(nobody, stub, {metric: mean, "splits_done": done})
