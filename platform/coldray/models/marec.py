"""MARec: metadata alignment for cold-start recommendation.

Source: Monteil et al., *MARec: Metadata Alignment for cold-start Recommendation*, RecSys 2024 (arXiv 2404.13298).
Where the paper and its published notebooks differ, the notebooks are followed: products of similarities are
elementwise, diagonals are zero while the weights are learned, and the weights are unconstrained by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, PositiveFloat, model_validator

from coldray.device import DeviceName, Matrix, resolve_device
from coldray.errors import NumericalError
from coldray.evaluation.ranking import Scorer
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.models.alignment import (
    Alignment,
    CholeskyRidge,
    GramSpectrum,
    RidgeSystem,
    Solver,
    SpectralRidge,
    aligned_inverse,
    check_solver,
    gram_spectrum,
    item_weights,
    require_closed_form_memory,
    stacked_features,
    system_items,
)
from coldray.models.base import Items, ModelConfig, Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.models.mixture import (
    Learner,
    Weights,
    coclick_moments,
    correlation_weights,
    learn_weights,
    regression_moments,
    require_moments_memory,
)
from coldray.models.similarity import Delta, Order, Similarities, check_delta, mix, term_names


class MARecConfig(ModelConfig):
    """Parameters of :class:`MARec`; the defaults are the paper's for HetRec."""

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
    delta: PositiveFloat | dict[str, PositiveFloat] = 20.0
    """δ, smoothing of the cosine: one number, or one for each attribute."""
    w0: float = Field(default=0.2, gt=0, le=1)
    """w₀, weight of a cell without a click while the similarity weights are learned."""
    order: Order = 2
    """1: attributes alone. 2: products of two attributes too."""
    learner: Learner = "regression"
    """How the similarity weights μ are found: ``regression``, ``nonnegative`` (μ ≥ 0) or ``correlation``."""
    solver: Solver = "auto"
    """``items`` or ``users`` (eigendecompositions), ``cholesky`` (one λ₁), or ``auto`` by shape and use."""
    device: DeviceName = "auto"
    """Where dense algebra runs."""

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        check_solver(self.solver, self.lambda_0)
        return self

    @property
    def smoothing(self) -> Delta:
        """δ in a hashable form."""
        return tuple(sorted(self.delta.items())) if isinstance(self.delta, dict) else self.delta


def mixture_weights(train: TrainingSet, computations: Computations, config: MARecConfig) -> Weights:
    """Return μ, one a term in the order of :func:`~coldray.models.similarity.term_names`."""
    if config.learner == "correlation":
        return correlation_weights(computations.get(coclick_moments, train, delta=config.smoothing, order=config.order))
    moments = computations.get(
        regression_moments, train, delta=config.smoothing, order=config.order, device=config.device
    )
    return learn_weights(moments, w0=config.w0, nonnegative=config.learner == "nonnegative")


def aligned_similarity(
    train: TrainingSet, *, delta: Delta, order: Order, weights: tuple[float, ...], lambda_0: float
) -> Matrix:
    """Return the mixture g between the warm items and the aligned items, float32 ``[W, J]``."""
    aligned = Alignment.of(train, lambda_0=lambda_0).items
    similarities = Similarities(train.features.take(train.warm_items), train.features.take(aligned), delta)
    return mix(similarities, np.asarray(weights), order)


