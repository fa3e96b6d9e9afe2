"""What models read of the items: one matrix or one number an attribute.

Notation used for shapes: I items, d terms of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp


@dataclass(frozen=True, eq=False)
class VectorFeature:
    """A vector an item, compared by its (smoothed) cosine."""

    matrix: sp.csr_array
    """float32 ``[I, d]``; multi-hot, TF-IDF weights or a dense embedding stored as CSR."""
    terms: tuple[str, ...]
    """What each column means (a label, a word); for embeddings their dimension number."""
    dense: bool = False
    """Whether it is made as an embedding is: of a text by a model, or a vector that was computed elsewhere."""

    @property
    def is_label(self) -> bool:
        """Whether it holds labels: ones, where words and embeddings have weights."""
        return not self.dense and bool((self.matrix.data == 1).all())

    @property
    def is_embedding(self) -> bool:
        """Whether its columns are the dimensions of a space: nothing else has negative values."""
        return self.dense or bool(self.matrix.data.min(initial=0) < 0)


@dataclass(frozen=True, eq=False)
class ScalarFeature:
    """A number an item, compared by its distance."""

    values: npt.NDArray[np.float64]
    """float64 ``[I]``, NaN where unknown."""
    span: float
    """Largest minus smallest value seen when the features were fitted; the unit of the distance. Positive."""


Feature: TypeAlias = VectorFeature | ScalarFeature


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The features of a list of items, by attribute name, in a fixed order."""

    features: Mapping[str, Feature]
    n_items: int

    @property
    def described(self) -> npt.NDArray[np.bool_]:
        """Whether anything is known of each item ``[I]``."""
        known = np.zeros(self.n_items, bool)
        for feature in self.features.values():
            if isinstance(feature, VectorFeature):
                known |= np.diff(feature.matrix.indptr) > 0
            else:
                known |= np.isfinite(feature.values)
        return known

    @property
    def labels(self) -> tuple[int, int]:
        """How many labels all items have together, and how many different ones; words and embeddings are none."""
        matrices = [one.matrix for one in self.features.values() if isinstance(one, VectorFeature) and one.is_label]
        return sum(matrix.nnz for matrix in matrices), sum(matrix.shape[1] for matrix in matrices)

    def take(self, items: npt.NDArray[np.integer]) -> FeatureSet:
        """Return the features of `items` alone."""
        taken: dict[str, Feature] = {}
        for name, feature in self.features.items():
            if isinstance(feature, VectorFeature):
                taken[name] = VectorFeature(feature.matrix[items], feature.terms, feature.dense)
            else:
                taken[name] = ScalarFeature(feature.values[items], feature.span)
        return FeatureSet(taken, len(items))

    def beside(self, other: FeatureSet) -> FeatureSet:
        """Return these features and those of `other`, of the same items and under other names."""
        if self.n_items != other.n_items or self.features.keys() & other.features.keys():
            raise ValueError(f"{self.n_items} and {other.n_items} items cannot be described side by side.")
        return FeatureSet({**self.features, **other.features}, self.n_items)

    def append(self, other: FeatureSet) -> FeatureSet:
        """Return these items followed by those of `other`, which must be encoded in the same way."""
        joined: dict[str, Feature] = {}
        for name, feature in self.features.items():
            added = other.features[name]
            if isinstance(feature, VectorFeature) and isinstance(added, VectorFeature):
                stacked = sp.csr_array(sp.vstack([feature.matrix, added.matrix], format="csr"))
                joined[name] = VectorFeature(stacked, feature.terms, feature.dense)
            elif isinstance(feature, ScalarFeature) and isinstance(added, ScalarFeature):
                joined[name] = ScalarFeature(np.concatenate([feature.values, added.values]), feature.span)
            else:
                raise TypeError(f"The attribute {name!r} is a vector for some items and a number for others.")
        return FeatureSet(joined, self.n_items + other.n_items)
