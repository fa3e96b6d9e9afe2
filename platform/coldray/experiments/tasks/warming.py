"""How a model does as cold items, or users, become known: measured at each number n of known clicks.

====================  ==========================================================================================
``cold_among_cold``   cold items ranked among themselves; their later clicks are to be found
``cold_among_all``    the lists of all items; the later clicks of cold items are to be found in them
``warm_among_all``    the same lists; held-out clicks on warm items are to be found in them
``overall``           the same lists; both are to be found
``new_items``         ``listed@k``, the share of places that cold items have among the first k of these lists, and
                      ``deserved``, their share of what is to be found: calibration as of Steck (2018), of new
                      against old items
====================  ==========================================================================================

A user's known clicks are never ranked. A measure is a mean over the users who have something to be found, by name and
number: ``cold_among_all.n5.ndcg@10``. As n grows there is less to be found, so figures are to be compared at the same
n; ``cold_among_all.n5_of_rest.ndcg@10`` looks for the clicks beyond the largest n alone, the same at every n.

Where users become known there is ``overall`` alone. Models are fitted once then, else at each n, but for those that
take clicks without (:attr:`~coldray.models.base.Recommender.takes_clicks`).

Steck, *Calibrated recommendations*, RecSys 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import EmptyDatasetError
from coldray.data.dataset import keep_entries
from coldray.evaluation.metrics import LEADING, RankingMetrics, ranking_metrics
from coldray.evaluation.ranking import Ranking
from coldray.evaluation.ratings import RatingMetrics
from coldray.experiments.evaluation import Candidates, EvaluationFold, predicted_ratings, rank_items
from coldray.models.base import Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.training.options import FitOptions
from coldray.training.progress import TrainingListener

TASKS = ("cold_among_cold", "cold_among_all", "warm_among_all", "overall")
NEW_ITEMS = "new_items"
_DECIDING: Mapping[Candidates, str] = {"cold": "cold_among_cold", "all": "overall"}
"""The task whose mean over n are the metrics of a fold, by what competes."""


def part_name(task: str, clicks: int, *, of_rest: bool = False) -> str:
    """Return the name of a task at so many known clicks: ``overall.n5``."""
    return f"{task}.n{clicks}{'_of_rest' if of_rest else ''}"


def evaluate_warming(
    model: Recommender[Any],
    task: EvaluationFold,
    *,
    candidates: Candidates,
    cutoffs: tuple[int, ...],
    computations: Computations | None = None,
    options: FitOptions = FitOptions(),
) -> RankingMetrics:
    """Return the metrics of a model on a fold in which something becomes known.

    They are means over n, user by user: of the lists of cold items where `candidates` are ``cold``, else of those of
    all items. The tasks at each n are their parts.

    Parameters
    ----------
    model
        Fitted on ``task.train``.
    computations, options
        Of the fits at more known clicks. They are not told to the listener.

    Raises
    ------
    ConfigError
        If nothing becomes known in it.
    EmptyDatasetError
        If nobody has anything to be found.
    """
    warming = task.becoming_known
    rest = task.after(warming.clicks[-1]).held_out
    parts: dict[str, RankingMetrics] = {}
    deciding: list[RankingMetrics] = []
    ratings: list[RatingMetrics] = []
    for clicks in warming.clicks:
        now = task.after(clicks)
        knowing = model
        if now.train.key != task.train.key:
            knowing = _knowing(model, now.train, computations, _options_after(options, clicks))
        found = _tasks(knowing, now, warming.competing, rest, cutoffs, of_users=not warming.refits)
        parts |= {
            part_name(name, clicks, of_rest=of_rest): _kept(one, of_rest) for (name, of_rest), one in found.items()
        }
        if (_DECIDING[candidates], False) in found:
            deciding.append(found[_DECIDING[candidates], False])
        if task.ratings and np.isin(now.held_out.indices, now.train.interactions.indices).any():
            ratings.append(predicted_ratings(knowing, now))
    if not deciding:
        raise EmptyDatasetError(f"{task.train.key}: nobody has anything to be found at {warming.clicks} known clicks.")
    every = RatingMetrics.of_all(ratings) if ratings else None
    return replace(_mean_over(deciding), ratings=every, parts=parts)


def _options_after(options: FitOptions, clicks: int) -> FitOptions:
    """Return options of a fit of its own: it goes on from no checkpoint of another."""
    folder = None if options.checkpoints is None else options.checkpoints / f"known-{clicks}"
    return options.model_copy(update={"listener": TrainingListener(), "checkpoints": folder})


def _knowing(
    model: Recommender[Any], train: TrainingSet, computations: Computations | None, options: FitOptions
) -> Recommender[Any]:
    """Return the model that knows the clicks of `train`."""
    if model.takes_clicks:
        return model.with_clicks(train)
    return type(model)(model.config).fit(train, computations, options)


def _tasks(
    model: Recommender[Any],
    now: EvaluationFold,
    competing: npt.NDArray[np.int32],
    rest: sp.csr_array,
    cutoffs: tuple[int, ...],
    *,
    of_users: bool,
) -> dict[tuple[str, bool], RankingMetrics]:
    """Return the measures of each task that has something to be found, also `rest` alone."""
    k = max(cutoffs)
    everything = rank_items(model, now, competing, k, exclude=True)
    lists = {"overall": (everything, len(competing))}
    cold = np.zeros(model.n_items, np.bool_)
    if not of_users:
        cold[now.held_out_items] = True
        among_cold = rank_items(model, now, now.held_out_items, k, exclude=True)
        lists = dict.fromkeys(TASKS, lists["overall"]) | {"cold_among_cold": (among_cold, len(now.held_out_items))}
    found: dict[tuple[str, bool], RankingMetrics] = {}
    for name, (ranking, n_candidates) in lists.items():
        for of_rest, held_out in ((False, now.held_out), (True, rest)):
            relevant = _relevant(name, now.relevance(held_out), cold)
            if (np.diff(relevant.indptr)[ranking.users] > 0).any():
                found[name, of_rest] = ranking_metrics(
                    ranking, relevant, cutoffs, n_candidates=n_candidates, graded=now.graded
                )
    if not of_users and ("overall", False) in found:
        found[NEW_ITEMS, False] = _new_items(everything, now.held_out, cold, cutoffs)
    return found


def _relevant(task: str, held_out: sp.csr_array, cold: npt.NDArray[np.bool_]) -> sp.csr_array:
    """Return what a task looks for."""
    if task == "overall":
        return held_out
    wanted = ~cold if task.startswith("warm") else cold
    return keep_entries(held_out, wanted[held_out.indices])


def _new_items(
    ranking: Ranking, held_out: sp.csr_array, cold: npt.NDArray[np.bool_], cutoffs: tuple[int, ...]
) -> RankingMetrics:
    """Return the share of places that cold items have in each user's list, and the share that they deserve."""
    wanted = np.diff(held_out.indptr)[ranking.users]
    of_cold = np.diff(keep_entries(held_out, cold[held_out.indices]).indptr)[ranking.users]
    asked = wanted > 0
    items = ranking.items[asked]
    filled, listed = items >= 0, (items >= 0) & cold[items]
    shares = {f"listed@{k}": listed[:, :k].sum(axis=1) / np.maximum(filled[:, :k].sum(axis=1), 1) for k in cutoffs}
    shares["deserved"] = of_cold[asked] / wanted[asked]
    return RankingMetrics(
        ranking.users[asked], {name: values.astype(np.float32) for name, values in shares.items()}, {}
    )


def _kept(measured: RankingMetrics, of_rest: bool) -> RankingMetrics:
    """Return the measures that are kept of a part: of the rest NDCG alone."""
    return measured.leading(("ndcg",)) if of_rest else measured.leading((*LEADING, "listed", "deserved"))


def _mean_over(measured: list[RankingMetrics]) -> RankingMetrics:
    """Return each user's mean over the numbers of known clicks at which there was something to be found for them."""
    every = np.concatenate([one.users for one in measured])
    users, places = np.unique(every, return_inverse=True)
    counts = np.bincount(places)
    per_user = {}
    for name in measured[0].per_user:
        values = np.concatenate([one.per_user[name] for one in measured])
        per_user[name] = (np.bincount(places, weights=values) / counts).astype(np.float32)
    coverage = {name: float(np.mean([one.coverage[name] for one in measured])) for name in measured[0].coverage}
    return RankingMetrics(users.astype(np.int32), per_user, coverage)
