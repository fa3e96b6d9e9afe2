"""The regression for MARec's similarity weights μ on the cells of some warm items, without an item × item matrix.

The regressors of a cell of user u and item j are sums ``(XG)_uj = Σ_i x_ui G_ij`` over all the user clicked. With the
items j drawn at random, the normal equations of those cells are a fair sample of all: of each term, only the columns of
the drawn items are computed, a block at a time. They are sums over users, and so over shards of users by the workers
of a Ray cluster (:mod:`~coldray.models.linalg.sharded`).

Notation used for shapes: u users of a block, W warm items, S drawn ones, b of them in a block, T terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.linalg.products import Matrix, click_products
from coldray.models.marec.mixture import RegressionMoments
from coldray.models.marec.similarity import Delta, Order, Similarities, term_names, term_pairs

BLOCK_FLOATS = 2**24
"""float32 values of the terms, and of the regressors, that are held at once (64 MiB each)."""


def sampled_moments(
    train: TrainingSet, *, delta: Delta, order: Order, items: int, seed: int, workers: int = 1
) -> RegressionMoments:
    """Return the moments over the cells of `items` warm items, drawn at random; of all if there are no more.

    Parameters
    ----------
    workers
        Tasks of the Ray cluster that go through the users side by side; 1 does so in this process.

    Raises
    ------
    ClusterError, ConfigError, TrainingFailedError
        If there are several workers, as for :func:`~coldray.models.linalg.gram_shards.gram`.
    """
    from coldray.models.linalg.gram_shards import require_workers
    from coldray.models.linalg.sharded import (
        click_shards,  # these load Ray, which other solvers do without
        sum_over_shards,
    )

    require_workers(workers)
    warm = train.warm_items
    drawn = np.sort(np.random.default_rng(seed).permutation(len(warm))[:items])
    clicks = sp.csr_array(train.interactions[:, warm], dtype=np.float32)
    terms = MomentTerms(train.features.take(warm), drawn, delta, order)
    shards = [clicks] if workers == 1 else click_shards(clicks, at_least=workers)
    products, sums, of_clicks, sums_of_clicks = sum_over_shards(terms, shards, workers=workers)
    return RegressionMoments(
        products,
        sums,
        of_clicks,
        sums_of_clicks,
        n_cells=clicks.shape[0] * len(drawn),
        n_clicks=int(train.clicks[warm[drawn]].sum()),
        terms=term_names(train.features, order),
    )


@dataclass(frozen=True, eq=False)
class MomentTerms:
    """What a shard of users adds to the moments."""

    features: FeatureSet
    """Of the W warm items."""
    drawn: npt.NDArray[np.integer]
    """Places among them of the items whose cells count ``[S]``."""
    delta: Delta
    order: Order
    block_floats: int = BLOCK_FLOATS
    """float32 values of the terms, and of the regressors, that are held at once."""

    @cached_property
    def pairs(self) -> list[tuple[int, ...]]:
        """The attributes that each term multiplies."""
        return term_pairs(len(self.features.features), self.order)

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Of the products and sums over all cells, and over the clicks."""
        count = len(self.pairs)
        return [(count, count), (count,)] * 2

    def add(self, clicks: sp.csr_array, sums: list[npt.NDArray[np.float64]]) -> None:
        """Add the sums over the cells of some users ``[u, W]``."""
        by_item = sp.csc_array(clicks)
        for items, columns in self._columns():
            height = max(1, self.block_floats // columns.shape[1])
            clicked = sp.csr_array(by_item[:, items])
            for start in range(0, clicks.shape[0], height):
                rows = sp.csr_array(clicks[start : start + height])
                regressors = click_products(rows, columns).reshape(-1, len(self.pairs))  # [u b, T]
                found = regressors[clicked[start : start + height].toarray().ravel() > 0]
                for place, values in ((0, regressors), (2, found)):
                    sums[place] += values.T @ values
                    sums[place + 1] += values.sum(axis=0, dtype=np.float64)

    def _columns(self) -> Iterator[tuple[npt.NDArray[np.integer], Matrix]]:
        """Yield drawn items with their columns of all terms, ``[W, b T]``, blocks of them."""
        count, n_items = len(self.pairs), self.features.n_items
        similarities = Similarities(self.features.take(self.drawn), self.features, self.delta)
        width = max(1, self.block_floats // max(1, count * n_items))
        for start in range(0, len(self.drawn), width):
            items = self.drawn[start : start + width]
            first = similarities.block(start, start + len(items))  # [K, b, W]; G is symmetric, so rows are columns
            first[:, np.arange(len(items)), items] = 0
            terms = np.stack([first[t[0]] if len(t) == 1 else first[t[0]] * first[t[1]] for t in self.pairs])
            yield items, np.ascontiguousarray(terms.transpose(2, 1, 0).reshape(n_items, -1))
