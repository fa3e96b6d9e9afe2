"""The one maker of lists: for the bundle, the MLflow model, the service and the job of lists for all users.

A history becomes a row as the model reads it; what may be in the list is scored, or found by the index of vectors; the
items of the history and those that are masked are left out; of whom nothing is known gets the items with the most
clicks; and the list says where it comes from.

Notation used for shapes: b users, I items, n items that are scored, c cells of all histories, k list length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.signals import Reads, Values
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import top_k
from coldray.features.feature_set import FeatureSet
from coldray.models.base import ProfileScorer, Recommender
from coldray.models.linalg.vector_index import VectorIndex, VectorModel

Indices: TypeAlias = npt.NDArray[np.int32]
Scores: TypeAlias = npt.NDArray[np.float32]
Mask: TypeAlias = npt.NDArray[np.bool_]
History: TypeAlias = tuple[Indices, Values]
"""The items of one history, and what stands for their clicks, the first click first: ``[h]`` both."""
ListOrigin: TypeAlias = Literal["model", "history", "attributes", "popularity", "profile"]
"""How a list came to be. ``model``: from what is known of the user. ``history``: from a given history alone, the user
being unknown or not named. ``attributes``: from either, among new items, which are known by their attributes alone.
``popularity``: nothing is known of the user, everybody without a history gets this list. ``profile``: nothing but the
user's attributes."""
ORIGINS: tuple[ListOrigin, ...] = ("history", "attributes", "popularity", "profile")
"""Those that a history alone tells: where the bundle has it, ``history`` is ``model``."""
Candidates: TypeAlias = Literal["all", "warm", "cold"] | tuple[Any, ...]
"""Which items lists may hold: all that the model can tell apart, those with clicks, those without, or those named."""
_BLOCK_BYTES = 8 << 20
"""Scores that are held at a time: larger blocks are hardly faster, and what they took stays with the process."""
_MOST_CANDIDATES = 2_000
"""Where the index would have to look for more, as much is masked, all items are scored."""


@dataclass(frozen=True)
class Place:
    """One item of a list."""

    item: Any
    """External item id."""
    score: float
    cold: bool
    """True if nobody had clicked the item when the model was fitted."""


@dataclass(frozen=True, eq=False)
class Lists:
    """Lists of items, best first."""

    items: Indices
    """Item indices ``[b, k]``; -1 where a list has ended."""
    scores: Scores
    """``[b, k]``; -inf where the item is -1."""
    origins: npt.NDArray[np.int8]
    """The place of each list's origin among :data:`ORIGINS` ``[b]``."""

    def origin(self, row: int, *, known: bool) -> ListOrigin:
        """Return where a list comes from; `known` tells whether the bundle has the history of this user."""
        origin = ORIGINS[self.origins[row]]
        return "model" if known and origin == "history" else origin


