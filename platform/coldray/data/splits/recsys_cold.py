"""The cold split of the field's benchmarks: cold items beside warm ones, of which clicks are held out, too.

``recsys-cold`` is the protocol of GAR (Chen et al., SIGIR 2022), ALDI (Huang et al., CIKM 2023) and of the toolkit
ColdRec: 80 % of the items are warm; of the others half validate and half are tested. Of all clicks on warm items 10 %
validate and 10 % are tested, drawn over users, but for those that would leave a user or an item without a train click.
It is drawn by the seed, or read from the files that these codes share, see :mod:`~coldray.data.splits.split_files`.

As there, models are fitted on the train clicks alone, for the test too: what validates is neither learnt nor looked for
then, and is not ranked for its users; its cold items compete. Other than there, a tuning sees nothing of the test: its
cold items do not compete on validation.

Notation used for shapes: U users, I items, n interactions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import EmptyDatasetError
from coldray.data.dataset import Dataset, IntArray, keep_entries, rows_of
from coldray.data.splits.items import Fold, Split, TuningSplit
from coldray.data.splits.parts import TEST, TRAIN, UNUSED, VALIDATION, BoolArray, Parts, check_pairs, take_interactions
from coldray.data.splits.split_files import listed_parts

logger = logging.getLogger(__name__)

WARM_ITEMS = 0.8
"""Share of the items that are warm; half of the others, rounded down, validate."""
HELD_OUT_CLICKS = 0.1
"""Share of the clicks on warm items that validates, and the share that is tested."""


@dataclass(frozen=True, eq=False)
class _MixedFold(Fold):
    """A fold with cold items beside warm ones."""

    parts: Parts
    """Part of each interaction ``[n]``."""
    looked_for: int
    """Number of the part that is to be found."""
    cold: IntArray
    """Items without a train click that some part is about, ascending."""

    @property
    def train(self) -> sp.csr_array:
        """Train clicks ``[U, I]``, all of them on warm items."""
        return self._of(TRAIN)

    @property
    def held_out(self) -> sp.csr_array:
        """Clicks to be found ``[U, I]``, on warm and on cold items."""
        return self._of(self.looked_for)

    @property
    def unranked(self) -> sp.csr_array | None:
        """Where test clicks are to be found, those that validate ``[U, I]``."""
        return self._of(VALIDATION) if self.looked_for == TEST else None

    @property
    def cold_items(self) -> IntArray:
        """All cold items: those of validation compete in the test, too."""
        return self.cold

    @property
    def is_mixed(self) -> bool:
        """True."""
        return True

    def _of(self, part: int) -> sp.csr_array:
        return keep_entries(self.dataset.interactions, self.parts == part)


@dataclass(frozen=True, eq=False, repr=False)
class _MixedSplit(Split):
    """An assignment of every interaction to a part, of which some are about cold items.

    Raises
    ------
    LeakageError
        If a (user, item) pair is stored twice, so that it could be in two parts.
    EmptyDatasetError
        If there is nothing to learn from, or nothing to be found on warm or on cold items of a part.
    """

    parts: Parts
    """uint8 ``[n]``: the part of each interaction."""
    cold: Mapping[int, IntArray]
    """The cold items of validation and of test, ascending."""
    left_out: Mapping[str, int] = field(kw_only=True, default_factory=dict)
    """Rows of split files, and clicks of the data, that are in no part, by the reason."""

    def __post_init__(self) -> None:
        check_pairs(self.dataset)
        cold = np.isin(self.dataset.interactions.indices, np.concatenate([*self.cold.values()]))
        sides = {"the train part has no click": self.parts == TRAIN}
        for part, name in ((VALIDATION, "validation"), (TEST, "test")):
            for side, mask in (("warm", ~cold), ("cold", cold)):
                sides[f"the {name} part has no click on a {side} item"] = (self.parts == part) & mask
        for what, members in sides.items():
            if not members.any():
                raise EmptyDatasetError(
                    f"Split {self.split} of seed {self.seed} ({self.protocol}): {what}. Dataset {self.dataset.name!r} "
                    f"has {self.dataset.interactions.nnz:,} clicks on {len(self.dataset.clicked_items):,} items; "
                    "loosen its filters, or look at the split files."
                )

    def for_tuning(self) -> TuningSplit:
        """Return the split without its test clicks, its test items and the labels that only they have."""
        visible = ~np.isin(self.parts, (TEST, UNUSED))
        items = np.setdiff1d(np.arange(self.dataset.n_items, dtype=np.int32), self.cold[TEST])
        data = take_interactions(self.dataset, visible, every_user=True).take_items(items).without_unused_labels()
        cold = np.searchsorted(items, self.cold[VALIDATION]).astype(np.int32)
        return TuningSplit(self._fold(data, self.parts[visible], VALIDATION, cold), self.protocol)

    @property
    def test_fold(self) -> _MixedFold:
        """Fit on train alone, measure on test: to be used once, after the selection."""
        cold = np.sort(np.concatenate([*self.cold.values()])).astype(np.int32)
        return self._fold(self.dataset, self.parts, TEST, cold)

    def _fold(self, data: Dataset, parts: Parts, looked_for: int, cold: IntArray) -> _MixedFold:
        return _MixedFold(data, parts, looked_for, cold, split=self.split, seed=self.seed)

    def counts(self) -> dict[str, int]:
        """Return the size of each part, its cold items, what is in none, and how many users have no train click."""
        rows, n_users = rows_of(self.dataset.interactions), self.dataset.n_users
        tested, known = (np.bincount(rows[self.parts == part], minlength=n_users) > 0 for part in (TEST, TRAIN))
        sizes = np.bincount(self.parts, minlength=UNUSED + 1)
        return {
            "train_interactions": int(sizes[TRAIN]),
            "validation_interactions": int(sizes[VALIDATION]),
            "test_interactions": int(sizes[TEST]),
            "warm_items": len(np.unique(self.dataset.interactions.indices[self.parts == TRAIN])),
            "validation_items": len(self.cold[VALIDATION]),
            "test_items": len(self.cold[TEST]),
            "users_without_train_clicks": int((tested & ~known).sum()),
            **{name: count for name, count in self.left_out.items() if count},
        }


def recsys_cold_splits(
    dataset: Dataset, *, n_splits: int = 1, seeds: Sequence[int] = (42,), folder: Path | None = None
) -> Iterator[Split]:
    """Yield `n_splits` splits for each seed, or the one that files list.

    Parameters
    ----------
    folder
        Where the split files are; drawn if None.

    Raises
    ------
    DataFileError
        If a split file is missing or unreadable.
    DataFormatError
        If a file lacks a column, has a pair twice, or looks as if its columns were swapped.
    LeakageError
        If a pair is in two files, a cold item has a click in a file of warm ones or in two parts, or the dataset
        stores a pair twice.
    UnmatchedItemsError
        If none of the ids of a file is of a user, or of an item, of the dataset.
    EmptyDatasetError
        If a part is left with nothing to be found on its warm or its cold side.
    """
    check_pairs(dataset)
    if folder is not None:
        parts, cold, left_out = listed_parts(dataset, folder)
        yield _MixedSplit(dataset, parts, cold, left_out=left_out, split=0, seed=seeds[0], protocol="recsys-cold")
        return
    for seed in seeds:
        for number in range(n_splits):
            parts, cold = _drawn(dataset, np.random.default_rng((seed, number)))
            yield _MixedSplit(dataset, parts, cold, split=number, seed=seed, protocol="recsys-cold")


def _drawn(dataset: Dataset, generator: np.random.Generator) -> tuple[Parts, dict[int, IntArray]]:
    """Return the part of each interaction and the cold items of each part."""
    order = generator.permutation(dataset.clicked_items)
    n_warm = int(WARM_ITEMS * len(order))
    middle = n_warm + (len(order) - n_warm) // 2
    cold = {VALIDATION: np.sort(order[n_warm:middle]), TEST: np.sort(order[middle:])}
    items = dataset.interactions.indices
    parts = np.full(len(items), TRAIN, np.uint8)
    for part, those in cold.items():
        parts[np.isin(items, those)] = part
    clicks = generator.permutation(np.flatnonzero(parts == TRAIN))
    held_out = int(HELD_OUT_CLICKS * len(clicks))
    drawn = {VALIDATION: clicks[:held_out], TEST: clicks[held_out : 2 * held_out]}
    for part, those in drawn.items():
        parts[those] = part
    for those in drawn.values():
        for group in (rows_of(dataset.interactions), items):
            parts[those[_unknown(group, parts == TRAIN)[those]]] = TRAIN
    return parts, cold


def _unknown(group: npt.NDArray[Any], train: BoolArray) -> BoolArray:
    """Mark the interactions ``[n]`` of a user, or an item, that has none in train."""
    known = np.zeros(int(group.max(initial=-1)) + 1, np.bool_)
    known[group[train]] = True
    unknown: BoolArray = ~known[group]
    return unknown
