"""RatingKNN: a rating is predicted by those of the nearest neighbours, over a baseline.

``r̂_ui = b_ui + Σ_j s_ij (r_uj − b_uj) / (δ + Σ_j s_ij)``, with the baseline of
:mod:`~coldray.models.ratings.baseline`, and the sums over those of the k items nearest to i that user u rated (Koren,
*Factor in the Neighbors: Scalable and Accurate Collaborative Filtering*, 2010, Eq. 3, whose k are of the rated items
alone). By users it is the same with the ratings that the k users nearest to u gave to i: neighbours are sought when a
list is asked for, so a user the fit never saw is served like all others, and a user of the training set is among their
own neighbours.

Where there is no neighbour the baseline is what is left: that of an item without ratings is the user's own.

An item, or a user, is a vector of ratings, and the similarity of two is the cosine of two vectors over all of their
cells, 0 where there is no rating. Vectors agree the less the fewer cells they share, as the norms are over all.

- cosine: the ratings as they are;
- Pearson: less the vector's own mean: an item's, or a user's;
- adjusted cosine: less the mean of the other side: of two items, each rating less the mean of the user who gave it
  (Sarwar et al., *Item-Based Collaborative Filtering Recommendation Algorithms*, 2001, Sec. 3.1.3).

With c cells in common, each is multiplied by ``c / (c + shrinkage)`` (Koren, *Factor in the Neighbors*, 2010, Eq. 2).

Notation used for shapes: U users of the training set, I items, n items asked for, b histories in a block, r rows, c
columns, k neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveInt

from coldray.core.device import cpu_count
from coldray.data.dataset import rows_of
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import run_blocks, top_k
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.singular import most_factors
from coldray.models.neighbours.nearest import Neighbours, by_neighbour, nearest
from coldray.models.ratings.base import RatingModel, RatingScale
from coldray.models.ratings.baseline import BaselineConfig, RatingBaseline
from coldray.training.options import FitOptions

Measure: TypeAlias = Literal["cosine", "pearson", "adjusted_cosine"]
_Double: TypeAlias = npt.NDArray[np.float64]
_BLOCK_CELLS = 1 << 21
"""Similarities that a thread holds at once at most."""
_BLOCK_ROWS = 256
"""Rows whose neighbours a thread looks for at once at most."""
_CELL_BYTES = 64
"""Bytes that a similarity takes, with all that is made of it."""


def _row_means(ratings: sp.csr_array) -> _Double:
    """Return the mean of the stored entries of each row ``[r]``; 0 for a row without any."""
    sums, counts = np.asarray(ratings.sum(axis=1, dtype=np.float64)), np.diff(ratings.indptr)
    means: _Double = np.divide(sums, counts, out=np.zeros(len(counts)), where=counts > 0)
    return means


def _unit_rows(ratings: sp.csr_array, measure: Measure, column_means: _Double) -> sp.csr_array:
    """Return the rows as vectors of length 1, of which products are similarities.

    Parameters
    ----------
    ratings
        CSR ``[r, c]``.
    column_means
        Means of the other side ``[c]``, that adjusted cosine takes off.

    Returns
    -------
    sp.csr_array
        float32 ``[r, c]``; a row in which nothing differs from the mean stays 0.
    """
    counts = np.diff(ratings.indptr)
    values = ratings.data.astype(np.float64)
    if measure == "pearson":
        values = values - np.repeat(_row_means(ratings), counts)
    elif measure == "adjusted_cosine":
        values = values - column_means[ratings.indices]
    rows = rows_of(ratings)
    norms = np.sqrt(np.bincount(rows, weights=values**2, minlength=len(counts)))
    # What is left of equal ratings is rounding.
    norms[norms < 1e-6] = np.inf
    return sp.csr_array((np.float32(values / norms[rows]), ratings.indices, ratings.indptr), shape=ratings.shape)


def similarities(left: sp.csr_array, right: sp.csr_array, shrinkage: float) -> npt.NDArray[np.float32]:
    """Return the similarities above 0 of unit rows ``[b, c]`` with unit columns ``[c, r]``, float32 ``[b, r]``."""
    found: npt.NDArray[np.float32] = np.maximum((left @ right).toarray(), np.float32(0))
    if shrinkage > 0:
        common = (ones_where_stored(left) @ ones_where_stored(right)).toarray()
        found *= common / (common + np.float32(shrinkage))
    return found


def similarly_rated(train: TrainingSet, *, k: int, measure: Measure, shrinkage: float) -> Neighbours:
    """Return the `k` items rated most like each item, and how similar they are.

    Returns
    -------
    Neighbours
        Items, int32 ``[I, k]``, nearest first, and similarities, float32 ``[I, k]``, both 0 where an item has fewer
        neighbours; I columns where k is larger. An item is no neighbour of itself.
    """
    ratings = train.interactions
    vectors = _unit_rows(sp.csr_array(ratings.T), measure, _row_means(ratings))  # [I, U]
    n_items, across = vectors.shape[0], sp.csr_array(vectors.T)
    count = min(k, n_items)
    found, similar = np.zeros((n_items, count), np.int32), np.zeros((n_items, count), np.float32)

    def work(rows: slice) -> None:
        likeness = similarities(vectors[rows], across, shrinkage)
        own = np.arange(rows.start, rows.stop)
        likeness[own - rows.start, own] = 0
        places, similar[rows] = top_k(likeness, count, n_threads=1)
        found[rows] = np.where(similar[rows] > 0, places, 0)

    run_blocks(work, n_items, _block_rows(n_items), cpu_count())
    return found, similar


def _block_rows(n_columns: int) -> int:
    """Return the height of a block of similarities."""
    return min(_BLOCK_ROWS, max(1, _BLOCK_CELLS // max(1, n_columns)))


_Sums: TypeAlias = Callable[[sp.csr_array], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
"""From histories to the sums above and below the line ``[b, n]``."""


class RatingKNNConfig(BaselineConfig):
    """Parameters of :class:`RatingKNN`."""

    by: Literal["items", "users"] = "items"
    """Whether neighbours are items rated alike, or users who rate alike."""
    k: PositiveInt = 200
    """Neighbours at most, of those that are similar at all."""
    measure: Measure = "adjusted_cosine"
    """What similar means."""
    shrinkage: NonNegativeFloat = 10.0
    """Ratings in common at which a similarity counts half; 0 trusts all alike."""
    damping: NonNegativeFloat = 0.3
    """δ, a sum of similarities at which neighbours move the baseline half as far as they would."""


class RatingKNN(RatingModel[RatingKNNConfig]):
    """The ratings of neighbours, over a baseline."""

    name: ClassVar[str] = "rating_knn"
    config_type: ClassVar[type[ModelConfig]] = RatingKNNConfig
    item_array: ClassVar[str] = "item_biases"

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Find the neighbours of all items, or keep the ratings of the users.

        Raises
        ------
        DataError
            If all ratings are the same, or fewer than two users or two items have ratings.
        CatalogTooLargeError
            If the neighbours do not fit in memory.
        """
        self.check_options(options)
        scale, config, ratings = RatingScale.of(train), self.config, train.interactions
        most_factors(train)  # refuses a matrix of a single row or column
        self.check_size(*ratings.shape)
        state = {**RatingBaseline.of(train, config).arrays(), "scale": scale.array()}
        if config.by == "items":
            found, similar = (computations or Computations()).get(
                similarly_rated, train, k=config.k, measure=config.measure, shrinkage=config.shrinkage
            )
            self._state = {**state, "neighbours": found, "similarities": similar}
        else:
            kept = {"indptr": ratings.indptr, "indices": ratings.indices, "ratings": ratings.data}
            self._state = {**state, **{name: values.copy() for name, values in kept.items()}}
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the similarities that are looked at at once take, and the neighbours that are kept."""
        by_items = self.config.by == "items"
        others, kept = (n_items, n_items * min(self.config.k, n_items)) if by_items else (n_users, 0)
        return _CELL_BYTES * cpu_count() * max(_BLOCK_CELLS, others) + 24 * kept

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The neighbours of {n_items if self.config.by == 'items' else n_users:,} {self.config.by}",
            way_out="Use a smaller k, fewer users or items through the filters, or more memory.",
        )

    def scorer(self, items: Items) -> Scorer:
        """Return the function that predicts ratings of `items`."""
        self.check_fitted()
        baseline = RatingBaseline.from_arrays(self._state)
        moved = self._by_items(items, baseline) if self.config.by == "items" else self._by_users(items, baseline)
        expected = baseline.mean + baseline.items[items]

        def scores(histories: sp.csr_array) -> Scores:
            above, below = moved(histories)
            below += self.config.damping
            change = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
            return np.asarray(expected + baseline.users(histories)[:, None] + change, np.float32)

        return scores

    def _by_items(self, items: Items, baseline: RatingBaseline) -> _Sums:
        known = self._state["neighbours"][items], self._state["similarities"][items]
        similar = by_neighbour(known, self.n_items)

        def moved(histories: sp.csr_array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            above = baseline.residuals(histories) @ similar
            return above.toarray(), (ones_where_stored(histories) @ similar).toarray()

        return moved

    def _by_users(self, items: Items, baseline: RatingBaseline) -> _Sums:
        state, config = self._state, self.config
        shape = (len(state["indptr"]) - 1, self.n_items)
        train = sp.csr_array((state["ratings"], state["indices"], state["indptr"]), shape=shape)
        means = _row_means(sp.csr_array(train.T))
        across = sp.csr_array(_unit_rows(train, config.measure, means).T)  # [I, U]
        rest, given = (sp.csr_array(one[:, items]) for one in (baseline.residuals(train), ones_where_stored(train)))
        height = _block_rows(len(state["indptr"]))

        def moved(histories: sp.csr_array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            above, below = np.zeros((2, histories.shape[0], len(items)))
            for first in range(0, histories.shape[0], height):
                rows = slice(first, first + height)
                vectors = _unit_rows(histories[rows], config.measure, means)
                neighbours = nearest(similarities(vectors, across, config.shrinkage), config.k)
                above[rows], below[rows] = (neighbours @ rest).toarray(), (neighbours @ given).toarray()
            return above, below

        return moved
