"""Vectors that were computed elsewhere → a unit vector an item, read as an embedding of a text is.

Notation used for shapes: I items, d dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.core.memory import require_memory
from coldray.data.attributes import VectorAttribute
from coldray.features.feature_set import VectorFeature

_LARGEST = float(np.finfo(np.float32).max)
_BYTES = 20
"""Of each number while a matrix of vectors is encoded: the unit vectors, and their sparse form with its columns."""


class VectorEncoder:
    """Unit vectors, stored as CSR; an item without a vector, or with one of zeros, has an empty row.

    Models compare directions, as those of sentence embeddings: what a vector is long is not read.
    """

    def __init__(self) -> None:
        self._dim: int | None = None

    @property
    def dim(self) -> int:
        """Length of a vector.

        Raises
        ------
        NotFittedError
            Before :meth:`fit`.
        """
        if self._dim is None:
            raise NotFittedError("The vector encoder has no length yet. Call fit, or from_state, first.")
        return self._dim

    def fit(self, attribute: VectorAttribute) -> Self:
        """Learn how long the vectors are."""
        self._dim = attribute.dim
        return self

    def transform(self, attribute: VectorAttribute) -> VectorFeature:
        """Return float32 ``[I, d]``, rows of unit length or empty.

        Raises
        ------
        DataFormatError
            If the vectors are of another length than the fitted ones.
        CatalogTooLargeError
            If the matrix does not fit in memory.
        """
        n_items = len(attribute.vectors)
        check_dim("An attribute", attribute, self.dim)
        terms = tuple(map(str, range(self.dim)))
        require_memory(
            _BYTES * n_items * self.dim,
            purpose=f"Encoding {n_items:,} vectors of {self.dim:,} numbers",
            way_out="Use shorter vectors, or fewer items.",
        )
        if not attribute.known.any():
            return VectorFeature(sp.csr_array((n_items, self.dim), dtype=np.float32), terms, dense=True)
        rows = np.nan_to_num(attribute.vectors)
        largest = np.abs(rows).max(axis=1, keepdims=True)  # of a square of single precision 1e20 is too large
        scaled = rows / np.where(largest > 0, largest, np.float32(1))
        norms = np.linalg.norm(scaled, axis=1, keepdims=True)
        unit = np.asarray(scaled / np.where(norms > 0, norms, np.float32(1)), np.float32)
        return VectorFeature(sp.csr_array(unit), terms, dense=True)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, as JSON values."""
        return {"dim": self.dim}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore a fitted encoder from :meth:`state`."""
        encoder = cls()
        encoder._dim = int(state["dim"])
        return encoder


def check_dim(what: str, attribute: VectorAttribute, dim: int) -> None:
    """Refuse vectors that are not as long as those they are compared with.

    Raises
    ------
    DataFormatError
        With both lengths.
    """
    if attribute.known.any() and attribute.dim != dim:
        raise DataFormatError(
            f"{what} has vectors of {attribute.dim:,} numbers; those the model was fitted on have {dim:,}. Make them "
            "by the same model as those."
        )


def read_vector_values(values: Sequence[object], name: str, whose: str = "New item") -> VectorAttribute:
    """Return plain values, a list of numbers each, as attribute `name`; None is unknown.

    Raises
    ------
    DataFormatError
        If a value is no list of finite numbers within single precision, or lists are of several lengths.
    """
    read: dict[int, npt.NDArray[np.float32]] = {}
    for position, value in enumerate(values):
        if value is None:
            continue
        told = f"{whose} {position} (counted from 0): {name!r}"
        if not isinstance(value, list | tuple | np.ndarray):
            raise DataFormatError(f"{told} must be a list of numbers, not {value!r:.60} ({type(value).__name__}).")
        listed = value.tolist() if isinstance(value, np.ndarray) else value
        wrong = next((place for place, one in enumerate(listed) if not _is_number(one)), None)
        if wrong is not None or not listed:
            held = "has no number" if wrong is None else f"has {listed[wrong]!r:.60} at place {wrong}"
            raise DataFormatError(f"{told} {held}; a vector is finite numbers of at most {_LARGEST:.3g}.")
        read[position] = np.asarray(listed, np.float32)
        first = next(iter(read.values()))
        if len(read[position]) != len(first):
            raise DataFormatError(f"{told} has {len(listed):,} numbers, and another item {len(first):,}. Give as many.")
    dim = len(next(iter(read.values()))) if read else 0
    vectors = np.full((len(values), dim), np.nan, np.float32)
    for position, vector in read.items():
        vectors[position] = vector
    return VectorAttribute(vectors)


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and abs(float(value)) <= _LARGEST
