"""What is known of items, of users or of contexts, attribute by attribute: labels, a number, a text or a vector each.

Notation used for shapes: I items, d labels of an attribute or dimensions of a vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class LabelAttribute:
    """An attribute with any number of labels an item, such as genres or actors."""

    matrix: sp.csr_array
    """Membership ``[I, d]``, float32 zeros and ones."""
    labels: npt.NDArray[np.str_]
    """Label names ``[d]``, ascending."""

    def take(self, items: npt.NDArray[np.integer[Any]]) -> LabelAttribute:
        """Return the attribute of `items` alone; the label vocabulary is kept."""
        return LabelAttribute(self.matrix[items], self.labels)


@dataclass(frozen=True, eq=False)
class NumberAttribute:
    """One number an item, such as the year; NaN where it is unknown."""

    values: npt.NDArray[np.float64]
    """float64 ``[I]``."""

    def take(self, items: npt.NDArray[np.integer[Any]]) -> NumberAttribute:
        """Return the attribute of `items` alone."""
        return NumberAttribute(self.values[items])


@dataclass(frozen=True, eq=False)
class TextAttribute:
    """Free text an item, such as a title or a plot; empty where it is unknown."""

    texts: tuple[str, ...]
    """Length I."""

    def take(self, items: npt.NDArray[np.integer[Any]]) -> TextAttribute:
        """Return the attribute of `items` alone."""
        return TextAttribute(tuple(self.texts[i] for i in items))


@dataclass(frozen=True, eq=False)
class VectorAttribute:
    """A vector an item that was computed elsewhere, such as the embedding of a picture; NaN where there is none."""

    vectors: npt.NDArray[np.float32]
    """float32 ``[I, d]``; a row is finite, or NaN throughout. Where no item has one, d may be 0: nobody knows it."""

    def take(self, items: npt.NDArray[np.integer[Any]]) -> VectorAttribute:
        """Return the attribute of `items` alone."""
        return VectorAttribute(self.vectors[items])

    @property
    def dim(self) -> int:
        """Length of a vector, d."""
        return int(self.vectors.shape[1])

    @cached_property
    def known(self) -> npt.NDArray[np.bool_]:
        """Which items have a vector ``[I]``."""
        return np.asarray(~np.isnan(self.vectors).any(axis=1) & (self.dim > 0))

    def followed_by(self, other: VectorAttribute) -> VectorAttribute:
        """Return the vectors of these items and of other ones, of the same length where both know it."""
        dim = max(self.dim, other.dim)
        parts = [one.vectors if one.dim else np.full((len(one.vectors), dim), np.nan) for one in (self, other)]
        return VectorAttribute(np.concatenate(parts).astype(np.float32))


Attribute: TypeAlias = LabelAttribute | NumberAttribute | TextAttribute | VectorAttribute


def attribute_length(attribute: Attribute) -> int:
    """Return the number of items an attribute describes."""
    if isinstance(attribute, LabelAttribute):
        return int(attribute.matrix.shape[0])
    if isinstance(attribute, VectorAttribute):
        return len(attribute.vectors)
    return len(attribute.values if isinstance(attribute, NumberAttribute) else attribute.texts)


def is_known(attribute: Attribute) -> npt.NDArray[np.bool_]:
    """Return of which of those that an attribute describes it says anything."""
    if isinstance(attribute, LabelAttribute):
        return np.asarray(np.diff(attribute.matrix.indptr) > 0)
    if isinstance(attribute, NumberAttribute):
        return np.asarray(~np.isnan(attribute.values))
    if isinstance(attribute, VectorAttribute):
        return attribute.known
    return np.array([bool(text.strip()) for text in attribute.texts])


def of_labels_used(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Return attributes by name without the labels that nothing has."""
    used: dict[str, Attribute] = dict(attributes)
    for name, attribute in attributes.items():
        if isinstance(attribute, LabelAttribute):
            found = np.unique(attribute.matrix.indices)
            used[name] = LabelAttribute(sp.csr_array(attribute.matrix[:, found]), attribute.labels[found])
    return used


def held_by(attributes: Mapping[str, Attribute]) -> Iterator[tuple[str, str]]:
    """Yield the name of each attribute with what it holds, in words."""
    for name, attribute in attributes.items():
        if isinstance(attribute, LabelAttribute):
            yield name, f"{len(attribute.labels):,} labels"
        elif isinstance(attribute, VectorAttribute):
            yield name, f"vector of {attribute.dim:,}"
        else:
            yield name, "number" if isinstance(attribute, NumberAttribute) else "text"


def update_digest(digest: hashlib._Hash, attributes: Mapping[str, Attribute]) -> None:
    """Add attributes to a digest, whatever their order."""
    for name in sorted(attributes):
        digest.update(name.encode())
        attribute = attributes[name]
        if isinstance(attribute, LabelAttribute):
            digest_array(digest, attribute.labels)
            digest_matrix(digest, attribute.matrix)
        elif isinstance(attribute, NumberAttribute):
            digest_array(digest, attribute.values)
        elif isinstance(attribute, VectorAttribute):
            digest.update(repr(attribute.vectors.shape).encode())
            digest_array(digest, attribute.known)
            digest_array(digest, attribute.vectors[attribute.known])
        else:
            digest_array(digest, np.asarray(attribute.texts, dtype=object))


def digest_matrix(digest: hashlib._Hash, matrix: sp.csr_array | None) -> None:
    """Add a matrix to a digest, whatever the order of its columns in memory; None is told from any."""
    if matrix is None:
        digest.update(b"none")
        return
    canonical = matrix if matrix.has_sorted_indices else matrix.sorted_indices()
    digest.update(repr(matrix.shape).encode())
    digest_array(digest, canonical.indptr.astype(np.int64))
    digest_array(digest, canonical.indices.astype(np.int32))
    digest_array(digest, canonical.data)


def digest_array(digest: hashlib._Hash, array: npt.NDArray[Any]) -> None:
    """Add an array of numbers or of text to a digest."""
    if array.dtype.kind in "UO":
        for text in array:
            encoded = str(text).encode()
            digest.update(len(encoded).to_bytes(8, "little"))
            digest.update(encoded)
    else:
        digest.update(str(array.dtype).encode())
        digest.update(np.ascontiguousarray(array).data)
