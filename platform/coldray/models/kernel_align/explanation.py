"""The scores of KernelAlign taken apart by clicked item and attribute.

The covariance of an item with others is divided among its attributes. The additive part is divided as it is. The
product part ``a_p exp(−Σ_j l_j (1 − C_j) − Σ_s q_s Δx_s²)`` grows from what it is for items with nothing in common (C
= 0, Δx² = 2, as far apart as two items are on average) to what it is; on the straight way between them attribute j
brings ``b u_j (e^u − 1)/u`` with ``u_j = l_j C_j`` or ``q_s (2 − Δx_s²)``, u their sum and b the value at the start
(the integrated gradients of Sundararajan, Taly and Yan, ICML 2017, in closed form).

Notation used for shapes: h clicked items, n items asked for, W warm items, p parts, r row items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet
from coldray.models.base import Items
from coldray.models.explanation import CLICKS, COMMON, POPULARITY, Explanation
from coldray.models.kernel_align.covariance import ItemCovariance
from coldray.models.kernel_align.inducing_weights import InducingWeights
from coldray.models.kernel_align.warming import Warming
from coldray.models.kernel_align.weights import ExactWeights

_FAR = 2.0
"""Squared distance of two random items in a number, in variances."""


def _covariance_parts(
    covariance: ItemCovariance, rows: FeatureSet, item: FeatureSet, *, own: int | None = None
) -> tuple[tuple[str, ...], npt.NDArray[np.float64]]:
    """Return the names of the attributes, and what each brings to the covariance of `item` with each row.

    Parameters
    ----------
    item
        The features of one item.
    own
        The row that is the item itself, if any does.

    Returns
    -------
    tuple
        p − 1 names, and float64 ``[r, p]``: the last column is what two items share that have nothing in common. The
        columns add up to the covariance.
    """
    basis, w = covariance.basis, covariance.weights
    names = tuple(rows.features)
    parts = np.zeros((rows.n_items, len(names) + 1))
    grown = np.zeros((rows.n_items, len(names)))
    start = 0.0
    for k, (kernel, diagonal) in enumerate(zip(basis.kernels(rows, item), basis.diagonals(item), strict=True)):
        cells = kernel[:, 0].astype(np.float64)
        if own is not None:
            cells[own] = diagonal[0]
        place = names.index(basis.terms[k].attribute)
        parts[:, place] += w.additive[k] * cells
        if k in basis.product:
            decay = float(w.decays[basis.product.index(k)])
            grown[:, place] += decay * cells
            start -= decay
    for s, distance in enumerate(basis.distances(rows, item)):
        squared = distance[:, 0].astype(np.float64)
        if own is not None:
            squared[own] = 0
        place = names.index(basis.numbers[s])
        parts[:, place] += w.bumps[s] * np.exp(-w.bump_decays[s] * squared)
        grown[:, place] += w.number_decays[s] * (_FAR - squared)
        start -= _FAR * float(w.number_decays[s])
    base = w.product * np.exp(start)
    parts[:, :-1] += base * grown * _growth(grown.sum(axis=1))[:, None]
    parts[:, -1] = w.constant + base
    return names, parts


def _growth(total: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return ``(e^u − 1)/u``, 1 at u = 0."""
    safe = np.where(total == 0, 1.0, total)
    return np.where(total == 0, 1.0, np.expm1(safe) / safe)


_CLICKS_PER_BLOCK = 512
"""Clicked items whose rows ``[h, W]`` are held at once."""


def kernel_explanations(
    weights: ExactWeights | InducingWeights,
    covariance: ItemCovariance,
    features: FeatureSet,
    history: sp.csr_array,
    items: Items,
    *,
    rises: npt.NDArray[np.float64] | None = None,
    warming: Warming | None = None,
) -> list[Explanation]:
    """Return the explanation of each of `items` for the clicks of one user, CSR ``[1, I]``.

    What a click does to all items is computed once: a list costs little more than its first item.

    Parameters
    ----------
    features
        Of all I items.
    rises
        By what share the popularity raises the score of each item ``[n]``; None if it has no part in it.
    warming
        What clicks on the items add, if they do.
    """
    clicked = np.flatnonzero(np.isin(weights.warm_items, history.indices))
    values = history[[0]][:, weights.warm_items[clicked]].toarray()[0]
    rows = features.take(weights.basis_items)
    names: tuple[str, ...] = ()
    parts = []
    for item in items:
        itself = np.flatnonzero(weights.basis_items == item)
        own = int(itself[0]) if len(itself) else None
        names, found = _covariance_parts(covariance, rows, features.take(np.array([item])), own=own)
        parts.append(found)
    shares = _shares(weights, clicked, values, items, parts)
    named = (*names, COMMON)
    if rises is not None:
        shares = [
            np.append(cells, r * cells.sum(axis=1, keepdims=True), axis=1)
            for cells, r in zip(shares, rises, strict=True)
        ]
        named = (*named, POPULARITY)
    if warming is not None and isinstance(weights, ExactWeights):
        of_clicks = values[:, None] * warming.columns(items, weights)[clicked]
        shares = [
            np.append(factor * cells, added[:, None], axis=1)
            for factor, cells, added in zip(warming.shares(items, weights), shares, of_clicks.T, strict=True)
        ]
        named = (*named, CLICKS)
    history_items = weights.warm_items[clicked]
    return [
        Explanation(int(item), float(cells.sum()), history_items, named, cells)
        for item, cells in zip(items, shares, strict=True)
    ]


def _shares(
    weights: ExactWeights | InducingWeights,
    clicked: npt.NDArray[np.intp],
    values: npt.NDArray[np.float32],
    items: Items,
    parts: list[npt.NDArray[np.float64]],
) -> list[npt.NDArray[np.float64]]:
    """Return what each clicked item adds through each part, for each item asked for: n times ``[h, p]``."""
    blocks: list[list[npt.NDArray[np.float64]]] = [[] for _ in parts]
    for start in range(0, max(len(clicked), 1), _CLICKS_PER_BLOCK):
        block = slice(start, start + _CLICKS_PER_BLOCK)
        clicks = np.zeros((len(clicked[block]), len(weights.warm_items)), np.float32)
        clicks[np.arange(len(clicks)), clicked[block]] = values[block]
        influence = weights.influence(clicks)
        for held, item, cells in zip(blocks, items, parts, strict=True):
            on_item = weights.influence_on(influence, int(item)) if isinstance(weights, ExactWeights) else influence
            held.append(on_item @ cells)
    return [np.concatenate(held) for held in blocks]
