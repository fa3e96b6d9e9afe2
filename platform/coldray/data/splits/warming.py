"""Warming: items, or users, of whom nothing was known become known click by click.

``item-warming``: the items are dealt as by ``notebook``. A share of each user's clicks on train items is held out as by
``holdout``, so that warm items are to be found beside the cold ones. Of a cold item the first n clicks become known,
for each n of a schedule; the later ones are to be found. Models are fitted with what is known at n. The tuning has cold
items and a warming of its own: of test items it sees nothing.

``user-warming``: users are held out as by ``user-holdout``; of each the first n clicks describe them, the later ones
are to be found. Models are fitted once, to the clicks of the others. ``user-cold`` is the same before the first click:
nothing is known of held-out users but their attributes.

The first clicks are those by time; without timestamps, and of those at the same time, the seed decides. It does so for
each (user, item) pair by itself: what becomes of the later clicks of an item changes nothing of what is known before.

Notation used for shapes: U users, I items, n interactions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.core.spelling import choices
from coldray.data.dataset import Dataset, IntArray, keep_entries, rows_of
from coldray.data.splits.interactions import share_counts, tail_parts, user_sides
from coldray.data.splits.items import Fold, Split, TuningSplit, Warming, cold_item_splits
from coldray.data.splits.parts import (
    TEST,
    TRAIN,
    VALIDATION,
    BoolArray,
    Parts,
    check_pairs,
    take_interactions,
)
from coldray.data.splits.protocols import Protocol

logger = logging.getLogger(__name__)

WARMING_CLICKS: dict[Protocol, tuple[int, ...]] = {
    "item-warming": (0, 1, 2, 5, 10, 20, 50),
    "user-warming": (0, 1, 2, 5, 10, 20),
    "user-cold": (0,),
}
_OF_USERS = ("user-warming", "user-cold")
"""Numbers of known clicks at which each protocol measures by default."""
_PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class _WarmingFold(Fold):
    """A fold whose cold items, or users, become known; it is itself as it is at the first number of the schedule."""

    train_entries: BoolArray
    """Interactions known all along ``[n]``."""
    held_out_entries: BoolArray
    """Interactions to be found as long as they are not known ``[n]``."""
    places: npt.NDArray[np.int32]
    """Place of each click of what is cold in this fold among those of its item, or user, from 1; 0 of others
    ``[n]``."""
    clicks: tuple[int, ...]
    """The schedule."""
    cold: IntArray
    """The cold items, or users, ascending."""
    competing: IntArray
    """Items that compete for a place where every item is a candidate."""
    of_users: bool

    @property
    def train(self) -> sp.csr_array:
        """Clicks that models are fitted on at first ``[U, I]``."""
        learnt = self.train_entries if self.of_users else self.train_entries | self._known
        return keep_entries(self.dataset.interactions, learnt)

    @property
    def held_out(self) -> sp.csr_array:
        """Clicks to be found at first ``[U, I]``."""
        return keep_entries(self.dataset.interactions, self.held_out_entries & ~self._known)

    @property
    def given(self) -> sp.csr_array | None:
        """Clicks that describe the users at first, where these are cold ``[U, I]``."""
        return keep_entries(self.dataset.interactions, self.train_entries | self._known) if self.of_users else None

    @property
    def cold_items(self) -> IntArray:
        """The items that become known; where users do, those without a train click."""
        if not self.of_users:
            return self.cold
        clicked = self.dataset.interactions.indices
        return np.setdiff1d(clicked[self.held_out_entries], clicked[self.train_entries]).astype(np.int32)

    @property
    def warming(self) -> Warming:
        """What becomes known."""
        cold = self.places > 0
        early = keep_entries(self.dataset.interactions, cold)
        return Warming(self.clicks, early, self.places[cold], not self.of_users, self.competing)

    @property
    def _known(self) -> BoolArray:
        known: BoolArray = (self.places > 0) & (self.places <= self.clicks[0])
        return known


@dataclass(frozen=True, eq=False, repr=False)
class _WarmingSplit(Split):
    """An assignment of every interaction to a part, of which the cold side becomes known click by click.

    Raises
    ------
    ConfigError
        If the schedule is no ascending series of numbers of clicks.
    LeakageError
        If a (user, item) pair is stored twice, so that it could be in two parts.
    EmptyDatasetError
        If a part has nothing to be found on its cold side.
    """

    parts: Parts
    """uint8 ``[n]``: the part of each interaction."""
    places: npt.NDArray[np.int32]
    """Place of each click of a cold item, or user, among those of it, from 1; 0 of the others ``[n]``."""
    cold: dict[int, IntArray]
    """The cold items, or users, of each held-out part, ascending."""
    clicks: tuple[int, ...] = field(kw_only=True)

    def __post_init__(self) -> None:
        if not self.clicks or self.clicks[0] < 0 or any(np.diff(self.clicks) <= 0):
            raise ConfigError(f"clicks {self.clicks} are no ascending numbers of known clicks, such as (0, 1, 5).")
        check_pairs(self.dataset)
        for part in (VALIDATION, TEST):
            if not (self._cold(part) & (self.places > self.clicks[0])).any():
                raise EmptyDatasetError(
                    f"Split {self.split} of seed {self.seed} ({self.protocol}): no cold {self._noun} of the "
                    f"{_PARTS[part]} part has more than {self.clicks[0]} clicks, so nothing is left to be found. Begin "
                    "with fewer clicks, or loosen the filters."
                )

    @property
    def of_users(self) -> bool:
        """True if users become known, False if items do."""
        return self.protocol in _OF_USERS

    @property
    def _noun(self) -> str:
        return "user" if self.of_users else "item"

    def _cold(self, part: int) -> BoolArray:
        found: BoolArray = (self.parts == part) & (self.places > 0)
        return found

    def for_tuning(self) -> TuningSplit:
        """Return the split without its test interactions: what becomes known there are clicks of validation.

        Neither a test item nor a label that only test items have is in it, nor a test user.
        """
        visible, data = self.parts != TEST, self.dataset
        if self.of_users:
            data, cold = take_interactions(data, visible).without_unused_labels(), self.cold[VALIDATION]
        else:
            items = np.setdiff1d(np.arange(data.n_items, dtype=np.int32), self.cold[TEST])
            data = take_interactions(data, visible, every_user=True).take_items(items).without_unused_labels()
            cold = np.searchsorted(items, self.cold[VALIDATION]).astype(np.int32)
        places, parts = self.places[visible], self.parts[visible]
        train, held_out = parts == TRAIN, parts == VALIDATION
        everything = np.arange(data.n_items, dtype=np.int32)
        return TuningSplit(self._fold(data, train, held_out, places, cold, everything), self.protocol)

    @property
    def test_fold(self) -> _WarmingFold:
        """Fit on all but test, measure on test: to be used once, after the selection.

        Held-out clicks of validation on warm items are train then, and all of held-out users. The cold items of
        validation stay unknown, and take no part.
        """
        train, competing = self.parts != TEST, np.arange(self.dataset.n_items, dtype=np.int32)
        if not self.of_users:
            train = train & (self.places == 0)
            competing = np.setdiff1d(competing, self.cold[VALIDATION])
        return self._fold(self.dataset, train, self.parts == TEST, self.places, self.cold[TEST], competing)

    def _fold(
        self,
        data: Dataset,
        train: BoolArray,
        held_out: BoolArray,
        places: npt.NDArray[np.int32],
        cold: IntArray,
        competing: IntArray,
    ) -> _WarmingFold:
        return _WarmingFold(
            data,
            train,
            held_out,
            np.where(held_out, places, 0).astype(np.int32),
            self.clicks,
            cold,
            competing,
            self.of_users,
            split=self.split,
            seed=self.seed,
        )

    def counts(self) -> dict[str, int]:
        """Return the size of each part, and how many of the cold items, or users, to be tested have too few clicks.

        ``items_without_20_test_clicks`` have fewer than 20: at that number all of their clicks are known.
        """
        rows, n_users = rows_of(self.dataset.interactions), self.dataset.n_users
        known = self.test_fold.train
        tested = np.bincount(rows[self.parts == TEST], minlength=n_users) > 0
        sizes = np.bincount(self.parts, minlength=len(_PARTS))
        lengths = self._lengths(TEST)
        return {
            **{f"{name}_interactions": int(sizes[part]) for part, name in enumerate(_PARTS)},
            f"validation_{self._noun}s": len(self.cold[VALIDATION]),
            f"test_{self._noun}s": len(self.cold[TEST]),
            "users_without_train_clicks": 0 if self.of_users else int((tested & (np.diff(known.indptr) == 0)).sum()),
            **{f"{self._noun}s_without_{n}_test_clicks": int((lengths < n).sum()) for n in self.clicks if n},
        }

    def _lengths(self, part: int) -> npt.NDArray[np.int64]:
        """Return how many clicks each cold item, or user, of a part has."""
        group = rows_of(self.dataset.interactions) if self.of_users else self.dataset.interactions.indices
        return np.bincount(group[self._cold(part)], minlength=max(self.dataset.interactions.shape))[self.cold[part]]


def warming_splits(
    dataset: Dataset,
    *,
    protocol: Protocol,
    n_splits: int = 1,
    seeds: Sequence[int] = (42,),
    clicks: Sequence[int] | None = None,
    warm_share: float = 0.2,
    test_share: float = 0.2,
    validation_share: float = 0.2,
) -> Iterator[_WarmingSplit]:
    """Yield `n_splits` splits for each seed, drawn one after another.

    Parameters
    ----------
    clicks
        Numbers of known clicks, ascending; by default :data:`WARMING_CLICKS`.
    warm_share
        Of ``item-warming``: the share of each user's clicks on train items that is test, and of the rest that
        validates, as of ``holdout``; 0 holds out none, and at 0 known clicks the split is that of ``notebook``.
    test_share, validation_share
        Of ``user-warming`` and ``user-cold``: the share of the users that is tested, and of the others that validates.

    Raises
    ------
    ConfigError
        If a parameter is out of range.
    LeakageError
        If the dataset stores a pair twice.
    EmptyDatasetError
        If a part is left with nothing to be found.
    """
    if protocol not in WARMING_CLICKS:
        raise ConfigError(f"By the protocol {protocol!r} nothing warms up; choose {choices(WARMING_CLICKS)}.")
    schedule = tuple(WARMING_CLICKS[protocol] if clicks is None else clicks)
    if not 0 <= warm_share < 1:
        raise ConfigError(f"warm_share is {warm_share:g}; it is from 0, which holds out no click on a warm item, to 1.")
    check_pairs(dataset)
    if dataset.timestamps is None and schedule != (0,):
        logger.warning(
            "Dataset %r has no timestamps: which clicks of a new %s are its first is drawn by the seed.",
            dataset.name, "user" if protocol in _OF_USERS else "item",
        )  # fmt: skip
    for seed in seeds:
        if protocol in _OF_USERS:
            drawn = _users_held_out(dataset, n_splits, seed, (test_share, validation_share))
        else:
            drawn = _items_held_out(dataset, n_splits, seed, warm_share)
        group = rows_of(dataset.interactions) if protocol in _OF_USERS else dataset.interactions.indices
        for number, (parts, cold) in enumerate(drawn):
            is_cold = np.isin(group, np.concatenate([*cold.values()]))
            places = _places(dataset, group, is_cold, (seed, number))
            yield _WarmingSplit(
                dataset, parts, places, cold, clicks=schedule, split=number, seed=seed, protocol=protocol
            )


def _items_held_out(
    dataset: Dataset, n_splits: int, seed: int, warm_share: float
) -> Iterator[tuple[Parts, dict[int, IntArray]]]:
    """Yield the part of each interaction, and the cold items by part."""
    items = dataset.interactions.indices
    for number, dealt in enumerate(cold_item_splits(dataset, n_splits=n_splits, seed=seed)):
        cold = {VALIDATION: dealt.validation_items, TEST: dealt.test_items}
        parts = np.full(len(items), TRAIN, np.uint8)
        for part, those in cold.items():
            parts[np.isin(items, those)] = part
        if warm_share > 0:
            warm = parts == TRAIN
            known = take_interactions(dataset, warm, every_user=True)
            lengths = np.diff(known.interactions.indptr).astype(np.int64)
            held_out = share_counts(lengths, (warm_share, warm_share))
            parts[warm], _ = tail_parts(known, np.random.default_rng((seed, number)), None, *held_out)
        yield parts, cold


def _users_held_out(
    dataset: Dataset, n_splits: int, seed: int, shares: tuple[float, float]
) -> Iterator[tuple[Parts, dict[int, IntArray]]]:
    """Yield the part of each interaction, and the cold users by part."""
    rows = rows_of(dataset.interactions)
    for number in range(n_splits):
        sides = user_sides(dataset, np.random.default_rng((seed, number)), shares)
        cold = {part: np.flatnonzero(sides == part).astype(np.int32) for part in (VALIDATION, TEST)}
        yield sides[rows], cold


def _places(dataset: Dataset, group: npt.NDArray[Any], cold: BoolArray, seed: tuple[int, int]) -> npt.NDArray[np.int32]:
    """Return the place of each `cold` interaction among those of its group, from 1: by time, then by draw ``[n]``."""
    clicks = dataset.interactions
    pairs = rows_of(clicks)[cold].astype(np.uint64) * np.uint64(clicks.shape[1]) + clicks.indices[cold].astype(
        np.uint64
    )
    times = np.zeros(len(pairs), np.int64) if dataset.timestamps is None else dataset.timestamps.data[cold]
    groups = group[cold]
    order = np.lexsort((_draws(pairs, seed), times, groups))
    starts = np.searchsorted(groups[order], groups[order])
    places = np.zeros(clicks.nnz, np.int32)
    places[np.flatnonzero(cold)[order]] = np.arange(1, len(order) + 1) - starts
    return places


def _draws(numbers: npt.NDArray[np.uint64], seed: tuple[int, int]) -> npt.NDArray[np.uint64]:
    """Return a random number for each number that depends on nothing but it and the seed.

    The finaliser of SplitMix64 (Steele, Lea and Flood, *Fast splittable pseudorandom number generators*, 2014).
    """
    state = numbers * np.uint64(0x9E3779B97F4A7C15) ^ np.random.SeedSequence(seed).generate_state(1, np.uint64)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn: npt.NDArray[np.uint64] = state ^ (state >> np.uint64(31))
    return drawn
