"""EASE beyond memory: each item is predicted from the items most similar to it, block by block.

Steck 2019, "Markov Random Fields for Collaborative Filtering" (NeurIPS), Sec. 3.2: of the inverse ``(XᵀX + λI)⁻¹`` only
blocks are computed. The block D of an item has the k − 1 items of the largest cosine to it and itself; the inverse of
``(XᵀX + λI)[D, D]`` gives the weights with which D predicts the item and those of the share r of D that are nearest to
it. Items covered so need no block of their own. Items take their turn by how many others they share users with.

The weights of an item are those of EASE on the items of its block alone. They are exact where no item outside shares a
user with one inside, and with a single block of all items; elsewhere the less so, the smaller the blocks.

Notation used for shapes: U users, I items, W warm items, k items of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.models.base import TrainingSet
from coldray.models.linalg.products import Matrix, SparseProducts
from coldray.models.neighbours.item import counting_bytes, similar_items

Indices: TypeAlias = npt.NDArray[np.int32]
Inverse: TypeAlias = Callable[[Matrix, float], npt.NDArray[np.floating[Any]]]
"""From ``XᵀX`` and λ to ``(XᵀX + λI)⁻¹``."""


@dataclass(frozen=True, eq=False)
class _ItemBlock:
    """Items that predict, and those among them that are predicted from all the others."""

    members: Indices
    """D, ascending ``[k]``."""
    targets: Indices
    """Items of D, each in one block only."""


def item_blocks(train: TrainingSet, *, size: int, share: float) -> list[_ItemBlock]:
    """Return the blocks that cover all warm items.

    Parameters
    ----------
    size
        k, items of a block at most.
    share
        r, the share of a block's items that it may give weights to.
    """
    warm = train.warm_items
    if size >= len(warm):
        return [_ItemBlock(warm, warm)]
    if size == 1:
        return [_ItemBlock(warm[place : place + 1], warm[place : place + 1]) for place in range(len(warm))]
    found, similar = similar_items(train, k=size - 1, measure="cosine", shrinkage=0.0)
    counts = np.count_nonzero(similar, axis=1)
    covered = np.zeros(len(counts), np.bool_)
    blocks = []
    for item in warm[np.argsort(-counts[warm], kind="stable")]:
        if covered[item]:
            continue
        members = np.append(item, found[item, : counts[item]]).astype(np.int32)
        nearest = members[: max(1, round(share * len(members)))]
        targets = nearest[~covered[nearest]]
        covered[targets] = True
        blocks.append(_ItemBlock(np.sort(members), np.sort(targets)))
    return blocks


def block_weights(
    train: TrainingSet, blocks: list[_ItemBlock], regularization: float, inverse: Inverse
) -> sp.csr_array:
    """Return the weights of each item's block, CSR ``[I, I]`` float32: row j has what predicts item j, column j of B.

    Raises
    ------
    SingularMatrixError
        If a block of ``XᵀX + λI`` is not positive definite to working precision.
    """
    n_items = train.interactions.shape[1]
    lengths = np.zeros(n_items, np.int64)
    for block in blocks:
        lengths[block.targets] = len(block.members)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    indices, values = np.empty(starts[-1], np.int32), np.empty(starts[-1], np.float32)
    by_item = sp.csr_array(train.interactions.T, dtype=np.float32)
    for block in blocks:
        rows = by_item[block.members]
        found = inverse(SparseProducts(sp.csr_array(rows.T)).dense(rows), regularization)
        places = np.searchsorted(block.members, block.targets)
        columns = np.asarray(-found[:, places] / np.diag(found)[places], np.float32)
        columns[places, np.arange(len(places))] = 0.0
        cells = starts[block.targets][:, None] + np.arange(len(block.members))
        indices[cells], values[cells] = block.members, columns.T
    weights = sp.csr_array((values, indices, starts), shape=(n_items, n_items))
    weights.eliminate_zeros()
    return weights


def block_bytes(n_users: int, n_items: int, size: int) -> int:
    """Return what finding the neighbours, they and the weights, and the matrices of a block take."""
    size = min(size, n_items)
    return counting_bytes(n_users, n_items) + 24 * n_items * size + 28 * size**2
