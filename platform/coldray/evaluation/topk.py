"""The k best columns of each row of scores, exactly and in one order whatever the block size or thread count.

A score and its column are packed into one int64 that sorts as (score descending, column ascending), so a single
integer sort gives the order *and* the tie rule. Most cells never get a key: the k-th largest of the maxima of
disjoint column groups is a lower bound of the k-th largest score, and only cells at or above it are kept.

Notation used for shapes: b rows, n columns, k list length, g column groups, c kept cells of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.device import cpu_count
from coldray.core.errors import ConfigError, ModelError, NumericalError

IntArray: TypeAlias = npt.NDArray[np.int32]
ScoreArray: TypeAlias = npt.NDArray[np.float32]
_Keys: TypeAlias = npt.NDArray[np.int64]

_BLOCK_CELLS = 1 << 20
"""Scores handled at a time by a thread: 4 MiB, which stay in the cache from one pass to the next."""
_LARGEST_GROUP = 64
"""Columns of a group at most. Larger groups save little, since one maximum a group is already a small share."""
_SLACK = 4
"""There are at least ``SLACK * k`` groups, and a row that keeps more than ``SLACK * k`` cells is sorted in full."""

_NOTHING = np.int64(np.iinfo(np.int64).max)
"""The key of no cell; sorts last. No score has it: its upper half would be the key of a NaN."""


def check_list_length(k: int) -> None:
    """Raise :class:`ConfigError` unless a list of `k` makes sense."""
    if k < 1:
        raise ConfigError(f"k is {k}; a list needs at least 1 place.")


def run_blocks(work: Callable[[slice], None], n_rows: int, block_size: int, n_threads: int) -> None:
    """Call `work` on consecutive row slices of at most `block_size`, in up to `n_threads` threads.

    The error of the first failing slice is raised; slices not yet started are then dropped.
    """
    blocks = [slice(start, min(start + block_size, n_rows)) for start in range(0, n_rows, block_size)]
    if n_threads == 1 or len(blocks) < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(min(n_threads, len(blocks))) as pool:
        for _ in pool.map(work, blocks):
            pass


def top_k(
    scores: ScoreArray,
    k: int,
    *,
    exclude: sp.csr_array | None = None,
    row_ids: npt.NDArray[np.integer[Any]] | None = None,
    n_threads: int | None = None,
) -> tuple[IntArray, ScoreArray]:
    """Return the `k` highest scores of each row, highest first; ties go to the lower column, at the last place too.

    Parameters
    ----------
    scores
        float32 ``[b, n]``; not modified. Infinite scores are ranked like any other.
    k
        Length of a list; may exceed n.
    exclude
        Sparse ``[b, n]``; columns of its non-zero cells never appear in the row's list. Scores there are not read.
    row_ids
        Integers ``[b]`` by which an error names the rows, such as user indices. Default: the position.
    n_threads
        Threads over blocks of rows; the result does not depend on it. Default: the CPUs this process may use.

    Returns
    -------
    indices : int32 ``[b, k]``
        Columns; -1 where fewer than `k` are left.
    values : float32 ``[b, k]``
        Their scores; -inf where the index is -1. A negative zero comes back as zero.

    Raises
    ------
    NumericalError
        If a score is NaN; the message names the row.
    ModelError
        If `scores` is not a float32 matrix, or `exclude` or `row_ids` does not fit it.
    ConfigError
        If `k` or `n_threads` is below 1.
    """
    threads = _checked_threads(n_threads)
    check_list_length(k)
    _check_shapes(scores, exclude, row_ids)
    n_rows, n_columns = scores.shape
    names = np.arange(n_rows) if row_ids is None else row_ids
    banned = None if exclude is None else nonzero_pattern(exclude)
    indices = np.full((n_rows, k), -1, np.int32)
    values = np.full((n_rows, k), -np.inf, np.float32)

    def work(rows: slice) -> None:
        keys = _block_keys(scores[rows], k, None if banned is None else banned[rows], names[rows])
        width = keys.shape[1]
        indices[rows, :width], values[rows, :width] = _decode(keys)

    run_blocks(work, n_rows, max(1, _BLOCK_CELLS // max(1, n_columns)), threads)
    return indices, values


def merge_top_k(
    a_idx: IntArray, a_val: ScoreArray, b_idx: IntArray, b_val: ScoreArray, k: int
) -> tuple[IntArray, ScoreArray]:
    """Merge two lists a row into the top `k`: higher score first, ties to the lower item index.

    Parameters
    ----------
    a_idx, b_idx
        int32 ``[b, p]`` and ``[b, q]``: item indices, -1 where a list has ended. No item is on both sides of a row.
    a_val, b_val
        float32 of the same shapes; not read where the index is -1.
    k
        Length of the merged lists.

    Returns
    -------
    tuple
        Item indices int32 ``[b, k]`` and scores float32 ``[b, k]``, padded as by :func:`top_k`.

    Raises
    ------
    NumericalError
        If the score of an item is NaN.
    ModelError
        If the shapes do not fit.
    ConfigError
        If `k` is below 1.
    """
    check_list_length(k)
    if a_idx.shape != a_val.shape or b_idx.shape != b_val.shape or len(a_idx) != len(b_idx):
        raise ModelError(
            f"Lists of shapes {a_idx.shape}/{a_val.shape} and {b_idx.shape}/{b_val.shape} cannot be merged: indices "
            "and scores need one shape a side, and both sides the same number of rows."
        )
    items = np.concatenate([a_idx, b_idx], axis=1)
    scores = np.concatenate([a_val, b_val], axis=1).astype(np.float32, copy=False)
    listed = items >= 0
    unusable = np.flatnonzero((np.isnan(scores) & listed).any(axis=1))
    if len(unusable):
        raise NumericalError(f"A score of row {unusable[0]} is NaN; NaN cannot be merged into a ranking.")
    keys = np.where(listed, _encode(scores, items), _NOTHING)
    keys.sort(axis=1)
    indices = np.full((len(items), k), -1, np.int32)
    values = np.full((len(items), k), -np.inf, np.float32)
    width = min(k, items.shape[1])
    indices[:, :width], values[:, :width] = _decode(keys[:, :width])
    return indices, values


def nonzero_pattern(matrix: sp.csr_array) -> sp.csr_array:
    """Return `matrix` itself, or a copy without explicit zeros and duplicate cells if it has any."""
    if matrix.has_canonical_format and np.count_nonzero(matrix.data) == matrix.nnz:
        return matrix
    pattern = sp.csr_array(matrix, copy=True)
    pattern.sum_duplicates()
    pattern.eliminate_zeros()
    return pattern


def cell_positions(rows: sp.csr_array) -> npt.NDArray[np.int64]:
    """Return where the stored cells of `rows` ``[b, n]`` are in the flattened dense matrix."""
    offsets = np.arange(rows.shape[0], dtype=np.int64) * rows.shape[1]
    positions: npt.NDArray[np.int64] = np.repeat(offsets, np.diff(rows.indptr)) + rows.indices
    return positions


def _block_keys(block: ScoreArray, k: int, exclude: sp.csr_array | None, names: npt.NDArray[np.integer[Any]]) -> _Keys:
    """Return the keys of the best ``min(k, n)`` cells of each row, ascending."""
    if exclude is not None:
        block = np.array(block, order="C")
        block.reshape(-1)[cell_positions(exclude)] = -np.inf
    block = np.ascontiguousarray(block)
    n_rows, n = block.shape
    group = min(_LARGEST_GROUP, n // (_SLACK * k))
    if group < 2:
        _refuse_nan(block, names)
        return _all_keys(block, k, exclude)
    maxima = _group_maxima(block, group)  # [b, g]
    _refuse_nan(maxima, names)
    place = maxima.shape[1] - k
    maxima.partition(place, axis=1)
    threshold = maxima[:, place]  # [b]
    kept = np.flatnonzero(block >= threshold[:, None])  # [c]
    counts = np.diff(np.searchsorted(kept, np.arange(n_rows + 1, dtype=np.int64) * n))
    # Many cells kept means ties or a clustered row. A threshold of -inf, which cannot tell excluded cells from others,
    # is among them: it keeps the whole row, at least 2 × SLACK × k cells.
    few = counts <= _SLACK * k
    if few.all():
        return _kept_keys(block, kept, counts, k)
    keys = np.empty((n_rows, k), np.int64)
    many = np.flatnonzero(~few)
    keys[many] = _all_keys(block[many], k, None if exclude is None else exclude[many])
    if few.any():
        keys[few] = _kept_keys(block, kept, counts, k, few)
    return keys


def _group_maxima(block: ScoreArray, group: int) -> ScoreArray:
    """Return the maxima ``[b, g]`` of groups of `group` columns that lie g apart; NaN where a group has a NaN."""
    n_rows, n = block.shape
    n_groups = n // group
    covered = group * n_groups
    # Strided groups: in a catalogue sorted by popularity, neighbours are high together and would share a group.
    maxima: ScoreArray = block[:, :covered].reshape(n_rows, group, n_groups).max(axis=1)
    for start in range(covered, n, n_groups):
        rest = block[:, start : start + n_groups]
        np.maximum(maxima[:, : rest.shape[1]], rest, out=maxima[:, : rest.shape[1]])
    return maxima


def _kept_keys(
    block: ScoreArray,
    kept: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    k: int,
    rows: npt.NDArray[np.bool_] | None = None,
) -> _Keys:
    """Return the k lowest keys ``[b, k]`` of the kept cells; of the marked `rows` alone if given."""
    row_starts = np.arange(len(block), dtype=np.int64) * block.shape[1]
    if rows is not None:
        kept, counts, row_starts = kept[np.repeat(rows, counts)], counts[rows], row_starts[rows]
    keys = np.full((len(counts), counts.max()), _NOTHING)
    scores = block.reshape(-1)[kept]
    columns = kept - np.repeat(row_starts, counts)
    # A mask fills row by row, which is the order of `kept`.
    keys[np.arange(keys.shape[1]) < counts[:, None]] = _encode(scores, columns)
    keys.sort(axis=1)
    return keys[:, :k]


def _all_keys(block: ScoreArray, k: int, exclude: sp.csr_array | None) -> _Keys:
    """Return the ``min(k, n)`` lowest keys of each row, from a key for every cell."""
    n = block.shape[1]
    keys = _encode(block, np.arange(n, dtype=np.int64))
    if exclude is not None:
        keys.reshape(-1)[cell_positions(exclude)] = _NOTHING
    if k < n:
        keys.partition(k - 1, axis=1)
        keys = keys[:, :k]
    keys.sort(axis=1)
    return keys


def _encode(scores: ScoreArray, columns: npt.NDArray[np.integer[Any]]) -> _Keys:
    """Pack scores and columns into int64 that ascend as (score descending, column ascending)."""
    # Zero is added so that the two floating-point zeros, which are equal, get one pattern.
    order = _flip_negative((scores + np.float32(0)).view(np.int32))
    keys: _Keys = (~order).astype(np.int64)
    keys <<= 32
    keys |= columns
    return keys


def _decode(keys: _Keys) -> tuple[IntArray, ScoreArray]:
    """Return the columns (-1) and scores (-inf) of keys; in brackets those of `_NOTHING`."""
    absent = keys == _NOTHING
    columns = (keys & 0xFFFFFFFF).astype(np.int32)
    scores = _flip_negative(~(keys >> 32).astype(np.int32)).view(np.float32)
    columns[absent] = -1
    scores[absent] = -np.inf
    return columns, scores


def _flip_negative(bits: IntArray) -> IntArray:
    """Map the bits of float32 to integers of the same order; applied twice, it is the identity."""
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def _refuse_nan(cells: ScoreArray, names: npt.NDArray[np.integer[Any]]) -> None:
    unusable = np.isnan(cells)
    if unusable.any():
        row = names[np.flatnonzero(unusable.any(axis=1))[0]]
        raise NumericalError(
            f"A score of row {row} is NaN; NaN cannot be ranked. Look for a diverged fit or non-finite inputs."
        )


def _checked_threads(n_threads: int | None) -> int:
    if n_threads is None:
        return cpu_count()
    if n_threads < 1:
        raise ConfigError(f"n_threads is {n_threads}; at least 1 thread is needed.")
    return n_threads


def _check_shapes(
    scores: ScoreArray, exclude: sp.csr_array | None, row_ids: npt.NDArray[np.integer[Any]] | None
) -> None:
    if scores.ndim != 2 or scores.dtype != np.float32:
        raise ModelError(
            f"Scores are {scores.dtype} of shape {scores.shape}; a float32 matrix [rows, columns] is needed."
        )
    if exclude is not None and exclude.shape != scores.shape:
        raise ModelError(f"exclude has shape {exclude.shape}, the scores {scores.shape}; they must be equal.")
    if row_ids is not None and len(row_ids) != len(scores):
        raise ModelError(f"{len(row_ids)} row ids were given for {len(scores)} rows of scores.")
