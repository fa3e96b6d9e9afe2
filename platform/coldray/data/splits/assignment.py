"""Which part each interaction of a dataset is in, whoever made the split, and even if there could be none.

Notation used for shapes: n interactions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coldray.core.errors import EmptyDatasetError
from coldray.data.dataset import Dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.parts import TRAIN, Parts
from coldray.data.splits.protocols import InteractionProtocol
from coldray.data.splits.published import PredefinedSplit

_FOLDS = 5
"""Folds of ``k-fold``, of which the first is looked at."""


@dataclass(frozen=True, eq=False)
class PartAssignment:
    """A dataset and the part of each of its interactions, which may leave parts empty."""

    dataset: Dataset
    parts: Parts
    """uint8 ``[n]``: the number of the part in :data:`~coldray.data.splits.parts.PART_WORDS`."""
    protocol: InteractionProtocol
    name: str
    """What the split is called: ``u1`` of MovieLens 100K, else its protocol."""
    users_kept_in_train: int = 0
    """Users with too few interactions to hold one out."""
    n_splits: int = 1
    """Splits that the protocol gives, of which this is the first."""
    unsplit: str | None = None
    """Why the protocol could not split the data; all interactions are in train then."""


def published_parts(split: PredefinedSplit) -> PartAssignment:
    """Return the parts that a dataset is published in."""
    return PartAssignment(split.dataset, split.parts, "predefined", split.name)


def drawn_parts(dataset: Dataset, protocol: InteractionProtocol | None = None, seed: int = 42) -> PartAssignment:
    """Return the parts of the first split by `protocol`; all in train, with the reason, where one would stay empty.

    Parameters
    ----------
    protocol
        By default ``leave-last``, or ``holdout`` of data without timestamps.

    Raises
    ------
    ConfigError
        If the protocol reads timestamps and there are none.
    LeakageError
        If the dataset stores a pair twice.
    """
    if protocol is None:
        protocol = "holdout" if dataset.timestamps is None else "leave-last"
    n_splits = _FOLDS if protocol == "k-fold" else 1
    try:
        split = next(interaction_splits(dataset, protocol=protocol, n_splits=n_splits, seeds=(seed,)))
    except EmptyDatasetError as error:
        everything = np.full(dataset.interactions.nnz, TRAIN, np.uint8)
        return PartAssignment(dataset, everything, protocol, protocol, n_splits=n_splits, unsplit=str(error))
    return PartAssignment(dataset, split.parts, protocol, protocol, split.users_kept_in_train, n_splits)
