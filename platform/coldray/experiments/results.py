"""What a study found, as plain values that tables, figures and the tracking server read."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from coldray.data.splits.items import HeldOut
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import is_error
from coldray.experiments.edges import Edge
from coldray.experiments.promotion.outcome import Promotion
from coldray.models.forms import Form

TrialStatus: TypeAlias = Literal["finished", "pruned", "failed"]
FAILED_METRIC, FAILED_ERROR = 0.0, 1e9
"""What a failed trial tells the search: the worst value any metric can take; of errors, one beyond any rating."""


@dataclass(frozen=True)
class FoldMetrics:
    """The metrics of one configuration on one split."""

    seed: int
    split: int
    metrics: Mapping[str, float]
    """By name and cutoff, such as ``ndcg@10``; means over users. Of a model that predicts ratings also those of
    :mod:`~coldray.evaluation.ratings`."""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the process that fitted and scored."""
    peak_bytes: int = 0
    """The most resident memory it had had until then."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """Metrics of parts of what was held out, such as ``cold_among_all.n5.ndcg@10``: at 5 known clicks, see
    :mod:`~coldray.experiments.tasks.warming`."""
    n_parameters: int = 0
    """Numbers that were trained by gradient descent."""

    @property
    def every(self) -> dict[str, float]:
        """The metrics, and those of parts."""
        return {**self.metrics, **self.parts}

    def value(self, metric: str) -> float:
        """Return a metric, be it of a part; KeyError where it was not measured."""
        return self.metrics[metric] if metric in self.metrics else self.parts[metric]


def mean_metric(folds: tuple[FoldMetrics, ...], metric: str) -> float:
    """Return the mean over splits; NaN when there is none."""
    return statistics.fmean(fold.value(metric) for fold in folds) if folds else math.nan


def reached(metric: str, folds: Sequence[Mapping[str, float]], *, failed: bool = False) -> float:
    """Return what a trial tells the search: the mean of the metric over its splits, the worst if it `failed`."""
    if failed or not folds:
        return FAILED_ERROR if is_error(metric) else FAILED_METRIC
    return statistics.fmean(fold[metric] for fold in folds)


def std_metric(folds: tuple[FoldMetrics, ...], metric: str) -> float:
    """Return the sample standard deviation over splits; 0 for a single split."""
    return statistics.stdev(fold.value(metric) for fold in folds) if len(folds) > 1 else 0.0


def common_metrics(folds: Sequence[FoldMetrics]) -> tuple[str, ...]:
    """Return the names of what was measured on every split, those of parts last."""
    first, *others = folds
    return tuple(name for name in first.every if all(name in other.every for other in others))


@dataclass(frozen=True)
class Lift:
    """One against another, such as a baseline, in one metric, over the same users."""

    difference: float
    """Mean difference."""
    low: float
    high: float
    """95 % bootstrap interval of the difference."""
    relative: float
    """The difference as a share of what the other reaches."""
    p_value: float
    """Two-sided paired test."""
    p_adjusted: float
    """After the correction for all comparisons of the table."""


@dataclass(frozen=True)
class TrialResult:
    """One configuration, evaluated on validation data split after split."""

    trial_id: str
    number: int
    config: Mapping[str, Any]
    """The model's parameters by name, defaults included."""
    folds: tuple[FoldMetrics, ...]
    """Validation metrics; fewer than the study's splits if the trial was pruned or failed."""
    status: TrialStatus
    error: str | None = None
    seconds: float = 0.0
    lost: bool = False
    """True if it failed with its worker, and not by what its model found: a study that goes on runs it again."""

    def mean(self, metric: str) -> float:
        """Return the mean validation `metric` over the splits that were run."""
        return mean_metric(self.folds, metric)

    def quality(self, metric: str) -> float:
        """Return what is the larger the better: the mean validation `metric`, or minus it where it is an error."""
        return -self.mean(metric) if is_error(metric) else self.mean(metric)

    def std(self, metric: str) -> float:
        """Return the sample standard deviation of the validation `metric` over splits."""
        return std_metric(self.folds, metric)


@dataclass(frozen=True)
class Selection:
    """Which trial was chosen, and why."""

    winner: TrialResult
    best: TrialResult
    """The trial with the highest mean, or the lowest of an error; the winner is at most `tolerance` worse."""
    within_tolerance: tuple[TrialResult, ...]
    metric: str
    tolerance: float
    rule: tuple[str, ...]
    """The simplicity rule, in the words of the study file."""


@dataclass(frozen=True)
class StudyResult:
    """A finished study with its one test."""

    name: str
    model: str
    dataset: Mapping[str, Any]
    """``name``, ``synthetic``, ``n_users``, ``n_items``, ``n_interactions``, ``density``, ``fingerprint`` and
    ``attributes``."""
    protocol: Mapping[str, str]
    """How the numbers came to be: split protocol, candidates, filters, seeds, in words."""
    searched: tuple[str, ...]
    """Names of the parameters that were searched."""
    cutoffs: tuple[int, ...]
    trials: tuple[TrialResult, ...]
    selection: Selection
    test: tuple[FoldMetrics, ...]
    """The winner on the test data of each split."""
    test_intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """95 % bootstrap interval of each mean test metric."""
    seconds: float = 0.0
    held_out: HeldOut = "items"
    """What validation and test consist of: whole items, or interactions of any item."""
    notes: tuple[str, ...] = ()
    """What the tested fits of the winner had to leave out or fall back on."""
    forms: tuple[Form, ...] = ()
    """In which forms the model was fitted, in tuning, test and bundle alike."""
    measured: tuple[RankingMetrics, ...] = field(default=(), repr=False, compare=False)
    """The winner's test values of every user, fold by fold: what another model on the same folds is paired with."""
    promotion: Promotion | None = None
    """What is to become of it in the registry; None where nothing is registered."""
    edges: tuple[Edge, ...] = ()
    """Where the winner is on the edge of what was searched, and the parameter goes on."""

    def ranked_trials(self) -> list[TrialResult]:
        """Return the finished trials, best mean validation metric first."""
        finished = [trial for trial in self.trials if trial.status == "finished"]
        return sorted(finished, key=lambda trial: (-trial.quality(self.selection.metric), trial.number))
