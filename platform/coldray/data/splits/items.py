"""What every split is, and cold-item splits: some items are known by their clicks, the others by attributes alone.

Splits of single interactions are in :mod:`~coldray.data.splits.interactions`. Selecting a model on test data is
impossible by construction: a study receives a :class:`TuningSplit`, which has no test side. Of a cold-item split not
even the test items' attributes or ids are in it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.core.notebook import facts_html
from coldray.data.dataset import Dataset, IntArray, keep_entries, rows_of
from coldray.data.signals import Reads
from coldray.data.splits.protocols import Protocol

HeldOut: TypeAlias = Literal["items", "interactions"]
"""What a protocol holds out: whole items, or interactions of any item."""

_BALANCED_ASSIGNMENTS = 10
"""How many random assignments the balanced protocol draws to keep the best of."""


def fold_name(seed: int, split: int) -> str:
    """Return ``seed 42 / split 0``."""
    return f"seed {seed} / split {split}"


@dataclass(frozen=True, eq=False)
class Warming:
    """What is learnt, click by click, of items or users that were cold."""

    clicks: tuple[int, ...]
    """Numbers n of known clicks at which a fold is measured, ascending: the first n of each cold item, or user."""
    early: sp.csr_array
    """The clicks of the cold items, or users ``[U, I]``."""
    places: npt.NDArray[np.int32]
    """Place of each of them among those of its item, or user, from 1; aligned with ``early.data``."""
    refits: bool
    """True if models learn from what becomes known; False if it only describes the users."""
    competing: IntArray
    """Items that compete for a place where every item is a candidate, ascending."""

    def known(self, clicks: int, before: int = 0) -> sp.csr_array:
        """Return the first so many clicks of each cold item, or user ``[U, I]``, but for those known `before`."""
        return keep_entries(self.early, (self.places > before) & (self.places <= clicks))


@dataclass(frozen=True, eq=False)
class Fold(ABC):
    """What a model is fitted on, and what its lists are held against."""

    dataset: Dataset
    """What exists for this fold. Its interactions are to be read through the properties below only. They are float32
    ones, or what :meth:`as_read` puts in their place: float32 too, or complex64 for ratings and order at once."""
    split: int = field(kw_only=True)
    """Number of the split this fold belongs to."""
    seed: int = field(kw_only=True)

    @property
    @abstractmethod
    def train(self) -> sp.csr_array:
        """Clicks that models are fitted on ``[U, I]``."""

    @property
    @abstractmethod
    def held_out(self) -> sp.csr_array:
        """Clicks to be found ``[U, I]``."""

    @property
    def given(self) -> sp.csr_array | None:
        """Clicks ``[U, I]`` that describe the users; None where those of `train` do."""
        return None

    @property
    @abstractmethod
    def cold_items(self) -> IntArray:
        """Held-out items without a train click, ascending: what is ranked when only cold items are candidates."""

    @property
    def warming(self) -> Warming | None:
        """Which of the clicks to be found become known, one after another; None where none does."""
        return None

    @property
    def is_mixed(self) -> bool:
        """True if cold items stand beside warm ones, and lists of each, and of both, are to be measured."""
        return False

    @property
    def unranked(self) -> sp.csr_array | None:
        """Clicks ``[U, I]`` that are neither learnt nor to be found, and never ranked; None where there are none."""
        return None

    @property
    def name(self) -> str:
        """As of :func:`fold_name`."""
        return fold_name(self.seed, self.split)

    def as_read(self, reads: Reads) -> Self:
        """Return the fold with what is read in place of clicks; MissingFieldError if the dataset lacks it."""
        return replace(self, dataset=reads.of(self.dataset))


@dataclass(frozen=True, eq=False)
class TuningSplit:
    """What a study may see: train and validation. There is no test side to look at."""

    fold: Fold
    """Fit on train, measure on validation."""
    protocol: Protocol

    @property
    def dataset(self) -> Dataset:
        """What exists for the study, with its own user and item indices."""
        return self.fold.dataset


@dataclass(frozen=True, eq=False)
class Split(ABC):
    """An assignment of the data to train, validation and test."""

    dataset: Dataset
    split: int = field(kw_only=True)
    seed: int = field(kw_only=True)
    protocol: Protocol = field(kw_only=True)

    @abstractmethod
    def for_tuning(self) -> TuningSplit:
        """Return the split without its test side."""

    @property
    @abstractmethod
    def test_fold(self) -> Fold:
        """Fit on train, measure on test: to be used once, after the selection."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """Return the size of each part, and how many users have no click to describe them in the test."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in self.counts().items())
        return f"Split {self.split} of seed {self.seed} by {self.protocol!r} of {self.dataset.name!r}: {counts}"

    def _repr_html_(self) -> str:
        title = f"Split {self.split} of seed {self.seed} by {self.protocol} of {self.dataset.name}"
        return facts_html(title, [(name.replace("_", " "), count) for name, count in self.counts().items()])


