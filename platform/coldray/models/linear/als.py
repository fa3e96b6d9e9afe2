"""ALS: factors of users and items by alternating least squares on implicit feedback.

``Σ_ui c_ui (p_ui − x_uᵀy_i)² + λ (Σ_u ‖x_u‖² + Σ_i ‖y_i‖²)`` over *all* users u and items i, with the preference p_ui
= 1 for a click and 0 otherwise and the confidence ``c_ui = 1 + α r_ui`` (Hu, Koren and Volinsky, *Collaborative
Filtering for Implicit Feedback Datasets*, 2008, Eq. 3), where r_ui of a click is 1, or what its strongest event is
worth: a purchase more than a view. Each iteration solves for the users with the items fixed, then
for the items with the users fixed (:mod:`~coldray.models.linalg.weighted_ridge`), and neither raises the objective.

No factors of users are kept. A history is folded in when a list is asked for: its ridge regression on the factors of
items is solved exactly, so a user the fit never saw is served like all others.

An item without clicks has the factors 0, and scores 0.

Users and items may be sharded over the workers of a Ray cluster, each of which solves for some rows of one side. The
clicks are cut once, so that shards have about as many, and kept in the object store. For each half of an iteration the
factors of the other side and their Gram matrix are put there too, once for all workers of a node; what comes back is
the solved rows. The objective is that of one machine, a row's solution does not depend on its shard, and a start is
drawn before anything is cut: the factors are those of one worker but for rounding.

A worker holds its shard of the clicks and the factors of the other side; the process that asks holds all of both
sides. What a worker has lost is solved for again by another.

Notation used for shapes: U users, I items, n items asked for, f factors, r rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import ray
import scipy.sparse as sp
import torch
from pydantic import NonNegativeInt, PositiveFloat, PositiveInt
from ray.exceptions import RayError

from coldray.core.errors import ColdrayError, NumericalError, TrainingFailedError
from coldray.core.memory import require_memory
from coldray.core.one_thread import one_thread
from coldray.core.ray_errors import cause_of, in_words
from coldray.data.signals import Reads
from coldray.evaluation.ranking import Scorer
from coldray.evaluation.ratings import ones_where_stored
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.sharded import row_shards
from coldray.models.linalg.singular import usable_factors
from coldray.models.linalg.weighted_ridge import BLOCK_FLOATS, Matrix, RidgeParameters, RidgeSolutions, WeightedRidge
from coldray.models.state import FactorModel
from coldray.training.options import FitOptions
from coldray.training.trainer import require_cluster

_RETRIES = 3
"""Times that a shard is solved for again when its worker is lost."""


class _ShardedSide:
    """Solves for the rows of clicks, shard by shard.

    Parameters
    ----------
    clicks
        CSR ``[r, n]`` float32.
    workers
        Shards at most; fewer where a row has more than its share of the clicks.
    """

    def __init__(self, clicks: sp.csr_array, parameters: RidgeParameters, workers: int) -> None:
        self._rows = row_shards(clicks, workers)
        self._shards = [ray.put(clicks[rows]) for rows in self._rows]
        self._parameters = parameters

    def __call__(self, factors: Matrix, start: Matrix) -> RidgeSolutions:
        """Solve with the other side's `factors` ``[n, f]``, from `start` ``[r, f]``.

        Raises
        ------
        SingularMatrixError
            If a system is not positive definite to working precision.
        TrainingFailedError
            If a shard's workers were lost more often than allowed.
        """
        gram = WeightedRidge(factors, self._parameters).gram
        shared = ray.put(factors), ray.put(gram)
        solved = [
            _solve.remote(shard, *shared, start[rows], self._parameters)
            for shard, rows in zip(self._shards, self._rows, strict=True)
        ]
        try:
            parts: list[RidgeSolutions] = ray.get(solved)
        except RayError as error:
            if isinstance(cause_of(error), ColdrayError):
                raise cause_of(error) from error
            raise TrainingFailedError(
                f"ALS by {len(self._shards)} workers of the Ray cluster failed: {in_words(error)}. Use workers=1, "
                "or nodes with more memory."
            ) from error
        return RidgeSolutions(np.concatenate([part.rows for part in parts]), sum(part.objective for part in parts))


# No CPU is reserved: a trial that waits for its shards holds one, and would wait for ever where all are held by trials.
@ray.remote(num_cpus=0, max_retries=_RETRIES, scheduling_strategy="SPREAD")
def _solve(
    shard: sp.csr_array,
    factors: Matrix,
    gram: npt.NDArray[Any],
    start: Matrix,
    parameters: RidgeParameters,
) -> RidgeSolutions:
    return WeightedRidge(factors, parameters, gram=gram).solve(shard, start=start)


logger = logging.getLogger(__name__)
_Side: TypeAlias = Callable[[Matrix, Matrix], RidgeSolutions]
"""From the factors of one side, and those that the other side had, to those that it has then."""
_START_SCALE = 0.01
"""Standard deviation of the first factors of items."""
_VANISHED = 1e-4
"""Entries of factors below this explain nothing: factors of 0 are the best where the regularization is strong."""
_CLICK_BYTES = 40
"""Bytes a click takes: by user and by item, and the values made of it on one side at a time."""


class ALSConfig(ModelConfig):
    """Parameters of :class:`ALS`."""

    n_factors: PositiveInt = 64
    """f; fewer where there are fewer users or items with clicks."""
    regularization: PositiveFloat = 50.0
    """λ."""
    alpha: PositiveFloat = 3.0
    """α, by how much more a click is trusted than its absence."""
    confidence: Literal["clicks", "events"] = "clicks"
    """r of a click: 1 (``clicks``), or the weight of its strongest event (``events``), in data with kinds of events. A
    click of unknown kind, as the service gets them, then has the mean weight of those of the fit."""
    iterations: PositiveInt = 10
    """Times that the factors of users, and then those of items, are solved for."""
    cg_steps: NonNegativeInt = 3
    """Steps of conjugate gradients, from the factors of the iteration before, by which each system is solved; 0 solves
    by Cholesky, which takes longer the more factors there are."""
    seed: NonNegativeInt = 0
    """Seed of the first factors of items."""


class ALS(FactorModel[ALSConfig]):
    """Alternating least squares, weighted by confidence."""

    name: ClassVar[str] = "als"
    config_type: ClassVar[type[ModelConfig]] = ALSConfig
    fit_options: ClassVar[tuple[str, ...]] = ("workers",)

    @property
    def reads(self) -> Reads:
        """Weights of events, if they are the confidence."""
        return Reads(events=self.config.confidence == "events")

    @property
    def click_value(self) -> float:
        """Mean weight of the clicks of the fit, where weights are read; else 1."""
        self.check_fitted()
        return float(self._state["click_value"][0]) if self.reads.events else 1.0

    def _as_read(self, clicks: sp.csr_array) -> sp.csr_array:
        """Return r ``[b, I]``, float32; a study holds weights where one of its configurations reads them.

        What is worth nothing or less in a history that somebody gives is no click.
        """
        if not self.reads.events:
            return ones_where_stored(clicks)
        values = np.maximum(clicks.data, 0).astype(np.float32)
        return sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Learn the factors of items; the same on the same number of threads.

        More factors than the clicks can have are reduced, with a warning; the state tells how many are used.

        Raises
        ------
        DataError
            If fewer than two users or two items have clicks.
        SingularMatrixError
            If a system is not positive definite to working precision.
        NumericalError
            If the objective is not finite.
        CatalogTooLargeError
            If the factors do not fit in memory.
        ClusterError
            If there are to be several workers and this process is connected to no cluster.
        ConfigError
            If the cluster has fewer CPUs than there are to be workers.
        TrainingFailedError
            If workers were lost more often than allowed.
        """
        self.check_options(options)
        config = self.config
        used = usable_factors(self.name, config.n_factors, train)
        n_users, n_items = train.interactions.shape
        self._require_memory(n_users, n_items, train.interactions.nnz)
        items = np.zeros((n_items, used), np.float32)
        generator = np.random.default_rng(config.seed)
        items[train.warm_items] = generator.normal(0, _START_SCALE, (len(train.warm_items), used))
        items, objective = self._alternate(train, items, options.workers)
        if np.abs(items).max() < _VANISHED:
            logger.warning(
                "als: with regularization %g and alpha %g the factors of %s vanish, and scores are next to 0. "
                "Lower regularization, or raise alpha.",
                *(config.regularization, config.alpha, train.key),
            )
        self._state = {"factors": items, "objective": objective, "n_factors": np.array([used])}
        if self.reads.events:
            self._state["click_value"] = np.array([train.interactions.data.mean(dtype=np.float64)])
        return self

    def _alternate(self, train: TrainingSet, items: Matrix, workers: int) -> tuple[Matrix, npt.NDArray[np.float64]]:
        """Return the factors of items after all iterations, and the objective after each."""
        config = self.config
        solve_users, solve_items = self._sides(train, workers)
        users = np.zeros((train.interactions.shape[0], items.shape[1]), np.float32)
        objective = np.empty(config.iterations)
        for iteration in range(config.iterations):
            users = solve_users(items, users).rows
            solved = solve_items(users, items)
            items = solved.rows
            penalty = config.regularization * float(np.square(users, dtype=np.float64).sum())
            objective[iteration] = solved.objective + penalty
            if not np.isfinite(objective[iteration]):
                raise NumericalError(
                    f"The objective is {objective[iteration]} after {iteration + 1} iterations with alpha "
                    f"{config.alpha:g} and regularization {config.regularization:g}. Lower alpha, or raise "
                    "regularization."
                )
        return items, objective

    def _sides(self, train: TrainingSet, workers: int) -> tuple[_Side, _Side]:
        """Return what solves for the users and what solves for the items, here or in the cluster."""
        config = self.config
        by_user = self._as_read(train.interactions)
        parameters = RidgeParameters(config.alpha, config.regularization, config.cg_steps)
        both = by_user, sp.csr_array(by_user.T)
        if workers == 1:
            of_users, of_items = (partial(_solve_here, clicks, parameters) for clicks in both)
            return of_users, of_items
        require_cluster(workers, use_gpu=False)
        sharded_users, sharded_items = (_ShardedSide(clicks, parameters, workers) for clicks in both)
        return sharded_users, sharded_items

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the factors, their steps and the block of the longest possible row take; not the clicks."""
        factors = min(self.config.n_factors, n_users, n_items)
        block = 2 * max(BLOCK_FLOATS, factors * max(n_users, n_items, factors))
        steps = 8 * factors * max(n_users, n_items)
        return 4 * (3 * factors * (n_users + n_items) + max(2 * block, steps))

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check the factors, and the block of the longest possible row."""
        self._require_memory(n_users, n_items, 0)

    def _require_memory(self, n_users: int, n_items: int, n_clicks: int) -> None:
        """Check :meth:`memory_bytes` with the clicks of both sides."""
        clicks = _CLICK_BYTES * n_clicks
        require_memory(
            self.memory_bytes(n_users, n_items) + clicks,
            purpose=f"{min(self.config.n_factors, n_users, n_items):,} factors of {n_users:,} users and {n_items:,} "
            "items",
            way_out="Use fewer n_factors, or fewer users or items through the filters.",
            need_of_items=lambda count: self.memory_bytes(n_users, count) + clicks,
            n_items=n_items,
        )

    @property
    def objective(self) -> npt.NDArray[np.float64]:
        """The objective after each iteration of the fit, float64; it never rises but by rounding."""
        self.check_fitted()
        return self._state["objective"]

    def scorer(self, items: Items) -> Scorer:
        """Return the function that folds histories in and multiplies by the factors of `items`."""
        self.check_fitted()
        factors = self._state["factors"]
        exact = RidgeParameters(self.config.alpha, self.config.regularization)
        ridge, wanted = WeightedRidge(factors, exact), torch.from_numpy(factors[items]).T

        def scores(histories: sp.csr_array) -> Scores:
            with one_thread():
                product: Scores = torch.mm(torch.from_numpy(ridge.solve(self._as_read(histories)).rows), wanted).numpy()
            return product

        return scores


def _solve_here(clicks: sp.csr_array, parameters: RidgeParameters, factors: Matrix, start: Matrix) -> RidgeSolutions:
    return WeightedRidge(factors, parameters).solve(clicks, start=start)
