"""MARec beyond memory: its item weights without an item × item matrix.

- A cold column is ``αβ (C + λ₁I)⁻¹ C g``, solved for by conjugate gradients on products with the clicks: the
  closed form to a tolerance.
- A warm column is that of EASE on the warm items with λ₁, in blocks (:mod:`~coldray.models.linear.ease_blocks`).
- The weights μ are learned from the cells of some warm items (:mod:`~coldray.models.marec.sampled_moments`).

Items without a click are aligned, and no others: with ``λ₀ = 0`` this is the closed form where p, the tenth percentile
of the clicks of an item, is 1.

Columns are computed for the items that scores are asked for, from the clicks, which the model keeps. A cold column
takes as many products with X and Xᵀ as it takes steps: the fewer, the larger λ₁ is.

The smoothing over users is ``(C + λ₁I)⁻¹ C g = g − λ₁ (C + λ₁I)⁻¹ g`` with ``C = XᵀX``. Products with X and Xᵀ are
taken alone, in double precision: with a small λ₁ the matrix is conditioned too badly for single. The diagonal, clicks
of an item and λ₁, preconditions the system (Jacobi), and each column has its own step sizes.

No eigenvalue of ``C + λ₁I`` is below λ₁: the error of a column is at most the residual of its system. The limit is a
share of ``min(‖g‖, ‖Cg‖ / λ₁)``, of which both are at least the norm of the column.

Notation used for shapes: U users, I items, W warm items, n items asked for, b users in a block.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import NumericalError
from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import Matrix, click_products
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_blocks import block_bytes
from coldray.models.marec.alignment import Alignment
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import Weights
from coldray.models.marec.sampled_moments import BLOCK_FLOATS as MOMENT_FLOATS
from coldray.models.marec.similarity import Similarities, mix

if TYPE_CHECKING:
    from coldray.models.marec.weights import Refinement


_Double = npt.NDArray[np.float64]
_TOLERANCE = 1e-5
"""Largest norm of a column's error, relative to ``min(‖g‖, ‖Cg‖ / λ₁)``."""
_MAX_STEPS = 2000
"""Steps that a block of columns may take."""
_BLOCK_FLOATS = 2**26
"""float64 values that are held at once beside the clicks and the columns (512 MiB)."""
_VECTORS = 7
"""Vectors over the items that a column takes while it is solved."""


