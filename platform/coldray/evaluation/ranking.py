"""The k best candidates of each user, from blocks of users, so that no users × items matrix is ever held.

Notation used for shapes: U users, I items, n candidates, m ranked users, b users of a block, k list length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.errors import ConfigError, ModelError
from coldray.evaluation.topk import check_list_length, nonzero_pattern, run_blocks, top_k

IntArray: TypeAlias = npt.NDArray[np.int32]
FloatArray: TypeAlias = npt.NDArray[np.float32]
Scorer: TypeAlias = Callable[[sp.csr_array], FloatArray]
"""From histories ``[b, I]`` to scores ``[b, n]`` of fixed items."""

_BLOCK_BYTES = 32 << 20
"""Scores a thread holds by default: large enough for matrix products to run at full speed."""
_BLOCK_USERS = 1024
"""Users a block by default at most, so that small catalogues still give every thread its share."""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Lists of items for users, best first.

    Raises
    ------
    ModelError
        If the shapes do not fit together.
    """

    items: IntArray
    """Item indices ``[m, k]``; -1 where a user has fewer than k candidates."""
    scores: FloatArray
    """Scores ``[m, k]``; -inf where the item is -1."""
    users: IntArray
    """User indices ``[m]``."""

    def __post_init__(self) -> None:
        if self.items.ndim != 2 or self.items.shape != self.scores.shape or self.users.shape != self.items.shape[:1]:
            raise ModelError(
                f"Items {self.items.shape}, scores {self.scores.shape} and users {self.users.shape} are no ranking: "
                "[m, k], [m, k] and [m] are needed."
            )

    @property
    def k(self) -> int:
        """Length of a list."""
        return int(self.items.shape[1])


def rank(
    score_block: Callable[..., FloatArray],
    histories: sp.csr_array,
    candidates: npt.NDArray[np.integer[Any]],
    *,
    k: int,
    exclude: sp.csr_array | None = None,
    users: npt.NDArray[np.integer[Any]] | None = None,
    profiles: Callable[[IntArray], Any] | None = None,
    block_size: int | None = None,
    n_threads: int | None = None,
) -> Ranking:
    """Return the `k` best candidates of each user; equal scores in the order of the item index.

    The lists depend neither on `block_size` nor on `n_threads`, as long as a user's scores do not: matrix products
    may round differently in blocks of another height.

    Parameters
    ----------
    score_block
        A :data:`Scorer`: from histories ``[b, I]`` to float32 scores ``[b, n]`` of the candidates. Called from several
        threads at once when `n_threads` is above 1, each with its own block; torch models switch gradients off inside
        it.
    histories
        Clicks by which the users are described, CSR ``[U, I]``.
    candidates
        Item indices ``[n]`` that compete for a place, strictly ascending.
    k
        Length of a list; lists of users with fewer candidates end in -1.
    exclude
        Items a user must not be shown, CSR ``[U, I]``; typically the train positives. Non-zero cells count.
    users
        User indices ``[m]`` to rank for; all users by default.
    profiles
        Returns what is known of some users, by their indices ``[b]``, beside their histories: it is given to
        `score_block` after these.
    block_size
        Users scored at a time. Default: as many as fit 32 MiB of scores, at most 1024 and at least 1.
    n_threads
        Blocks worked on at the same time. Default: the CPUs this process may use.

    Raises
    ------
    NumericalError
        If a score is NaN; the message names the user.
    ModelError
        If `score_block` returns anything but float32 ``[b, n]``, or `exclude` is not of the shape of `histories`.
    ConfigError
        If `candidates` or `users` is out of range or order, or `k`, `block_size` or `n_threads` is below 1.
    """
    check_list_length(k)
    n_users, n_items = histories.shape
    requested = np.arange(n_users, dtype=np.int32) if users is None else users
    _check_indices(candidates, n_items, requested, n_users)
    chosen = requested.astype(np.int32)
    block_size = _block_size(len(candidates)) if block_size is None else block_size
    threads = cpu_count() if n_threads is None else n_threads
    if block_size < 1 or threads < 1:
        raise ConfigError(f"block_size is {block_size} and n_threads {threads}; both must be at least 1.")
    banned = None if exclude is None else _in_candidates(exclude, histories.shape, candidates)
    items = np.empty((len(chosen), k), np.int32)
    scores = np.empty((len(chosen), k), np.float32)

    def work(rows: slice) -> None:
        members = chosen[rows]
        described = () if profiles is None else (profiles(members),)
        block = score_block(_rows(histories, members, whole=users is None), *described)
        _check_block(block, len(members), len(candidates))
        skip = None if banned is None else _rows(banned, members, whole=users is None)
        # One thread here: the blocks themselves already keep every thread busy.
        columns, scores[rows] = top_k(block, k, exclude=skip, row_ids=members, n_threads=1)
        items[rows] = _items_of(columns, candidates)

    run_blocks(work, len(chosen), block_size, threads)
    return Ranking(items, scores, chosen)


def _block_size(n_candidates: int) -> int:
    return min(_BLOCK_USERS, max(1, _BLOCK_BYTES // (4 * max(1, n_candidates))))


def _rows(matrix: sp.csr_array, members: IntArray, *, whole: bool) -> sp.csr_array:
    """Return the rows of `members`; a slice, which is cheaper, where all users are ranked in order."""
    return matrix[members[0] : members[-1] + 1] if whole else matrix[members]


def _items_of(columns: IntArray, candidates: npt.NDArray[np.integer[Any]]) -> IntArray:
    """Turn positions among the candidates into item indices; -1 stays."""
    # The appended -1 is what position -1 points at.
    return np.append(candidates, -1).astype(np.int32)[columns]


def _in_candidates(
    exclude: sp.csr_array, shape: tuple[int, int], candidates: npt.NDArray[np.integer[Any]]
) -> sp.csr_array:
    """Return the columns of the candidates ``[U, n]``."""
    if exclude.shape != shape:
        raise ModelError(f"exclude has shape {exclude.shape}, the histories {shape}; they must be equal.")
    pattern = nonzero_pattern(exclude)
    return pattern if len(candidates) == shape[1] else sp.csr_array(pattern[:, candidates])


def _check_indices(
    candidates: npt.NDArray[np.integer[Any]], n_items: int, users: npt.NDArray[np.integer[Any]], n_users: int
) -> None:
    if candidates.dtype.kind not in "iu" or users.dtype.kind not in "iu":
        raise ConfigError(
            f"candidates are {candidates.dtype} and users {users.dtype}; integer indices are needed. "
            "numpy.flatnonzero turns a mask into them."
        )
    if len(candidates) == 0:
        raise ConfigError("There is no candidate to rank; candidates needs at least 1 item index.")
    if (np.diff(candidates) <= 0).any():
        raise ConfigError("candidates must be strictly ascending, since ties go to the lower item; use numpy.unique.")
    if candidates[0] < 0 or candidates[-1] >= n_items:
        raise ConfigError(f"candidates reach from {candidates[0]} to {candidates[-1]}; there are {n_items} items.")
    if len(users) and (users.min() < 0 or users.max() >= n_users):
        raise ConfigError(f"users reach from {users.min()} to {users.max()}; there are {n_users} users.")


def _check_block(block: FloatArray, n_users: int, n_candidates: int) -> None:
    if block.shape != (n_users, n_candidates) or block.dtype != np.float32:
        raise ModelError(
            f"The model returned {block.dtype} scores of shape {block.shape} for {n_users} users and {n_candidates} "
            f"candidates; float32 of shape {(n_users, n_candidates)} is needed."
        )
