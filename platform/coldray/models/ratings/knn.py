"""RatingKNN: a rating is predicted by those of the nearest neighbours, over a baseline.

``r̂_ui = b_ui + Σ_j s_ij (r_uj − b_uj) / (δ + Σ_j s_ij)``, with the baseline of
:mod:`~coldray.models.ratings.baseline`, the similarities of :mod:`~coldray.models.ratings.similarity`, and the sums
over those of the k items nearest to i that user u rated (Koren, *Factor in the Neighbors: Scalable and Accurate
Collaborative Filtering*, 2010, Eq. 3, whose k are of the rated items alone). By users it is the same with the ratings
that the k users nearest to u gave to i: neighbours are sought when a list is asked for, so a user the fit never saw is
served like all others, and a user of the training set is among his own.

Where there is no neighbour the baseline is what is left: that of an item without ratings is the user's own.

Notation used for shapes: U users of the training set, I items, n items asked for, b histories in a block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import NonNegativeFloat, PositiveInt

from coldray.evaluation.ranking import Scorer
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import available_threads
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.factor_count import most_factors
from coldray.models.neighbours.nearest import by_neighbour, nearest
from coldray.models.ratings.base import RatingModel, RatingScale
from coldray.models.ratings.baseline import BaselineConfig, RatingBaseline
from coldray.models.ratings.similarity import (
    BLOCK_CELLS,
    CELL_BYTES,
    Measure,
    block_rows,
    row_means,
    similarities,
    similarly_rated,
    unit_rows,
)

Sums: TypeAlias = Callable[[sp.csr_array], tuple[npt.NDArray[Any], npt.NDArray[Any]]]
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

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Find the neighbours of all items, or keep the ratings of the users.

        Raises
        ------
        DataError
            If all ratings are the same, or fewer than two users or two items have ratings.
        CatalogTooLargeError
            If the neighbours do not fit in memory.
        """
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
        return CELL_BYTES * available_threads() * max(BLOCK_CELLS, others) + 24 * kept

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

    def _by_items(self, items: Items, baseline: RatingBaseline) -> Sums:
        known = self._state["neighbours"][items], self._state["similarities"][items]
        similar = by_neighbour(known, self.n_items)

        def moved(histories: sp.csr_array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            above = baseline.residuals(histories) @ similar
            return above.toarray(), (ones_where_stored(histories) @ similar).toarray()

        return moved

    def _by_users(self, items: Items, baseline: RatingBaseline) -> Sums:
        state, config = self._state, self.config
        shape = (len(state["indptr"]) - 1, self.n_items)
        train = sp.csr_array((state["ratings"], state["indices"], state["indptr"]), shape=shape)
        means = row_means(sp.csr_array(train.T))
        across = sp.csr_array(unit_rows(train, config.measure, means).T)  # [I, U]
        rest, given = (sp.csr_array(one[:, items]) for one in (baseline.residuals(train), ones_where_stored(train)))
        height = block_rows(len(state["indptr"]))

        def moved(histories: sp.csr_array) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
            above, below = np.zeros((2, histories.shape[0], len(items)))
            for first in range(0, histories.shape[0], height):
                rows = slice(first, first + height)
                vectors = unit_rows(histories[rows], config.measure, means)
                neighbours = nearest(similarities(vectors, across, config.shrinkage), config.k)
                above[rows], below[rows] = (neighbours @ rest).toarray(), (neighbours @ given).toarray()
            return above, below

        return moved