def _smoothed_by_clicks(
    clicks: sp.csr_array,
    right: Matrix,
    *,
    lambda_1: float,
    tolerance: float = _TOLERANCE,
    max_steps: int = _MAX_STEPS,
    block_floats: int = _BLOCK_FLOATS,
) -> Matrix:
    """Return ``(XᵀX + λ₁I)⁻¹ XᵀX g``, float32 ``[W, n]``.

    Parameters
    ----------
    clicks
        X ``[U, W]``; each item has at least one click.
    right
        g ``[W, n]``.
    tolerance
        As :data:`_TOLERANCE`.
    block_floats
        As :data:`_BLOCK_FLOATS`; at least one column is solved at once.

    Raises
    ------
    NumericalError
        If a column does not converge.
    """
    by_user = sp.csr_array(clicks, dtype=np.float64)
    system = _System(by_user, sp.csr_array(by_user.T), lambda_1)
    width = max(1, block_floats // _column_floats(*clicks.shape))
    smoothed = np.empty(right.shape, np.float32)
    for start in range(0, right.shape[1], width):
        columns = right[:, start : start + width].astype(np.float64)
        solved = _solve(system, columns, tolerance, max_steps)
        smoothed[:, start : start + width] = columns - lambda_1 * solved
    return smoothed


def _column_floats(n_users: int, n_items: int) -> int:
    """Return the float64 values that a column takes while it is solved."""
    return n_users + _VECTORS * n_items


class _System:
    """``C + λ₁I`` and the inverse of its diagonal."""

    def __init__(self, by_user: sp.csr_array, by_item: sp.csr_array, lambda_1: float) -> None:
        self._by_user, self._by_item, self.lambda_1 = by_user, by_item, lambda_1
        self.preconditioner = 1 / (np.diff(by_item.indptr) + lambda_1)[:, None]  # X is 0 or 1

    def __call__(self, columns: _Double) -> _Double:
        """Return the product with ``[W, b]``."""
        product = self.gram(columns)
        product += self.lambda_1 * columns
        return product

    def gram(self, columns: _Double) -> _Double:
        """Return the product of C with ``[W, b]``."""
        product: _Double = self._by_item @ (self._by_user @ columns)
        return product


def _solve(system: _System, right: _Double, tolerance: float, max_steps: int) -> _Double:
    """Return z of ``(C + λ₁I) z = g`` for the columns g ``[W, b]``, none of whose residuals exceeds its limit."""
    norms = (np.linalg.norm(columns, axis=0) for columns in (right, system.gram(right) / system.lambda_1))
    limit = tolerance * np.minimum(*norms)
    solution, residual = np.zeros_like(right), right.copy()
    direction = system.preconditioner * residual
    squared = np.einsum("wb,wb->b", residual, direction)
    for _ in range(max_steps):
        active = ~(np.linalg.norm(residual, axis=0) <= limit)  # NaN is active
        if not active.any():
            # The recurrence drifts: what it takes for solved is checked, and gone on with from there.
            residual = right - system(solution)
            active = ~(np.linalg.norm(residual, axis=0) <= limit)
            if not active.any():
                return solution
            direction = system.preconditioner * residual
            squared = np.einsum("wb,wb->b", residual, direction)
        image = system(direction)
        step = _ratios(squared, np.einsum("wb,wb->b", direction, image), active)
        solution += step * direction
        residual -= step * image
        scaled = system.preconditioner * residual
        before, squared = squared, np.einsum("wb,wb->b", residual, scaled)
        direction = scaled + _ratios(squared, before, active) * direction
    left = np.linalg.norm(right - system(solution), axis=0)
    if (left <= limit).all():
        return solution
    with np.errstate(invalid="ignore", divide="ignore"):
        worst = tolerance * float(np.nan_to_num(left / limit, nan=np.inf).max())
    raise NumericalError(
        f"Smoothing over users did not converge: the residual is {worst:.3g} after {max_steps} steps, more than the "
        f"tolerance {tolerance:g}. Use a larger lambda_1 than {system.lambda_1:g}."
    )


def _ratios(above: _Double, below: _Double, active: npt.NDArray[np.bool_]) -> _Double:
    return np.divide(above, below, out=np.zeros_like(above), where=active)


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
            12 * n_warm * len(items) + _solver_bytes(self._clicks.shape[0], n_warm, len(items)),
            purpose=f"{len(items):,} cold columns of MARec over {n_warm:,} warm items",
            way_out="Ask for fewer items at once, or use a machine with more memory.",
        )
        similarities = Similarities(self.features.take(self._warm), self.features.take(items), config.smoothing)
        similarity = mix(similarities, self.mixture, config.order)
        smoothed = _smoothed_by_clicks(self._clicks, similarity, lambda_1=config.lambda_1)
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


def _solver_bytes(n_users: int, n_items: int, n_columns: int) -> int:
    """Return what the columns that are solved for at once take."""
    each = _column_floats(n_users, n_items)
    return 8 * min(n_columns * each, max(_BLOCK_FLOATS, each))


def blocked_bytes(n_users: int, n_items: int, block_items: int) -> int:
    """Return what a fit takes, the moments or the blocks of the warm side, or solving for columns, if that is more."""
    moments, columns = 24 * max(MOMENT_FLOATS, n_items), _solver_bytes(n_users, n_items, n_items)
    return max(moments, columns, block_bytes(n_users, n_items, block_items))
