"""A split of single interactions: each is in one part, and an item may have clicks in all of them.

Notation used for shapes: U users, I items, n interactions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.dataset import Dataset, IntArray, keep_entries, rows_of
from coldray.data.splits.items import Fold, Split, TuningSplit

Parts: TypeAlias = npt.NDArray[np.uint8]
"""The part of each interaction ``[n]``, aligned with ``dataset.interactions.data``."""
BoolArray: TypeAlias = npt.NDArray[np.bool_]

TRAIN, VALIDATION, TEST, VALIDATION_GIVEN, TEST_GIVEN = range(5)
"""Numbers of the parts. The last two are what is known of a user whom no model is fitted on."""
PART_WORDS = ("train", "validation", "test", "given for validation", "given for test", "unused")
"""The parts in the order of their numbers."""
UNUSED = 5
"""Number of what a split leaves out: nobody is fitted on it, measured with it or described by it."""
CHRONOLOGICAL = ("leave-last", "temporal", "per-user-temporal", "rolling-origin")
"""Protocols in which what is held out comes last: of each user, or of everybody."""
_OF_EVERYBODY = ("temporal", "rolling-origin")
"""Those in which it comes last of everybody."""


@dataclass(frozen=True, eq=False)
class _InteractionFold(Fold):
    """A fold whose held-out clicks are of any item; all items compete for a place."""

    train_entries: BoolArray
    """Interactions that models are fitted on ``[n]``."""
    held_out_entries: BoolArray
    """Interactions to be found ``[n]``."""
    given_entries: BoolArray
    """Interactions ``[n]`` that only describe users the model is not fitted on."""

    @property
    def train(self) -> sp.csr_array:
        """Clicks that models are fitted on ``[U, I]``."""
        return keep_entries(self.dataset.interactions, self.train_entries)

    @property
    def held_out(self) -> sp.csr_array:
        """Clicks to be found ``[U, I]``."""
        return keep_entries(self.dataset.interactions, self.held_out_entries)

    @property
    def given(self) -> sp.csr_array | None:
        """Clicks that describe the users ``[U, I]``; None where those of `train` do."""
        if not self.given_entries.any():
            return None
        return keep_entries(self.dataset.interactions, self.train_entries | self.given_entries)

    @property
    def cold_items(self) -> IntArray:
        """Items with a held-out click and no train click, ascending."""
        clicked = self.dataset.interactions.indices
        return np.setdiff1d(clicked[self.held_out_entries], clicked[self.train_entries]).astype(np.int32)


@dataclass(frozen=True, eq=False, repr=False)
class InteractionSplit(Split):
    """An assignment of every interaction to one part.

    Raises
    ------
    DataFormatError
        If `parts` does not number every interaction, or ratings or timestamps are not on the same pairs.
    LeakageError
        If a (user, item) pair is stored twice, so that it could be in two parts, or a chronological protocol has an
        earlier part with a later click.
    EmptyDatasetError
        If train, validation or test has no interaction.
    """

    parts: Parts
    users_kept_in_train: int = field(kw_only=True, default=0)
    """Users with too few interactions to hold one out: all of them are in train."""

    def __post_init__(self) -> None:
        check_pairs(self.dataset)
        if self.parts.shape != (self.dataset.interactions.nnz,) or self.parts.max() >= len(PART_WORDS):
            raise DataFormatError(
                f"{self._name}: parts of shape {self.parts.shape} with numbers up to {self.parts.max(initial=0)} do "
                f"not put each of {self.dataset.interactions.nnz:,} interactions in one of {len(PART_WORDS)} parts."
            )
        for part in (TRAIN, VALIDATION, TEST):
            if not (self.parts == part).any():
                raise EmptyDatasetError(
                    f"{self._name}: the {PART_WORDS[part]} part has no interaction. Dataset {self.dataset.name!r} has "
                    f"{self.dataset.interactions.nnz:,} of {self.dataset.n_users:,} users, of whom "
                    f"{self.users_kept_in_train:,} have too few to hold one out; loosen its filters, or use other "
                    "shares or another protocol."
                )
        if self.protocol in CHRONOLOGICAL:
            self._check_order()

    @property
    def _name(self) -> str:
        return f"Split {self.split} of seed {self.seed} ({self.protocol})"

    def _check_order(self) -> None:
        """Find a click of an earlier part that is later than one of a later part."""
        times, (n_users, _) = timestamps_of(self.dataset, self.protocol), self.dataset.interactions.shape
        group = np.zeros(len(times), np.intp) if self.protocol in _OF_EVERYBODY else rows_of(self.dataset.interactions)
        latest = np.full(n_users, np.iinfo(np.int64).min)
        for part in (TRAIN, VALIDATION, TEST):
            members = self.parts == part
            early = members & (times < latest[group])
            if early.any():
                raise LeakageError(
                    f"{self._name}: {early.sum():,} {PART_WORDS[part]} interactions are earlier than one of a part "
                    "before it, so a model would be fitted on what comes after its test. Put later ones in later "
                    "parts."
                )
            np.maximum.at(latest, group[members], times[members])

    def for_tuning(self) -> TuningSplit:
        """Return the split without its test interactions.

        A user without any other interaction is not in it, not even by the id. The catalogue is known: all items stay,
        with their attributes.
        """
        visible = ~np.isin(self.parts, (TEST, TEST_GIVEN, UNUSED))
        parts = self.parts[visible]
        fold = _InteractionFold(
            take_interactions(self.dataset, visible),
            parts == TRAIN,
            parts == VALIDATION,
            parts == VALIDATION_GIVEN,
            split=self.split,
            seed=self.seed,
        )
        return TuningSplit(fold, self.protocol)

    @property
    def test_fold(self) -> _InteractionFold:
        """Fit on all but test, measure on test: to be used once, after the selection.

        What was held out for the selection is train then: a click of the validation part is known, and would
        otherwise compete for a place that only a test click deserves.
        """
        parts = self.parts
        train = np.isin(parts, (TRAIN, VALIDATION, VALIDATION_GIVEN))
        return _InteractionFold(
            self.dataset, train, parts == TEST, parts == TEST_GIVEN, split=self.split, seed=self.seed
        )

    def counts(self) -> dict[str, int]:
        """Return the size of each part, how many users stay in train, and how many to be tested have no known click."""
        rows, n_users = rows_of(self.dataset.interactions), self.dataset.n_users
        sizes = np.bincount(self.parts, minlength=len(PART_WORDS))
        known = np.bincount(rows[~np.isin(self.parts, (TEST, UNUSED))], minlength=n_users) > 0
        tested = np.bincount(rows[self.parts == TEST], minlength=n_users) > 0
        return {
            **{f"{word.replace(' ', '_')}_interactions": int(sizes[part]) for part, word in enumerate(PART_WORDS)},
            "users_kept_in_train": self.users_kept_in_train,
            "users_without_train_clicks": int((tested & ~known).sum()),
        }


def timestamps_of(dataset: Dataset, protocol: str) -> npt.NDArray[np.int64]:
    """Return the time of each interaction, int64 ``[n]``.

    Raises
    ------
    ConfigError
        If the dataset has no timestamps.
    """
    if dataset.timestamps is None:
        raise ConfigError(
            f"Dataset {dataset.name!r} has no timestamps, so the protocol {protocol!r} cannot tell what came last. Use "
            "holdout (--set splits.protocol=holdout), user-holdout or k-fold; of your own data, name the column with "
            "--timestamp-column."
        )
    times: npt.NDArray[Any] = dataset.timestamps.data
    return times.astype(np.int64, copy=False)


def check_pairs(dataset: Dataset) -> None:
    """Refuse interactions of which an entry is not a pair of its own, or not the entry of the same rating and time."""
    clicks = dataset.interactions
    rows, same = rows_of(clicks), np.diff(clicks.indices) <= 0
    repeated = int((same & (np.diff(rows) == 0)).sum())
    if repeated:
        raise LeakageError(
            f"Dataset {dataset.name!r} stores {repeated:,} (user, item) pairs twice or out of order, and a pair must "
            "not be in two parts. Sum up duplicates and sort the indices of its interactions."
        )
    for what, matrix in dataset.of_pairs.items():
        if not (np.array_equal(matrix.indptr, clicks.indptr) and np.array_equal(matrix.indices, clicks.indices)):
            raise DataFormatError(f"Dataset {dataset.name!r}: {what} and interactions are not on the same pairs.")


def take_interactions(dataset: Dataset, keep: BoolArray, *, every_user: bool = False) -> Dataset:
    """Return the dataset of some interactions ``[n]``, and of the users who have one of them, or of all.

    The contexts of others are not in it.
    """
    taken = dataset.with_pairs(lambda matrix: keep_entries(matrix, keep)).without_unused_contexts()
    return taken if every_user else taken.take_users(np.unique(rows_of(dataset.interactions)[keep]))
