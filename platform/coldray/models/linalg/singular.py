"""The leading right singular vectors of clicks, by whichever solver suits their size, and how many there can be.

Notation used for shapes: U users, W warm items, m factors.
"""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import scipy.sparse.linalg

from coldray.core.device import symmetric_eigen
from coldray.core.errors import DataError
from coldray.core.memory import require_memory
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.smoothing import damping_of

logger = logging.getLogger(__name__)


def most_factors(train: TrainingSet) -> int:
    """Return how many factors the clicks can have: the users or the items with clicks, whichever are fewer.

    Raises
    ------
    DataError
        If fewer than two users or two items have clicks: one row or column has no structure to be found.
    """
    n_users = int(np.count_nonzero(np.diff(train.interactions.indptr)))
    n_items = len(train.warm_items)
    if min(n_users, n_items) < 2:
        raise DataError(
            f"Clicks of {n_users} users on {n_items} items cannot be factorised; at least 2 of each are needed. "
            "Filter less, or check the split."
        )
    return min(n_users, n_items)


def usable_factors(model: str, wanted: int, train: TrainingSet) -> int:
    """Return `wanted`, or :func:`most_factors` if those are fewer, which is logged."""
    used = min(wanted, most_factors(train))
    warn_of_reduced(model, wanted, used, train)
    return used


def warn_of_reduced(model: str, wanted: int, used: int, train: TrainingSet) -> None:
    """Log that fewer factors are used than were asked for, if so."""
    if used < wanted:
        n_users, n_items = train.interactions.shape
        logger.warning(
            "%s: n_factors is %s, but the clicks of %s (%s users, %s items) have no more than %s; %s are used.",
            *(model, f"{wanted:,}", train.key, f"{n_users:,}", f"{n_items:,}", f"{used:,}", f"{used:,}"),
        )


_Double: TypeAlias = npt.NDArray[np.float64]
SingularVectors: TypeAlias = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
_DENSE_SIDE = 1000
"""Users or items, whichever are fewer, up to which all singular vectors are computed at once."""
_RANDOMISED_CLICKS = 5_000_000
"""Clicks from which on the solver is randomised."""
_POWER_ITERATIONS = 7
"""Of the randomised solver; ndcg@10 on MovieLens 1M then is that of an exact one."""
_LEAST_VALUE = 1e-6
"""Singular values below this share of the largest are rounding."""


def singular_vectors(train: TrainingSet, *, n_factors: int, alpha: float, centred: bool) -> SingularVectors:
    """Return the leading right singular vectors of ``X D``, and the singular values.

    A small matrix is decomposed as a whole, a larger one by ARPACK, and one of `_RANDOMISED_CLICKS` by a randomised
    solver (Halko, Martinsson and Tropp, *Finding structure with randomness*, 2011), unless it is centred. Each vector's
    largest entry is positive. Singular values that coincide leave the basis of their vectors open.

    Parameters
    ----------
    n_factors
        m, at most as many as the clicks can have; fewer come back where the rank is lower.
    alpha
        α of the damping D, as in :class:`~coldray.models.linear.svd.SVDConfig`.
    centred
        Whether the mean of each column of ``X D`` is taken from it.

    Returns
    -------
    SingularVectors
        V, float32 ``[W, m]``, and the values, float32 ``[m]``, descending.

    Raises
    ------
    DataError
        If fewer than two users or two items have clicks.
    CatalogTooLargeError
        If the matrices do not fit in memory.
    """
    count = min(n_factors, most_factors(train))
    clicks = sp.csr_array(train.interactions[:, train.warm_items], dtype=np.float64)
    damped = sp.csr_array(clicks @ sp.diags_array(damping_of(train, alpha)))
    require_memory(
        solver_bytes(damped.shape, count),
        purpose=f"{count:,} singular vectors of {damped.shape[0]:,} users and {damped.shape[1]:,} items",
        way_out="Use fewer n_factors, or fewer users or items through the filters.",
    )
    if _is_dense(damped.shape, count):
        values, vectors = _by_gram_matrix(damped, count, centred)
    elif damped.nnz >= _RANDOMISED_CLICKS and not centred:
        from sklearn.utils.extmath import randomized_svd  # imported by those who use it alone

        _, values, right = randomized_svd(
            damped.astype(np.float32), count, n_iter=_POWER_ITERATIONS, random_state=0, flip_sign=False
        )
        vectors = right.T
    else:
        values, vectors = _by_arpack(damped, count, centred)
    keep = values > _LEAST_VALUE * values[0]
    vectors, values = vectors[:, keep], values[keep]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(len(values))])
    return np.ascontiguousarray(vectors * signs, dtype=np.float32), values.astype(np.float32)


def solver_bytes(shape: tuple[int, ...], count: int) -> int:
    """Return what the decomposition takes beside the clicks."""
    if _is_dense(shape, count):
        return 24 * min(shape) ** 2 + 16 * count * sum(shape)
    return 8 * 4 * count * sum(shape)


def _is_dense(shape: tuple[int, ...], count: int) -> bool:
    # ARPACK has to leave one vector out, and is slow where it has to find many.
    return min(shape) <= _DENSE_SIDE or count > min(shape) // 3


def _by_gram_matrix(damped: sp.csr_array, count: int, centred: bool) -> tuple[_Double, _Double]:
    """Return values, descending, and vectors from the eigenvectors of the smaller of ``AᵀA`` and ``AAᵀ``."""
    n_users, n_items = damped.shape
    means = damped.mean(axis=0) if centred else np.zeros(n_items)
    if n_items <= n_users:
        gram = (damped.T @ damped).toarray()
        if centred:
            gram -= n_users * np.outer(means, means)
        eigenvalues, vectors = symmetric_eigen(gram, "cpu")
        return np.sqrt(np.maximum(eigenvalues[::-1][:count], 0)), vectors[:, ::-1][:, :count]
    gram = (damped @ damped.T).toarray()
    if centred:
        gram += gram.mean() - gram.mean(axis=0) - gram.mean(axis=1)[:, None]
    eigenvalues, left = symmetric_eigen(gram, "cpu")
    values, left = np.sqrt(np.maximum(eigenvalues[::-1][:count], 0)), left[:, ::-1][:, :count]
    right = damped.T @ left - np.outer(means, left.sum(axis=0))
    return values, right / np.maximum(values, np.finfo(np.float64).tiny)


def _by_arpack(damped: sp.csr_array, count: int, centred: bool) -> tuple[_Double, _Double]:
    """Return values, descending, and vectors from a seeded start, without which ARPACK draws its own."""
    matrix: Any = _centred(damped) if centred else damped
    _, values, right = scipy.sparse.linalg.svds(matrix, k=count, random_state=np.random.default_rng(0))
    order = np.argsort(-values, kind="stable")
    return values[order], right[order].T


def _centred(damped: sp.csr_array) -> scipy.sparse.linalg.LinearOperator:
    """Return ``A − 1μᵀ``, which is dense, as its products."""
    means = damped.mean(axis=0)

    def onto_users(columns: _Double) -> _Double:
        return np.asarray(damped @ columns - means @ columns)

    def onto_items(columns: _Double) -> _Double:
        sums = columns.sum(axis=0)
        return np.asarray(damped.T @ columns - (np.outer(means, sums) if columns.ndim == 2 else means * sums))

    return scipy.sparse.linalg.LinearOperator(
        damped.shape,
        matvec=onto_users,
        rmatvec=onto_items,
        matmat=onto_users,
        rmatmat=onto_items,
        dtype=np.float64,
    )
