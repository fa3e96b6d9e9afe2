"""UserKNN: a user is given what the users most like them click.

A history has the neighbours N, the k users of the training set most similar to it by the items they have in common
(:mod:`~coldray.models.neighbours.similarity`), and item j the score ``Σ_{v ∈ N, v clicked j} s_v``. Neighbours are
sought when a list is asked for, so a user the fit never saw is served like all others. A user of the training set is
among their own k: that adds to what they have clicked alone, and leaves the order of the rest as k − 1 others make it.

An item without clicks scores 0, the lowest score there is.

Notation used for shapes: U users of the training set, I items, n items asked for, b histories in a block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.errors import DataError
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import PANEL_ROWS, SparseProducts
from coldray.models.neighbours.nearest import nearest
from coldray.models.neighbours.similarity import Matrix, NeighbourConfig, click_similarity
from coldray.training.options import FitOptions

_BLOCK_CELLS = 1 << 21
"""Counts of clicks in common that are held at once at most."""
_CELL_BYTES = 64
"""Bytes that such a count takes, with all that is made of it."""


class UserKNNConfig(NeighbourConfig):
    """Parameters of :class:`UserKNN`."""


ConfigT = TypeVar("ConfigT", bound=NeighbourConfig)


class UserNeighbours(Recommender[ConfigT], Generic[ConfigT]):
    """A model that keeps the clicks of users, and gives a user those of the nearest of them."""

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(config if config is not None else self.config_type())  # type: ignore[arg-type]
        self._clicks = sp.csr_array((0, 0), dtype=np.float32)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Keep the clicks of the users.

        Raises
        ------
        DataError
            If no user has a click.
        CatalogTooLargeError
            If the counts of a history do not fit in memory.
        """
        self.check_options(options)
        if train.interactions.nnz == 0:
            raise DataError("No user has a click, so there is no neighbour. Filter less, or check the split.")
        self.check_size(*train.interactions.shape)
        self._clicks = sp.csr_array(train.interactions, dtype=np.float32, copy=True)
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the counts of the histories that are looked at at once take."""
        return cpu_count() * (_CELL_BYTES * max(_BLOCK_CELLS, n_users) + 4 * PANEL_ROWS * max(n_users, n_items))

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The neighbours among {n_users:,} users",
            way_out="Use fewer users through the filters (min_user_interactions), or more memory.",
        )

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return int(self._clicks.shape[1])

    def click_likeness(self) -> Callable[[sp.csr_array], Matrix]:
        """Return the function that says how similar each history is to the users by clicks, ``[b, U]``."""
        common, counts, config = SparseProducts(sp.csr_array(self._clicks.T)), np.diff(self._clicks.indptr), self.config

        def likeness(histories: sp.csr_array) -> Matrix:
            return click_similarity(
                common.dense(histories),
                np.diff(histories.indptr),
                counts,
                size=self.n_items,
                measure=config.measure,
                shrinkage=config.shrinkage,
            )

        return likeness

    def clicks_of_nearest(self, items: Items) -> Callable[[Matrix], Scores]:
        """Return the function that adds up the clicks of the nearest users on `items`, given the likeness of all."""
        wanted = SparseProducts(sp.csr_array(self._clicks[:, items]))

        def scores(likeness: Matrix) -> Scores:
            neighbours = nearest(likeness, self.config.k)
            neighbours.sort_indices()  # products add up in the order of the users then, whichever way they are made
            return wanted.dense(neighbours)

        return scores

    def blocks(self, n_rows: int) -> list[slice]:
        """Return the rows whose likeness to all users is held at once."""
        height = max(1, _BLOCK_CELLS // self._clicks.shape[0])
        return [slice(start, start + height) for start in range(0, n_rows, height)]

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the clicks of the users, row by row, and the number of items."""
        self.check_fitted()
        clicks = self._clicks
        return {"indptr": clicks.indptr, "indices": clicks.indices, "n_items": np.array([self.n_items])}

    @classmethod
    def from_state(cls, config: ConfigT, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; the features are not needed."""
        indices, starts = state["indices"], state["indptr"]
        shape = (len(starts) - 1, int(state["n_items"][0]))
        model = cls(config)
        model._clicks = sp.csr_array((np.ones(len(indices), np.float32), indices, starts), shape=shape)
        return model


class UserKNN(UserNeighbours[UserKNNConfig]):
    """What a history's nearest neighbours among the users click."""

    name: ClassVar[str] = "user_knn"
    config_type: ClassVar[type[UserKNNConfig]] = UserKNNConfig

    def scorer(self, items: Items) -> Scorer:
        """Return the function that adds up the clicks of a history's neighbours on `items`."""
        self.check_fitted()
        likeness, clicks = self.click_likeness(), self.clicks_of_nearest(items)

        def scores(histories: sp.csr_array) -> Scores:
            blocks = [clicks(likeness(histories[rows])) for rows in self.blocks(histories.shape[0])]
            return np.concatenate([np.zeros((0, len(items)), np.float32), *blocks])

        return scores
