"""What is to be known of a dataset and its split before anything is fitted: sizes, ratings, overlap, times.

Notation used for shapes: U users, I items, n interactions, v levels of rating.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from coldray.data.dataset import Dataset, Ids, rows_of
from coldray.data.quality.activity import (
    Activity,
    HeatMap,
    Timeline,
    heat_map,
    item_activity,
    timeline,
    user_activity,
)
from coldray.data.quality.contexts import ContextFacts, context_facts
from coldray.data.quality.kinds import EventKinds, event_kinds
from coldray.data.quality.levels import RatingFacts, RatingLevels, rating_facts, rating_levels
from coldray.data.splits.assignment import PartAssignment
from coldray.data.splits.parts import (
    PART_WORDS,
    TEST,
    TEST_GIVEN,
    TRAIN,
    VALIDATION,
    VALIDATION_GIVEN,
    BoolArray,
)

ALL = "all"
"""Name of the interactions of all parts together."""
_KNOWN = (TRAIN, VALIDATION_GIVEN, TEST_GIVEN)
"""Parts that say something of a user before a test."""
EARLIEST, LATEST = 631_152_000, 4_102_444_800
"""1990-01-01 and 2100-01-01: a time beyond them was hardly one of a click."""

Scale: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Positive:
    """What a rule of positives takes of a part: what is to be found there, if the part is held out."""

    interactions: int
    users: int
    """Users with one of them."""


@dataclass(frozen=True)
class PartFacts:
    """One part of a split, or all of it."""

    name: str
    interactions: int
    users: int
    """Users with an interaction in the part."""
    items: int
    """Items with an interaction in the part."""
    unseen_users: int
    """Of the users, those whom nothing is known of: without a train or a given interaction."""
    unseen_items: int
    """Of the items, those without a train interaction."""
    of_unseen_users: int
    """Interactions of unseen users."""
    of_unseen_items: int
    """Interactions with unseen items."""
    ratings: RatingFacts | None
    """None without ratings, or of an empty part."""
    first: int | None
    """Earliest time, in seconds since 1970; None without times, or of an empty part."""
    last: int | None
    """Latest time."""
    events: tuple[int, ...] | None
    """Interactions of each kind of :class:`~coldray.data.quality.kinds.EventKinds`; None where they are of one."""
    positives: Positive | None
    """What a rule of positives takes of the part; None without one."""

    @property
    def density(self) -> float:
        """Share of the cells of the part's own users × items that hold an interaction; 0 of an empty part."""
        return self.interactions / (self.users * self.items) if self.interactions else 0.0

    @property
    def sparsity(self) -> float:
        """Share of the cells that hold none."""
        return 1.0 - self.density


@dataclass(frozen=True)
class TimeFacts:
    """What the times say of the data and of the split."""

    within_user: int
    """Held-out interactions that are earlier than a train interaction of the same user."""
    across_users: int
    """Held-out interactions that are earlier than a train interaction of anybody."""
    tied: int
    """Held-out interactions at the time of the last train interaction of their user: their order is chance."""
    implausible: int
    """Interactions before 1990 or after 2099."""
    one_time_users: int
    """Users with several interactions, all at one time."""
    users: int
    """Users with several interactions."""


@dataclass(frozen=True, eq=False)
class DataQuality:
    """The facts of a dataset and its split."""

    parts: tuple[PartFacts, ...]
    """``all``, then train, validation, test, and what is given of users to be tested where there is such."""
    levels: RatingLevels | None
    outside_scale: int | None
    """Ratings outside the scale; None without a scale or ratings."""
    scale: Scale | None
    pairs_in_two_parts: int
    """(user, item) pairs that are in more than one part."""
    repeated_pairs: int
    """Interactions beyond the first of their pair, in whatever part."""
    alike_users: int
    """Users whose id is that of another but for case, blanks around it and leading zeros."""
    alike_items: int
    """The same of items."""
    times: TimeFacts | None
    users: Activity
    items: Activity
    map: HeatMap
    kinds: EventKinds | None
    """None where interactions are of one kind."""
    timeline: Timeline | None
    """None without times, or if they are not seconds since 1970."""
    contexts: tuple[ContextFacts, ...]
    """One a column of context."""

    def part(self, name: str) -> PartFacts:
        """Return the facts of a part; KeyError if there is none of that name."""
        return {facts.name: facts for facts in self.parts}[name]

    @property
    def held_out(self) -> int:
        """Interactions of validation and test."""
        return self.part(PART_WORDS[VALIDATION]).interactions + self.part(PART_WORDS[TEST]).interactions


def data_quality(split: PartAssignment, scale: Scale | None = None, positives: BoolArray | None = None) -> DataQuality:
    """Return the facts of a dataset and its split.

    Memory grows with the interactions: less than 60 bytes each beside the dataset.

    Parameters
    ----------
    scale
        Lowest and highest rating there should be; None where nobody knows.
    positives
        Which interactions a rule of positives takes, bool ``[n]``; None without one.
    """
    dataset, clicks = split.dataset, split.dataset.interactions
    rows = rows_of(clicks)
    measures = _measures(split, rows, positives)
    two_parts, repeated = _shared_pairs(split, rows)
    times = None if dataset.timestamps is None else dataset.timestamps.data.astype(np.int64, copy=False)
    outside = None
    if scale is not None and dataset.ratings is not None:
        outside = int(((dataset.ratings.data < scale[0]) | (dataset.ratings.data > scale[1])).sum())
    return DataQuality(
        parts=_all_parts(split, measures),
        levels=measures.levels,
        outside_scale=outside,
        scale=scale,
        pairs_in_two_parts=two_parts,
        repeated_pairs=repeated,
        alike_users=_alike_ids(dataset.user_ids),
        alike_items=_alike_ids(dataset.item_ids),
        times=None if times is None else _time_facts(split, rows, times),
        users=user_activity(clicks),
        items=item_activity(clicks),
        map=heat_map(clicks),
        kinds=measures.kinds,
        timeline=None if times is None else timeline(times, split.parts),
        contexts=context_facts(dataset, split.parts == TRAIN, np.isin(split.parts, (VALIDATION, TEST))),
    )


