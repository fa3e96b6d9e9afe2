"""KernelAlign: a Gaussian-process kernel over the attributes of items, learned, inverted, and smoothed over users.

MARec uses a mixture of similarities as a smoother. Here the mixture is the covariance of a Gaussian process over items,
with weights learned by marginal likelihood (:mod:`~coldray.models.kernel_align.covariance`). What the clicks say of
an item without clicks is its conditional mean (:mod:`~coldray.models.kernel_align.posterior`), and users are
smoothed by ridge (:mod:`~coldray.models.kernel_align.smoothing`). Catalogues too large for item × item matrices are
seen through some of their items (:mod:`~coldray.models.kernel_align.inducing`). Optionally scores are multiplied by
``exp(γ p̂)``, with the popularity p̂ that the attributes promise (:mod:`~coldray.models.popularity.head`), and items are
known by their clicks as well, more and more (:mod:`~coldray.models.kernel_align.warming`).

Notation used for shapes: W warm items, C cold items, n items, I all items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import DeviceName
from coldray.core.errors import ConfigError
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, TrainingSet
from coldray.models.computations import Computations, result_of
from coldray.models.explanation import Explanation
from coldray.models.forms import Form, StudyOutlook
from coldray.models.kernel_align.clickers import ClickerPopularity
from coldray.models.kernel_align.config import KernelAlignConfig
from coldray.models.kernel_align.covariance import ItemCovariance
from coldray.models.kernel_align.explanation import kernel_explanations
from coldray.models.kernel_align.form import exact_bytes, inducing_bytes, most_that_fits, settled_form, warming_bytes
from coldray.models.kernel_align.inducing_weights import InducingWeights, condition_on_inducing
from coldray.models.kernel_align.kernels import KernelMatrices
from coldray.models.kernel_align.posterior import (
    DOUBLE_ITEMS,
    conditional,
    covariance_of,
    kernel_bytes,
    kernel_matrices,
    learned_covariance,
)
from coldray.models.kernel_align.smoothing import UserSmoother, co_clicks, damping_of, users_are_fewer
from coldray.models.kernel_align.smoothing_cg import smooth_by_conjugate_gradients
from coldray.models.kernel_align.warming import Balance, Warming
from coldray.models.kernel_align.weights import ExactWeights, LatestScores
from coldray.models.linalg.panel_cholesky import PanelCholesky
from coldray.models.popularity.head import PopularityHead, known_or_predicted
from coldray.models.profiles import item_profiles
from coldray.training.options import FitOptions

Matrix = npt.NDArray[np.float32]
_KERNEL_BYTES = 2**30
"""Kernels between warm items and all are held up to this size, and shared among configurations."""
_NOISE = 1
"""Place of σ² among the weights of a covariance."""
_TREES = 200
"""Trees that predict the popularity."""
_TOLERANCE = 1e-2
"""Residual of the smoothing through inducing items; ndcg@10 does not tell it from an exact solution."""


class KernelAlign(Recommender[KernelAlignConfig]):
    """Conditional means of a Gaussian process over item attributes, smoothed over users.

    An item with no attribute at all falls back to what the constant part of the covariance says, the mean of all;
    :meth:`falls_back` names such items. Of the options of a fit, the `device` is where smoothing through inducing items
    runs.
    """

    name: ClassVar[str] = "kernel_align"
    config_type: ClassVar[type[ModelConfig]] = KernelAlignConfig
    fit_options: ClassVar[tuple[str, ...]] = ("device",)
    scores_cold_items: ClassVar[bool] = True

    def __init__(self, config: KernelAlignConfig | None = None) -> None:
        super().__init__(config or KernelAlignConfig())
        self._weights: ExactWeights | InducingWeights | None = None
        self._warming: Warming | None = None
        self._learned: dict[str, npt.NDArray[Any]] = {}
        self._features: FeatureSet | None = None

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
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
        shared, config = computations or Computations(), self.settle_on(train, options)
        self.check_size(*train.interactions.shape)
        exact = config.form == "exact"
        # A fit on its own asks for each kernel about once: holding all of them would only take time.
        several = computations is not None and exact and kernel_bytes(train) <= _KERNEL_BYTES
        matrices = result_of(kernel_matrices) if several else None
        logarithms, likelihood = shared.get(
            learned_covariance,
            train,
            matrices=matrices,
            profiles=result_of(item_profiles, dim=config.n_factors),
            subset=config.subset,
            steps=config.steps,
            min_noise=config.min_noise,
            seed=config.seed,
        )
        logarithms = logarithms + np.log(config.noise_factor) * (np.arange(len(logarithms)) == _NOISE)
        form = (
            partial(self._exact, matrices=matrices) if exact else partial(self._through_inducing, device=options.device)
        )
        self._weights, variances = form(train, shared, tuple(map(float, logarithms)))
        self._warming = self._warmed(train, shared, tuple(map(float, logarithms)))
        self._features = train.features
        self._learned = {"logarithms": logarithms, "likelihood": likelihood, "variance": variances}
        if config.popularity > 0:
            head, popularity = shared.get(known_or_predicted, train, trees=_TREES, seed=config.seed)
            self._learned |= {f"head.{name}": array for name, array in head.items()}
            self._learned["popularity"] = popularity
        return self

    def _exact(
        self, train: TrainingSet, shared: Computations, logarithms: tuple[float, ...], matrices: KernelMatrices | None
    ) -> tuple[ExactWeights, Matrix]:
        cells, means, variances = shared.get(conditional, train, logarithms=logarithms, matrices=matrices)
        alpha, ridge, warm = self.config.alpha, self.config.ridge, train.warm_items
        by_others = self.config.click_ridge is not None

        weights = ExactWeights(
            warm,
            train.cold_items,
            PanelCholesky(cells, len(warm)),
            float(np.exp(logarithms[_NOISE])),
            means,
            shared.latest(
                "smoothed",
                (train.key, logarithms, alpha, ridge, by_others),
                partial(_smoothed, train, shared, alpha, ridge),
            ),
            by_others,
        )
        return weights, variances

    def _warmed(self, train: TrainingSet, shared: Computations, logarithms: tuple[float, ...]) -> Warming | None:
        config, weights = self.config, self._weights
        if config.click_ridge is None or not isinstance(weights, ExactWeights):
            return None
        balance = Balance(
            config.prior_clicks * float(train.clicks[train.warm_items].mean()),
            float(np.exp(np.log(damping_of(train, config.alpha)).mean())),
            config.new_weight,
            config.clickers,
        )
        smoothed = shared.latest(
            "smoothed clicks",
            (train.key, config.click_ridge),
            partial(_smoothed, train, shared, 0.0, config.click_ridge),
        )
        learn = partial(ClickerPopularity.of, train, weights)
        return Warming.of(train, balance, smoothed, shared.latest("clickers", (train.key, logarithms), learn))

    def _through_inducing(
        self, train: TrainingSet, shared: Computations, logarithms: tuple[float, ...], device: DeviceName
    ) -> tuple[InducingWeights, Matrix]:
        config = self.config
        items, posterior, coordinates, variances = shared.get(
            condition_on_inducing,
            train,
            logarithms=logarithms,
            count=config.inducing,
            seed=config.seed,
            most=config.most_inducing,
            tolerance=config.inducing_tolerance,
        )

        def smoothed() -> Matrix:
            return smooth_by_conjugate_gradients(
                train,
                alpha=config.alpha,
                ridge=config.ridge,
                right=posterior.projection,
                tolerance=_TOLERANCE,
                device=device,
            )

        key = (train.key, logarithms, items.tobytes(), config.alpha, config.ridge)
        projection = shared.latest("smoothed projection", key, smoothed)
        smooth = replace(posterior, projection=projection)
        return InducingWeights(train.warm_items, items, smooth, coordinates), variances

    @classmethod
    def settle(cls, config: KernelAlignConfig, outlook: StudyOutlook) -> tuple[KernelAlignConfig, tuple[Form, ...]]:
        """Name the form: exact where the covariance of all items fits in memory and is factorised in time."""
        fewer = config.model_copy(update={"most_inducing": most_that_fits(config.most_inducing, outlook)})
        wanted = config.form if config.click_ridge is None else "exact"
        form = settled_form(wanted, outlook, exact_items=config.exact_items, inducing=fewer.n_inducing)
        settled = fewer if form.value == "inducing" and config.form == "auto" else config
        return settled.model_copy(update={"form": form.value}), (form,)

    @classmethod
    def compared_forms(
        cls, config: KernelAlignConfig, share: float
    ) -> tuple[KernelAlignConfig, KernelAlignConfig] | None:
        """Return the exact form, and that through `share` as many inducing items."""
        if config.form != "inducing":
            return None
        count = "inducing" if config.inducing else "most_inducing"
        fewer = max(1, round(config.n_inducing * share))
        exact = config.model_copy(update={"form": "exact"})
        return exact, config.model_copy(update={count: fewer})

    def _needs_exact(self, n_users: int, n_items: int) -> bool:
        """Return whether that many items cannot be had for less than the exact form needs."""
        config = self.config
        if config.click_ridge is not None:
            return True
        if config.form != "auto":
            return config.form == "exact"
        beyond = config.exact_items is not None and n_items > config.exact_items
        return not beyond and exact_bytes(n_users, n_items) <= inducing_bytes(n_items, config.n_inducing)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the factors, the weights of the cold items and their making take at the peak.

        That is the peak of the share of warm items with which it is highest; with all items warm, a fit takes some 60 %
        of it. Through inducing items, what the matrices between all items and these take; while the form is open, the
        smaller need.
        """
        if self._needs_exact(n_users, n_items):
            clicks = 0 if self.config.click_ridge is None else warming_bytes(n_users, n_items)
            return exact_bytes(n_users, n_items) + clicks
        return inducing_bytes(n_items, self.config.n_inducing)

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        if self._needs_exact(n_users, n_items):
            return self.require_size(
                n_users,
                n_items,
                purpose=f"The covariance of {n_items:,} items with its factor",
                way_out="Use form='auto' or 'inducing', and no click_ridge, to see all items through some of them, or "
                "use fewer items.",
            )
        return self.require_size(
            n_users,
            n_items,
            purpose=f"The covariance of {n_items:,} items with {min(self.config.n_inducing, n_items):,} inducing ones",
            way_out="Lower most_inducing or inducing, or use fewer items through the filters (min_item_interactions).",
        )

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return 0 if self._weights is None else self._weights.n_items

    def variance(self, items: Items) -> Matrix:
        """Return the predictive variance of each item's profile ``[n]``: small where attributes say much.

        That of a warm item is made when it is first asked for, and kept, also for models with more items.
        """
        self.check_fitted()
        held: Matrix = self._learned["variance"]
        variance: Matrix = self._require().variances(items, held)
        if not np.array_equal(variance, held[items]):
            known = held.copy()
            known[items] = variance
            self._learned = {**self._learned, "variance": known}
        return variance

    def falls_back(self, items: Items) -> npt.NDArray[np.bool_]:
        """Return whether each item has no attribute at all, and so the score of an average one ``[n]``."""
        described: npt.NDArray[np.bool_] = self._known_features().described[items]
        return ~described

    @property
    def parts(self) -> dict[str, float]:
        """The learned weight of each additive part, by name, with the constant, the product and the noise."""
        covariance = self._covariance()
        weights, basis = covariance.weights, covariance.basis
        additive = {term.name: float(a) for term, a in zip(basis.terms, weights.additive, strict=True)}
        numbers = {name: float(b) for name, b in zip(basis.numbers, weights.bumps, strict=True)}
        whole = {"(constant)": weights.constant, "(product)": weights.product, "(noise)": weights.noise}
        return {**additive, **numbers, **whole}

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X_w B``, times ``exp(γ p̂)``, on the columns of `items`."""
        weights, factors = self._require(), None
        if self.config.popularity:
            factors = np.exp(np.float32(self.config.popularity) * self._learned["popularity"][items])
        if self._warming is not None and isinstance(weights, ExactWeights):
            return self._warming.scorer(weights, items, factors)
        return weights.scorer(items, factors)

    def explain(self, history: sp.csr_array, item: int) -> Explanation:
        """Take a score apart; see :class:`~coldray.models.explanation.Explanation`.

        Parameters
        ----------
        history
            Clicks of one user, CSR ``[1, I]``.
        item
            Index of the item.
        """
        return self.explanations(history, np.array([item]))[0]

    def explanations(self, history: sp.csr_array, items: Items) -> list[Explanation]:
        """Take the scores of several items for one history apart, as :meth:`explain` does."""
        rises = None
        if self.config.popularity:
            rises = np.expm1(self.config.popularity * self._learned["popularity"][items].astype(np.float64))
        return kernel_explanations(
            self._require(),
            self._covariance(),
            self._known_features(),
            history,
            items,
            rises=rises,
            warming=self._warming,
        )

    def add_items(self, features: FeatureSet) -> Self:
        """Return a model with the items of `features` appended, at their conditional means."""
        covariance, weights = self._covariance(), self._require()
        between = covariance.between(self._known_features().take(weights.basis_items), features)
        extended = type(self)(self.config)
        extended._features = self._known_features().append(features)
        extended._weights, explained = weights.append(between)
        extended._warming = None if self._warming is None else self._warming.appended(features.n_items)
        prior = covariance.variances(features) + np.float32(covariance.weights.noise)
        added = {"variance": np.asarray(np.maximum(prior - explained, 0), np.float32)}
        if self.config.popularity > 0:
            added["popularity"] = self._head().predict(features)
        joined = {name: np.concatenate([self._learned[name], array]) for name, array in added.items()}
        extended._learned = {**self._learned, **joined}
        return extended

    @property
    def takes_clicks(self) -> bool:
        """True where items are known by their clicks."""
        return self.config.click_ridge is not None

    def with_clicks(self, train: TrainingSet) -> Self:
        """Return the model that knows the clicks of `train` on items that had none in its fit, with no new fit.

        Raises
        ------
        ConfigError
            If they are on more or fewer items than the model knows.
        """
        cold = np.bincount(train.interactions.indices, minlength=self.n_items)
        cold[self._require().warm_items] = 0
        known = [] if self._warming is None else list(self._warming.new_items)
        return self.with_clicks_on(np.union1d(np.flatnonzero(cold), known).astype(np.int64), train.interactions)

    def with_clicks_on(self, items: Items, interactions: sp.csr_array) -> Self:
        """Return the model that knows the clicks on some items that had none in its fit; see the base class.

        Raises
        ------
        ConfigError
            If the clicks are on more or fewer items than the model knows.
        """
        weights, warming = self._require(), self._warming
        if warming is None or not isinstance(weights, ExactWeights):
            return super().with_clicks_on(items, interactions)
        if interactions.shape[1] != self.n_items:
            raise ConfigError(
                f"The clicks are on {interactions.shape[1]:,} items, and the model knows {self.n_items:,}. Add new "
                "items first (add_items), and give clicks on all of them."
            )
        knowing = type(self)(self.config)
        knowing._weights, knowing._learned, knowing._features = weights, self._learned, self._features
        knowing._warming = warming.knowing(items, interactions, weights)
        return knowing

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the learned weights of the covariance, the matrices, and variances and popularity of all items."""
        clicks = {} if self._warming is None else self._warming.state()
        return {**self._require().state(), **clicks, **self._learned}

    @classmethod
    def from_state(cls, config: KernelAlignConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; `features` are those of all its items."""
        model = cls(config)
        form = InducingWeights if "inducing_items" in state else ExactWeights
        model._weights, model._features = form.from_state(state), features
        held = model._weights.state()
        if isinstance(model._weights, ExactWeights) and "warming.clicks" in state:
            model._weights = replace(model._weights, by_others=True)
            model._warming = Warming.from_state(state)
            held |= model._warming.state()
        model._learned = {name: array for name, array in state.items() if name not in held}
        return model

    def _require(self) -> ExactWeights | InducingWeights:
        self.check_fitted()
        if self._weights is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._weights

    @property
    def features(self) -> FeatureSet:
        """Features of all items the fitted model knows."""
        return self._known_features()

    def _known_features(self) -> FeatureSet:
        self.check_fitted()
        if self._features is None:  # pragma: no cover  check_fitted has raised
            raise AssertionError
        return self._features

    def _covariance(self) -> ItemCovariance:
        """Return the covariance; its kernels are fitted on the warm items again, which gives the same ones."""
        warm = self._known_features().take(self._require().warm_items)
        return covariance_of(warm, self._learned["logarithms"])

    def _head(self) -> PopularityHead:
        arrays = {name.removeprefix("head."): a for name, a in self._learned.items() if name.startswith("head.")}
        return PopularityHead.from_arrays(arrays)


def _smoothed(train: TrainingSet, shared: Computations, alpha: float, ridge: float) -> LatestScores:
    """Return what smooths over users; counts of small catalogues are shared."""
    held = len(train.warm_items) <= DOUBLE_ITEMS and not users_are_fewer(train)
    return LatestScores(UserSmoother.of(train, alpha, ridge, shared.get(co_clicks, train) if held else None))