@dataclass(frozen=True, eq=False)
class ListMaker:
    """Makes lists of some items; it holds what they are made from and nothing else of a bundle."""

    scorer: Scorer
    """Of :attr:`items`."""
    items: Indices
    """The items that may be listed ``[n]``, ascending."""
    clicks: npt.NDArray[np.int64]
    """Of all items, when the model was fitted ``[I]``."""
    reads: Reads
    click_value: float
    """Rating of an item that was clicked without one."""
    index: VectorIndex | None = None
    """Finds the best items without the scores of all, if anything does."""
    model: VectorModel | None = None
    """What gives the vectors for the index; it may have items that came after those of the index."""
    by_profile: ProfileScorer | None = None
    """Scores the :attr:`items` by histories and features of users, of a model that reads both."""

    @classmethod
    def of(
        cls, model: Recommender[Any], clicks: npt.NDArray[np.int64], items: Indices, index: VectorIndex | None = None
    ) -> ListMaker:
        """Prepare a fitted model, given the clicks of all items and those that may be listed.

        Parameters
        ----------
        index
            Of the items that lists may hold unless others are named.
        """
        vectors = model if index is not None and isinstance(model, VectorModel) else None
        by_profile = model.profile_scorer(items) if model.reads_askers() else None
        return cls(model.scorer(items), items, clicks, model.reads, model.click_value, index, vectors, by_profile)

    # ---- histories

    def read(self, history: Mapping[int, float | None]) -> History:
        """Return one history, ratings by item index and the first click first, as the model reads it."""
        items = np.fromiter(history, np.int32, len(history))
        ratings = np.full(len(items), np.nan, np.float32)
        if self.reads.worth:
            ratings[:] = [np.nan if rating is None else rating for rating in history.values()]
        return items, self.values(ratings, np.array([0, len(items)]))

    def values(self, ratings: npt.NDArray[Any], ends: npt.NDArray[np.integer[Any]]) -> Values:
        """Return what stands for the clicks of several histories ``[c]``, the first click of each first.

        Parameters
        ----------
        ratings
            NaN where unknown ``[c]``.
        ends
            Where each history ends, after a 0 ``[b + 1]``.
        """
        if not self.reads:
            return np.ones(len(ratings), np.float32)
        places = np.arange(1.0, len(ratings) + 1) - np.repeat(ends[:-1], np.diff(ends))
        return self.reads.values(np.where(np.isnan(ratings), np.float32(self.click_value), ratings), places)

    def rows(self, histories: Sequence[History]) -> sp.csr_array:
        """Return histories as the model reads them ``[b, I]``."""
        ends = np.cumsum([0, *(len(items) for items, _ in histories)]).astype(np.int32)
        items = np.concatenate([np.zeros(0, np.int32), *(items for items, _ in histories)])
        values = np.concatenate([np.zeros(0, np.float32), *(values for _, values in histories)])
        return sp.csr_array((values, items, ends), shape=(len(histories), len(self.clicks)))

    # ---- lists

    @cached_property
    def _warm(self) -> Mask:
        """Which of the items have clicks ``[n]``."""
        return self.clicks[self.items] > 0

    def scores(self, histories: sp.csr_array, people: FeatureSet | None = None) -> Scores:
        """Return the model's scores ``[b, n]``, or where nothing is known the logarithm of the clicks.

        `people` are what is known of these users beside their histories.
        """
        empty = np.diff(histories.indptr) == 0
        if self.by_profile is None or people is None:
            scores = self.scorer(histories)
        else:
            scores, empty = self.by_profile(histories, people), empty & ~people.described
        if not empty.any():
            return scores
        return np.where(empty[:, None], np.log1p(self.clicks[self.items]).astype(np.float32), scores)

    def in_blocks(
        self,
        histories: sp.csr_array,
        k: int,
        *,
        mask: Mask | None = None,
        exclude_seen: bool = True,
        people: FeatureSet | None = None,
    ) -> Iterator[Lists]:
        """Yield the lists of many users, some at a time.

        Parameters
        ----------
        mask
            Which of the :attr:`items` anybody may be shown ``[n]``; all of them unless given.
        people
            As of :meth:`make`, of all users.
        """
        step = max(1, _BLOCK_BYTES // (4 * max(1, len(self.items))))
        for start in range(0, max(1, histories.shape[0]), step):  # the lists of nobody are lists too
            some = sp.csr_array(histories[start : start + step])
            masks = None if mask is None else np.broadcast_to(mask, (some.shape[0], len(mask)))
            those = None if people is None else people.take(np.arange(start, start + some.shape[0]))
            lengths = np.full(some.shape[0], k)
            yield self.make(some, lengths, masks=masks, exclude_seen=exclude_seen, people=those)

    def make(
        self,
        histories: sp.csr_array,
        lengths: npt.NDArray[np.integer[Any]],
        *,
        masks: Mask | None = None,
        exclude_seen: bool = True,
        scored: Callable[[npt.NDArray[np.intp]], Scores] | None = None,
        people: FeatureSet | None = None,
    ) -> Lists:
        """Return the best items for users, in the order of their scores; equal ones in that of the items.

        Parameters
        ----------
        histories
            As the model reads them ``[b, I]``.
        lengths
            Of the lists ``[b]``.
        masks
            Which of the :attr:`items` each may be shown ``[b, n]``; all of them unless given.
        exclude_seen
            Whether the items of a history are left out.
        scored
            Returns the :meth:`scores` of some rows, if they may be known already.
        people
            What is known of the users beside their histories, for a model that reads it.

        Raises
        ------
        NumericalError
            If a score is NaN.
        """
        n_users, width = histories.shape[0], int(max(lengths, default=0))
        seen = ones_where_stored(histories) if self.reads else histories
        items, values = np.full((n_users, width), -1, np.int32), np.full((n_users, width), -np.inf, np.float32)
        left = self._searched(histories, lengths, masks, seen if exclude_seen else None, items, values)
        if len(left):
            every = len(left) == n_users
            rows = slice(None) if every else left
            if scored is not None:
                scores = scored(left)
            else:
                those = people if every or people is None else people.take(left)
                scores = self.scores(histories if every else sp.csr_array(histories[left]), those)
            if masks is not None:
                scores = np.where(masks[rows], scores, np.float32(-np.inf))
            banned = seen if every else sp.csr_array(seen[left])
            banned = banned if len(self.items) == seen.shape[1] else sp.csr_array(banned[:, self.items])
            found, values[rows] = top_k(scores, width, exclude=banned if exclude_seen else None, n_threads=1)
            items[rows] = np.where(values[rows] > -np.inf, self.items[found], -1)
        beyond = np.arange(width) >= lengths[:, None]
        if beyond.any():
            items[beyond], values[beyond] = -1, -np.inf
        described = None if self.by_profile is None or people is None else people.described
        return Lists(items, values, self._origins(seen, masks, exclude_seen, described))

    def _searched(
        self, histories: sp.csr_array, lengths: npt.NDArray[np.integer[Any]], masks: Mask | None,
        seen: sp.csr_array | None, items: Indices, values: Scores,
    ) -> npt.NDArray[np.intp]:  # fmt: skip
        """Write what the index finds to `items` and `values`; return the rows of whom all items are to be scored.

        They are those of whom nothing is known, whose list may hold an item that is neither in the index nor new or
        has so much masked that the search would take longer, and those for whom the graph leads to too few.
        """
        every, index, model = np.arange(histories.shape[0]), self.index, self.model
        if index is None or model is None:
            return every
        later = np.arange(index.n_known, histories.shape[1])
        covered = np.zeros(histories.shape[1], np.bool_)
        covered[index.items], covered[later] = True, True
        allowed = np.zeros(histories.shape, np.bool_)
        allowed[:, self.items] = True if masks is None else masks
        own = np.diff(histories.indptr)
        counts = np.count_nonzero(covered & ~allowed, axis=1) + lengths + (0 if seen is None else own)
        whole = (own > 0) & (counts <= _MOST_CANDIDATES) & ~(allowed & ~covered).any(axis=1)
        rows = np.flatnonzero(whole)
        if not len(rows):
            return every
        users = model.user_vectors(sp.csr_array(histories[rows]))
        scores, found = index.nearest(users, min(int(counts[rows].max()), len(index.items)))
        if len(later):
            scores = np.hstack([scores, users @ model.item_vectors(later).T])
            found = np.hstack([found, np.tile(later, (len(rows), 1))])
        fit = (found >= 0) & allowed[rows[:, None], found]
        if seen is not None:
            fit &= ~_stored(sp.csr_array(seen[rows]), found)
        order = np.lexsort((found, np.where(fit, -scores, np.inf)))[:, : items.shape[1]]
        enough = fit.sum(axis=1) >= lengths[rows]
        best = order[enough]
        kept = np.take_along_axis(fit[enough], best, axis=1)
        width = best.shape[1]
        items[rows[enough], :width] = np.where(kept, np.take_along_axis(found[enough], best, axis=1), -1)
        values[rows[enough], :width] = np.where(kept, np.take_along_axis(scores[enough], best, axis=1), -np.inf)
        return np.setdiff1d(every, rows[enough])

    def _origins(
        self, seen: sp.csr_array, masks: Mask | None, exclude_seen: bool, described: Mask | None
    ) -> npt.NDArray[np.int8]:
        """Return where lists come from, as places among :data:`ORIGINS` ``[b]``."""
        shown = self._warm if masks is None else masks & self._warm
        left = np.broadcast_to(np.count_nonzero(shown, axis=-1), seen.shape[0])
        own = np.diff(seen.indptr)
        if exclude_seen and (left <= own).any():  # else some are left, whatever a history has of them
            listed = np.zeros((*shown.shape[:-1], seen.shape[1]), np.bool_)
            listed[..., self.items] = shown
            rows = np.repeat(np.arange(len(own)), own)
            gone = listed[seen.indices] if masks is None else listed[rows, seen.indices]
            left = left - np.bincount(rows, weights=gone, minlength=len(own))
        nothing = 2 if described is None else np.where(described, 3, 2)
        return np.where(own == 0, nothing, np.where(left > 0, 0, 1)).astype(np.int8)


def _stored(rows: sp.csr_array, items: npt.NDArray[np.int64]) -> Mask:
    """Return which of the items ``[b, c]`` their row stores."""
    numbers = np.arange(rows.shape[0])
    cells = np.repeat(numbers, np.diff(rows.indptr)) * rows.shape[1] + rows.indices
    return np.isin(numbers[:, None] * rows.shape[1] + items, cells)
