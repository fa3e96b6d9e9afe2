"""Candidates for the items most like an item, by FAISS (Douze et al., *The Faiss library*, 2024).

FAISS holds dense vectors, and those of items are sparse: it searches among their projections. How many candidates it
takes for the best of them to be among them, and how often they are, is measured when the index is made.

Projections are dense vectors of few dimensions whose inner products are nearly those of the rows. The leading singular
directions carry what many rows have in common. What is left of a row, which is most of it where rows are various, is
projected at random, which keeps inner products right on average (Johnson and Lindenstrauss, 1984). Which of the two
finds more of the nearest rows depends on the data; half of each is good on all.

Notation used for shapes: B items of the catalogue, w dimensions, n candidates, d columns, r directions, m random ones.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.memory import require_memory
from coldray.models.linalg.vector_index import HNSW_FROM, LINKS, Kind, graph
from coldray.serving.vectors.items import Cosines, ItemSpace, Places

Vectors = npt.NDArray[np.float32]
DIRECTIONS = 64
"""r, and as many at random, at most."""
POWER_ITERATIONS = 2
"""Of the randomised decomposition; what it misses is left to the random directions."""


class Projection:
    """Maps rows like those it was made for."""

    def __init__(self, rows: sp.csr_array, rng: np.random.Generator, n_directions: int = DIRECTIONS) -> None:
        """Decompose `rows` ``[n, d]``; with so few columns that there is nothing to save, they stay as they are."""
        n_columns = rows.shape[1]
        self._singular = np.empty((n_columns, 0), np.float32)
        self._random: Vectors | None = None
        if n_columns <= 2 * n_directions:
            return
        from sklearn.utils.extmath import randomized_svd  # imported by those who use it alone

        count, seed = min(n_directions, *rows.shape), int(rng.integers(2**31))
        _, _, right = randomized_svd(rows, count, n_iter=POWER_ITERATIONS, random_state=seed, flip_sign=False)
        self._singular = np.ascontiguousarray(right.T, np.float32)  # [d, r]
        scale = np.float32(1 / np.sqrt(n_directions))
        self._random = scale * rng.standard_normal((n_columns, n_directions), np.float32)  # [d, m]
        self._overlap = self._singular.T @ self._random  # [r, m]

    @property
    def width(self) -> int:
        """Dimensions of the vectors."""
        return self._singular.shape[0] if self._random is None else sum(self._overlap.shape)

    def __call__(self, rows: sp.csr_array) -> Vectors:
        """Return the vectors of rows ``[n, d]``, float32 ``[n, r + m]``."""
        if self._random is None:
            return np.asarray(rows.toarray(), np.float32)
        common = np.asarray(rows @ self._singular)  # [n, r]
        rest = rows @ self._random - common @ self._overlap  # [n, m]
        return np.hstack([common, rest]).astype(np.float32, copy=False)


POOLS = (100, 200, 400, 800, 1600)
"""Candidates that are tried for lists of `LIST`."""
LIST = 10
WANTED_RECALL = 0.99
SAMPLE = 100
"""Items whose lists are compared with exact ones: as they are, and as if they were new."""
ROUNDING = 1e-6
"""Cosines that differ by less are equal: which of two such items is in a list is not told apart."""


class ItemIndex:
    """The catalogue in FAISS: every vector is compared, or from `HNSW_FROM` items on those that a graph leads to."""

    def __init__(self, space: ItemSpace, rng: np.random.Generator, *, hnsw_from: int = HNSW_FROM) -> None:
        """Project the items, add them, and measure how many candidates it takes.

        Raises
        ------
        CatalogTooLargeError
            If the vectors do not fit in memory.
        """
        require_memory(
            index_bytes(space),
            purpose=f"An index of {space.n_known:,} items",
            way_out="Similar items are found without one, by comparing all.",
        )
        self.kind: Kind = "hnsw" if space.n_known >= hnsw_from else "flat"
        self._attributes = Projection(space.attributes, rng)
        vectors = np.hstack([self._attributes(space.attributes), Projection(space.clicks, rng)(space.clicks)])
        self._index: Any = graph(vectors.shape[1]) if self.kind == "hnsw" else faiss.IndexFlatIP(vectors.shape[1])
        self._index.add(vectors)
        self.pool, self.recall = _measured(self, space, rng)

    def candidates(self, space: ItemSpace, item: int, weights: tuple[float, float], count: int) -> Places:
        """Return the places of about `count` items of the catalogue that are most like an item, ascending ``[n]``."""
        query = np.zeros((1, self._index.d), np.float32)
        width = self._attributes.width
        query[:, :width] = np.float32(weights[0]) * self._attributes(space.attributes_of(item))
        if weights[1]:
            query[0, width:] = np.float32(weights[1]) * self._index.reconstruct(item)[width:]
        options: Any = None
        if self.kind == "hnsw":
            options = faiss.SearchParametersHNSW(efSearch=count)  # type: ignore[attr-defined]
        places = self._index.search(query, count, params=options)[1][0]
        return np.asarray(np.sort(places[places >= 0]))


def index_bytes(space: ItemSpace) -> int:
    """Return what the index takes while it is made: vectors three times, the projections, and links."""
    width = sum(min(rows.shape[1], 2 * DIRECTIONS) for rows in (space.attributes, space.clicks))
    columns = space.attributes.shape[1] + space.clicks.shape[1]
    return 4 * int(3 * width * space.n_known + 4 * DIRECTIONS * columns + 3 * LINKS * space.n_known)


def _measured(index: ItemIndex, space: ItemSpace, rng: np.random.Generator) -> tuple[int, float]:
    """Return the fewest candidates that reach `WANTED_RECALL`, or most of `POOLS`, and the recall they reach.

    That is the share of the `LIST` most like items which is among the candidates, the mean over a sample of items; of
    the sample as it is and of the same items without their clicks, as new ones are, the worse counts.
    """
    sample = rng.choice(space.n_known, min(SAMPLE, space.n_known), replace=False)
    pairs = [[(int(item), space.weights(item)) for item in sample], [(int(item), (1.0, 0.0)) for item in sample]]
    lists = [[_exactly(space, item, weights) for item, weights in side] for side in pairs]
    pool, recall = POOLS[0], 0.0
    for pool in POOLS:
        recall = min(
            float(np.mean([_found(index, space, *pair, pool, exact) for pair, exact in zip(side, known, strict=True)]))
            for side, known in zip(pairs, lists, strict=True)
        )
        if recall >= WANTED_RECALL:
            break
    return pool, recall


def _exactly(space: ItemSpace, item: int, weights: tuple[float, float]) -> Cosines:
    """Return the cosines of the `LIST` items most like an item, descending; fewer where the rest is not like it."""
    cosines = space.cosines(item, weights)[: space.n_known]
    cosines[item] = 0
    best = np.sort(cosines)[::-1][:LIST]
    return np.asarray(best[best > 0])


def _found(
    index: ItemIndex,
    space: ItemSpace,
    item: int,
    weights: tuple[float, float],
    pool: int,
    exact: Cosines,
) -> float:
    if not len(exact):
        return 1.0
    places = index.candidates(space, item, weights, pool)
    places = places[places != item]
    cosines = space.cosines(item, weights, places)[: len(places)]
    return min(int((cosines >= exact[-1] - ROUNDING).sum()), len(exact)) / len(exact)
