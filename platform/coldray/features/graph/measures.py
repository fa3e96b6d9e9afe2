"""What is measured of a graph of users and items: PageRank, communities, walks and nearest items.

Sources: Page et al., *The PageRank citation ranking*, 1999; walks that begin at some nodes again and again: Haveliwala,
*Topic-sensitive PageRank*, WWW 2002; communities: Blondel et al., *Fast unfolding of communities in large networks*,
2008, with the modularity of Dugué and Perez, 2015. scikit-network computes them; walks from every item at once are
one system of linear equations, which LAPACK solves.

Notation used for shapes: u users, i items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from scipy.linalg import solve

from coldray.core.extras import require_extra
from coldray.core.memory import require_memory
from coldray.features.graph.snapshots import degrees
from coldray.features.known_clicks import Floats

DAMPING = 0.85
"""The chance that a walk goes on at a node, and does not begin again."""
PACKAGE = "sknetwork"
"""What computes PageRank and communities, of the extra ``graph``."""
_STEPS, _TOLERANCE = 200, 1e-12
_DENSE_BYTES = 36
"""Of a pair of items, while walks are solved for: the matrix, sparse and dense, what LAPACK makes of it, the result."""
_BLOCK = 1 << 22
"""Cosines that are held at once."""


def require_library(word: str) -> None:
    """Raise :class:`MissingExtraError` where what computes a word of moments is not installed."""
    require_extra("graph", f"The word {word!r} of moment_features", (PACKAGE,))


def page_ranks(clicks: sp.csr_array) -> tuple[Floats, Floats]:
    """Return the PageRank of users ``[u]`` and of items ``[i]``, of all nodes together 1.

    Raises
    ------
    MissingExtraError
        If the extra is not installed.
    """
    require_library("pagerank")
    from sknetwork.ranking import PageRank

    ranking = PageRank(damping_factor=DAMPING, solver="piteration", n_iter=_STEPS, tol=_TOLERANCE)
    ones = [np.ones(size) for size in clicks.shape]  # by default walks begin at users alone
    ranking.fit(sp.csr_matrix(clicks), weights_row=ones[0], weights_col=ones[1], force_bipartite=True)
    return np.asarray(ranking.scores_row_, np.float64), np.asarray(ranking.scores_col_, np.float64)


def communities(clicks: sp.csr_array) -> npt.NDArray[np.int64]:
    """Return the number of the community of each item ``[i]``, by Louvain's method on users and items together.

    Raises
    ------
    MissingExtraError
        If the extra is not installed.
    """
    require_library("item_community")
    from sknetwork.clustering import Louvain

    found = Louvain(random_state=0).fit(sp.csr_matrix(clicks), force_bipartite=True)
    return np.asarray(found.labels_col_, np.int64)


def walks(clicks: sp.csr_array, most: int) -> sp.csr_array:
    """Return the personalised PageRank of items, walks beginning at each of them ``[i, i]``: the `most` highest a row.

    Of a walk that begins at item j the chance to be at items is row j of ``(1 - α) (I - α² W)⁻¹``, where α is the
    damping and ``W = D_i⁻¹ Xᵀ D_u⁻¹ X`` goes from an item to one of its users and from there to one of their items.
    It is solved in its symmetric form ``D_i^½ W D_i^-½``, which is positive definite. An item is none of its own.

    Raises
    ------
    CatalogTooLargeError
        If a matrix of all pairs of items does not fit in memory.
    """
    n_items = clicks.shape[1]
    require_memory(
        _DENSE_BYTES * n_items**2,
        purpose=f"walks between {n_items:,} items",
        way_out="Leave 'item_walk' out of moment_features, or keep fewer items (filters.min_item_interactions).",
        need_of_items=lambda items: _DENSE_BYTES * items**2,
        n_items=n_items,
    )
    root = np.sqrt(degrees(clicks, 0))
    half = sp.diags_array(degrees(clicks, 1) ** -0.5) @ clicks @ sp.diags_array(1 / root)
    system = np.eye(n_items) - DAMPING**2 * (half.T @ half).toarray()
    found = solve(system, np.eye(n_items), assume_a="pos", overwrite_a=True, overwrite_b=True)
    found *= (1 - DAMPING) * root[None, :] / root[:, None]
    np.fill_diagonal(found, 0)
    return _highest(found, most)


def cosines(clicks: sp.csr_array, most: int) -> sp.csr_array:
    """Return the cosines of items by who clicked them ``[i, i]``, the `most` highest a row and none of itself."""
    n_items = clicks.shape[1]
    unit = sp.csc_array(clicks @ sp.diags_array(degrees(clicks, 0) ** -0.5))
    step, rows = max(1, _BLOCK // max(n_items, 1)), []
    for start in range(0, n_items, step):
        block = (unit[:, start : start + step].T @ unit).toarray()
        block[np.arange(len(block)), start + np.arange(len(block))] = 0
        rows.append(_highest(block, most))
    return sp.csr_array(sp.vstack(rows, format="csr"))


def _highest(scores: npt.NDArray[Any], most: int) -> sp.csr_array:
    """Return the highest positive entries of each row, CSR float32."""
    if scores.shape[1] > most:
        others = np.argpartition(-scores, most - 1, axis=1)[:, most:]
        np.put_along_axis(scores, others, 0, axis=1)
    return sp.csr_array(np.maximum(scores, 0), dtype=np.float32)
