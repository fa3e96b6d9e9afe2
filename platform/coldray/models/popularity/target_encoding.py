"""Target encodings: what a label says of a number, out of fold, and what the labels of an item say together.

An item's own target must not enter the encodings that describe it: a model would read the target back from them.
Leaving just that item out is no help, as the label's mean then *falls* where the target is high. So items are dealt
into folds, and each is described by encodings of the other folds.

Notation used for shapes: n items, d labels, K folds.

Source: Micci-Barreca, *A preprocessing scheme for high-cardinality categorical attributes*, 2001, Eq. 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Numbers = npt.NDArray[np.float64]
_TOP_LABELS = 3
"""Labels of an item with the highest encodings, whose mean is one of the aggregates."""


def deal(n_items: int, folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each item ``[n]``: at most `folds` folds, none of them empty, of sizes that differ by one."""
    return np.random.default_rng(seed).permutation(n_items) % max(min(folds, n_items), 1)


def fold_means(target: Numbers, folds: npt.NDArray[np.int64]) -> Numbers:
    """Return the mean target outside each fold, and last that of all items, ``[K + 1]``; 0 where there is no item."""
    outside = _outside(folds)
    return np.asarray((outside @ target) / np.maximum(outside.sum(axis=1), 1))


def label_encodings(matrix: sp.csr_array, target: Numbers, folds: npt.NDArray[np.int64], shrinkage: float) -> Numbers:
    """Return the shrunken mean of the target of each label's items, relative to the mean of all.

    ``Σ_i (y_i − ȳ) / (count + shrinkage)`` over the items with the label: 0 for a label that nobody has.

    Parameters
    ----------
    matrix
        Labels of items, CSR ``[n, d]``; a cell that is stored is a label.
    target
        y ``[n]``.
    folds
        Fold of each item ``[n]``.
    shrinkage
        Items at the mean that are added to every label.

    Returns
    -------
    Numbers
        float64 ``[K + 1, d]``: row k from the items outside fold k, the last row from all items.
    """
    present = sp.csr_array((np.ones(matrix.nnz), matrix.indices, matrix.indptr), shape=matrix.shape)
    outside = _outside(folds)
    counts = outside @ present
    sums = (outside * target) @ present - fold_means(target, folds)[:, None] * counts
    # A shrinkage of 0 leaves labels without items: their sum is 0, and so is their encoding.
    return np.asarray(sums / np.where(counts + shrinkage > 0, counts + shrinkage, 1))


def aggregates(matrix: sp.csr_array, encodings: Numbers, rows: npt.NDArray[np.integer]) -> npt.NDArray[np.float64]:
    """Return what the labels of each item say together: mean, highest, and mean of the three highest.

    Parameters
    ----------
    matrix
        Labels of items, CSR ``[n, d]``.
    encodings
        ``[·, d]``.
    rows
        The row of `encodings` that describes each item ``[n]``.

    Returns
    -------
    NDArray
        float64 ``[n, 3]``; all 0 for an item without labels.
    """
    n_items, counts = matrix.shape[0], np.diff(matrix.indptr)
    items = np.repeat(np.arange(n_items), counts)
    values = encodings[np.asarray(rows)[items], matrix.indices]
    descending = values[np.lexsort((-values, items))]
    place = np.arange(len(values)) - np.repeat(matrix.indptr[:-1], counts)
    best, leading = place == 0, place < _TOP_LABELS
    columns = [
        np.bincount(items, values, n_items) / np.maximum(counts, 1),
        np.bincount(items[best], descending[best], n_items),
        np.bincount(items[leading], descending[leading], n_items) / np.clip(counts, 1, _TOP_LABELS),
    ]
    return np.column_stack(columns)


def _outside(folds: npt.NDArray[np.int64]) -> Numbers:
    """Return ones ``[K + 1, n]`` where an item is outside the fold; the last row is all ones."""
    n_folds = int(folds.max(initial=-1)) + 1
    return np.asarray(np.arange(n_folds + 1)[:, None] != folds, np.float64)
