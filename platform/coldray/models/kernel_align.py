"""KernelAlign: a Gaussian-process kernel over the attributes of items, learned, inverted, and smoothed over users.

MARec uses a mixture of similarities as a smoother. Here the mixture is the covariance of a Gaussian process over items,
with weights learned by marginal likelihood (:mod:`~coldray.models.item_covariance`). What the clicks say of an item
without clicks is its conditional mean, ``W = (K_ww + σ²I)⁻¹ K_w·``, and users are smoothed by ridge: scores are
``X_w B`` with ``B = D (A + λ m I)⁻¹ A W``, ``A = D XᵀX D``, ``D = diag((n_i + 5)^−α)`` and m the mean of A's diagonal.

Notation used for shapes: W warm items, n items, I all items.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from coldray.errors import SingularMatrixError
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.memory import require_memory
from coldray.models.base import Items, ModelConfig, Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.models.item_covariance import ItemCovariance, Weights, learn_weights
from coldray.models.item_profiles import item_profiles
from coldray.models.kernels import KernelBasis

Matrix = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]
DAMPING_CLICKS = 5.0
"""Clicks added to every item's count in D."""


class KernelAlignConfig(ModelConfig):
    """Parameters of :class:`KernelAlign`."""

    alpha: NonNegativeFloat = Field(default=0.2, le=2)
    """α, how far popular items are damped in the smoothing over users."""
    ridge: PositiveFloat = 6.0
    """λ of the smoothing over users, in units of the mean diagonal of A."""
    n_factors: PositiveInt = 64
    """Dimensions of the profiles that the covariance is learned from; fewer where there are fewer items or users."""
    subset: PositiveInt = 900
    """Warm items the covariance is learned on; all of them are inverted."""
    steps: PositiveInt = 40
    """Steps of Adam."""
    min_noise: PositiveFloat = 1e-3
    """Floor of σ²."""
    kernel_seed: NonNegativeInt = 0
    """Seed of the subset."""


