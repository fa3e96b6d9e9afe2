"""MARec: metadata alignment for cold-start recommendation.

Source: Monteil et al., *MARec: Metadata Alignment for cold-start Recommendation*, RecSys 2024 (arXiv 2404.13298).
Where the paper and its published notebooks differ, the notebooks are followed: products of similarities are
elementwise, diagonals are zero while the weights are learned, and the weights are unconstrained by default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import DeviceName, Matrix, resolve_device
from coldray.core.errors import ConfigError, NumericalError
from coldray.evaluation.ranking import Scorer
from coldray.features.builder import AttributeKind
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import Form, StudyOutlook, form_as_named, form_by_memory
from coldray.models.linalg.products import click_products
from coldray.models.linalg.solver_costs import Choice, FitsOfAMatrix, chosen_words, exact_choice, marec_seconds
from coldray.models.marec.alignment import (
    WAY_OUT,
    Alignment,
    GramSpectrum,
    Solver,
    gram_spectrum,
    spectrum_bytes,
)
from coldray.models.marec.blocks import BlockWeights, blocked_bytes
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import (
    Weights,
    coclick_moments,
    correlation_weights,
    learn_weights,
    moments_bytes,
    regression_moments,
)
from coldray.models.marec.ridge import CHOLESKY_BYTES, COUPLED_BYTES, CholeskyRidge, RidgeSystem, SpectralRidge
from coldray.models.marec.sampled_moments import sampled_moments
from coldray.models.marec.similarity import Delta, Order, Similarities, check_delta, mix, term_names
from coldray.models.marec.weights import INVERSE_BYTES, FittedWeights, StoredWeights
from coldray.training.options import FitConfig, FitOptions

if TYPE_CHECKING:
    from coldray.models.marec.weights import Refinement


def mixture_weights(train: TrainingSet, computations: Computations, config: MARecConfig, options: FitConfig) -> Weights:
    """Return μ, one a term in the order of :func:`~coldray.models.marec.similarity.term_names`."""
    if config.solver == "blocks":
        sampled = computations.get(
            sampled_moments,
            train,
            delta=config.smoothing,
            order=config.order,
            items=config.learning_items,
            seed=config.seed,
            workers=options.workers,
        )
        return learn_weights(sampled, w0=config.w0, nonnegative=config.learner == "nonnegative")
    if config.learner == "correlation":
        return correlation_weights(computations.get(coclick_moments, train, delta=config.smoothing, order=config.order))
    moments = computations.get(
        regression_moments, train, delta=config.smoothing, order=config.order, device=options.device
    )
    return learn_weights(moments, w0=config.w0, nonnegative=config.learner == "nonnegative")


def aligned_similarity(
    train: TrainingSet, *, delta: Delta, order: Order, weights: tuple[float, ...], lambda_0: float
) -> Matrix:
    """Return the mixture g between the warm items and the aligned items, float32 ``[W, J]``."""
    aligned = Alignment.of(train, lambda_0=lambda_0).items
    similarities = Similarities(train.features.take(train.warm_items), train.features.take(aligned), delta)
    return mix(similarities, np.asarray(weights), order)


_EVEN_USERS = 500
"""Users by whose lists the two sides are brought to one scale."""
_EVEN_COPIES = 500
"""Warm items that stand for cold ones where there is none."""


class MARec(Recommender[MARecConfig]):
    """Item weights from clicks, aligned with a learned mixture of attribute similarities.

    After :meth:`fit`, :attr:`mixture` tells the weight of each similarity. The item weights themselves are computed
    when first asked for, the cold columns without the warm ones; with ``solver: blocks`` without any item × item
    matrix (:mod:`~coldray.models.marec.blocks`).

    Of the options of a fit, the `device` is where dense algebra runs, and with ``blocks`` the `workers` learn the
    similarity weights, each from its share of the users.
    """

    name: ClassVar[str] = "marec"
    config_type: ClassVar[type[ModelConfig]] = MARecConfig
    scores_cold_items: ClassVar[bool] = True
    fits_by_shared_results: ClassVar[bool] = True
    fit_options: ClassVar[tuple[str, ...]] = ("workers", "device")

    def __init__(self, config: MARecConfig | None = None) -> None:
        super().__init__(config or MARecConfig())
        self._fitted: FittedWeights | StoredWeights | BlockWeights | None = None

    @classmethod
    def settle(cls, config: MARecConfig, outlook: StudyOutlook) -> tuple[MARecConfig, tuple[Form, ...]]:
        """Take blocks where the closed form of the largest fit does not fit in memory and they go with the rest.

        Of the exact solvers, that which costs the study less: see :mod:`~coldray.models.linalg.solver_costs`.
        """
        if config.solver != "auto":
            return config, (form_as_named("solver", config.solver, exact=config.solver != "blocks"),)
        taken, why = cls._exact_solver(config, outlook)
        blocks = None
        with suppress(ConfigError):
            blocks = cls.config_type.model_validate({**config.model_dump(), "solver": "blocks"})
        form = form_by_memory(
            "solver",
            taken.solver,
            "blocks",
            need=taken.need,
            other_need=blocked_bytes(outlook.n_users, outlook.n_items, config.block_items),
            outlook=outlook,
            what=f"MARec on {outlook.n_items:,} items",
        )
        if blocks is None and not form.exact:
            form = Form("solver", taken.solver, True, f"{form.reason} Blocks do not go with the other parameters.")
        if form.exact and why is not None:
            form = replace(form, reason=f"{form.reason.removesuffix('.')}; {why[0]}", reckoning=why[1])
        return config.model_copy(update={"solver": form.value}), (form,)

    @classmethod
    def _exact_solver(cls, config: MARecConfig, outlook: StudyOutlook) -> tuple[Choice, tuple[str, str] | None]:
        """Return the exact solver that a study should use, and why in words; on a device always spectra."""

        def need(solver: str) -> int:
            model = cls(config.model_copy(update={"solver": solver}))
            return model.memory_bytes(outlook.n_users, outlook.n_items)

        if resolve_device(outlook.options.device) != "cpu":
            return Choice("exact", 0.0, need("exact")), None
        fits = FitsOfAMatrix.of(outlook, "lambda_1")
        coupled = config.lambda_0 > 0
        costs = marec_seconds(outlook.n_users, outlook.n_items, fits, coupled=coupled)
        taken, other = exact_choice(outlook, costs, need)
        return taken, chosen_words(fits, taken, other, "lambda_1") if outlook.distinct else None

    @classmethod
    def compared_forms(cls, config: MARecConfig, share: float) -> tuple[MARecConfig, MARecConfig] | None:
        """Compare blocks, and weights learned from some items, with the closed form, of items in proportion."""
        if config.solver != "blocks":
            return None
        smaller = {name: max(2, round(share * getattr(config, name))) for name in ("block_items", "learning_items")}
        return config.model_copy(update={"solver": "exact"}), config.model_copy(update=smaller)

    def check_options(self, options: FitConfig) -> None:
        """Refuse several workers for anything but blocks, besides what is not heeded."""
        super().check_options(options)
        if self.config.solver != "blocks" and options.workers > 1:
            raise ConfigError(
                f"workers={options.workers} share what solver='blocks' learns from; solver={self.config.solver!r} "
                "learns in one process. Use workers=1, or solver='blocks'."
            )

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn the mixture and factorise the co-clicks.

        Raises
        ------
        SingularMatrixError
            If the weights or the closed form are not determined.
        NumericalError
            If the weights are not finite.
        CatalogTooLargeError
            If a matrix would not fit in memory.
        ClusterError, ConfigError, TrainingFailedError
            If there are several workers, as for :func:`~coldray.models.linalg.gram_shards.gram`.
        """
        shared = computations or Computations()
        if self.settle_on(train, options).solver == "blocks":
            self.check_size(*train.interactions.shape)
        weights = mixture_weights(train, shared, self.config, options)
        if not np.isfinite(weights).all():
            raise NumericalError("The similarity weights are not finite; check the attributes for extreme values.")
        if self.config.solver == "blocks":
            self._fitted = BlockWeights.of(train, self.config, weights, shared)
            return self
        similarity = shared.get(
            aligned_similarity,
            train,
            delta=self.config.smoothing,
            order=self.config.order,
            weights=tuple(map(float, weights)),
            lambda_0=self.config.lambda_0,
        )
        aligned = train.features.take(Alignment.of(train, lambda_0=self.config.lambda_0).items)
        refinements = self._refinements(train, shared, similarity, aligned, options)
        for refinement in refinements:
            similarity = similarity + refinement.between(aligned)
        alone = computations is None and self.config.closed_form == "auto"
        ridge = self._ridge(train, None if alone else shared, options.device)
        self._fitted = FittedWeights(train, self.config, weights, similarity, ridge, refinements)
        return self

    def _refinements(
        self, train: TrainingSet, shared: Computations, similarity: Matrix, aligned: FeatureSet, options: FitOptions
    ) -> Sequence[Refinement]:
        """Return learned similarities to be added to the mixture g between warm and aligned items; none here."""
        return ()

    @classmethod
    def _stored_refinements(cls, config: MARecConfig, state: Mapping[str, npt.NDArray[Any]]) -> Sequence[Refinement]:
        """Rebuild the refinements from the arrays of a fitted model."""
        return ()

    def check_attributes(self, kinds: Mapping[str, AttributeKind]) -> None:
        """Check that a δ by attribute names every attribute compared by its cosine, and nothing else."""
        check_delta(self.config.smoothing, kinds, [name for name, kind in kinds.items() if kind != "number"])

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the moments or the closed form take, whichever is more, with the similarity of cold items.

        What aligned warm items take with ``λ₀ = 0`` depends on the clicks; the fit checks it.
        """
        if self.config.solver == "blocks":
            return blocked_bytes(n_users, n_items, self.config.block_items)
        if self.config.solver == "cholesky":
            each = COUPLED_BYTES if self.config.lambda_0 > 0 else CHOLESKY_BYTES
            return max(moments_bytes(n_items, 1), each * n_items**2)
        closed_form = spectrum_bytes(n_users, n_items, users=self.config.solver == "users") + n_items**2
        if self.config.lambda_0 > 0:
            closed_form += INVERSE_BYTES * n_items**2
        return max(moments_bytes(n_items, 1), closed_form)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        blocks = self.config.solver == "blocks"
        self.require_size(
            n_users,
            n_items,
            purpose=f"MARec on {n_items:,} items{' in blocks' if blocks else ''}",
            way_out="Use smaller block_items, or fewer items through the filters." if blocks else WAY_OUT,
        )

    def _ridge(self, train: TrainingSet, shared: Computations | None, device: DeviceName) -> RidgeSystem:
        config = self.config
        if shared is None or config.solver == "cholesky":  # no other λ₁ will follow
            if resolve_device(device) == "cpu":
                return CholeskyRidge(train, lambda_0=config.lambda_0, lambda_1=config.lambda_1)
            shared = shared or Computations()
        solver: Solver = "auto" if config.solver == "cholesky" else config.closed_form
        spectrum: GramSpectrum = shared.get(
            gram_spectrum, train, lambda_0=config.lambda_0, solver=solver, device=device
        )
        return SpectralRidge(spectrum, config.lambda_1, device)

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
        """Return the function ``X → X Θ`` on the columns of `items`, those of cold ones by their weight."""
        scores = self._scorer(np.asarray(items))
        if self.config.cold_weight == 1:
            return scores
        warm = np.isin(items, self._require().warm_items)
        factors = np.where(warm, 1, self.config.cold_weight).astype(np.float32)
        return lambda histories: scores(histories) * factors

    def _scorer(self, items: Items) -> Scorer:
        fitted = self._require()
        if isinstance(fitted, BlockWeights):
            return fitted.scorer(np.asarray(items), self.config)
        weights = np.zeros((fitted.n_items, len(items)), np.float32)
        weights[fitted.rows] = fitted.columns(np.asarray(items))

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            return click_products(histories, weights)

        return scores

    def ranking_key(self) -> str | None:
        """Everything but α and β, when cold items are all that is aligned."""
        fitted = self._require()
        if not (isinstance(fitted, FittedWeights | BlockWeights) and fitted.cold_items_alone):
            return None
        return self.config.model_copy(update={"alpha": 1.0, "beta": 1.0, "cold_weight": 1.0}).model_dump_json()

    @property
    def cold_scale(self) -> float:
        """αβ by the weight of cold items."""
        return self.config.alpha * self.config.beta * self.config.cold_weight

    def evened(self, clicks: sp.csr_array) -> Self:
        """Return the model with the weight of cold items by which they reach the top of a list as easily as warm ones.

        That is where a user's upper decile of cold items is, on the mean, that of the warm ones they have not clicked.
        If all items are warm, copies of some of them without their clicks stand for the cold ones that will be added.
        """
        warm = np.zeros(self.n_items, np.bool_)
        warm[self._require().warm_items] = True
        known = np.flatnonzero(np.diff(clicks.indptr))
        if not warm.any() or len(known) == 0:
            return self
        asked = sp.csr_array(clicks[known[:: -(-len(known) // _EVEN_USERS)]])
        seen, model, fitted = asked, self, self._fitted
        if warm.all():
            fitted = self._require().restored()  # what the bundle stores, too
            copied = np.arange(0, self.n_items, -(-self.n_items // _EVEN_COPIES))
            model = type(self)(self.config)
            model._fitted = fitted.with_items(fitted.features.take(copied), self.config)
            seen = sp.csr_array(sp.hstack([asked, asked[:, copied]], format="csr"))  # who knows an item, knows its copy
            asked = sp.csr_array((asked.data, asked.indices, asked.indptr), shape=seen.shape)
            warm = np.arange(model.n_items) < self.n_items
        scores = model.score(asked, np.arange(model.n_items)).astype(np.float64)
        scores[seen.nonzero()] = np.nan
        new, old = (np.nanquantile(scores[:, side], 0.9, axis=1) for side in (~warm, warm))
        both = np.isfinite(new) & np.isfinite(old)  # not of who has clicked all of one kind
        if not (new[both].sum() > 0 and old[both].sum() > 0):
            return self
        weight = self.config.cold_weight * old[both].sum() / new[both].sum()
        evened = type(self)(self.config.model_copy(update={"cold_weight": float(weight)}))
        evened._fitted, evened.forms = fitted, self.forms
        return evened

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
        if BlockWeights.are_in(state):
            model._fitted = BlockWeights.from_arrays(features, state, config)
        else:
            model._fitted = StoredWeights(features, state, cls._stored_refinements(config, state))
        return model

    def _require(self) -> FittedWeights | StoredWeights | BlockWeights:
        self.check_fitted()
        if self._fitted is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._fitted
