"""The item weights of KernelAlign for large catalogues: conditional means through inducing items, smoothed over users.

Notation used for shapes: b rows, W warm items, m inducing items, I all items, n items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp

from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, TrainingSet
from coldray.models.kernel_align.inducing import (
    ROWS_PER_BLOCK,
    InducingPosterior,
    across,
    choose_inducing,
    enough_inducing,
    inducing_posterior,
)
from coldray.models.kernel_align.posterior import covariance_of
from coldray.models.linalg.products import click_products

Matrix = npt.NDArray[np.float32]


def condition_on_inducing(
    train: TrainingSet,
    *,
    logarithms: tuple[float, ...],
    count: int | None,
    seed: int,
    most: int,
    tolerance: float,
) -> tuple[Items, InducingPosterior, Matrix, Matrix]:
    """Return what the process says of all items through some of the warm ones.

    Parameters
    ----------
    count
        How many; by default as many as explain the others up to the `tolerance`, and `most` at most.

    Returns
    -------
    tuple
        The inducing items as indices ``[m]``, the posterior, and coordinates ``[m, I]`` and variances with the noise
        ``[I]`` of all items, float32.
    """
    warm = train.warm_items
    features = train.features.take(warm)
    covariance = covariance_of(features, np.asarray(logarithms))
    clicks = train.clicks[warm]
    if count is None:
        chosen = enough_inducing(covariance, features, clicks, most=most, tolerance=tolerance, seed=seed)
    else:
        chosen = choose_inducing(clicks, count=count, seed=seed)
    items = warm[chosen].astype(np.intp)
    posterior = inducing_posterior(covariance, features, chosen)
    require_memory(
        4 * len(chosen) * train.features.n_items,
        purpose=f"The coordinates of {train.features.n_items:,} items among {len(chosen):,} inducing ones",
        way_out="Use fewer inducing items.",
    )
    coordinates = np.empty((len(chosen), train.features.n_items), np.float32)
    for start in range(0, train.features.n_items, ROWS_PER_BLOCK):
        block = np.arange(start, min(start + ROWS_PER_BLOCK, train.features.n_items))
        between = across(covariance, train.features, items, block)
        coordinates[:, block] = posterior.coordinates(between.T)
    noise = np.float32(covariance.weights.noise)
    variances = covariance.variances(train.features) + noise - posterior.explained(coordinates)
    return items, posterior, coordinates, np.asarray(np.maximum(variances, 0), np.float32)


@dataclass(frozen=True, eq=False)
class InducingWeights:
    """What scores are made of: ``X_w H c_j`` with the coordinates c of each item among the inducing ones."""

    warm_items: Items
    """Indices ``[W]``."""
    basis_items: Items
    """The inducing items ``[m]``, whose covariance with a new one is all that it takes."""
    posterior: InducingPosterior
    """Its projection is smoothed over users: H ``[W, m]``."""
    coordinates: Matrix
    """``[m, I]``, added items last."""

    @property
    def n_items(self) -> int:
        """Warm and cold items."""
        return int(self.coordinates.shape[1])

    def scorer(self, items: Items, factors: Matrix | None = None) -> Scorer:
        """Return the function ``X → X_w H c``, times a factor an item ``[n]`` if given, on the columns of `items`."""
        coordinates = np.ascontiguousarray(self.coordinates[:, items])
        if factors is not None:
            coordinates *= factors

        def scores(histories: sp.csr_array) -> Matrix:
            clicks = sp.csr_array(histories[:, self.warm_items])
            return np.asarray(click_products(clicks, self.posterior.projection) @ coordinates, np.float32)

        return scores

    def variances(self, items: Items, known: Matrix) -> Matrix:
        """Return the variances of some items ``[n]``, of those of all ``[I]``."""
        return np.asarray(known[items], np.float32)

    def influence(self, histories: Matrix) -> Matrix:
        """Return what each inducing item's covariance with an item adds to its score, for histories ``[b, W]``."""
        rows = (histories @ self.posterior.projection).astype(np.float64)
        solved = scipy.linalg.solve_triangular(self.posterior.factor, rows.T, lower=True, trans="T", check_finite=False)
        return np.asarray(solved.T, np.float64)

    def append(self, between: Matrix) -> tuple[Self, Matrix]:
        """Return weights with new items, given by their covariance with the basis items ``[m, n]``.

        Also returned is by how much the clicks reduce the variance of each ``[n]``.
        """
        added = self.posterior.coordinates(between)
        joined = replace(self, coordinates=np.concatenate([self.coordinates, added], axis=1))
        return joined, self.posterior.explained(added)

    def state(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that :meth:`from_state` needs."""
        return {
            "warm_items": self.warm_items,
            "inducing_items": self.basis_items,
            "factor": self.posterior.factor,
            "inner": self.posterior.inner,
            "projection": self.posterior.projection,
            "coordinates": self.coordinates,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild the weights."""
        posterior = InducingPosterior(state["factor"], state["inner"], state["projection"])
        return cls(state["warm_items"], state["inducing_items"], posterior, state["coordinates"])