class MARec(Recommender[MARecConfig]):
    """Item weights from clicks, aligned with a learned mixture of attribute similarities.

    After :meth:`fit`, :attr:`mixture` tells the weight of each similarity. The item weights themselves are computed
    when first asked for, the cold columns without the warm ones.
    """

    name: ClassVar[str] = "marec"
    config_type: ClassVar[type[ModelConfig]] = MARecConfig
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: MARecConfig | None = None) -> None:
        super().__init__(config or MARecConfig())
        self._fitted: _Fitted | _Restored | None = None

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Learn the mixture and factorise the co-clicks.

        Raises
        ------
        SingularMatrixError
            If the weights or the closed form are not determined.
        NumericalError
            If the weights are not finite.
        CatalogTooLargeError
            If a matrix would not fit in memory.
        """
        shared = computations or Computations()
        weights = mixture_weights(train, shared, self.config)
        if not np.isfinite(weights).all():
            raise NumericalError("The similarity weights are not finite; check the attributes for extreme values.")
        similarity = shared.get(
            aligned_similarity,
            train,
            delta=self.config.smoothing,
            order=self.config.order,
            weights=tuple(map(float, weights)),
            lambda_0=self.config.lambda_0,
        )
        ridge = self._ridge(train, None if computations is None and self.config.solver == "auto" else shared)
        self._fitted = _Fitted(train, self.config, weights, similarity, ridge)
        return self

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Check that a δ by attribute names every attribute compared by its cosine, and nothing else."""
        check_delta(self.config.smoothing, kinds, [name for name, kind in kinds.items() if kind != "number"])

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check the moments and the closed form, which grow with the square of the items."""
        require_moments_memory(n_items, 1)
        require_closed_form_memory(24 * n_items**2, n_items)

    def _ridge(self, train: TrainingSet, shared: Computations | None) -> RidgeSystem:
        config = self.config
        if shared is None or config.solver == "cholesky":  # no other λ₁ will follow
            if resolve_device(config.device).type == "cpu":
                return CholeskyRidge(train, lambda_0=config.lambda_0, lambda_1=config.lambda_1)
            shared = shared or Computations()
        solver: Solver = "auto" if config.solver == "cholesky" else config.solver
        spectrum: GramSpectrum = shared.get(
            gram_spectrum, train, lambda_0=config.lambda_0, solver=solver, device=config.device
        )
        return SpectralRidge(spectrum, config.lambda_1, config.device)

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return 0 if self._fitted is None else self._fitted.n_items

    @property
    def mixture(self) -> dict[str, float]:
        """The learned weight μ of each similarity, by name."""
        fitted = self._require()
        return dict(zip(term_names(fitted.features, self.config.order), map(float, fitted.mixture), strict=True))

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X Θ`` on the columns of `items`."""
        fitted = self._require()
        weights = np.zeros((fitted.n_items, len(items)), np.float32)
        weights[fitted.rows] = fitted.columns(np.asarray(items))

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            return np.asarray(histories @ weights, np.float32)

        return scores

    def ranking_key(self) -> str | None:
        """Everything but α and β, when cold items are all that is aligned."""
        fitted = self._require()
        if not (isinstance(fitted, _Fitted) and fitted.alignment.triangular):
            return None
        return self.config.model_copy(update={"alpha": 1.0, "beta": 1.0}).model_dump_json()

    @property
    def cold_scale(self) -> float:
        """αβ."""
        return self.config.alpha * self.config.beta

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, as if they had been cold when it was fitted.

        The column of a new item is ``P(αβ C g + λ₀ F f)``, exactly what the closed form gives it. With ``λ₀ > 0`` its
        presence would also change the other columns a little; those stay as they were fitted.
        """
        fitted = self._require()
        extended = type(self)(self.config)
        extended._fitted = fitted.restored().with_items(features, self.config)
        return extended

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the item weights, and what new items need."""
        return self._require().restored().arrays()

    @classmethod
    def from_state(cls, config: MARecConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = cls(config)
        model._fitted = _Restored(features, state)
        return model

    def _require(self) -> _Fitted | _Restored:
        self.check_fitted()
        if self._fitted is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._fitted


class _Fitted:
    """A fit whose item weights are computed on demand."""

    def __init__(
        self, train: TrainingSet, config: MARecConfig, mixture: Weights, similarity: Matrix, ridge: RidgeSystem
    ) -> None:
        self.train, self.config, self.mixture, self.similarity, self.ridge = train, config, mixture, similarity, ridge
        self.features = train.features
        self.alignment = Alignment.of(train, lambda_0=config.lambda_0)
        self.rows = system_items(train, self.alignment)
        self.n_items = train.interactions.shape[1]
        self.scale = config.alpha * config.beta

    def columns(self, items: Items) -> Matrix:
        """Return the rows of Θ that are not zero, on the columns of `items`."""
        if not self.alignment.triangular:
            return self._all_columns[:, items]
        weights = np.zeros((len(self.rows), len(items)), np.float32)
        cold = np.isin(items, self.alignment.items)
        if cold.any():
            at = np.searchsorted(self.alignment.items, items[cold])
            smoothed = self.ridge.solve_gram(np.ascontiguousarray(self.similarity[:, at]))
            weights[:, cold] = np.float32(self.scale) * smoothed
        if not cold.all():
            weights[:, ~cold] = self._warm_columns[:, np.searchsorted(self.rows, items[~cold])]
        return weights

    @cached_property
    def _warm_columns(self) -> Matrix:
        return item_weights(self.ridge.inverse())

    @cached_property
    def _coclicks(self) -> sp.csr_array:
        """C on all rows and the warm columns."""
        clicks = self.train.interactions
        return sp.csr_array(clicks[:, self.rows].T @ clicks[:, self.train.warm_items])

    @cached_property
    def _inverse(self) -> npt.NDArray[np.float64]:
        aligned = np.asarray(self._coclicks @ self.similarity, np.float32)
        coupled = self.config.lambda_0 > 0
        return aligned_inverse(self.ridge.inverse(), aligned, self.alignment, self.scale, coupled=coupled)

    @cached_property
    def _all_columns(self) -> Matrix:
        return item_weights(self._inverse)

    def restored(self) -> _Restored:
        """Return the same weights, all computed, with what new items need."""
        state: dict[str, npt.NDArray[Any]] = {
            "rows": self.rows,
            "warm_items": self.train.warm_items,
            "weights": self.columns(np.arange(self.n_items)),
            "mixture": self.mixture,
        }
        if self.alignment.triangular:
            state["transfer"] = np.float32(self.scale) * self.ridge.solve_gram(np.eye(len(self.rows), dtype=np.float32))
        else:
            state["transfer"] = np.asarray(self.scale * (self._inverse @ self._coclicks.toarray()), np.float32)
            if self.config.lambda_0 > 0:
                state["inverse"] = self._inverse.astype(np.float32)
        return _Restored(self.features, state)


class _Restored:
    """Item weights as they are stored."""

    def __init__(self, features: FeatureSet, state: Mapping[str, npt.NDArray[Any]]) -> None:
        self.features = features
        self._state = state
        self.rows, self.mixture = state["rows"], state["mixture"]
        self.n_items = state["weights"].shape[1]

    def columns(self, items: Items) -> Matrix:
        return self._state["weights"][:, items]

    def restored(self) -> _Restored:
        return self

    def arrays(self) -> Mapping[str, npt.NDArray[Any]]:
        return self._state

    def with_items(self, new: FeatureSet, config: MARecConfig) -> _Restored:
        warm = self.features.take(self._state["warm_items"])
        similarity = mix(Similarities(warm, new, config.smoothing), self.mixture, config.order)
        columns = np.asarray(self._state["transfer"] @ similarity)
        if "inverse" in self._state:
            fitted = self.features.take(self.rows)  # with λ₀ > 0 these are all items of the fit
            coupling = (stacked_features(fitted) @ stacked_features(new, fitted).T).toarray()
            columns += np.float32(config.lambda_0) * (self._state["inverse"] @ coupling)
        weights = np.concatenate([self._state["weights"], columns.astype(np.float32)], axis=1)
        return _Restored(self.features.append(new), {**self._state, "weights": weights})