@dataclass(frozen=True, eq=False)
class _ColdItemFold(Fold):
    """A fold whose held-out items have no train clicks.

    Items of `dataset` fall into three kinds: *warm* (`warm_items`, their clicks are `train`), the *held-out* cold
    items (`held_out_items`, their clicks are `held_out`), and cold items that are neither, which only compete for a
    place when every item is a candidate.
    """

    warm_items: IntArray
    held_out_items: IntArray
    measured_users: IntArray | None = field(default=None, kw_only=True)
    """Users whose lists are measured; None for all."""

    @property
    def train(self) -> sp.csr_array:
        """Clicks of the warm items ``[U, I]``; columns of cold items are empty."""
        return _keep_columns(self.dataset.interactions, self.warm_items)

    @property
    def held_out(self) -> sp.csr_array:
        """Clicks of the held-out items ``[U, I]``, by the users whose lists are measured."""
        clicks = _keep_columns(self.dataset.interactions, self.held_out_items)
        if self.measured_users is None:
            return clicks
        return keep_entries(clicks, np.isin(rows_of(clicks), self.measured_users))

    @property
    def cold_items(self) -> IntArray:
        """The held-out items."""
        return self.held_out_items


@dataclass(frozen=True, eq=False, repr=False)
class _ColdItemSplit(Split):
    """An assignment of the items with clicks to train, validation or test.

    Items that nobody has clicked are in no part. If `dataset` has them they are known to every fold, the one of the
    tuning included, and compete for a place when every item is a candidate.

    Raises
    ------
    EmptyDatasetError
        If a part has no item or no interaction.
    """

    train_items: IntArray
    validation_items: IntArray
    test_items: IntArray
    measured_users: IntArray | None = field(default=None, kw_only=True)
    """Users whose lists are measured; None for all."""
    left_out: int = field(default=0, kw_only=True)
    """Items that were to be in a part, and are not in the dataset or have no click."""

    def __post_init__(self) -> None:
        clicks = np.bincount(self.dataset.interactions.indices, minlength=self.dataset.n_items)
        for part, items in (
            ("train", self.train_items),
            ("validation", self.validation_items),
            ("test", self.test_items),
        ):
            if clicks[items].sum() == 0:
                raise EmptyDatasetError(
                    f"Split {self.split} of seed {self.seed}: the {part} part has {len(items)} items and no "
                    f"interaction. Dataset {self.dataset.name!r} has only {self.dataset.n_items} items; loosen its "
                    "filters."
                )

    def for_tuning(self) -> TuningSplit:
        """Return the split without its test items, and without the labels that only they have."""
        visible = np.setdiff1d(np.arange(self.dataset.n_items, dtype=np.int32), self.test_items)
        fold = _ColdItemFold(
            self.dataset.take_items(visible).without_unused_labels(),
            np.searchsorted(visible, self.train_items).astype(np.int32),
            np.searchsorted(visible, self.validation_items).astype(np.int32),
            measured_users=self.measured_users,
            split=self.split,
            seed=self.seed,
        )
        return TuningSplit(fold, self.protocol)

    @property
    def test_fold(self) -> _ColdItemFold:
        """Fit on train, measure on test: to be used once, after the selection."""
        return _ColdItemFold(
            self.dataset,
            self.train_items,
            self.test_items,
            measured_users=self.measured_users,
            split=self.split,
            seed=self.seed,
        )

    def counts(self) -> dict[str, int]:
        """Return the size of each part, and how many users have no click in train."""
        interactions = self.dataset.interactions
        clicks = np.bincount(interactions.indices, minlength=self.dataset.n_items)
        users_with_train = np.diff(_keep_columns(interactions, self.train_items).indptr) > 0
        return {
            "train_items": len(self.train_items),
            "validation_items": len(self.validation_items),
            "test_items": len(self.test_items),
            "train_interactions": int(clicks[self.train_items].sum()),
            "validation_interactions": int(clicks[self.validation_items].sum()),
            "test_interactions": int(clicks[self.test_items].sum()),
            "users_without_train_clicks": int(self.dataset.n_users - users_with_train.sum()),
            **({"listed_items_left_out": self.left_out} if self.left_out else {}),
            **({} if self.measured_users is None else {"measured_users": len(self.measured_users)}),
        }


