"""Evaluating a fitted model on the held-out clicks of a fold."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.data.dataset import joined, keep_entries, without_pairs
from coldray.data.signals import Reads
from coldray.data.splits.items import Fold, Warming
from coldray.data.splits.positives import Positives
from coldray.evaluation.metrics import RankingMetrics, ranking_metrics
from coldray.evaluation.ranking import Ranking, rank
from coldray.evaluation.ratings import RatingMetrics, ones_where_stored, rating_metrics
from coldray.evaluation.topk import merge_top_k
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender, TrainingSet


def known_key(key: str, clicks: int) -> str:
    """Return the key of a training set with so many known clicks of each cold item."""
    return f"{key}, {clicks} known clicks"


Candidates: TypeAlias = Literal["cold", "all"]
"""``cold`` ranks the held-out cold items alone; ``all`` every item but the user's train positives."""


@dataclass(frozen=True, eq=False)
class EvaluationFold:
    """A fold made ready: who is asked about, and what their lists are held against."""

    train: TrainingSet
    held_out: sp.csr_array
    """Clicks to be found ``[U, I]``."""
    held_out_items: npt.NDArray[np.int32]
    """Held-out items without a train click: what competes when only cold items are candidates."""
    users: npt.NDArray[np.int32]
    """Users with a held-out click and a known click. Without the first there is nothing to measure, without the
    second nothing to personalise with."""
    split: int
    seed: int
    given: sp.csr_array | None = None
    """Clicks ``[U, I]`` that describe users the model is not fitted on; None where the train clicks describe all."""
    ratings: bool = False
    """True if the held-out clicks are ratings to be predicted."""
    warming: Warming | None = None
    """What becomes known of cold items, or users; the fold itself is as at the first number of known clicks."""
    is_mixed: bool = False
    """True if cold items stand beside warm ones, and lists of each, and of both, are measured."""
    unranked: sp.csr_array | None = None
    """Clicks ``[U, I]`` that are neither known nor to be found, and not ranked for their users."""
    asked: FeatureSet | None = None
    """Features of the moments at which users ask ``[U]``, for a model that reads them."""
    graded: bool = False
    """True if what is to be found is worth the weight of its event; else all of it is alike."""

    @property
    def histories(self) -> sp.csr_array:
        """Known clicks of every user ``[U, I]``; what a user has clicked is not recommended again."""
        return self.train.interactions if self.given is None else self.given

    @property
    def askers(self) -> FeatureSet | None:
        """What is known of who asks beside the history ``[U]``: attributes of users, and the moment."""
        users, asked = self.train.users, self.asked
        return users.beside(asked) if users is not None and asked is not None else users or asked

    @property
    def known(self) -> sp.csr_array:
        """Ones where a user has a known click ``[U, I]``."""
        return ones_where_stored(self.histories)

    @property
    def never_ranked(self) -> sp.csr_array:
        """Ones where an item is not to be in a list of a user ``[U, I]``: known clicks, and those not to be ranked."""
        return self.known if self.unranked is None else joined(self.known, ones_where_stored(self.unranked))

    @classmethod
    def of(
        cls,
        fold: Fold,
        train: TrainingSet,
        *,
        ratings: bool = False,
        limit: int | None = None,
        positives: Positives | None = None,
    ) -> EvaluationFold:
        """Prepare `fold` for models fitted on `train`, which predict the held-out ratings if `ratings` says so.

        What is to be found is worth the weight of its event in data with events, else 1, or its rating if that is to be
        predicted. Of more than `limit` users so many are drawn, by the seed and the number of the split; what was held
        out of the others is not looked for. Of what is held out, `positives` say what is to be found; all of it
        competes.

        Raises
        ------
        EmptyDatasetError
            If no user has both a train and a held-out click.
        """
        graded = not ratings and fold.dataset.events is not None
        to_find = fold.as_read(Reads(events=True)) if graded else fold
        held_out = to_find.held_out if positives is None else positives.of(to_find)
        if not (ratings or graded):
            held_out = ones_where_stored(held_out)
        given, warming = fold.given, fold.warming
        wanted = np.diff(held_out.indptr) > 0
        if warming is None or warming.refits:  # cold users are asked for before anything is known of them
            wanted &= np.diff((train.interactions if given is None else given).indptr) > 0
        users = np.flatnonzero(wanted).astype(np.int32)
        if len(users) == 0:
            raise EmptyDatasetError(f"{fold.name}: no user has clicks both in train and among the held-out items.")
        if limit is not None and limit < len(users):
            users = np.sort(np.random.default_rng((fold.seed, fold.split)).choice(users, limit, replace=False))
            asked = np.zeros(held_out.shape[0], np.bool_)
            asked[users] = True
            held_out = keep_entries(held_out, np.repeat(asked, np.diff(held_out.indptr)))
        return cls(
            train,
            held_out,
            fold.cold_items,
            users,
            split=fold.split,
            seed=fold.seed,
            given=given,
            ratings=ratings,
            warming=warming,
            is_mixed=fold.is_mixed,
            unranked=fold.unranked,
            graded=graded,
        )

    @property
    def becoming_known(self) -> Warming:
        """What becomes known; ConfigError where nothing does."""
        if self.warming is None:
            raise ConfigError(f"{self.train.key} has nothing that becomes known.")
        return self.warming

    def after(self, clicks: int) -> EvaluationFold:
        """Return the fold as it is when so many clicks of each cold item, or user, are known; nothing warms up in it.

        Parameters
        ----------
        clicks
            One of the numbers of :attr:`warming`.
        """
        warming = self.becoming_known
        plain = replace(self, warming=None)
        known = warming.known(clicks, before=warming.clicks[0])
        if known.nnz == 0:
            return plain
        held_out = without_pairs(self.held_out, known)
        if not warming.refits:
            return replace(plain, held_out=held_out, given=joined(self.histories, known))
        train = replace(
            self.train, interactions=joined(self.train.interactions, known), key=known_key(self.train.key, clicks)
        )
        return replace(plain, held_out=held_out, train=train)

    def relevance(self, held_out: sp.csr_array | None = None) -> sp.csr_array:
        """Return what each item is worth where it is found ``[U, I]``: 1, however it is rated, or its event's weight.

        Parameters
        ----------
        held_out
            What is to be found, if that is not all that is held out.
        """
        wanted = self.held_out if held_out is None else held_out
        return ones_where_stored(wanted) if self.ratings else wanted


