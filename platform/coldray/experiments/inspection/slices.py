"""Metrics of parts of a test: cold and warm items, and cold and warm users.

Items of a slice compete among themselves alone, as in Wei et al., *Contrastive learning for cold-start recommendation*,
ACM Multimedia 2021: a warm item that a user clicked is no mistake in their list of cold ones. Users of a slice are
those of the whole test; their lists are those of the test.

Notation used for shapes: U users, I items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.data.dataset import keep_entries
from coldray.evaluation.metrics import RankingMetrics, ranking_metrics
from coldray.evaluation.ranking import rank
from coldray.experiments.evaluation import Candidates, EvaluationFold
from coldray.experiments.inspection.config import InspectionConfig
from coldray.models.base import Recommender

SLICES = ("cold_items", "warm_items", "cold_users", "warm_users")


@dataclass(frozen=True)
class SliceMetrics:
    """The metrics of one part of one fold's test."""

    n_users: int
    """Users measured; 0 if the part is empty."""
    n_items: int
    """Items that competed for a place."""
    metrics: Mapping[str, float]
    """Means over the users, by name and cutoff; none if there is no user."""


_EMPTY = SliceMetrics(0, 0, {})


def slice_metrics(
    model: Recommender[Any],
    task: EvaluationFold,
    measured: RankingMetrics,
    *,
    config: InspectionConfig,
    candidates: Candidates,
    cutoffs: tuple[int, ...],
) -> dict[str, SliceMetrics]:
    """Return the metrics of each of :data:`SLICES`.

    Parameters
    ----------
    model
        Fitted on ``task.train``.
    measured
        Its metrics on the whole task.
    candidates
        What competed in the whole task.
    cutoffs
        Lengths of lists.
    """
    everything = np.arange(model.n_items, dtype=np.int32)
    competing = task.held_out_items if candidates == "cold" else everything
    cold = task.train.clicks[competing] <= config.cold_item_clicks
    few = np.diff(task.known.indptr)[measured.users] <= config.cold_user_clicks
    return {
        "cold_items": _among(model, task, competing[cold], cutoffs),
        "warm_items": _among(model, task, competing[~cold], cutoffs),
        "cold_users": _of_users(measured, few, len(competing)),
        "warm_users": _of_users(measured, ~few, len(competing)),
    }


def _among(
    model: Recommender[Any], task: EvaluationFold, items: npt.NDArray[np.int32], cutoffs: tuple[int, ...]
) -> SliceMetrics:
    """Rank `items` alone, for the users who are to find one of them."""
    wanted = task.relevance()
    inside = np.zeros(model.n_items, np.bool_)
    inside[items] = True
    wanted = keep_entries(wanted, inside[wanted.indices])
    users = task.users[np.diff(wanted.indptr)[task.users] > 0]
    if len(users) == 0:
        return _EMPTY
    ranking = rank(
        model.scorer(items), task.histories, items, k=max(cutoffs), exclude=task.never_ranked, users=users
    )  # a user with nothing left to be ranked has an empty list
    found = ranking_metrics(ranking, wanted, cutoffs, n_candidates=len(items), graded=task.graded)
    return SliceMetrics(len(found.users), len(items), found.means())


def _of_users(measured: RankingMetrics, chosen: npt.NDArray[np.bool_], n_items: int) -> SliceMetrics:
    if not chosen.any():
        return _EMPTY
    means = {name: float(values[chosen].mean(dtype=np.float64)) for name, values in measured.per_user.items()}
    return SliceMetrics(int(chosen.sum()), n_items, means)


def named(slices: Mapping[str, SliceMetrics]) -> Iterator[tuple[str, float]]:
    """Yield ``cold_items.ndcg@10`` and the like with its value."""
    for name, one in slices.items():
        yield from ((f"{name}.{metric}", value) for metric, value in one.metrics.items())