def _alike_ids(ids: Ids) -> int:
    """Return how many ids equal another but for case, blanks around them and leading zeros; 0 of integer ids."""
    if ids.dtype.kind in "iu":
        return 0
    texts = pl.Series("id", ids.tolist(), pl.String).str.strip_chars().str.to_lowercase()
    return int(texts.str.replace(r"^0+(.)", "$1").is_duplicated().sum())


@dataclass(frozen=True, eq=False)
class _Measures:
    """What each part is described by."""

    rows: npt.NDArray[np.intp]
    """User of each interaction ``[n]``."""
    known_users: BoolArray
    known_items: BoolArray
    levels: RatingLevels | None
    kinds: EventKinds | None
    positives: BoolArray | None


def _measures(split: PartAssignment, rows: npt.NDArray[np.intp], positives: BoolArray | None) -> _Measures:
    dataset = split.dataset
    train_items = dataset.interactions.indices[split.parts == TRAIN]
    return _Measures(
        rows,
        known_users=np.bincount(rows[np.isin(split.parts, _KNOWN)], minlength=dataset.n_users) > 0,
        known_items=np.bincount(train_items, minlength=dataset.n_items) > 0,
        levels=None if dataset.ratings is None else rating_levels(dataset.ratings.data),
        kinds=event_kinds(dataset),
        positives=positives,
    )


def _all_parts(split: PartAssignment, by: _Measures) -> tuple[PartFacts, ...]:
    found = []
    for number, name in ((None, ALL), *enumerate(PART_WORDS)):
        members = np.ones(len(by.rows), bool) if number is None else split.parts == number
        if number is None or number <= TEST or members.any():
            found.append(_part(name, split.dataset, members, by))
    return tuple(found)


def _part(name: str, dataset: Dataset, members: BoolArray, by: _Measures) -> PartFacts:
    users = np.bincount(by.rows[members], minlength=dataset.n_users)
    items = np.bincount(dataset.interactions.indices[members], minlength=dataset.n_items)
    new_users, new_items = users * ~by.known_users, items * ~by.known_items
    ratings, times, events, size = dataset.ratings, dataset.timestamps, dataset.events, int(members.sum())
    taken = None if by.positives is None else by.rows[members & by.positives]
    return PartFacts(
        name,
        interactions=size,
        users=int((users > 0).sum()),
        items=int((items > 0).sum()),
        unseen_users=int((new_users > 0).sum()),
        unseen_items=int((new_items > 0).sum()),
        of_unseen_users=int(new_users.sum()),
        of_unseen_items=int(new_items.sum()),
        ratings=rating_facts(ratings.data[members], by.levels) if ratings is not None and by.levels and size else None,
        first=int(times.data[members].min()) if times is not None and size else None,
        last=int(times.data[members].max()) if times is not None and size else None,
        events=None if events is None or by.kinds is None else by.kinds.counts(events.data[members]),
        positives=None if taken is None else Positive(len(taken), len(np.unique(taken))),
    )


def _shared_pairs(split: PartAssignment, rows: npt.NDArray[np.intp]) -> tuple[int, int]:
    """Return how many pairs are in two parts, and how many interactions repeat a pair."""
    pairs = rows * np.int64(split.dataset.n_items) + split.dataset.interactions.indices
    if (np.diff(pairs) > 0).all():
        return 0, 0
    order = np.lexsort((split.parts, pairs))
    same = np.diff(pairs[order]) == 0
    changed = same & (np.diff(split.parts[order].astype(np.int64)) > 0)
    return len(np.unique(pairs[order][1:][changed])), int(same.sum())


def _time_facts(split: PartAssignment, rows: npt.NDArray[np.intp], times: npt.NDArray[np.int64]) -> TimeFacts:
    held_out = np.isin(split.parts, (VALIDATION, TEST))
    known = np.isin(split.parts, _KNOWN)
    last = np.full(split.dataset.n_users, np.iinfo(np.int64).min)
    np.maximum.at(last, rows[known], times[known])
    own = last[rows[held_out]]
    starts = split.dataset.interactions.indptr[:-1][np.diff(split.dataset.interactions.indptr) > 1]
    ends: Any = split.dataset.interactions.indptr[1:][np.diff(split.dataset.interactions.indptr) > 1]
    changes = np.concatenate([[0], np.cumsum(np.diff(times) != 0)])
    return TimeFacts(
        within_user=int((times[held_out] < own).sum()),
        across_users=int((times[held_out] < last.max()).sum()) if known.any() else 0,
        tied=int((times[held_out] == own).sum()),
        implausible=int(((times < EARLIEST) | (times >= LATEST)).sum()),
        one_time_users=int((changes[ends - 1] == changes[starts]).sum()),
        users=len(starts),
    )
