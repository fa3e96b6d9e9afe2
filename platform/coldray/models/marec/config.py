"""The parameters of MARec."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from coldray.core.errors import ConfigError
from coldray.models.base import ModelConfig
from coldray.models.marec.alignment import Solver, check_solver
from coldray.models.marec.mixture import Learner
from coldray.models.marec.similarity import Delta, Order


class MARecConfig(ModelConfig):
    """Parameters of :class:`~coldray.models.marec.model.MARec`; the defaults are the paper's for HetRec."""

    lambda_1: PositiveFloat = 1.0
    """λ₁, ridge regularization of the item weights; a spectral filter on users for the cold items."""
    lambda_0: NonNegativeFloat = 0.0
    """λ₀, weight of the attribute Gram matrix FFᵀ beside the co-clicks. Once it is not zero, αβ must stay below a pole
    of Eq. 9 (near 1 on MovieLens); beyond it a fit is refused."""
    alpha: PositiveFloat = 1.0
    """α, strength of the alignment. Only αβ matters, and with ``λ₀ = 0`` only when warm and cold items compete in one
    list."""
    beta: PositiveFloat = 100.0
    """β, strength of the alignment of items with few clicks."""
    cold_weight: PositiveFloat = 1.0
    """Factor of the scores of items without clicks; it changes the order among them no more than that among the others.
    Where a study ranked cold items among themselves, nothing says how they compare with warm ones: its bundle takes the
    weight by which both reach the top of a list as easily (:meth:`~coldray.models.marec.model.MARec.evened`)."""
    delta: PositiveFloat | dict[str, PositiveFloat] = 20.0
    """δ, smoothing of the cosine: one number, or one for each attribute."""
    w0: float = Field(default=0.2, gt=0, le=1)
    """w₀, weight of a cell without a click while the similarity weights are learned."""
    order: Order = 2
    """1: attributes alone. 2: products of two attributes too."""
    learner: Learner = "regression"
    """How the similarity weights μ are found: ``regression``, ``nonnegative`` (μ ≥ 0) or ``correlation``."""
    solver: Solver | Literal["exact"] = "auto"
    """``items`` or ``users`` (eigendecompositions, which serve every λ₁), ``cholesky`` (a factor for each fit), or
    ``exact``: ``items`` or ``users`` by shape where fits share results, ``cholesky`` for a fit on its own.
    ``blocks`` has no item × item matrix (:mod:`~coldray.models.marec.blocks`): it aligns cold items alone, approximates
    warm ones, and learns the similarity weights from some items. ``auto`` is exact, by the solver that costs a study
    less, where its largest fit fits in memory, and where ``blocks`` do not go with the other parameters."""
    block_items: PositiveInt = 1000
    """With ``blocks``, items that a warm one is predicted from."""
    learning_items: PositiveInt = 1000
    """With ``blocks``, warm items whose cells the similarity weights are learned from; all of them where fewer."""
    seed: NonNegativeInt = 0
    """Seed by which they are drawn; with learned similarities (``marec_plus``), that of their training."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_solver(self.closed_form, self.lambda_0)
        if self.solver == "blocks" and self.learner == "correlation":
            raise ConfigError(
                "learner='correlation' needs the item × item co-clicks, which solver='blocks' does without. Use "
                "learner='regression' or 'nonnegative'."
            )
        return self

    @property
    def closed_form(self) -> Solver:
        """The solver, with ``auto`` for every exact one that is chosen by shape and use."""
        return "auto" if self.solver == "exact" else self.solver

    @property
    def smoothing(self) -> Delta:
        """δ in a hashable form."""
        return tuple(sorted(self.delta.items())) if isinstance(self.delta, dict) else self.delta
