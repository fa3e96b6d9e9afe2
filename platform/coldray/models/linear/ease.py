"""EASE: the linear autoencoder of items in closed form.

Steck 2019, "Embarrassingly Shallow Autoencoders for Sparse Data", Eq. 8.

The weights that reproduce the clicks best under ``B_jj = 0`` and the penalty ``λ‖B‖²`` are ``B = I − P·diagMat(1 / diag
P)`` with ``P = (XᵀX + λI)⁻¹``, and users are scored ``X B``: column j of B predicts item j. B is not symmetric, and
``X Bᵀ`` scores worse.

λ only shifts the eigenvalues of ``XᵀX``. A study of many λ therefore decomposes it once, and each λ costs one matrix
product; a fit on its own, and each of a study of few, takes a Cholesky factor, which costs a fraction of the
decomposition.

``XᵀX`` may be counted by the workers of a Ray cluster, each for its share of the users
(:mod:`~coldray.models.linalg.gram_shards`).

An item without clicks has no weights and scores 0. All weights are held at once; where the ``I × I`` matrix does not
fit in memory, ``solver: blocks``, which ``auto`` takes then, predicts each item from the items most similar to it alone
(:mod:`~coldray.models.linear.ease_blocks`).

Notation used for shapes: U users, I items, W warm items, n items asked for, b users in a block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
from pydantic import Field, PositiveFloat, PositiveInt

from coldray.core.device import DeviceName, cpu_count, eigen_threads, matmul, resolve_device, symmetric_eigen
from coldray.core.errors import ConfigError, DataError, SingularMatrixError
from coldray.core.memory import require_memory
from coldray.core.one_thread import one_thread
from coldray.evaluation.ranking import Scorer
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items, ModelConfig, Recommender, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import Form, StudyOutlook, form_as_named, form_by_memory
from coldray.models.kernel_align.smoothing import SINGLE_CONDITION, co_clicks
from coldray.models.linalg.panel_cholesky import inverse_of_factor
from coldray.models.linalg.products import SparseProducts, click_products
from coldray.models.linalg.solver_costs import FitsOfAMatrix, chosen_words, ease_seconds, exact_choice
from coldray.models.linear.ease_blocks import block_bytes, block_weights, item_blocks
from coldray.models.marec.alignment import GramSpectrum
from coldray.training.options import FitConfig, FitOptions

Matrix = npt.NDArray[np.float32]
_BYTES_PER_PAIR = 34
"""Bytes a fit holds at its peak for each pair of warm items: the decomposition in float64 with its work space."""
_SECONDS_PER_CUBE = 1.3e-10
"""Seconds of one thread that the decomposition takes for each ``W³``: 14 s at 6,000 items by two."""
_MIRRORED_ROWS = 256
"""Rows of a symmetric matrix that are filled in from its other triangle at once."""


class EASEConfig(ModelConfig):
    """Parameters of :class:`EASE`."""

    regularization: PositiveFloat = 500.0
    """λ, added to the number of clicks of each item on the diagonal of ``XᵀX``."""
    solver: Literal["auto", "exact", "blocks"] = "auto"
    """``exact`` needs memory for some ``I × I`` matrices. ``blocks`` needs some of ``I × block_items``: an item is
    predicted from its block alone, which is an approximation. ``auto`` is exact where the largest fit of a study fits
    in memory and takes less than an hour, or where several workers count."""
    factorisation: Literal["auto", "spectrum", "cholesky"] = "auto"
    """Of ``exact``: a ``spectrum`` that fits with other λ share, or a ``cholesky`` factor for each fit. ``auto`` is
    what costs a study less (:mod:`~coldray.models.linalg.solver_costs`). A fit on its own always takes a factor."""
    block_items: PositiveInt = 1000
    """k, items of a block; the more, the closer to ``exact``. A block takes ``k³`` steps."""
    block_share: float = Field(default=0.5, gt=0, le=1)
    """r, the share of a block's items that it gives weights to; the smaller, the better they are, and the more blocks
    there are. The smallest gives each item its own block."""


def co_click_spectrum(train: TrainingSet, *, device: DeviceName, workers: int = 1) -> GramSpectrum:
    """Decompose ``XᵀX`` of the warm items.

    Raises
    ------
    CatalogTooLargeError
        If the matrix and its eigenvectors do not fit in memory.
    ClusterError, ConfigError, TrainingFailedError
        As for :func:`counted`.
    """
    _require_memory(len(train.warm_items))
    counts = counted(train, workers).astype(np.float64)
    with eigen_threads(len(counts)):
        values, vectors = symmetric_eigen(counts, resolve_device(device))
    return GramSpectrum(np.maximum(values, 0), vectors.astype(np.float32))


def counted(train: TrainingSet, workers: int) -> Matrix:
    """Return ``XᵀX`` of the warm items, float32 ``[W, W]``, counted here or by the workers of a Ray cluster.

    Raises
    ------
    ClusterError
        If there are to be several workers and this process is connected to no cluster.
    ConfigError
        If the cluster has fewer CPUs than there are to be workers.
    TrainingFailedError
        If workers were lost more often than allowed.
    """
    if workers == 1:
        return co_clicks(train)
    from coldray.models.linalg.gram_shards import sharded_co_clicks  # loads Ray, which one process does without

    return sharded_co_clicks(train, workers=workers)


class EASE(Recommender[EASEConfig]):
    """Item weights by ridge regression of each item's clicks on those of all others.

    Of the options of a fit, `workers` count ``XᵀX`` for ``exact``, each for its share of the users, and the `device`
    is where the decomposition of a study and its matrix products run; ``blocks`` run on the CPU.
    """

    name: ClassVar[str] = "ease"
    config_type: ClassVar[type[ModelConfig]] = EASEConfig
    fit_options: ClassVar[tuple[str, ...]] = ("workers", "device")

    def __init__(self, config: EASEConfig | None = None) -> None:
        super().__init__(config or EASEConfig())
        self._warm = np.zeros(0, np.int32)
        self._weights: Matrix = np.zeros((0, 0), np.float32)
        self._blocks: sp.csr_array | None = None
        self._n_items = 0

    @classmethod
    def settle(cls, config: EASEConfig, outlook: StudyOutlook) -> tuple[EASEConfig, tuple[Form, ...]]:
        """Take blocks where the exact form of the largest fit does not fit in memory, or takes too long."""
        if config.solver != "auto":
            named = form_as_named("solver", config.solver, exact=config.solver == "exact")
            return cls._with_factorisation(config, outlook, named)
        n_items = outlook.n_items
        if outlook.options.workers > 1:
            form = Form("solver", "exact", True, f"{outlook.options.workers} workers count for the exact form alone.")
            return cls._with_factorisation(config.model_copy(update={"solver": "exact"}), outlook, form)
        form = form_by_memory(
            "solver",
            "exact",
            "blocks",
            need=_BYTES_PER_PAIR * n_items**2,
            other_need=block_bytes(outlook.n_users, n_items, config.block_items),
            outlook=outlook,
            what=f"EASE on {n_items:,} items",
            seconds=_SECONDS_PER_CUBE * n_items**3 / cpu_count(),
        )
        return cls._with_factorisation(config.model_copy(update={"solver": form.value}), outlook, form)

    @classmethod
    def _with_factorisation(
        cls, config: EASEConfig, outlook: StudyOutlook, form: Form
    ) -> tuple[EASEConfig, tuple[Form, ...]]:
        """Name the factorisation of a study that fits in exact form on the CPU, and tell why it is taken."""
        fits = FitsOfAMatrix.of(outlook, "regularization", apart=())
        undecided = config.factorisation == "auto" and bool(outlook.distinct)
        if config.solver != "exact" or not undecided or resolve_device(outlook.options.device) != "cpu":
            return config, (form,)
        costs = ease_seconds(outlook.n_items, fits)
        need = _BYTES_PER_PAIR * outlook.n_items**2
        taken, other = exact_choice(outlook, costs, lambda _: need)
        value: Literal["spectrum", "cholesky"] = "spectrum" if taken.solver == "exact" else "cholesky"
        why, reckoning = chosen_words(fits, taken, other, "regularization")
        told = Form("factorisation", value, True, why[0].upper() + why[1:], reckoning=reckoning)
        return config.model_copy(update={"factorisation": value}), (form, told)

    @classmethod
    def compared_forms(cls, config: EASEConfig, share: float) -> tuple[EASEConfig, EASEConfig] | None:
        """Compare blocks with the exact form, of items in proportion."""
        if config.solver != "blocks":
            return None
        exact = config.model_copy(update={"solver": "exact"})
        return exact, config.model_copy(update={"block_items": max(2, round(share * config.block_items))})

    def check_options(self, options: FitConfig) -> None:
        """Refuse several workers for blocks, besides what is not heeded."""
        super().check_options(options)
        if self.config.solver == "blocks" and options.workers > 1:
            raise ConfigError(
                f"workers={options.workers} count the item × item co-clicks, which solver='blocks' does without. Use "
                "workers=1, or solver='exact'."
            )

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Compute B: from the spectrum that `computations` share, without them from a factor of this one matrix.

        Raises
        ------
        DataError
            If no item has a click.
        CatalogTooLargeError
            If the matrices do not fit in memory.
        SingularMatrixError
            If ``XᵀX + λI`` is not positive definite to working precision.
        ClusterError, ConfigError, TrainingFailedError
            If there are several workers, as for :func:`counted`.
        """
        config, warm = self.settle_on(train, options), train.warm_items
        if len(warm) == 0:
            raise DataError("No item has a click, so there are no weights to learn. Check the filters and the split.")
        self._blocks = None
        if config.solver == "blocks":
            self._fit_blocks(train, computations or Computations())
        elif computations is None or config.factorisation == "cholesky":
            _require_memory(len(warm))
            counts = (computations or Computations()).get(counted, train, workers=options.workers)
            self._weights = weights_of(counts.copy() if computations else counts, config.regularization)
        else:
            spectrum = computations.get(co_click_spectrum, train, device=options.device, workers=options.workers)
            self._weights = _spectral_weights(spectrum, config.regularization, options.device)
        self._warm, self._n_items = warm, train.interactions.shape[1]
        return self

    def _fit_blocks(self, train: TrainingSet, computations: Computations) -> None:
        config = self.config
        self.check_size(*train.interactions.shape)
        blocks = computations.get(item_blocks, train, size=config.block_items, share=config.block_share)
        self._weights = np.zeros((0, 0), np.float32)
        self._blocks = block_weights(train, blocks, config.regularization, _cholesky_inverse)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the ``I × I`` matrices of a fit take, or its blocks."""
        exact, blocks = _BYTES_PER_PAIR * n_items**2, block_bytes(n_users, n_items, self.config.block_items)
        if self.config.solver == "auto":
            return min(exact, blocks)
        return blocks if self.config.solver == "blocks" else exact

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        if self.config.solver == "exact":
            return _require_memory(n_items)
        return self.require_size(
            n_users,
            n_items,
            purpose=f"EASE on {n_items:,} items in blocks of {min(self.config.block_items, n_items):,}",
            way_out="Use smaller block_items, or fewer items through the filters (min_item_interactions).",
        )

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return self._n_items

    def scorer(self, items: Items) -> Scorer:
        """Return the function ``X → X B`` on the columns of `items`."""
        self.check_fitted()
        if self._blocks is not None:
            return SparseProducts(sp.csr_array(self._blocks[items].T)).dense
        if len(items) == len(self._warm) == self._n_items and np.array_equal(items, self._warm):
            weights = self._weights
        else:
            weights = self._columns(items)

        def scores(histories: sp.csr_array) -> Scores:
            with one_thread():
                return click_products(histories, weights)

        return scores

    def _columns(self, items: Items) -> Matrix:
        """Return the columns of `items` of B over all items ``[I, n]``; zeros where there are no clicks."""
        place = np.full(self._n_items, -1)
        place[self._warm] = np.arange(len(self._warm))
        warm = place[items] >= 0
        weights = np.zeros((self._n_items, len(items)), np.float32)
        weights[np.ix_(self._warm, warm)] = self._weights[:, place[items][warm]]
        return weights

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return B of the warm items or the weights of the blocks, which items are warm, and the number of all."""
        self.check_fitted()
        known = {"warm_items": self._warm, "n_items": np.array([self._n_items])}
        if self._blocks is None:
            return {"weights": self._weights, **known}
        blocks = self._blocks
        return {"indptr": blocks.indptr, "indices": blocks.indices, "values": blocks.data, **known}

    @classmethod
    def from_state(cls, config: EASEConfig, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; the features are not needed."""
        model = cls(config)
        model._warm, model._n_items = state["warm_items"], int(state["n_items"][0])
        if "weights" in state:
            model._weights = state["weights"]
        else:
            parts = state["values"], state["indices"], state["indptr"]
            model._blocks = sp.csr_array(parts, shape=(model._n_items, model._n_items))
        return model


def weights_of(counts: Matrix, regularization: float) -> Matrix:
    """Return B ``[W, W]`` from ``XᵀX`` float32 ``[W, W]``, which is overwritten.

    Raises
    ------
    SingularMatrixError
        If ``XᵀX + λI`` is not positive definite to working precision.
    """
    return _in_place_weights(_cholesky_inverse(counts, regularization))


def _spectral_weights(spectrum: GramSpectrum, regularization: float, device: DeviceName) -> Matrix:
    """Return B ``[W, W]`` from ``XᵀX = V diag(e) Vᵀ``.

    Off the diagonal ``λP = I − V diag(e / (e + λ)) Vᵀ`` is free of the large ones of I, and on it the sum of
    ``v² λ / (e + λ)`` has no term that cancels another.
    """
    values, vectors = spectrum.values, spectrum.vectors
    scaled = vectors * np.sqrt(values / (values + regularization)).astype(np.float32)
    weights = matmul(scaled, scaled.T, resolve_device(device))
    weights /= vectors**2 @ (regularization / (values + regularization)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


def _cholesky_inverse(counts: Matrix, regularization: float) -> npt.NDArray[np.floating[Any]]:
    """Return ``P = (XᵀX + λI)⁻¹`` ``[W, W]``, in single precision where the matrix is conditioned well enough.

    The counts are overwritten in that case: their memory holds P.
    """
    # No eigenvalue exceeds the largest row sum, as no entry is negative.
    kind = np.float32 if counts.sum(axis=1).max() <= SINGLE_CONDITION * regularization else np.float64
    potrf = scipy.linalg.lapack.get_lapack_funcs("potrf", dtype=kind)
    matrix: Any = counts.T.astype(kind, copy=False)  # symmetric; LAPACK reads by columns
    matrix[np.diag_indices_from(matrix)] += kind(regularization)
    factor, failed = potrf(matrix, lower=True, overwrite_a=True, clean=True)
    if failed:
        raise SingularMatrixError(
            f"XᵀX + λI over {len(matrix):,} items is singular to working precision with "
            f"regularization={regularization:g}. Use a larger regularization."
        )
    return np.asarray(_mirrored(inverse_of_factor(factor).T))


def _mirrored(upper: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Return the symmetric matrix with this upper triangle, in its place and in blocks, which stay in the cache."""
    for start in range(0, len(upper), _MIRRORED_ROWS):
        end = start + _MIRRORED_ROWS
        upper[start:end, :start] = upper[:start, start:end].T
        corner = np.triu(upper[start:end, start:end])
        upper[start:end, start:end] = corner + np.triu(corner, 1).T
    return upper


def _in_place_weights(inverse: npt.NDArray[np.floating[Any]]) -> Matrix:
    """Return ``B = I − P·diagMat(1 / diag P)`` in the place of P."""
    inverse /= -np.diag(inverse)
    np.fill_diagonal(inverse, 0.0)
    return np.asarray(inverse, np.float32)


def _require_memory(n_items: int) -> None:
    require_memory(
        _BYTES_PER_PAIR * n_items**2,
        purpose=f"EASE on {n_items:,} items",
        way_out="Use solver='blocks', fewer items through the filters (min_item_interactions), or more memory.",
        need_of_items=lambda count: _BYTES_PER_PAIR * count**2,
        n_items=n_items,
    )
