"""The columns from which a number of an item, such as how often it is clicked, is predicted.

Notation used for shapes: n items, W warm items, c columns, d terms of an attribute, F inputs of it, K folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataError
from coldray.data.dataset import rows_of
from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.popularity.ridge import fold_ridge
from coldray.models.popularity.target_encoding import Numbers, aggregates, label_encodings

FEW_TERMS = 64
"""An attribute of labels with at most so many terms enters as zeros and ones, too."""


@dataclass(frozen=True, eq=False)
class PopularityDesign:
    """What was learned from the warm items to describe any item by a few columns.

    Numbers are columns, and so are the labels of a small vocabulary. The labels or words of an attribute are also
    described by their target encodings, and every attribute by its part of a ridge regression on all of them.
    Attributes are taken in the order of their names, so that a store that forgets the order does no harm.
    """

    numbers: Mapping[str, Numbers]
    """By number: its mean, and 1 if a column tells where it is unknown, ``[2]``."""
    plain: Mapping[str, bool]
    """By attribute of labels, words or dimensions: whether it enters as zeros and ones."""
    encodings: Mapping[str, Numbers]
    """By attribute of labels or words, ``[K + 1, d]``, or ``[1, d]`` with the last row alone."""
    inputs: Mapping[str, npt.NDArray[np.float32]]
    """By attribute: what the inputs of the ridge regression were fitted to (:class:`AttributeInputs`)."""
    ridge: Mapping[str, Numbers]
    """By attribute: coefficients ``[K + 1, F]``, or ``[1, F]`` with the last row alone."""

    @classmethod
    def of(
        cls,
        train: TrainingSet,
        target: Numbers,
        folds: npt.NDArray[np.int64],
        *,
        shrinkage: float,
        ridge: float,
    ) -> Self:
        """Learn from the warm items of `train`, whose targets ``[W]`` and folds ``[W]`` are given."""
        warm = train.features.take(train.warm_items)
        numbers, plain, encodings = {}, {}, {}
        for name, feature in warm.features.items():
            if isinstance(feature, ScalarFeature):
                known = np.isfinite(feature.values)
                mean = float(feature.values[known].mean()) if known.any() else 0.0
                numbers[name] = np.array([mean, float(not known.all())])
                continue
            few = feature.matrix.shape[1] <= FEW_TERMS
            plain[name] = bool(few and (feature.matrix.data == 1).all())
            if feature.matrix.data.min(initial=0) >= 0:  # every item has every dimension of an embedding
                encodings[name] = label_encodings(feature.matrix, target, folds, shrinkage)
        inputs, parts = _learn_ridge(train, warm, target, folds, ridge)
        return cls(numbers, plain, encodings, inputs, parts)

    def matrix(self, features: FeatureSet, folds: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.float32]:
        """Return the columns of items, float32 ``[n, c]``.

        Parameters
        ----------
        features
            Features of n items.
        folds
            For the warm items that the design was learned from: their folds ``[n]``, so that each is described by what
            the other folds say. New items are described by what all warm items say.
        """
        rows = np.full(features.n_items, -1) if folds is None else folds
        blocks = [np.zeros(features.n_items)]  # trees want a column even where there is no attribute
        for name, feature in sorted(features.features.items()):
            blocks += self._columns(name, feature, rows)
        parts = [
            _row_products(_encoded(name, features.features[name], self.inputs), coefficients, rows)
            for name, coefficients in sorted(self.ridge.items())
        ]
        if parts:
            blocks += [*parts, np.sum(parts, axis=0)]
        return np.column_stack(blocks).astype(np.float32)

    def _columns(self, name: str, feature: Feature, rows: npt.NDArray[np.integer]) -> Iterator[npt.NDArray[Any]]:
        if isinstance(feature, ScalarFeature):
            mean, told = self.numbers[name]
            known = np.isfinite(feature.values)
            yield np.where(known, feature.values, mean)
            if told:
                yield (~known).astype(np.float64)
            return
        if self.plain[name]:
            yield feature.matrix.toarray()
        if name in self.encodings:
            yield aggregates(feature.matrix, self.encodings[name], rows)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return what describes new items, by name: ``<part>/<attribute>``."""
        arrays: dict[str, npt.NDArray[Any]] = {f"number/{name}": value for name, value in self.numbers.items()}
        arrays |= {f"plain/{name}": np.array([value]) for name, value in self.plain.items()}
        arrays |= {f"encoding/{name}": np.ascontiguousarray(value[-1:]) for name, value in self.encodings.items()}
        arrays |= {f"input/{name}": value for name, value in self.inputs.items()}
        return arrays | {f"ridge/{name}": np.ascontiguousarray(value[-1:]) for name, value in self.ridge.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the design from :meth:`arrays`; other names are not read."""

        def part(prefix: str) -> dict[str, npt.NDArray[Any]]:
            return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}

        plain = {name: bool(value[0]) for name, value in part("plain/").items()}
        return cls(part("number/"), plain, part("encoding/"), part("input/"), part("ridge/"))


def _learn_ridge(
    train: TrainingSet, warm: FeatureSet, target: Numbers, folds: npt.NDArray[np.int64], ridge: float
) -> tuple[Mapping[str, npt.NDArray[np.float32]], dict[str, Numbers]]:
    try:
        inputs = AttributeInputs.of(train).parameters
    except DataError:  # no attribute tells items apart: there is nothing to regress on, and the design goes without
        return {}, {}
    blocks = {name: _encoded(name, warm.features[name], inputs) for name in sorted(inputs)}
    coefficients = fold_ridge(sp.hstack(list(blocks.values()), format="csr"), target, folds, ridge)
    ends = np.cumsum([block.shape[1] for block in blocks.values()])
    return inputs, dict(zip(blocks, np.split(coefficients, ends[:-1], axis=1), strict=True))


def _encoded(name: str, feature: Feature, inputs: Mapping[str, npt.NDArray[np.float32]]) -> sp.csr_array:
    n_items = len(feature.values) if isinstance(feature, ScalarFeature) else feature.matrix.shape[0]
    return AttributeInputs({name: inputs[name]}).encode(FeatureSet({name: feature}, n_items))


def _row_products(matrix: sp.csr_array, tables: Numbers, rows: npt.NDArray[np.integer]) -> Numbers:
    """Return the product of each row of the matrix ``[n, F]`` with its own row of the tables ``[·, F]``, ``[n]``."""
    items = rows_of(matrix)
    products = matrix.data * tables[rows[items], matrix.indices]
    return np.bincount(items, products, matrix.shape[0]).astype(np.float64)  # of no weight at all, bincount counts
