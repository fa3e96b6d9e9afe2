"""Who asks: what a list is made from, and the scores of users of whom nothing is new, which are kept.

The scores of a user are a sum over their history, and to read the weights of some hundred items takes longer than all
else that a list needs. They are the same until they do something.

Notation used for shapes: b who ask, I items, h items of a history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache

from coldray.bundle.lists import History, Scores
from coldray.features.feature_set import FeatureSet
from coldray.serving.engine.queries import Query

_KEPT_BYTES = 256 << 20
"""What kept profiles take at most, about."""
_CLICK_BYTES = 100
"""What an item of a history takes beside the scores, about."""


@dataclass(frozen=True, eq=False)
class Profile:
    """What a list is made from."""

    history: Mapping[int, float | None]
    """The index of each item, and the user's rating."""
    cells: History
    """The history as the model reads it."""
    known: bool
    """Whether the bundle has the user's history, or a part of it."""
    scores: Scores | None = None
    """Of all items ``[I]``, once they are known; not to be written to."""
    row: int | None = None
    """The user's row in the bundle, if the history is what the bundle has of them."""
    person: FeatureSet | None = None
    """What is known of the user beside the history, and of the moment, for a model that reads it ``[1]``."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A query, and what its list is made from."""

    query: Query
    profile: Profile
    allowed: npt.NDArray[np.bool_]
    """Which items may be in the list, those of the history aside ``[I]``."""
    pool: int
    """Among how many of the best items the list is chosen."""


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

    def __init__(self, max_bytes: int = _KEPT_BYTES) -> None:
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
    return (0 if profile.scores is None else profile.scores.nbytes) + _CLICK_BYTES * len(profile.history)


def people_of(profiles: Sequence[Profile]) -> FeatureSet | None:
    """Return what is known of some users beside their histories ``[b]``, if the model reads it."""
    known = [profile.person for profile in profiles if profile.person is not None]
    return reduce(FeatureSet.append, known) if known else None


def all_scores(profiles: Sequence[Profile], kept: KeptProfiles, made: Callable[[list[Profile]], Scores]) -> Scores:
    """Return the scores of all items for those who ask ``[b, I]``.

    Those that are not known yet are made together; those of users of the bundle are kept.
    """
    new = [place for place, profile in enumerate(profiles) if profile.scores is None]
    fresh = dict(zip(new, made([profiles[place] for place in new]), strict=True)) if new else {}
    for place, scores in fresh.items():
        if profiles[place].row is not None:
            kept.put(replace(profiles[place], scores=scores.copy()))
    rows = [fresh[place] if profile.scores is None else profile.scores for place, profile in enumerate(profiles)]
    return np.stack(rows)
