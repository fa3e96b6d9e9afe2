"""MARec beyond memory: its item weights without an item × item matrix.

- A cold column is ``αβ (C + λ₁I)⁻¹ C g``, solved for by conjugate gradients on products with the clicks
  (:mod:`~coldray.models.linalg.gram_cg`): the closed form to a tolerance.
- A warm column is that of EASE on the warm items with λ₁, in blocks (:mod:`~coldray.models.linear.ease_blocks`).
- The weights μ are learned from the cells of some warm items (:mod:`~coldray.models.marec.sampled_moments`).

Items without a click are aligned, and no others: with ``λ₀ = 0`` this is the closed form where p, the tenth percentile
of the clicks of an item, is 1.

Columns are computed for the items that scores are asked for, from the clicks, which the model keeps. A cold column
takes as many products with X and Xᵀ as it takes steps: the fewer, the larger λ₁ is.

Notation used for shapes: U users, I items, W warm items, n items asked for, b users in a block.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.gram_cg import BLOCK_FLOATS, column_floats, smoothed_by_clicks
from coldray.models.linalg.products import Matrix, click_products
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_blocks import block_bytes
from coldray.models.marec.alignment import Alignment
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import Weights
from coldray.models.marec.sampled_moments import BLOCK_FLOATS as MOMENT_FLOATS
from coldray.models.marec.similarity import Similarities, mix

if TYPE_CHECKING:
    from coldray.models.marec.refinement import Refinement

logger = logging.getLogger(__name__)


class BlockWeights:
    """What a fit keeps to compute columns from."""

    refinements: Sequence[Refinement] = ()
    cold_items_alone = True

    def __init__(
        self, features: FeatureSet, warm: Items, clicks: sp.csr_array, mixture: Weights, warm_side: EASE
    ) -> None:
        self.features, self.mixture = features, mixture
        self._warm, self._clicks, self._warm_side = warm, clicks, warm_side

    @classmethod
    def of(cls, train: TrainingSet, config: MARecConfig, mixture: Weights, computations: Computations) -> Self:
        """Fit the warm side; cold columns are computed when they are asked for."""
        warm = train.warm_items
        left_out = np.count_nonzero(train.clicks[Alignment.of(train, lambda_0=0).items])
        if left_out:
            logger.warning(
                "marec: solver 'blocks' aligns cold items alone; %d warm items of %s with few clicks are left as they "
                "are.",
                *(left_out, train.key),
            )
        clicks = sp.csr_array(train.interactions[:, warm])
        warm_side = EASE(_ease_config(config)).fit(train, computations)
        return cls(train.features, warm, clicks, mixture, warm_side)

    @property
    def n_items(self) -> int:
        """I, added items included."""
        return self.features.n_items

    @property
    def warm_items(self) -> Items:
        """Items with clicks."""
        return self._warm

    def scorer(self, items: Items, config: MARecConfig) -> Scorer:
        """Return the function ``X → X Θ`` on the columns of `items`."""
        cold = ~np.isin(items, self._warm)
        columns, warm_scores = self.cold_columns(items[cold], config), self._warm_side.scorer(items[~cold])
        n_fitted = self._warm_side.n_items

        def scores(histories: sp.csr_array) -> Scores:
            found = np.empty((histories.shape[0], len(items)), np.float32)
            if cold.any():
                found[:, cold] = click_products(sp.csr_array(histories[:, self._warm]), columns)
            if not cold.all():
                found[:, ~cold] = warm_scores(sp.csr_array(histories[:, :n_fitted]))
            return found

        return scores

    def cold_columns(self, items: Items, config: MARecConfig) -> Matrix:
        """Return the rows of warm items of Θ on the columns of cold `items`, float32 ``[W, n]``.

        Raises
        ------
        CatalogTooLargeError
            If the columns do not fit in memory.
        NumericalError
            If a column does not converge.
        """
        n_warm = len(self._warm)
        require_memory(
            12 * n_warm * len(items) + solver_bytes(self._clicks.shape[0], n_warm, len(items)),
            purpose=f"{len(items):,} cold columns of MARec over {n_warm:,} warm items",
            way_out="Ask for fewer items at once, or use a machine with more memory.",
        )
        similarities = Similarities(self.features.take(self._warm), self.features.take(items), config.smoothing)
        similarity = mix(similarities, self.mixture, config.order)
        smoothed = smoothed_by_clicks(self._clicks, similarity, lambda_1=config.lambda_1)
        return np.float32(config.alpha * config.beta) * smoothed

    def restored(self) -> Self:
        """Return itself."""
        return self

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the clicks, μ and the weights of the blocks."""
        clicks = {"clicks.indptr": self._clicks.indptr, "clicks.indices": self._clicks.indices}
        blocks = {f"blocks.{name}": array for name, array in self._warm_side.state().items()}
        return {"warm_items": self._warm, "mixture": self.mixture, **clicks, **blocks}

    @staticmethod
    def are_in(state: Mapping[str, npt.NDArray[Any]]) -> bool:
        """Tell whether the arrays of a model are those of :meth:`arrays`."""
        return "clicks.indptr" in state

    @classmethod
    def from_arrays(cls, features: FeatureSet, state: Mapping[str, npt.NDArray[Any]], config: MARecConfig) -> Self:
        """Rebuild them; `features` are those of all items."""
        starts, indices = state["clicks.indptr"], state["clicks.indices"]
        shape = (len(starts) - 1, len(state["warm_items"]))
        clicks = sp.csr_array((np.ones(len(indices), np.float32), indices, starts), shape=shape)
        blocks = {name.removeprefix("blocks."): array for name, array in state.items() if name.startswith("blocks.")}
        warm_side = EASE.from_state(_ease_config(config), blocks, features)
        return cls(features, state["warm_items"], clicks, state["mixture"], warm_side)

    def with_items(self, new: FeatureSet, config: MARecConfig) -> Self:
        """Return weights with the items of `new` appended, as cold ones."""
        return type(self)(self.features.append(new), self._warm, self._clicks, self.mixture, self._warm_side)


def _ease_config(config: MARecConfig) -> EASEConfig:
    return EASEConfig(regularization=config.lambda_1, solver="blocks", block_items=config.block_items)


def solver_bytes(n_users: int, n_items: int, n_columns: int) -> int:
    """Return what the columns that are solved for at once take."""
    each = column_floats(n_users, n_items)
    return 8 * min(n_columns * each, max(BLOCK_FLOATS, each))


def blocked_bytes(n_users: int, n_items: int, block_items: int) -> int:
    """Return what a fit takes, the moments or the blocks of the warm side, or solving for columns, if that is more."""
    moments, columns = 24 * max(MOMENT_FLOATS, n_items), solver_bytes(n_users, n_items, n_items)
    return max(moments, columns, block_bytes(n_users, n_items, block_items))
