"""How often a new item will be clicked, from its attributes alone.

Extremely randomised trees predict ``log(clicks + 1)`` from a small dense design. The items they are fitted on are
described out of fold, as new items are: by what others with the same labels were worth, and by a ridge regression on
the sparse attributes, for all folds at once.

Source of the trees: Geurts, Ernst and Wehenkel, *Extremely randomized trees*, 2006.

Notation used for shapes: n items, W warm items, F inputs, K folds, c columns, d terms of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import DataError
from coldray.core.memory import require_memory
from coldray.data.dataset import rows_of
from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.popularity.forest import Forest
from coldray.models.popularity.target_encoding import Numbers, aggregates, deal, fold_means, label_encodings

_ITERATIONS = 200
"""Steps of conjugate gradients at most; real attributes take 30 to 60."""
_TOLERANCE = 1e-4
"""Residual, relative to the target, at which a fold is solved: far below what the prediction can be trusted to."""


def _fold_ridge(
    inputs: sp.csr_array, target: Numbers, folds: npt.NDArray[np.int64], regularization: float
) -> npt.NDArray[np.float64]:
    """Return ridge coefficients for the target, relative to its mean, without the items of each fold.

    Each fold's coefficients are ``Φᵀα`` with ``(M Φ Φᵀ M + λ I) α = M (y − ȳ)``, where M leaves the fold's items out
    and λ is `regularization` times the mean squared length of a row. The systems of all folds are solved together by
    conjugate gradients that take one product with the sparse Φ for all of them, so nothing of size n × n is made.

    Parameters
    ----------
    inputs
        Φ, CSR ``[n, F]``.
    target
        y ``[n]``.
    folds
        Fold of each item ``[n]``.
    regularization
        λ in units of the mean squared length; positive.

    Returns
    -------
    NDArray
        float64 ``[K + 1, F]``: row k from the items outside fold k, the last row from all items.
    """
    phi = sp.csr_array(inputs, dtype=np.float64)
    transposed = sp.csr_array(phi.T)
    means = fold_means(target, folds)
    mask = (folds[:, None] != np.arange(len(means))).astype(np.float64)  # [n, K + 1]
    squared = float(np.sum(phi.data**2)) / max(phi.shape[0], 1)
    shift = regularization * (squared or 1.0)
    right = mask * (target[:, None] - means)
    solution = np.zeros_like(right)
    residual, direction = right, right
    energy = np.sum(residual**2, axis=0)
    enough = _TOLERANCE**2 * energy
    for _ in range(_ITERATIONS):
        if (energy <= enough).all():
            break
        image = mask * (phi @ (transposed @ direction)) + shift * direction
        curvature = np.sum(direction * image, axis=0)
        step = energy / np.where(curvature > 0, curvature, 1)
        solution = solution + step * direction
        residual = residual - step * image
        before, energy = energy, np.sum(residual**2, axis=0)
        direction = residual + energy / np.where(before > 0, before, 1) * direction
    return np.asarray((transposed @ solution).T)


_FEW_TERMS = 64
"""An attribute of labels with at most so many terms enters as zeros and ones, too."""


@dataclass(frozen=True, eq=False)
class _PopularityDesign:
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
            few = feature.matrix.shape[1] <= _FEW_TERMS
            plain[name] = few and feature.is_label
            if not feature.is_embedding:  # every item has every dimension of an embedding
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
    coefficients = _fold_ridge(sp.hstack(list(blocks.values()), format="csr"), target, folds, ridge)
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


_COLUMN_SHARE = 0.2
"""Share of the columns among which a split chooses; few, as many columns say nearly the same."""


def learn_popularity(
    train: TrainingSet,
    *,
    trees: int,
    seed: int,
    min_leaf: int = 5,
    folds: int = 10,
    shrinkage: float = 10.0,
    ridge: float = 0.35,
) -> dict[str, npt.NDArray[Any]]:
    """Learn to predict ``log(clicks + 1)`` of an item, and return the arrays of a :class:`PopularityHead`.

    Parameters
    ----------
    train
        Clicks and features; items with clicks are learned from.
    trees
        Trees, each grown on all warm items.
    seed
        Seed of the folds and the trees; the same one gives the same arrays.
    min_leaf
        Items in a leaf at least.
    folds
        Folds, fewer where there are fewer items.
    shrinkage
        Items at the mean added to every label.
    ridge
        Regularization of the ridge regression, in mean squared lengths of an item's attributes.

    Returns
    -------
    dict
        Arrays of numbers by name.

    Raises
    ------
    DataError
        If no item has a click.
    CatalogTooLargeError
        If the encodings, the columns and the trees do not fit in memory.
    """
    warm = train.warm_items
    if len(warm) == 0:
        raise DataError("No item has a click, so there is nothing to learn from. Filter less, or check the split.")
    _check_size(train, trees=trees, min_leaf=min_leaf, folds=folds)
    target = np.log1p(train.clicks[warm])
    dealt = deal(len(warm), folds, seed)
    design = _PopularityDesign.of(train, target, dealt, shrinkage=shrinkage, ridge=ridge)
    from sklearn.ensemble import ExtraTreesRegressor  # imported by those who grow trees alone

    regressor = ExtraTreesRegressor(
        trees, min_samples_leaf=min_leaf, max_features=_COLUMN_SHARE, random_state=seed, n_jobs=1
    )
    # Each tree's leaves hold means of the targets, so the mean prediction of the warm items is their mean target.
    forest = Forest.of(regressor.fit(design.matrix(train.features.take(warm), dealt), target))
    return {"mean": np.array([target.mean()]), **design.arrays(), **forest.arrays()}


def known_or_predicted(
    train: TrainingSet, *, trees: int, seed: int
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.float32]]:
    """Return what predicts the popularity, and that of all items ``[I]``: ``log(clicks + 1)`` less the warm mean."""
    arrays = learn_popularity(train, trees=trees, seed=seed)
    head = PopularityHead.from_arrays(arrays)
    popularity = (np.log1p(train.clicks) - head.mean).astype(np.float32)
    popularity[train.cold_items] = head.predict(train.features.take(train.cold_items))
    return arrays, popularity


def forest_bytes(n_items: int, trees: int, min_leaf: int) -> int:
    """Return the most that a forest grown on so many items takes, with the copies that its export makes."""
    return 100 * trees * (2 * n_items // min_leaf + 1)


def _check_size(train: TrainingSet, *, trees: int, min_leaf: int, folds: int) -> None:
    matrices = [feature.matrix for feature in train.features.features.values() if isinstance(feature, VectorFeature)]
    n_items, n_terms = len(train.warm_items), sum(matrix.shape[1] for matrix in matrices)
    by_fold = (folds + 1) * (4 * n_terms + 8 * n_items)
    by_item = n_items * len(train.features.features) * (_FEW_TERMS + 8) + 8 * sum(matrix.nnz for matrix in matrices)
    require_memory(
        8 * (by_fold + by_item) + forest_bytes(n_items, trees, min_leaf),
        purpose=f"Predicting popularity from {n_terms:,} terms of {n_items:,} items by {trees:,} trees",
        way_out="Use fewer trees, a larger min_leaf, or fewer terms (features.min_items, features.max_terms).",
    )


class PopularityHead:
    """Predicts the log clicks of new items.

    Made for items without clicks: the prediction of a warm item is not out of fold, it knows the item's own clicks.
    """

    def __init__(self, mean: float, design: _PopularityDesign, forest: Forest) -> None:
        self.mean = mean
        """Mean of ``log(clicks + 1)`` over the warm items, and so of the predictions of them out of fold."""
        self._design, self._forest = design, forest

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the head that :func:`learn_popularity` learned; other names in `arrays` are not read."""
        return cls(float(arrays["mean"][0]), _PopularityDesign.from_arrays(arrays), Forest.from_arrays(arrays))

    def predict(self, features: FeatureSet) -> npt.NDArray[np.float32]:
        """Return the predicted popularity, float32 ``[n]``.

        The unit is that of ``log(clicks + 1)``, relative to the warm items' mean: 0 is an average item, 1 one with e
        times its clicks. An item without any attribute is predicted as such items were.
        """
        return (self._predicted(features) - self.mean).astype(np.float32)

    def log_clicks(self, features: FeatureSet) -> npt.NDArray[np.float32]:
        """Return the predicted ``log(clicks + 1)``, float32 ``[n]``."""
        return self._predicted(features).astype(np.float32)

    def _predicted(self, features: FeatureSet) -> npt.NDArray[np.float64]:
        return self._forest.predict(self._design.matrix(features))
