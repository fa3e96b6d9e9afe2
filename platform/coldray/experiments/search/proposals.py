"""Which configurations a study tries, in what order; a study that goes on proposes again what it proposed before."""

from __future__ import annotations

import itertools
import operator
import warnings
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.search import Searcher

from coldray.evaluation.ratings import is_error
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.results import reached
from coldray.experiments.space import StudyConfig, is_range

_STARTUP_TRIALS = 10
"""Random trials before TPE has enough to model."""
_MOST_AT_ONCE = 32
"""Trials a worker is given at most."""

Parameters = dict[str, Any]


@dataclass
class _Proposal:
    """A configuration with its place in the order of the proposals."""

    number: int
    parameters: Parameters
    value: float | None = field(default=None)
    """What it reached in the metric of the search; None while that is not known."""
    ended: bool = False
    """True if it came to its end: another worker need not try it."""
    alone: bool = False
    """True once a worker was lost that had it: given one by one, it is plain at which one a worker is lost again."""


class _Proposer(Protocol):
    """Where configurations come from."""

    def propose(self, number: int) -> Parameters:
        """Return the configuration of a number; numbers are asked for in order."""

    def tell(self, proposals: Sequence[_Proposal]) -> None:
        """Learn what a batch of proposals reached."""


class _ListedPoints:
    """The combinations of a grid, or the one configuration of a space of fixed values."""

    def __init__(self, points: Sequence[Parameters]) -> None:
        self._points = points

    def propose(self, number: int) -> Parameters:
        """Return the point at that place."""
        return dict(self._points[number])

    def tell(self, proposals: Sequence[_Proposal]) -> None:
        """Learn nothing."""


class _RandomPoints:
    """Independent draws from the space."""

    def __init__(self, space: Mapping[str, Any], seed: int) -> None:
        self._space, self._generator = space, np.random.default_rng(seed)

    def propose(self, number: int) -> Parameters:
        """Draw a configuration."""
        return {name: self._drawn(spec) if is_range(spec) else spec for name, spec in self._space.items()}

    def _drawn(self, spec: Mapping[str, Any]) -> Any:
        kind, values = next(iter(spec.items()))
        if kind == "choice":
            return values[int(self._generator.integers(len(values)))]
        low, high = values
        if kind == "int_uniform":
            return int(self._generator.integers(int(low), int(high), endpoint=True))
        if kind == "log_uniform":
            drawn = float(np.exp(self._generator.uniform(np.log(low), np.log(high))))
            return min(max(drawn, low), high)  # the exponential may round beyond an end
        return float(self._generator.uniform(low, high))

    def tell(self, proposals: Sequence[_Proposal]) -> None:
        """Learn nothing."""


class _TPEPoints:
    """Proposals by Optuna's tree-structured Parzen estimator."""

    def __init__(self, config: StudyConfig) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        search = config.search
        sampler = optuna.samplers.TPESampler(
            seed=search.seed, n_startup_trials=min(_STARTUP_TRIALS, search.trials), constant_liar=True
        )
        directions = optuna.study.StudyDirection
        direction = directions.MINIMIZE if is_error(config.selection.metric) else directions.MAXIMIZE
        self._study = optuna.create_study(sampler=sampler, direction=direction)
        for point in config.first_points:
            self._study.enqueue_trial(point)
        self._searched = {name: _distribution(spec) for name, spec in config.space.items() if is_range(spec)}
        self._fixed = {name: spec for name, spec in config.space.items() if not is_range(spec)}
        self._asked: dict[int, optuna.Trial] = {}

    def propose(self, number: int) -> Parameters:
        """Ask for a configuration."""
        trial = self._asked[number] = self._study.ask(self._searched)
        return {**self._fixed, **trial.params}

    def tell(self, proposals: Sequence[_Proposal]) -> None:
        """Tell what a batch reached, in the order in which it was proposed."""
        for proposal in proposals:
            trial, failed = self._asked.pop(proposal.number), proposal.value is None
            if {**self._fixed, **trial.params} == proposal.parameters:
                self._study.tell(trial, proposal.value, state=TrialState.FAIL if failed else None)
                continue
            # Before the study was interrupted it went another way here, as a trial was lost that has been run since.
            self._study.tell(trial, state=TrialState.FAIL)
            if not failed:
                self._study.add_trial(self._as_it_was(proposal))

    def _as_it_was(self, proposal: _Proposal) -> FrozenTrial:
        searched = {name: proposal.parameters[name] for name in self._searched}
        return create_trial(params=searched, distributions=self._searched, value=proposal.value)


def _distribution(spec: Mapping[str, Any]) -> BaseDistribution:
    kind, values = next(iter(spec.items()))
    if kind == "choice":
        with warnings.catch_warnings():
            # A value such as a dict could not be kept by a database of Optuna's, which is not used.
            warnings.filterwarnings("ignore", "Choices for a categorical distribution", UserWarning)
            return CategoricalDistribution(values)
    low, high = values
    if kind == "int_uniform":
        return IntDistribution(int(low), int(high))
    return FloatDistribution(low, high, log=kind == "log_uniform")


def proposer(config: StudyConfig) -> _Proposer:
    """Return where a study's configurations come from."""
    if config.enumerated:
        return _ListedPoints(config.points)
    if config.search.algorithm == "random":
        return _RandomPoints(config.space, config.search.seed)
    return _TPEPoints(config)


