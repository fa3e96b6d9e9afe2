"""Who asks: what a list is made from, and the scores of users of whom nothing is new, which are kept.

The scores of a user are a sum over their history, and to read the weights of some hundred items takes longer than all
else that a list needs. They are the same until they do something.

Notation used for shapes: b who ask, I items, h items of a history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from cachetools import LRUCache

from coldray.bundle.io import Bundle
from coldray.data.signals import places_in, ratings_in
from coldray.models.base import Recommender
from coldray.serving.engine.queries import ListOrigin, Query

Scores = npt.NDArray[np.float32]
KEPT_BYTES = 256 << 20
"""What kept profiles take at most, about."""
CLICK_BYTES = 100
"""What an item of a history takes beside the scores, about."""


@dataclass(frozen=True, eq=False)
class Profile:
    """What a list is made from."""

    history: Mapping[int, float | None]
    """The index of each item, and the user's rating."""
    path: ListOrigin
    items: npt.NDArray[np.int32]
    """The items of the history ``[h]``."""
    scores: Scores | None = None
    """Of all items ``[I]``, once they are known; not to be written to."""
    row: int | None = None
    """The user's row in the bundle, if the history is what the bundle has of them."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A query, and what its list is made from."""

    query: Query
    profile: Profile
    allowed: npt.NDArray[np.bool_]
    """Which items may be in the list, those of the history aside ``[I]``."""
    pool: int
    """Among how many of the best items the list is chosen."""

    @property
    def among_all(self) -> bool:
        """Whether it is for a user of whom something is known, among all items but a few, and no scores are known."""
        everything = self.query.candidates == "all" and not self.query.conditions
        return everything and self.profile.path != "popularity" and self.profile.scores is None

    def may_list_any(self, items: npt.NDArray[np.bool_]) -> bool:
        """Return whether the list may hold one of some items ``[I]``."""
        left = self.allowed & items
        if np.count_nonzero(left) > len(self.profile.items):
            return True
        left[self.profile.items] = False
        return bool(left.any())


@dataclass(frozen=True, eq=False)
class Best:
    """The items that a list is chosen from ``[p]``, best first."""

    items: npt.NDArray[np.integer[Any]]
    values: Scores
    """Their scores ``[p]``."""
    scores: Scores | None
    """Of all items ``[I]``, if they were made; not to be written to."""


class KeptProfiles:
    """Profiles with scores, of those who asked last; used from several threads at once."""

    def __init__(self, max_bytes: int = KEPT_BYTES) -> None:
        self._profiles: LRUCache[int, Profile] = LRUCache(max_bytes, getsizeof=_size)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._profiles)

    def get(self, row: int) -> Profile | None:
        """Return the profile of the user of a row, if it is kept."""
        with self._lock:
            return self._profiles.get(row)

    def put(self, profile: Profile) -> None:
        """Keep a profile of a row in the place of those not asked for the longest, if there is room for it at all."""
        if profile.row is None or _size(profile) > self._profiles.maxsize:
            return
        with self._lock:
            self._profiles[profile.row] = profile


def _size(profile: Profile) -> int:
    return (0 if profile.scores is None else profile.scores.nbytes) + CLICK_BYTES * len(profile.history)


def all_scores(
    profiles: Sequence[Profile], kept: KeptProfiles, made: Callable[[list[Mapping[int, float | None]]], Scores]
) -> Scores:
    """Return the scores of all items for those who ask ``[b, I]``.

    Those that are not known yet are made from their histories, together; those of users of the bundle are kept.
    """
    new = [place for place, profile in enumerate(profiles) if profile.scores is None]
    fresh = dict(zip(new, made([profiles[place].history for place in new]), strict=True)) if new else {}
    for place, scores in fresh.items():
        if profiles[place].row is not None:
            kept.put(replace(profiles[place], scores=scores.copy()))
    rows = [fresh[place] if profile.scores is None else profile.scores for place, profile in enumerate(profiles)]
    return np.stack(rows)


def clicks_of(bundle: Bundle, row: int) -> dict[int, float | None]:
    """Return what a bundle has of the user of a row: the rating of each item, in the order of clicks if that is read.

    A rating that is not read is 1.
    """
    clicks, reads = bundle.interactions, bundle.model.reads
    cells = slice(clicks.indptr[row], clicks.indptr[row + 1])
    items, values = clicks.indices[cells], clicks.data[cells]
    ratings = ratings_in(values) if reads.ratings else np.ones(len(values), np.float32)
    if reads.order:
        order = np.argsort(places_in(values), kind="stable")
        items, ratings = items[order], ratings[order]
    return dict(zip(items.tolist(), ratings.tolist(), strict=True))


def as_read(model: Recommender[Any], histories: Sequence[Mapping[int, float | None]]) -> sp.csr_array:
    """Return histories, by index of the item and the first click first, as a model reads them ``[b, I]``."""
    rows = clicked([np.fromiter(history, np.int32, len(history)) for history in histories], model.n_items)
    if not model.reads:
        return rows
    given = (rating for history in histories for rating in history.values())
    ratings = np.asarray([model.click_value if rating is None else rating for rating in given], np.float32)
    places = np.arange(1, rows.nnz + 1)  # ascending in each
    return sp.csr_array((model.reads.values(ratings, places), rows.indices, rows.indptr), shape=rows.shape)


def clicked(histories: Sequence[npt.NDArray[np.int32]], n_items: int) -> sp.csr_array:
    """Return which items are in histories: ones, CSR ``[b, I]``."""
    ends = np.cumsum([0, *map(len, histories)]).astype(np.int32)
    items = np.concatenate([np.zeros(0, np.int32), *histories])
    return sp.csr_array((np.ones(len(items), np.float32), items, ends), shape=(len(histories), n_items))