class RankingCache:
    """The most recent rankings of one side of a list, for configurations that differ in αβ alone."""

    def __init__(self, size: int = 8) -> None:
        self._rankings: OrderedDict[tuple[Any, ...], tuple[Ranking, float]] = OrderedDict()
        self.size = size

    def get(self, key: tuple[Any, ...]) -> tuple[Ranking, float] | None:
        """Return the ranking kept under `key` and the scale of its scores."""
        if key in self._rankings:
            self._rankings.move_to_end(key)
        return self._rankings.get(key)

    def put(self, key: tuple[Any, ...], ranking: Ranking, scale: float) -> None:
        """Keep `ranking`, and forget the oldest one beyond the size."""
        self._rankings[key] = (ranking, scale)
        if len(self._rankings) > self.size:
            self._rankings.popitem(last=False)


def _rank_task(
    model: Recommender[Any], task: EvaluationFold, *, candidates: Candidates, k: int, cache: RankingCache | None = None
) -> Ranking:
    """Return the top `k` of every user of the task.

    Where the model promises that αβ leaves the order within the warm and within the cold side alone
    (:meth:`~coldray.models.base.Recommender.ranking_key`), the sides are ranked once, kept in `cache`, and merged for
    each αβ.
    """
    if candidates == "cold":
        return _side(model, task, task.held_out_items, k, cache, warm=False, exclude=False)
    if model.ranking_key() is None or len(task.train.cold_items) == 0:
        everything = np.arange(model.n_items, dtype=np.int32)
        return rank_items(model, task, everything, k, exclude=True)
    # Of cold items only a given history, not the train clicks, can hold one.
    cold = _side(model, task, task.train.cold_items, k, cache, warm=False, exclude=task.given is not None)
    warm = _side(model, task, task.train.warm_items, k, cache, warm=True, exclude=True)
    items, scores = merge_top_k(warm.items, warm.scores, cold.items, cold.scores, k)
    return replace(cold, items=items, scores=scores)


def evaluate(
    model: Recommender[Any],
    task: EvaluationFold,
    *,
    candidates: Candidates,
    cutoffs: tuple[int, ...],
    cache: RankingCache | None = None,
) -> RankingMetrics:
    """Return the metrics of a fitted model on the held-out items.

    Of ratings, each is one to be found, however low; the errors of the model's predictions are measured beside the
    lists, and users without a known rating count in these alone.
    """
    ranking = _rank_task(model, task, candidates=candidates, k=max(cutoffs), cache=cache)
    n_candidates = len(task.held_out_items) if candidates == "cold" else model.n_items
    found = ranking_metrics(ranking, task.relevance(), cutoffs, n_candidates=n_candidates, graded=task.graded)
    return replace(found, ratings=predicted_ratings(model, task)) if task.ratings else found


def predicted_ratings(model: Recommender[Any], task: EvaluationFold) -> RatingMetrics:
    """Return how near a model comes to the held-out ratings of a task."""
    return rating_metrics(
        model.predict_ratings, train=task.train.interactions, histories=task.histories, held_out=task.held_out
    )


def _side(
    model: Recommender[Any],
    task: EvaluationFold,
    items: npt.NDArray[np.int32],
    k: int,
    cache: RankingCache | None,
    *,
    warm: bool,
    exclude: bool,
) -> Ranking:
    """Rank only warm or only cold items; with `exclude` without what the user has clicked."""
    order = model.ranking_key()
    if cache is None or order is None:
        return rank_items(model, task, items, k, exclude=exclude)
    scale = 1.0 if warm else model.cold_scale
    key = (task.train.key, order, warm, len(items), k)
    kept = cache.get(key)
    if kept is not None:
        ranking, kept_scale = kept
        with np.errstate(over="ignore", invalid="ignore"):
            scores = ranking.scores * np.float32(scale / kept_scale)
        # A scale beyond float32 is for the model to be judged by, whatever was kept before.
        if np.array_equal(np.isfinite(scores), np.isfinite(ranking.scores)):
            return replace(ranking, scores=scores)
    ranking = rank_items(model, task, items, k, exclude=exclude)
    cache.put(key, ranking, scale)
    return ranking


def rank_items(
    model: Recommender[Any], task: EvaluationFold, items: npt.NDArray[np.int32], k: int, *, exclude: bool
) -> Ranking:
    """Return the top `k` of `items` of every user of the task; with `exclude` without what the user has clicked."""
    never, askers = task.never_ranked if exclude else None, task.askers
    if askers is None or not model.reads_askers():
        return rank(model.scorer(items), task.histories, items, k=k, exclude=never, users=task.users)
    scorer = model.profile_scorer(items)
    return rank(scorer, task.histories, items, k=k, exclude=never, users=task.users, profiles=askers.take)