def learned_covariance(
    train: TrainingSet, *, n_factors: int, subset: int, steps: int, min_noise: float, seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the logarithms of the learned weights, and the likelihood on the way."""
    warm = train.features.take(train.warm_items)
    basis = KernelBasis.of(warm)
    profiles = item_profiles(train, dim=n_factors)
    chosen = np.sort(np.random.default_rng(seed).permutation(warm.n_items)[:subset])
    weights, values = learn_weights(basis, warm.take(chosen), profiles[chosen], steps=steps, min_noise=min_noise)
    return weights.logarithms(), values


def covariance_of(features: FeatureSet, logarithms: npt.NDArray[np.float64]) -> ItemCovariance:
    """Return the covariance whose kernels are fitted on `features` and whose weights have these logarithms."""
    basis = KernelBasis.of(features)
    shape = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    return ItemCovariance(basis, shape.moved(logarithms))


def precision(train: TrainingSet, *, logarithms: tuple[float, ...]) -> Matrix:
    """Return ``(K_ww + σ²I)⁻¹``, float32 ``[W, W]``.

    Raises
    ------
    SingularMatrixError
        If it does not exist to working precision.
    """
    warm = train.features.take(train.warm_items)
    covariance = covariance_of(warm, np.asarray(logarithms))
    return _inverse(
        covariance.noisy(warm), f"The covariance of {warm.n_items:,} items with noise {covariance.weights.noise:.3g}"
    )


def conditional(train: TrainingSet, *, logarithms: tuple[float, ...]) -> tuple[Matrix, Matrix, Matrix]:
    """Return what the process says of all items given the warm ones.

    Returns
    -------
    tuple
        The means W ``[W, I]``, the variances ``[I]`` with the noise, and the precision ``[W, W]``, all float32.
    """
    warm = train.features.take(train.warm_items)
    covariance = covariance_of(warm, np.asarray(logarithms))
    inverse = precision(train, logarithms=logarithms)
    between = covariance.between(warm, train.features)
    means = np.asarray(inverse @ between, np.float32)
    return means, conditional_variance(covariance, train.features, between, means), inverse


def conditional_variance(covariance: ItemCovariance, items: FeatureSet, between: Matrix, means: Matrix) -> Matrix:
    """Return ``K_jj + σ² − k_jᵀ(K_ww + σ²I)⁻¹k_j`` of each item ``[n]``, from its column k and its means ``[W, n]``."""
    explained = np.einsum("wn,wn->n", between, means)
    variances = covariance.variances(items) + np.float32(covariance.weights.noise) - explained
    return np.asarray(np.maximum(variances, 0), np.float32)


def user_smoother(train: TrainingSet, *, alpha: float, ridge: float) -> Matrix:
    """Return ``D (A + λ m I)⁻¹ A``, float32 ``[W, W]``."""
    warm = train.warm_items
    damping = (train.clicks[warm] + DAMPING_CLICKS) ** -alpha
    clicks = sp.csr_array(train.interactions[:, warm], dtype=np.float64)
    gram = (clicks.T @ clicks).toarray() * damping[:, None] * damping
    shifted = gram.copy()
    shifted[np.diag_indices_from(shifted)] += ridge * float(np.mean(np.diag(gram)))
    # (A + s)⁻¹ A = I − s (A + s)⁻¹: the inverse is cheaper than the solution for as many columns.
    shift = float(shifted[0, 0] - gram[0, 0])
    smoother = -shift * _inverse(shifted, f"The co-clicks of {len(warm):,} items with ridge {ridge:g}")
    smoother[np.diag_indices_from(smoother)] += 1
    return np.asarray(damping[:, None].astype(np.float32) * smoother, np.float32)


def _inverse(matrix: npt.NDArray[np.float64], what: str) -> Matrix:
    factor, failed = scipy.linalg.lapack.dpotrf(matrix, lower=True, overwrite_a=True, clean=True)
    if failed:
        raise SingularMatrixError(f"{what} is not positive definite to working precision. Raise min_noise or ridge.")
    lower, _ = scipy.linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    inverse: Matrix = lower.astype(np.float32)
    inverse[np.diag_indices_from(inverse)] *= 0.5
    inverse += inverse.T
    return inverse


class KernelAlign(Recommender[KernelAlignConfig]):
    """Conditional means of a Gaussian process over item attributes, smoothed over users.

    An item with no attribute at all falls back to what the constant part of the covariance says, the mean of all.
    """

    name: ClassVar[str] = "kernel_align"
    config_type: ClassVar[type[ModelConfig]] = KernelAlignConfig
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: KernelAlignConfig | None = None) -> None:
        super().__init__(config or KernelAlignConfig())
        self._state: Arrays = {}
        self._features: FeatureSet | None = None

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Learn the covariance, invert it and smooth.

        Raises
        ------
        SingularMatrixError
            If a matrix is not positive definite.
        CatalogTooLargeError
            If the matrices do not fit in memory.
        ConfigError
            If no attribute tells items apart.
        """
        shared, config = computations or Computations(), self.config
        self.check_size(*train.interactions.shape)
        logarithms, likelihood = shared.get(
            learned_covariance,
            train,
            n_factors=config.n_factors,
            subset=config.subset,
            steps=config.steps,
            min_noise=config.min_noise,
            seed=config.kernel_seed,
        )
        learned = tuple(map(float, logarithms))
        means, variances, inverse = shared.get(conditional, train, logarithms=learned)
        smoother = shared.get(user_smoother, train, alpha=config.alpha, ridge=config.ridge)
        self._features = train.features
        self._state = {
            "warm_items": train.warm_items,
            "logarithms": np.asarray(logarithms),
            "likelihood": np.asarray(likelihood),
            "smoother": smoother,
            "precision": inverse,
            "means": means,
            "variance": variances,
        }
        return self

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check the item × item matrices: covariance, precision, smoother and means, and what making them takes."""
        require_memory(
            28 * n_items**2,
            purpose=f"The covariance of {n_items:,} items with its inverse",
            way_out="Use fewer items through the filters (min_item_interactions), or a machine with more memory.",
        )

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return self._state["means"].shape[1] if self._state else 0

    def variance(self, items: Items) -> Matrix:
        """Return the predictive variance of each item's profile ``[n]``: small where attributes say much."""
        self.check_fitted()
        variance: Matrix = self._state["variance"][items]
        return variance

    @property
    def parts(self) -> dict[str, float]:
        """The learned weight of each additive part, by name, with the constant, the product and the noise."""
        covariance = self._covariance()
        weights, basis = covariance.weights, covariance.basis
        additive = {term.name: float(a) for term, a in zip(basis.terms, weights.additive, strict=True)}
        numbers = {name: float(b) for name, b in zip(basis.numbers, weights.bumps, strict=True)}
        whole = {"constant": weights.constant, "product": weights.product, "noise": weights.noise}
        return {**additive, **numbers, **whole}

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X_w B`` on the columns of `items`."""
        self.check_fitted()
        rows = self._state["warm_items"]
        weights = self._state["smoother"] @ np.ascontiguousarray(self._state["means"][:, items])

        def scores(histories: sp.csr_array) -> Matrix:
            return np.asarray(sp.csr_array(histories[:, rows]) @ weights, np.float32)

        return scores

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, at their conditional means."""
        covariance = self._covariance()
        warm = self._known_features().take(self._state["warm_items"])
        between = covariance.between(warm, features)
        means = np.asarray(self._state["precision"] @ between, np.float32)
        variances = conditional_variance(covariance, features, between, means)
        extended = type(self)(self.config)
        extended._features = self._known_features().append(features)
        extended._state = {
            **self._state,
            "means": np.concatenate([self._state["means"], means], axis=1),
            "variance": np.concatenate([self._state["variance"], variances]),
        }
        return extended

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the learned weights, the matrices, and the means and variances of all items."""
        self.check_fitted()
        return self._state

    @classmethod
    def from_state(cls, config: KernelAlignConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = cls(config)
        model._state, model._features = dict(state), features
        return model

    def _known_features(self) -> FeatureSet:
        self.check_fitted()
        if self._features is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._features

    def _covariance(self) -> ItemCovariance:
        """Return the covariance; its kernels are fitted on the warm items again, which gives the same ones."""
        return covariance_of(self._known_features().take(self._state["warm_items"]), self._state["logarithms"])
