"""How often a new item will be clicked, from its attributes alone.

Extremely randomised trees predict ``log(clicks + 1)`` from a small dense design
(:mod:`~coldray.models.popularity.design`). The items they are fitted on are described out of fold, as new items are:
by what others with the same labels were worth.

Notation used for shapes: n items, W warm items.

Source of the trees: Geurts, Ernst and Wehenkel, *Extremely randomized trees*, 2006.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coldray.core.errors import DataError
from coldray.core.memory import require_memory
from coldray.features.feature_set import FeatureSet, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.popularity.design import FEW_TERMS, PopularityDesign
from coldray.models.popularity.forest import Forest
from coldray.models.popularity.target_encoding import deal

COLUMN_SHARE = 0.2
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
    design = PopularityDesign.of(train, target, dealt, shrinkage=shrinkage, ridge=ridge)
    from sklearn.ensemble import ExtraTreesRegressor  # imported by those who grow trees alone

    regressor = ExtraTreesRegressor(
        trees, min_samples_leaf=min_leaf, max_features=COLUMN_SHARE, random_state=seed, n_jobs=1
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
    by_item = n_items * len(train.features.features) * (FEW_TERMS + 8) + 8 * sum(matrix.nnz for matrix in matrices)
    require_memory(
        8 * (by_fold + by_item) + forest_bytes(n_items, trees, min_leaf),
        purpose=f"Predicting popularity from {n_terms:,} terms of {n_items:,} items by {trees:,} trees",
        way_out="Use fewer trees, a larger min_leaf, or fewer terms (features.min_items, features.max_terms).",
    )


class PopularityHead:
    """Predicts the log clicks of new items.

    Made for items without clicks: the prediction of a warm item is not out of fold, it knows the item's own clicks.
    """

    def __init__(self, mean: float, design: PopularityDesign, forest: Forest) -> None:
        self.mean = mean
        """Mean of ``log(clicks + 1)`` over the warm items, and so of the predictions of them out of fold."""
        self._design, self._forest = design, forest

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Return the head that :func:`learn_popularity` learned; other names in `arrays` are not read."""
        return cls(float(arrays["mean"][0]), PopularityDesign.from_arrays(arrays), Forest.from_arrays(arrays))

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
