"""The dataset every reader produces and every later stage reads.

Notation used for shapes: U users, I items, d labels of an attribute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataFormatError, EmptyDatasetError, MissingFieldError, UnknownAttributeError
from coldray.core.notebook import facts_html
from coldray.core.spelling import choices, nearest
from coldray.data.attributes import (
    Attribute as Attribute,
)
from coldray.data.attributes import (
    LabelAttribute as LabelAttribute,
)
from coldray.data.attributes import (
    NumberAttribute as NumberAttribute,
)
from coldray.data.attributes import (
    TextAttribute as TextAttribute,
)
from coldray.data.attributes import (
    VectorAttribute as VectorAttribute,
)
from coldray.data.attributes import (
    attribute_length as attribute_length,
)
from coldray.data.attributes import (
    digest_array,
    digest_matrix,
    held_by,
    of_labels_used,
    update_digest,
)

Ids: TypeAlias = npt.NDArray[Any]
"""External ids: a one-dimensional array of int64 or of str, ascending and unique."""
IntArray: TypeAlias = npt.NDArray[np.int32]
FloatArray: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Who clicked what, and what is known of each item and each user.

    Raises
    ------
    DataFormatError
        If ids are not unique and ascending, or a shape does not fit.
    EmptyDatasetError
        If there is no user, no item or no interaction.
    """

    name: str
    """The source's name, shown in every result."""
    user_ids: Ids
    """External user ids ``[U]``; the position is the user's index."""
    item_ids: Ids
    """External item ids ``[I]``; the position is the item's index."""
    interactions: sp.csr_array
    """Clicks ``[U, I]``, float32 ones, no stored zeros, indices sorted."""
    attributes: Mapping[str, Attribute]
    """Item attributes by name, in the order the source gives them."""
    default_attributes: tuple[str, ...] = ()
    """The attributes a study uses unless it names others."""
    ratings: sp.csr_array | None = None
    """float32 ratings ``[U, I]`` on the pattern of `interactions`."""
    timestamps: sp.csr_array | None = None
    """int64 seconds since 1970 ``[U, I]`` on the pattern of `interactions`."""
    events: sp.csr_array | None = None
    """float32 weight ``[U, I]``, above 0, of the strongest event of each pair, such as a purchase after views, on the
    pattern of `interactions`; None where interactions are of one kind. See :mod:`~coldray.data.events`."""
    context: Mapping[str, Attribute] = field(default_factory=dict)
    """What was known when an interaction began, such as the device, by name: each describes the r rows of a table that
    `context_rows` leads to. See :mod:`~coldray.data.moments`."""
    context_rows: sp.csr_array | None = None
    """int64 row of the table of contexts ``[U, I]``, on the pattern of `interactions`; None without context."""
    synthetic: bool = False
    """True for generated data; every report says so."""
    user_attributes: Mapping[str, Attribute] = field(default_factory=dict)
    """Attributes of users by name, such as age and occupation, in the order the source gives them."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """How the data came to be: files, filters and counts, as plain JSON values; ``notes`` is a list of sentences that
    every console, report and bundle shows."""

    def __post_init__(self) -> None:
        for kind, ids in (("user", self.user_ids), ("item", self.item_ids)):
            if len(ids) > 1 and not bool(np.all(ids[1:] > ids[:-1])):
                raise DataFormatError(f"Dataset {self.name!r}: {kind} ids must be unique and ascending.")
        expected = (len(self.user_ids), len(self.item_ids))
        for what, matrix in self.of_pairs.items():
            if matrix.shape != expected:
                raise DataFormatError(
                    f"Dataset {self.name!r}: {what} have shape {matrix.shape}, the ids give {expected}."
                )
        if 0 in expected or self.interactions.nnz == 0:
            raise EmptyDatasetError(
                f"Dataset {self.name!r} has {expected[0]} users, {expected[1]} items and {self.interactions.nnz} "
                "interactions: nothing to learn from. Loosen the filters or check the files."
            )
        if self.events is not None and not bool((np.isfinite(self.events.data) & (self.events.data > 0)).all()):
            raise DataFormatError(f"Dataset {self.name!r}: weights of events must be above 0 and finite.")
        self._check_context()
        sides = (("users", self.user_attributes, expected[0]), ("items", self.attributes, expected[1]))
        for noun, attributes, count in sides:
            for name, attribute in attributes.items():
                length = attribute_length(attribute)
                if length != count:
                    raise DataFormatError(
                        f"Dataset {self.name!r}: attribute {name!r} describes {length} {noun}, not {count}."
                    )
        self.check_attributes(self.default_attributes)

    def _check_context(self) -> None:
        """Raise DataFormatError unless each interaction with a context leads to a row that all its columns have."""
        if bool(self.context) != (self.context_rows is not None):
            raise DataFormatError(f"Dataset {self.name!r}: columns of context and rows of interactions go together.")
        rows = np.zeros(0) if self.context_rows is None else self.context_rows.data
        for name, attribute in self.context.items():
            if len(rows) and not 0 <= rows.min() <= rows.max() < attribute_length(attribute):
                raise DataFormatError(
                    f"Dataset {self.name!r}: context {name!r} describes {attribute_length(attribute)} moments, and "
                    f"interactions lead to rows from {rows.min()} to {rows.max()}."
                )

    @property
    def of_pairs(self) -> dict[str, sp.csr_array]:
        """What is known of each pair of user and item, by the name of the field."""
        names = ("interactions", "ratings", "timestamps", "events", "context_rows")
        named = {name: getattr(self, name) for name in names}
        return {name: matrix for name, matrix in named.items() if matrix is not None}

    def with_pairs(self, change: Callable[[sp.csr_array], sp.csr_array], **fields: Any) -> Dataset:
        """Return the dataset with all that is known of pairs changed alike, and other `fields` beside it."""
        return replace(self, **{name: change(matrix) for name, matrix in self.of_pairs.items()}, **fields)

    @property
    def n_users(self) -> int:
        """Number of users U."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Number of items I."""
        return len(self.item_ids)

    @property
    def density(self) -> float:
        """Share of the cells of users × clicked items that hold a click."""
        return float(self.interactions.nnz / (self.n_users * len(self.clicked_items)))

    @cached_property
    def clicked_items(self) -> IntArray:
        """Items with a click, ascending; the others are known by their attributes alone."""
        return np.unique(self.interactions.indices).astype(np.int32)

    @property
    def n_unclicked_items(self) -> int:
        """Number of items that nobody has clicked yet."""
        return self.n_items - len(self.clicked_items)

    def of_clicked_items(self) -> Dataset:
        """Return the dataset of the items with a click alone, and of the labels they have; itself if all have one."""
        return self.take_items(self.clicked_items).without_unused_labels() if self.n_unclicked_items else self

    def named(self, name: str) -> Dataset:
        """Return the dataset under another name."""
        return replace(self, name=name)

    def __repr__(self) -> str:
        known = ", ".join(f"{name} ({described})" for name, described in held_by(self.attributes))
        of_users = ", ".join(f"{name} ({described})" for name, described in held_by(self.user_attributes))
        unclicked = f" ({self.n_unclicked_items:,} without interactions)" if self.n_unclicked_items else ""
        counts = f"{self.n_users:,} users, {self.n_items:,} items{unclicked}, {self.interactions.nnz:,} interactions"
        users = f"; users: {of_users}" if of_users else ""
        of_context = ", ".join(f"{name} ({described})" for name, described in held_by(self.context))
        context = f"; context: {of_context}" if of_context else ""
        return f"Dataset {self.name!r}: {counts}; {known or 'no attributes'}{users}{context}"

    @property
    def facts(self) -> list[tuple[str, object]]:
        """What there is, by name: users, items, interactions, and what is known of items."""
        values = [name for name in self.of_pairs if name not in ("interactions", "context_rows")]
        extra = f" with {' and '.join(values)}" if values else ""
        return [
            ("users", self.n_users),
            ("items", self.n_items),
            ("items without interactions", self.n_unclicked_items),
            ("interactions", f"{self.interactions.nnz:,}{extra}"),
            *((f"item attribute {name}", described) for name, described in held_by(self.attributes)),
            *((f"user attribute {name}", described) for name, described in held_by(self.user_attributes)),
            *((f"context {name}", described) for name, described in held_by(self.context)),
        ]

    def _repr_html_(self) -> str:
        title = f"Dataset {self.name}{' (synthetic)' if self.synthetic else ''}"
        return facts_html(title, self.facts, self.notes)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever reads a result should know of how the data were read, a sentence each."""
        return tuple(map(str, self.provenance.get("notes", ())))

    def check_attributes(self, names: Iterable[str]) -> None:
        """Raise :class:`UnknownAttributeError` for the first name the dataset does not have."""
        check_named(names, self.attributes, f"Dataset {self.name!r} has")

    @property
    def of_users(self) -> Dataset:
        """The dataset with users in the place of items, and items in that of users: all is transposed."""

        def transposed(matrix: sp.csr_array) -> sp.csr_array:
            return sp.csr_array(matrix.T).sorted_indices()

        return self.with_pairs(
            transposed,
            user_ids=self.item_ids,
            item_ids=self.user_ids,
            attributes=self.user_attributes,
            default_attributes=tuple(self.user_attributes),
            user_attributes=self.attributes,
            provenance=_swapped(self.provenance),
        )

    def take_users(self, users: npt.NDArray[np.integer[Any]]) -> Dataset:
        """Return the dataset of `users` alone (ascending indices); all items stay, with or without clicks."""
        return self.with_pairs(
            lambda matrix: sp.csr_array(matrix[users]),
            user_ids=self.user_ids[users],
            user_attributes={name: attribute.take(users) for name, attribute in self.user_attributes.items()},
        )

    def require_user_attributes(self) -> None:
        """Raise :class:`MissingFieldError` if nothing is known of users but their clicks."""
        if not self.user_attributes:
            raise MissingFieldError(
                f"Dataset {self.name!r} knows nothing of its users but their clicks, and the model learns from their "
                "attributes. Name a table of them: --users FILE with --user-label-columns and --user-number-columns, "
                "or load_dataset(..., users=...)."
            )

    def take_items(self, items: npt.NDArray[np.integer[Any]]) -> Dataset:
        """Return the dataset of `items` alone (ascending indices); all users stay, with or without clicks."""
        return self.with_pairs(
            lambda matrix: _take_columns(matrix, items),
            item_ids=self.item_ids[items],
            attributes={name: attribute.take(items) for name, attribute in self.attributes.items()},
        )

    def without_unused_labels(self) -> Dataset:
        """Return the dataset without the labels that no item, or user, has: not even their names are to be seen.

        Nor are contexts that no interaction is in.
        """
        return replace(
            self.without_unused_contexts(),
            attributes=of_labels_used(self.attributes),
            user_attributes=of_labels_used(self.user_attributes),
        )

    def without_unused_contexts(self) -> Dataset:
        """Return the dataset without the contexts that no interaction is in, and the labels that only they have."""
        if self.context_rows is None:
            return self
        rows = self.context_rows.data
        used = np.bincount(rows) > 0
        places = (np.cumsum(used) - 1)[rows]
        return replace(
            self,
            context=of_labels_used({name: one.take(np.flatnonzero(used)) for name, one in self.context.items()}),
            context_rows=sp.csr_array(
                (places, self.context_rows.indices, self.context_rows.indptr), shape=self.context_rows.shape
            ),
        )

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (64 hex digits) of everything a model could read: ids, interactions, attributes and context."""
        digest = hashlib.sha256()
        for part in (self.user_ids, self.item_ids):
            digest_array(digest, part)
        for matrix in (self.interactions, self.ratings, self.timestamps):
            digest_matrix(digest, matrix)
        update_digest(digest, self.attributes)
        if self.user_attributes:
            digest.update(b"users")
            update_digest(digest, self.user_attributes)
        if self.events is not None:
            digest.update(b"events")
            digest_matrix(digest, self.events)
        if self.context_rows is not None:
            digest.update(b"context")
            rows = self.context_rows.sorted_indices().data
            update_digest(digest, {name: attribute.take(rows) for name, attribute in self.context.items()})
        return digest.hexdigest()


