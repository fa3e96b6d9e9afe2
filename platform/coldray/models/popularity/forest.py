"""A forest of regression trees as plain arrays: stored without pickle, read without scikit-learn.

Notation used for shapes: n items, c columns of the design, T trees, N nodes of all trees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from sklearn.ensemble import ExtraTreesRegressor

_CELLS_PER_BLOCK = 2**18
"""Pairs of item and tree that are followed at once."""


@dataclass(frozen=True, eq=False)
class Forest:
    """The mean of regression trees."""

    feature: npt.NDArray[np.int32]
    """Column that a node asks about ``[N]``; −1 for a leaf."""
    threshold: npt.NDArray[np.float32]
    """A value up to this one goes left ``[N]``."""
    left: npt.NDArray[np.int32]
    """Node to the left ``[N]``; a leaf points to itself."""
    right: npt.NDArray[np.int32]
    """Node to the right ``[N]``; a leaf points to itself."""
    value: npt.NDArray[np.float64]
    """What a node predicts ``[N]``; read at leaves alone."""
    roots: npt.NDArray[np.int32]
    """First node of each tree ``[T]``."""

    @classmethod
    def of(cls, regressor: ExtraTreesRegressor) -> Self:
        """Export a fitted regressor of one target."""
        trees = [estimator.tree_ for estimator in regressor.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])]).astype(np.int32)
        feature = np.concatenate([tree.feature for tree in trees])
        leaf = feature < 0
        itself = np.arange(len(feature))
        left, right = (
            np.concatenate([side + root for side, root in zip(sides, roots, strict=True)])
            for sides in ([tree.children_left for tree in trees], [tree.children_right for tree in trees])
        )
        return cls(
            feature=np.where(leaf, -1, feature).astype(np.int32),
            threshold=_rounded_down(np.concatenate([tree.threshold for tree in trees])),
            left=np.where(leaf, itself, left).astype(np.int32),
            right=np.where(leaf, itself, right).astype(np.int32),
            value=np.concatenate([tree.value[:, 0, 0] for tree in trees]).astype(np.float64),
            roots=roots,
        )

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the forest from :meth:`arrays`; other names are not read."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def predict(self, design: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the mean of the trees for each row of the design ``[n, c]``, float64 ``[n]``."""
        n_items = len(design)
        step = max(1, _CELLS_PER_BLOCK // len(self.roots))
        blocks = [self._sum(design[start : start + step]) for start in range(0, n_items, step)]
        return np.concatenate([np.zeros(0), *blocks]) / len(self.roots)

    def _sum(self, design: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        n_items, n_columns = design.shape
        flat = np.ascontiguousarray(design, np.float32).ravel()
        nodes = np.repeat(self.roots, n_items)  # [T * n], tree by tree
        rows = np.tile(np.arange(n_items, dtype=np.int32) * np.int32(n_columns), len(self.roots))
        active = np.arange(len(nodes), dtype=np.int32)
        at = nodes
        while True:
            inner = self.feature[at] >= 0
            if not inner.all():  # those that have arrived are followed no further
                nodes[active] = at
                active, at, rows = active[inner], at[inner], rows[inner]
            if len(active) == 0:
                break
            goes_left = flat[rows + self.feature[at]] <= self.threshold[at]
            at = np.where(goes_left, self.left[at], self.right[at])
        # Tree by tree, as scikit-learn adds them: the rounding is the same.
        return np.asarray(np.add.reduce(self.value[nodes].reshape(len(self.roots), n_items), axis=0))


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return the largest float32 values that do not exceed the thresholds: float32 values compare alike with both."""
    rounded = thresholds.astype(np.float32)
    return np.where(rounded > thresholds, np.nextafter(rounded, np.float32(-np.inf)), rounded)