def listed_item_split(
    dataset: Dataset,
    train: IntArray,
    validation: IntArray,
    test: IntArray,
    *,
    users: IntArray | None = None,
    left_out: int = 0,
    seed: int = 0,
) -> Split:
    """Return the split in which items are dealt as given, each part ascending; see its fields."""
    return _ColdItemSplit(
        dataset,
        train,
        validation,
        test,
        measured_users=users,
        left_out=left_out,
        split=0,
        seed=seed,
        protocol="item-file",
    )


def cold_item_splits(
    dataset: Dataset, *, protocol: Protocol = "notebook", n_splits: int, seed: int
) -> Iterator[_ColdItemSplit]:
    """Yield `n_splits` cold-item splits, drawn one after another from one ``RandomState(seed)``.

    They are drawn among the items that have clicks: how many others the dataset has changes no part.

    Parameters
    ----------
    protocol
        ``notebook``: the items are permuted; the first 60 % train, the next 20 % validate, the rest test, each
        part sorted. ``balanced``: of ten random assignments of 80 % of the items, the one whose share of the
        *interactions* is nearest to 80 % is kept, the rest is test; the kept part is divided into train and
        validation in the same way.

    Raises
    ------
    ConfigError
        If the protocol is unknown or `n_splits` is not positive.
    EmptyDatasetError
        If a part is left without interactions.
    """
    if n_splits < 1:
        raise ConfigError(f"n_splits is {n_splits}; at least 1 split is needed.")
    generator = np.random.RandomState(seed)
    clicked = dataset.clicked_items
    clicks = np.bincount(dataset.interactions.indices, minlength=dataset.n_items)[clicked]
    for number in range(n_splits):
        if protocol == "notebook":
            parts = _notebook_parts(len(clicked), generator)
        elif protocol == "balanced":
            parts = _balanced_parts(clicks, generator)
        else:
            raise ConfigError(f"Unknown split protocol {protocol!r}; choose 'notebook' or 'balanced'.")
        train, validation, test = (clicked[part] for part in parts)
        yield _ColdItemSplit(dataset, train, validation, test, split=number, seed=seed, protocol=protocol)


def _notebook_parts(n_items: int, generator: np.random.RandomState) -> tuple[IntArray, IntArray, IntArray]:
    order = generator.permutation(n_items)
    train_end, validation_end = int(0.6 * n_items), int(0.8 * n_items)
    return (
        _ascending(order[:train_end]),
        _ascending(order[train_end:validation_end]),
        _ascending(order[validation_end:]),
    )


def _balanced_parts(
    clicks: npt.NDArray[np.intp], generator: np.random.RandomState
) -> tuple[IntArray, IntArray, IntArray]:
    rest, test = _most_balanced(np.arange(len(clicks)), clicks, generator)
    train, validation = _most_balanced(rest, clicks, generator)
    return _ascending(train), _ascending(validation), _ascending(test)


def _most_balanced(
    items: npt.NDArray[Any], clicks: npt.NDArray[Any], generator: np.random.RandomState
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    cut = int(0.8 * len(items))
    total = clicks[items].sum()
    orders = [generator.permutation(items) for _ in range(_BALANCED_ASSIGNMENTS)]
    best = min(orders, key=lambda order: abs(clicks[order[:cut]].sum() - 0.8 * total))
    return best[:cut], best[cut:]


def _ascending(items: npt.NDArray[Any]) -> IntArray:
    return np.sort(items).astype(np.int32)


def _keep_columns(matrix: sp.csr_array, columns: IntArray) -> sp.csr_array:
    """Return `matrix` with every column but `columns` emptied; the shape stays."""
    wanted = np.zeros(matrix.shape[1], bool)
    wanted[columns] = True
    return keep_entries(matrix, wanted[matrix.indices])
