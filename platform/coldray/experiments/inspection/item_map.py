"""Which items a model holds to be alike, the same way for every model, with vectors or without.

An item is described by what a single click on it says of all the others: the scores ``P[i, j]`` of item j for a user
who clicked item i alone. Rows and columns are centred, so that an item everybody is recommended is no neighbour of all;
the leading singular directions of what is left, with rows of length 1, are where items are compared, by cosine.
The picture is their t-SNE (van der Maaten and Hinton, *Visualizing data using t-SNE*, JMLR 2008).

Notation used for shapes: n items shown, k neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.models.base import Items, Recommender, TrainingSet

_DIRECTIONS = 50
"""Singular directions that are compared."""
_PERPLEXITY = 30.0
"""Effective number of neighbours of t-SNE, lower for few items."""
_FEWEST = 10
"""Items without which there is no map."""


@dataclass(frozen=True, eq=False)
class ItemMap:
    """The shown items of one model."""

    items: npt.NDArray[np.int32]
    """Item indices ``[n]``, ascending."""
    positions: npt.NDArray[np.float32]
    """Places in the picture ``[n, 2]``; their distances are to be read by order alone."""
    neighbours: npt.NDArray[np.int32]
    """Item indices ``[n, k]``, the nearest first."""


def _shown_items(train: TrainingSet, count: int) -> npt.NDArray[np.int32]:
    """Return the `count` items with the most clicks, fewer if not so many have one, ascending."""
    order = np.argsort(-train.clicks, kind="stable")[:count]
    return np.sort(order[train.clicks[order] > 0]).astype(np.int32)


def item_map(model: Recommender[Any], train: TrainingSet, *, count: int, neighbours: int, seed: int) -> ItemMap | None:
    """Return the map of the most clicked items; None if they are too few, or all clicks say the same to the model."""
    items = _shown_items(train, count)
    if len(items) < max(_FEWEST, neighbours + 1):
        return None
    vectors = _one_click_vectors(model, items)
    if vectors is None:
        return None
    return ItemMap(items, _positions(vectors, seed), items[_nearest(vectors, neighbours)])


def _one_click_vectors(model: Recommender[Any], items: Items) -> npt.NDArray[np.float32] | None:
    """Return what a click on each of `items` says of the others, as rows of length 1 ``[n, d]``.

    Returns
    -------
    ndarray or None
        None if every click says the same, as to a model that knows popularity alone.
    """
    n = len(items)
    values = model.reads.values(np.full(n, model.click_value), np.ones(n))
    histories = sp.csr_array((values, items, np.arange(n + 1)), shape=(n, model.n_items))
    profiles = model.score(histories, items).astype(np.float64)
    own = np.eye(n, dtype=np.bool_)
    # What an item says of itself is no likeness: its cell takes what the others say of it.
    profiles[own] = profiles.mean(axis=0, where=~own)
    profiles -= profiles.mean(axis=1, keepdims=True)
    spread = profiles.std(axis=1, keepdims=True)
    profiles = np.divide(profiles, spread, out=np.zeros_like(profiles), where=spread > 1e-6 * spread.max(initial=0))
    profiles -= profiles.mean(axis=0, keepdims=True)
    if np.abs(profiles).max(initial=0) < 1e-3:  # of scores whose rows have the standard deviation 1
        return None
    left, sizes, _ = np.linalg.svd(profiles, full_matrices=False)
    vectors = left[:, :_DIRECTIONS] * sizes[:_DIRECTIONS]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    found: npt.NDArray[np.float32] = vectors.astype(np.float32)
    return found


def _nearest(vectors: npt.NDArray[np.float32], k: int) -> npt.NDArray[np.int64]:
    """Return the rows with the highest cosine to each ``[n, k]``, itself left out; ties in the order of rows."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :k]


def _positions(vectors: npt.NDArray[np.float32], seed: int) -> npt.NDArray[np.float32]:
    from sklearn.manifold import TSNE  # imported by those who draw a map alone

    perplexity = min(_PERPLEXITY, (len(vectors) - 1) / 3)
    placed: npt.NDArray[np.float32] = TSNE(
        perplexity=perplexity, init="pca", metric="euclidean", random_state=seed, n_jobs=1
    ).fit_transform(vectors)
    return placed


def agreement(items: ItemMap, labels: sp.csr_array) -> tuple[float, float]:
    """Return the share of neighbours that have a label in common with their item, and that of any other shown item.

    Parameters
    ----------
    labels
        Ones where an item has a label, CSR ``[I, labels]``. Items without a label are left out.
    """
    shown = labels[items.items]
    common = np.asarray((shown @ shown.T).todense()) > 0  # [n, n]
    np.fill_diagonal(common, False)
    labelled = np.diff(shown.indptr) > 0
    if labelled.sum() < 2:
        return float("nan"), float("nan")
    place = np.searchsorted(items.items, items.neighbours)
    found = np.take_along_axis(common, place, axis=1)[labelled][labelled[place[labelled]]]
    pairs = labelled.sum() * (labelled.sum() - 1)
    chance = common[np.ix_(labelled, labelled)].sum() / pairs
    return (float(found.mean()) if found.size else float("nan")), float(chance)