def _block_sizes(space: Mapping[str, Any]) -> list[int]:
    """Return how many consecutive points of a grid have all but the last 0, 1, 2, … parameters in common."""
    lengths = [len(spec["choice"]) if is_range(spec) else 1 for spec in reversed(list(space.values()))]
    return list(itertools.accumulate(lengths, operator.mul, initial=1))


class Proposals(Searcher):
    """Gives Ray Tune the configurations that are still to be tried, several to a worker where there are many left.

    A worker is given ``{"trials": [{"number": …, "parameters": …, "folds": […]}, …]}``, where the folds are the splits
    that are known of a trial from before. Ray takes some hundredths of a second to start and end a trial, which is more
    than many a model takes: of the trials that wait, each worker gets half of its share at once, at most
    :data:`_MOST_AT_ONCE`, so that all of them end at about the same time. Of a grid it gets whole blocks, in which the
    parameters that the study file names first are the same, for what a worker keeps from one trial to the next. With a
    scheduler each gets one.

    Up to `max_concurrent` workers are at work at once. Optuna proposes so many together and learns from all of them
    before it proposes more: its proposals depend neither on which trial was the fastest nor on the number of CPUs. They
    are then the same when a study goes on, and those that have ended are answered from what is known of them.

    Trials whose worker was lost are given to another: the one that it was at as often as `retries` says, the ones that
    were still to come in any case.

    Parameters
    ----------
    record
        What is known of trials from before.
    workers
        How many of them the cluster has room for.
    """

    def __init__(self, config: StudyConfig, record: StudyRecord, workers: int = 1) -> None:
        super().__init__(metric=config.selection.metric, mode="min" if is_error(config.selection.metric) else "max")
        self._n_trials, self._concurrent = config.n_trials, config.search.max_concurrent
        self._batch_size = config.n_trials if config.enumerated else config.search.max_concurrent
        self._share = 0 if config.scheduler else 2 * min(workers, self._concurrent)
        self._blocks = _block_sizes(config.space) if config.enumerated and config.search.points is None else [1]
        self._proposer, self._retries = proposer(config), config.failures.retries
        # Not the record itself, which writes a file: Ray Tune pickles this.
        self._ended, self._known, self._folds = record.ended, record.parameters, record.folds
        self._proposed = 0
        self._batch: list[_Proposal] = []
        self._waiting: deque[_Proposal] = deque()
        self._running: dict[str, list[_Proposal]] = {}
        self._lost: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> Parameters | None:
        """Return what a worker is to do next, None if there is nothing before others end, or that nothing is left."""
        while not self._waiting:
            if self._running:
                return None
            if self._batch:
                self._proposer.tell(self._batch)
                self._batch = []
            if self._proposed == self._n_trials:
                finished: Any = Searcher.FINISHED
                return finished  # type: ignore[no-any-return]
            self._propose()
        if len(self._running) >= self._concurrent:
            return None
        most = min(_MOST_AT_ONCE, -(-len(self._waiting) // self._share)) if self._share else 1
        block = max(size for size in self._blocks if size <= most)
        several = most // block * block
        given = self._running[trial_id] = [self._waiting.popleft()]
        while len(given) < several and not (given[0].alone or self._waiting[0].alone):
            given.append(self._waiting.popleft())
        return {"trials": [self._told(proposal) for proposal in given]}

    def _told(self, proposal: _Proposal) -> Parameters:
        folds = [asdict(fold) for fold in self._folds.get(proposal.number, ())]
        return {"number": proposal.number, "parameters": proposal.parameters, "folds": folds}

    def _propose(self) -> None:
        last = min(self._proposed + self._batch_size, self._n_trials)
        for number in range(self._proposed, last):
            proposal = _Proposal(number, self._proposer.propose(number))
            if number in self._ended:
                trial = self._ended[number]
                proposal.parameters = {**proposal.parameters, **self._known.get(number, {})}
                failed = trial.status == "failed"
                proposal.value = reached(self.metric, [fold.metrics for fold in trial.folds], failed=failed)
            else:
                self._waiting.append(proposal)
            self._batch.append(proposal)
        self._proposed = last

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep what trials reached until all that were proposed together have ended."""
        told = {trial["number"]: trial for trial in result.get("trials", ())}
        for proposal in self._running.get(trial_id, ()):
            if proposal.number in told:
                trial = told[proposal.number]
                folds = [fold["metrics"] for fold in trial["folds"]]
                proposal.value = reached(self.metric, folds, failed="error" in trial)
                proposal.ended = trial["ended"]

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Learn that a worker is done, or was lost: nothing is learnt of a trial that did not end there."""
        self.on_trial_result(trial_id, result or {})
        given = self._running.pop(trial_id, [])
        left = [proposal for proposal in given if not proposal.ended] if error else []
        for proposal in left:
            proposal.value, proposal.alone = None, True
        if left:
            self._lost[left[0].number] += 1
            if self._lost[left[0].number] > self._retries:
                del left[0]
        self._waiting.extendleft(reversed(left))

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: what is needed to go on is the study's record."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing, see :meth:`save`."""

    def get_state(self) -> dict[str, Any]:
        """Return nothing, see :meth:`save`."""
        return {}
