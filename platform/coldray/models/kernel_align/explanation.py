"""The scores of KernelAlign taken apart by clicked item and attribute.

Notation used for shapes: h clicked items, n items asked for, W warm items, p parts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items
from coldray.models.explanation import COMMON, POPULARITY, Explanation
from coldray.models.kernel_align.covariance import ItemCovariance
from coldray.models.kernel_align.inducing_weights import InducingWeights
from coldray.models.kernel_align.parts import covariance_parts
from coldray.models.kernel_align.weights import ExactWeights

CLICKS_PER_BLOCK = 512
"""Clicked items whose rows ``[h, W]`` are held at once."""


def kernel_explanations(
    weights: ExactWeights | InducingWeights,
    covariance: ItemCovariance,
    features: FeatureSet,
    history: sp.csr_array,
    items: Items,
    *,
    rises: npt.NDArray[np.float64] | None = None,
) -> list[Explanation]:
    """Return the explanation of each of `items` for the clicks of one user, CSR ``[1, I]``.

    What a click does to all items is computed once: a list costs little more than its first item.

    Parameters
    ----------
    features
        Of all I items.
    rises
        By what share the popularity raises the score of each item ``[n]``; None if it has no part in it.
    """
    clicked = np.flatnonzero(np.isin(weights.warm_items, history.indices))
    values = history[[0]][:, weights.warm_items[clicked]].toarray()[0]
    rows = features.take(weights.basis_items)
    names: tuple[str, ...] = ()
    parts = []
    for item in items:
        itself = np.flatnonzero(weights.basis_items == item)
        own = int(itself[0]) if len(itself) else None
        names, found = covariance_parts(covariance, rows, features.take(np.array([item])), own=own)
        parts.append(found)
    shares = _shares(weights, clicked, values, parts)
    named = (*names, COMMON)
    if rises is not None:
        shares = [
            np.append(cells, r * cells.sum(axis=1, keepdims=True), axis=1)
            for cells, r in zip(shares, rises, strict=True)
        ]
        named = (*named, POPULARITY)
    history_items = weights.warm_items[clicked]
    return [
        Explanation(int(item), float(cells.sum()), history_items, named, cells)
        for item, cells in zip(items, shares, strict=True)
    ]


def _shares(
    weights: ExactWeights | InducingWeights,
    clicked: npt.NDArray[np.intp],
    values: npt.NDArray[np.float32],
    parts: list[npt.NDArray[np.float64]],
) -> list[npt.NDArray[np.float64]]:
    """Return what each clicked item adds through each part, for each item asked for: n times ``[h, p]``."""
    blocks: list[list[npt.NDArray[np.float64]]] = [[] for _ in parts]
    for start in range(0, max(len(clicked), 1), CLICKS_PER_BLOCK):
        block = slice(start, start + CLICKS_PER_BLOCK)
        clicks = np.zeros((len(clicked[block]), len(weights.warm_items)), np.float32)
        clicks[np.arange(len(clicks)), clicked[block]] = values[block]
        influence = weights.influence(clicks)
        for held, cells in zip(blocks, parts, strict=True):
            held.append(influence @ cells)
    return [np.concatenate(held) for held in blocks]
