"""One side of an alternating least squares by the workers of a Ray cluster, each of which solves for some of its rows.

The clicks are cut once, so that shards have about as many, and kept in the object store. For each half of an iteration
the factors of the other side and their Gram matrix are put there too, once for all workers of a node; what comes back
is the solved rows. The objective is that of one machine, a row's solution does not depend on its shard, and a start is
drawn before anything is cut: the factors are those of one worker but for rounding.

A worker holds its shard of the clicks and the factors of the other side; the process that asks holds all of both sides.
What a worker has lost is solved for again by another.

Notation used for shapes: r rows, n columns, f factors.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import ray
import scipy.sparse as sp
from ray.exceptions import RayError

from coldray.core.errors import ColdrayError, TrainingFailedError
from coldray.core.ray_errors import cause_of, in_words
from coldray.models.linalg.row_shards import row_shards
from coldray.models.linalg.weighted_ridge import Matrix, RidgeParameters, RidgeSolutions, WeightedRidge

RETRIES = 3
"""Times that a shard is solved for again when its worker is lost."""


class ShardedSide:
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
@ray.remote(num_cpus=0, max_retries=RETRIES, scheduling_strategy="SPREAD")
def _solve(
    shard: sp.csr_array,
    factors: Matrix,
    gram: npt.NDArray[Any],
    start: Matrix,
    parameters: RidgeParameters,
) -> RidgeSolutions:
    return WeightedRidge(factors, parameters, gram=gram).solve(shard, start=start)
