"""Filters on a dataset: rating threshold, iterative k-core, and limits on the labels of an attribute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, NonNegativeInt, PositiveInt

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError
from coldray.data.dataset import Attribute, Dataset, IntArray, LabelAttribute, keep_entries, rows_of

BoolArray: TypeAlias = npt.NDArray[np.bool_]


class FilterConfig(BaseModel):
    """What is kept of a dataset. The defaults keep everything.

    The published HetRec protocol is ``min_rating_exclusive=3.0, min_user_interactions=5, min_item_interactions=5,
    attribute_min_items=5, attribute_max_share=0.3``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    min_rating_exclusive: FiniteFloat | None = None
    """Keep interactions rated above this; null keeps all."""
    min_user_interactions: NonNegativeInt = 0
    """Drop users with fewer interactions, again and again until none is left to drop."""
    min_item_interactions: NonNegativeInt = 0
    """Drop items with fewer interactions, again and again until none is left to drop. Items that have none in the data
    are not judged by it."""
    attribute_min_items: PositiveInt = 1
    """Drop labels that fewer of the remaining items have. From 2 on, items without interactions do not count."""
    attribute_max_share: float = Field(default=1.0, gt=0.0, le=1.0)
    """Drop labels that more than this share of the remaining items have, those without interactions left out."""
    unclicked_items: Literal["keep", "drop"] = "keep"
    """What becomes of items that have no interaction in the data: ``keep`` has them served by their attributes."""


def apply_filters(dataset: Dataset, config: FilterConfig) -> Dataset:
    """Return `dataset` with the rating filter, then the k-core, then the label limits applied.

    Items that nobody has clicked yet are not judged by the interactions they lack: they stay, unless
    ``unclicked_items`` drops them, and change nothing of what is kept of the others. An item that loses its clicks to
    the rating filter is judged like any other.

    The label limits see the items that are left and concern :class:`LabelAttribute` alone. A label attribute that
    loses its last label is removed, from the default attributes too. ``provenance["filters"]`` gains one entry with
    the configuration and the counts before and after.

    Raises
    ------
    ConfigError
        If a rating threshold is set and the dataset has no ratings.
    EmptyDatasetError
        If nothing is left; the message names the filter and its value.
    """
    kept = _rated_above(dataset, config.min_rating_exclusive)
    users, items = k_core(
        sp.csr_array(kept.interactions),
        min_row=config.min_user_interactions,
        min_column=config.min_item_interactions,
    )
    clicked = np.zeros(dataset.n_items, np.bool_)
    clicked[dataset.clicked_items] = True
    items &= clicked
    if not users.any() or not items.any():
        raise EmptyDatasetError(
            f"Dataset {dataset.name!r}: min_user_interactions={config.min_user_interactions} and "
            f"min_item_interactions={config.min_item_interactions} leave no user and no item of "
            f"{kept.interactions.nnz:,} interactions. Use smaller values."
        )
    if config.unclicked_items == "keep":
        items |= ~clicked
    kept = _take(kept, np.flatnonzero(users).astype(np.int32), np.flatnonzero(items).astype(np.int32))
    judged = clicked[items]
    attributes = {
        name: limited
        for name, attribute in kept.attributes.items()
        if (limited := _limit_labels(attribute, config, judged)) is not None
    }
    filtered = replace(
        kept,
        attributes=attributes,
        default_attributes=tuple(name for name in kept.default_attributes if name in attributes),
    )
    entry = {"config": config.model_dump(mode="json"), "before": _counts(dataset), "after": _counts(filtered)}
    history = [*dataset.provenance.get("filters", []), entry]
    return replace(filtered, provenance={**dataset.provenance, "filters": history})


def k_core(matrix: sp.csr_array, *, min_row: int, min_column: int) -> tuple[BoolArray, BoolArray]:
    """Return which rows and columns form the largest part with the least counts asked for.

    Parameters
    ----------
    matrix
        Interactions ``[U, I]``; the stored entries count, whatever their value.
    min_row, min_column
        Least stored entries a kept row (column) has among the kept columns (rows).

    Returns
    -------
    rows, columns
        Masks ``[U]`` and ``[I]``; all false when no such part exists.
    """
    n_rows, n_columns = matrix.shape
    row_of, column_of = rows_of(matrix), matrix.indices
    rows, columns = np.ones(n_rows, bool), np.ones(n_columns, bool)
    while True:
        alive = rows[row_of] & columns[column_of]
        keep_rows = rows & (np.bincount(row_of[alive], minlength=n_rows) >= min_row)
        keep_columns = columns & (np.bincount(column_of[alive], minlength=n_columns) >= min_column)
        if (keep_rows == rows).all() and (keep_columns == columns).all():
            return rows, columns
        rows, columns = keep_rows, keep_columns


def _rated_above(dataset: Dataset, threshold: float | None) -> Dataset:
    if threshold is None:
        return dataset
    if dataset.ratings is None:
        raise ConfigError(
            f"Dataset {dataset.name!r} has no ratings, so min_rating_exclusive={threshold} cannot be applied. "
            "Set it to null."
        )
    dataset = dataset.with_pairs(lambda matrix: matrix.sorted_indices())
    ratings, interactions = dataset.of_pairs["ratings"], dataset.interactions
    if not (
        np.array_equal(ratings.indptr, interactions.indptr) and np.array_equal(ratings.indices, interactions.indices)
    ):
        raise DataFormatError(f"Dataset {dataset.name!r}: ratings and interactions are not on the same pairs.")
    keep = ratings.data > threshold
    if not keep.any():
        raise EmptyDatasetError(
            f"Dataset {dataset.name!r}: min_rating_exclusive={threshold} leaves nothing; the highest rating is "
            f"{ratings.data.max():g}. Use a smaller value."
        )
    return dataset.with_pairs(lambda matrix: keep_entries(matrix, keep))


def _take(dataset: Dataset, users: IntArray, items: IntArray) -> Dataset:
    if len(users) < dataset.n_users:
        dataset = dataset.take_users(users)
    return dataset.take_items(items) if len(items) < dataset.n_items else dataset


def _limit_labels(attribute: Attribute, config: FilterConfig, judged: BoolArray) -> Attribute | None:
    """Return an attribute without the labels beyond the limits among the `judged` items ``[I]``; None if none is left.

    With the least of limits a label that only other items have is kept: they have it.
    """
    if not isinstance(attribute, LabelAttribute):
        return attribute
    n_labels, matrix = attribute.matrix.shape[1], attribute.matrix
    counts = np.bincount(matrix.indices[judged[rows_of(matrix)]], minlength=n_labels)
    enough = counts if config.attribute_min_items > 1 else np.bincount(matrix.indices, minlength=n_labels)
    # The quotient, not share × items: 29 of 100 is 0.29, while 0.29 × 100 is 28.999999999999996.
    keep = (enough >= config.attribute_min_items) & (counts / judged.sum() <= config.attribute_max_share)
    if not keep.any():
        return None
    if keep.all():
        return attribute
    return LabelAttribute(sp.csr_array(attribute.matrix[:, np.flatnonzero(keep)]), attribute.labels[keep])


def _counts(dataset: Dataset) -> Mapping[str, Any]:
    return {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "items_without_clicks": dataset.n_unclicked_items,
        "interactions": int(dataset.interactions.nnz),
        "labels": {
            name: len(attribute.labels)
            for name, attribute in dataset.attributes.items()
            if isinstance(attribute, LabelAttribute)
        },
    }
