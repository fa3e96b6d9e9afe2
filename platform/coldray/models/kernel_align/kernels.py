"""Kernels between items from their attributes: the parts a covariance is made of.

Notation used for shapes: r row items, c column items, K kernels, S numbers, d terms of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import ConfigError
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature

Matrix: TypeAlias = npt.NDArray[np.float32]
Kind: TypeAlias = Literal["rare", "plain", "count", "centred"]
_FEW_TERMS = 64
"""An attribute of labels with at most so many terms has a plain cosine as well: all its terms are common."""
_MANY_LABELS = 5.0
"""Labels an item has on average from which shared labels are counted as well: a long list is evidence of its own."""
_EMBEDDING_DIM = 16
"""Columns from which an attribute whose rows are all full is an embedding; embeddings point one way on average."""
_FARTHEST = 1e30
"""Largest squared distance; single precision ends at 3e38."""


@dataclass(frozen=True)
class _KernelTerm:
    """One kernel of one attribute."""

    attribute: str
    kind: Kind
    """``rare``: cosine of labels weighted by ``log((n + 1) / (df + 1))``. ``plain``: cosine. ``count``: inner product
    of ``F / √df``, in units of its mean over the warm items. ``centred``: cosine after the warm items' mean is taken
    off."""

    @property
    def name(self) -> str:
        """``actors``, ``actors (plain)``, ``actors (count)``."""
        return self.attribute if self.kind in ("rare", "centred") else f"{self.attribute} ({self.kind})"


@dataclass(frozen=True, eq=False)
class KernelMatrices:
    """All kernels between two lists of items: what does not change with the weights of a covariance."""

    terms: Matrix
    """float32 ``[K, r, c]``."""
    distances: Matrix
    """Squared distances in each number, float32 ``[S, r, c]``."""

    def take(self, rows: npt.NDArray[np.integer[Any]], columns: npt.NDArray[np.integer[Any]]) -> KernelMatrices:
        """Return those between some of the rows and some of the columns, given by their places."""
        return KernelMatrices(
            self.terms[:, rows[:, None], columns[None, :]], self.distances[:, rows[:, None], columns[None, :]]
        )


@dataclass(frozen=True, eq=False)
class KernelBasis:
    """Which kernels there are, with what was fitted on the warm items."""

    terms: tuple[_KernelTerm, ...]
    product: tuple[int, ...]
    """Positions of the terms that the product part is made of: one cosine an attribute."""
    numbers: tuple[str, ...]
    """Attributes that are numbers."""
    weights: dict[_KernelTerm | str, npt.NDArray[np.float32]]
    """Column weights by term, for ``centred`` ones the warm items' mean; mean and standard deviation
    ``[2]`` by name of the number."""
    units: npt.NDArray[np.float64]
    """What each term is divided by ``[K]``; 1 for cosines."""

    @classmethod
    def of(cls, warm: FeatureSet) -> KernelBasis:
        """Fit the kernels on the features of the warm items.

        Attributes that tell none of them apart are left out: an empty one, and a number that all items share.

        Raises
        ------
        ConfigError
            If no attribute tells items apart.
        """
        terms: list[_KernelTerm] = []
        product, numbers, units = [], [], []
        weights: dict[_KernelTerm | str, npt.NDArray[np.float32]] = {}
        for name, feature in warm.features.items():
            if isinstance(feature, ScalarFeature):
                known = feature.values[np.isfinite(feature.values)]
                if len(known) and known.std() > 0:
                    numbers.append(name)
                    weights[name] = np.array([known.mean(), known.std()], np.float32)
                continue
            kinds = _kinds(feature)
            if kinds:
                product.append(len(terms))
            for kind in kinds:
                term = _KernelTerm(name, kind)
                weights[term], unit = _weights(feature, kind)
                terms.append(term)
                units.append(unit)
        if not terms and not numbers:
            raise ConfigError("No attribute tells the warm items apart; name others in features.attributes.")
        return cls(tuple(terms), tuple(product), tuple(numbers), weights, np.array(units))

    def kernels(self, rows: FeatureSet, columns: FeatureSet) -> Iterator[Matrix]:
        """Yield each term between two lists of items, float32 ``[r, c]``."""
        for term, unit in zip(self.terms, self.units, strict=True):
            left, right = (self._vectors(features, term) for features in (rows, columns))
            product: Any = left @ right.T
            yield np.asarray((product.toarray() if sp.issparse(product) else product) / np.float32(unit), np.float32)

    def matrices(self, rows: FeatureSet, columns: FeatureSet) -> KernelMatrices:
        """Return all kernels and distances between two lists of items."""
        shape = (rows.n_items, columns.n_items)
        terms = np.empty((len(self.terms), *shape), np.float32)
        distances = np.empty((len(self.numbers), *shape), np.float32)
        for held, made in ((terms, self.kernels(rows, columns)), (distances, self.distances(rows, columns))):
            for place, matrix in zip(held, made, strict=True):
                place[:] = matrix
        return KernelMatrices(terms, distances)

    def diagonals(self, items: FeatureSet) -> Iterator[npt.NDArray[np.float32]]:
        """Yield each term of items with themselves, float32 ``[r]``.

        A cosine is 1, for a missing attribute too: whatever it is, the item shares it with itself and with no other.
        """
        for term, unit in zip(self.terms, self.units, strict=True):
            if term.kind != "count":
                yield np.ones(items.n_items, np.float32)
                continue
            vectors = sp.csr_array(self._vectors(items, term))
            yield np.asarray(vectors.multiply(vectors).sum(axis=1) / unit, np.float32).ravel()

    def distances(self, rows: FeatureSet, columns: FeatureSet) -> Iterator[Matrix]:
        """Yield the squared distance in each number, in variances, float32 ``[r, c]``.

        An item whose number is unknown lies at the mean, and 1 away from it in a direction of its own: 2 from other
        items on average, as known ones are from each other. Distances of points in a space keep the covariance
        positive definite; a constant for the unknown would not.
        """
        for name in self.numbers:
            left, right = (self._standard(features, name) for features in (rows, columns))
            squared = (np.nan_to_num(left)[:, None] - np.nan_to_num(right)[None, :]) ** 2
            squared += np.isnan(left)[:, None]
            squared += np.isnan(right)[None, :]
            yield np.minimum(squared, _FARTHEST).astype(np.float32)

    def _vectors(self, features: FeatureSet, term: _KernelTerm) -> sp.csr_array | Matrix:
        matrix = _vector(features, term.attribute).matrix
        if term.kind == "centred":
            return self._centred(matrix, term)
        rows = sp.csr_array(matrix @ sp.diags_array(self.weights[term]), dtype=np.float32)
        if term.kind == "count":
            return rows
        norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        return sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows, dtype=np.float32)

    def _centred(self, matrix: sp.csr_array, term: _KernelTerm) -> Matrix:
        described = np.diff(matrix.indptr)[:, None] > 0
        rows = np.where(described, matrix.toarray() - self.weights[term], np.float32(0))
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / np.where(norms > 0, norms, 1), np.float32)

    def _standard(self, features: FeatureSet, name: str) -> npt.NDArray[np.float64]:
        feature = features.features[name]
        if not isinstance(feature, ScalarFeature):
            raise TypeError(f"{name} is a vector here and was a number for the warm items.")
        mean, spread = self.weights[name]
        return (feature.values - float(mean)) / float(spread)


def _vector(features: FeatureSet, name: str) -> VectorFeature:
    feature = features.features[name]
    if not isinstance(feature, VectorFeature):
        raise TypeError(f"{name} is a number here and was none for the warm items.")
    return feature


def _kinds(feature: VectorFeature) -> list[Kind]:
    """Return the kernels of an attribute; none if it is empty for the warm items."""
    if feature.matrix.nnz == 0:
        return []
    if feature.dense:
        return ["centred"]
    if not feature.is_label:  # words, or an embedding that is not told: weighted already
        full = np.diff(feature.matrix.indptr) >= 0.9 * feature.matrix.shape[1]
        described = np.diff(feature.matrix.indptr) > 0
        return ["centred" if feature.matrix.shape[1] >= _EMBEDDING_DIM and full[described].all() else "plain"]
    kinds: list[Kind] = ["rare"]
    if feature.matrix.shape[1] <= _FEW_TERMS:
        kinds.append("plain")
    if feature.matrix.nnz / feature.matrix.shape[0] >= _MANY_LABELS:
        kinds.append("count")
    return kinds


def _weights(feature: VectorFeature, kind: Kind) -> tuple[npt.NDArray[np.float32], float]:
    """Return the column weights of a kernel and its unit."""
    n_items, n_terms = feature.matrix.shape
    if kind == "centred":
        described = feature.matrix[np.flatnonzero(np.diff(feature.matrix.indptr))]
        return np.asarray(described.mean(axis=0), np.float32).ravel(), 1.0
    if kind == "plain":
        return np.ones(n_terms, np.float32), 1.0
    frequency = np.bincount(feature.matrix.indices, minlength=n_terms)
    if kind == "rare":
        return np.log((n_items + 1) / (frequency + 1)).astype(np.float32), 1.0
    weights = (1 / np.sqrt(np.maximum(frequency, 1))).astype(np.float32)
    diagonal: Any = feature.matrix.multiply(feature.matrix) @ (weights**2)
    return weights, float(np.mean(diagonal))