def _swapped(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the provenance with the attributes that come with an audience, and those that come with what users did."""
    lists = provenance.get("later_user_attributes", []), provenance.get("later_attributes", [])
    return {**provenance, "later_attributes": lists[0], "later_user_attributes": lists[1]}


def check_named(names: Iterable[str], attributes: Mapping[str, Attribute], whose: str) -> None:
    """Raise :class:`UnknownAttributeError` for the first name that is none of the attributes of what `whose` names."""
    for name in names:
        if name not in attributes:
            raise UnknownAttributeError(
                f"{whose} no attribute {name!r}.{nearest(name, attributes)} It has: {choices(attributes)}."
            )


def binary_matrix(
    rows: npt.NDArray[np.integer[Any]], columns: npt.NDArray[np.integer[Any]], shape: tuple[int, int]
) -> sp.csr_array:
    """Return a CSR float32 matrix with one at each (row, column) pair; repeated pairs count once."""
    matrix = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix


def keep_entries(matrix: sp.csr_array, keep: npt.NDArray[np.bool_]) -> sp.csr_array:
    """Return `matrix` with only the stored entries marked in `keep`, bool ``[nnz]``; the shape stays."""
    # Not through eliminate_zeros: a stored rating or timestamp of 0 is a value.
    row_ends = np.concatenate([[0], np.cumsum(keep)])[matrix.indptr]
    return sp.csr_array(
        (matrix.data[keep], matrix.indices[keep], row_ends.astype(matrix.indptr.dtype)), shape=matrix.shape
    )


def rows_of(matrix: sp.csr_array) -> npt.NDArray[np.intp]:
    """Return the row of each stored entry ``[nnz]``."""
    return np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))


def joined(matrix: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Return the stored entries of two matrices that have none in common."""
    rows = np.concatenate([rows_of(matrix), rows_of(other)])
    columns = np.concatenate([matrix.indices, other.indices])
    values = np.concatenate([matrix.data, other.data])
    order = np.lexsort((columns, rows))  # not through a sum, which would drop a stored rating of 0
    ends = (matrix.indptr + other.indptr).astype(matrix.indptr.dtype)
    return sp.csr_array((values[order], columns[order], ends), shape=matrix.shape)


def without_pairs(matrix: sp.csr_array, other: sp.csr_array) -> sp.csr_array:
    """Return `matrix` without the stored entries for which `other` stores one, too."""
    n = matrix.shape[1]
    own, theirs = (rows_of(one) * n + one.indices for one in (matrix, other))
    return keep_entries(matrix, ~np.isin(own, theirs))


def _take_columns(matrix: sp.csr_array, items: npt.NDArray[np.integer[Any]]) -> sp.csr_array:
    taken = sp.csr_array(matrix[:, items])
    taken.sort_indices()
    return taken
