"""Items that are like an item, by what is known of them and by who clicked them.

In a large catalogue FAISS (Douze et al., *The Faiss library*, 2024) finds candidates, and their exact cosines order
them. Until its index is made, in the background once somebody asks, and where it would miss too much, an item is
compared with all others.

FAISS holds dense vectors, and those of items are sparse: it searches among their projections, dense vectors of few
dimensions whose inner products are nearly those of the rows. The leading singular directions carry what many rows have
in common. What is left of a row, which is most of it where rows are various, is projected at random, which keeps inner
products right on average (Johnson and Lindenstrauss, 1984). Which of the two finds more of the nearest rows depends on
the data; half of each is good on all.

Notation used for shapes: B items of the catalogue, w dimensions, n candidates, d columns, r directions, m random ones.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import faiss
import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.bundle.item_space import Cosines, ItemSpace, Places
from coldray.bundle.lists import Mask, Place
from coldray.core.errors import CatalogTooLargeError
from coldray.core.memory import require_memory
from coldray.evaluation.topk import top_k
from coldray.features.feature_set import FeatureSet
from coldray.models.linalg.vector_index import (
    HNSW_FROM,
    LEAST_RECALL,
    LINKS,
    LIST,
    ROUNDING,
    SAMPLE,
    SEED,
    WANTED_RECALL,
    Kind,
    graph,
)

if TYPE_CHECKING:
    from coldray.bundle.model import Bundle

logger = logging.getLogger(__name__)
_Vectors: TypeAlias = npt.NDArray[np.float32]
_SearchKind: TypeAlias = Literal["exact", "flat", "hnsw"]
_INDEX_FROM = 5_000_000
"""Labels, words and clicks of all items from which on an index is made. To compare with all takes some ten milliseconds
then; where there are fewer, it takes less than FAISS does with dense vectors, and misses nothing."""
_PER_PLACE = 10
"""Candidates for each place of a list at least."""
_POOLS = (100, 200, 400, 800, 1600)
"""Candidates that are tried for lists of `LIST`."""
_DIRECTIONS = 64
"""r, and as many at random, at most."""
_POWER_ITERATIONS = 2
"""Of the randomised decomposition; what it misses is left to the random directions."""


@dataclass(frozen=True)
class SimilarItems:
    """The items most like an item."""

    places: tuple[Place, ...]
    """Best first."""
    search: _SearchKind
    """``exact``: all items were compared. ``flat``, ``hnsw``: those that an index of this kind found."""
    recall: float
    """Of the ten most like items, the share that is found; measured when the index was made."""


class SimilaritySearch:
    """Searches a catalogue, and the items that came later."""

    def __init__(self, bundle: Bundle, *, index_from: int = _INDEX_FROM, hnsw_from: int = HNSW_FROM) -> None:
        """Take a catalogue; nothing is computed before somebody asks."""
        self._bundle, self._index_from, self._hnsw_from = bundle, index_from, hnsw_from
        self._lock = threading.Lock()
        self._building: threading.Thread | None = None
        self._index: _ItemIndex | None = None
        self.measured_recall: float | None = None
        """Of the index, whether it is used or not; None while there is none."""
        self._extended: tuple[FeatureSet, ItemSpace] | None = None

    def similar(self, bundle: Bundle, item: int, k: int, *, allowed: Mask | None = None) -> SimilarItems:
        """Return the k items most like an item, given by its index; those with nothing in common are left out.

        An item that nobody had clicked is compared by the cosine of attributes alone. For one with clicks the score is
        the mean of that and of the cosine of clicks, which is 0 with an item that has none; one of which no attribute
        is known is compared by clicks alone.

        Parameters
        ----------
        bundle
            Has the items of this catalogue, and perhaps more after them.
        allowed
            Which items may be returned ``[I]``; all unless given.
        """
        space = self._space(bundle.features)
        self._build_once()
        weights, index = space.weights(item), self._index
        if index is not None:
            count = max(index.pool, _PER_PLACE * k)
            if 2 * count < space.n_known:
                known = index.candidates(space, item, weights, count)
                places = _best(bundle, item, k, space.cosines(item, weights, known), known, space, allowed)
                if len(places) == k:  # else the index found too few that are there and like it
                    return SimilarItems(places, index.kind, index.recall)
        every = np.arange(space.n_known)
        return SimilarItems(_best(bundle, item, k, space.cosines(item, weights), every, space, allowed), "exact", 1.0)

    def wait(self) -> None:
        """Return when the index is made, or it is clear that there will be none."""
        self._build_once()
        if self._building is not None:
            self._building.join()

    def _space(self, features: FeatureSet) -> ItemSpace:
        """Return the items of `features` as vectors; those of the catalogue are made once."""
        known = self._extended
        if known is None or known[0] is not features:
            known = features, self._catalogue.extended(features)
            self._extended = known
        return known[1]

    @cached_property
    def _catalogue(self) -> ItemSpace:
        return ItemSpace.of(self._bundle.features, self._bundle.interactions)

    def _build_once(self) -> None:
        with self._lock:
            if self._building is None and self._catalogue.n_cells >= self._index_from:
                self._building = threading.Thread(target=self._build, name="item-index", daemon=True)
                self._building.start()

    def _build(self) -> None:
        start = time.perf_counter()
        try:
            index = _ItemIndex(self._catalogue, np.random.default_rng(SEED), hnsw_from=self._hnsw_from)
        except CatalogTooLargeError as error:
            logger.warning("%s", error)
            return
        except Exception:
            logger.exception("There is no index; similar items are found by comparing all.")
            return
        self.measured_recall = index.recall
        said = "%s index of %s items in %.1f s: recall %.3f with %d candidates."
        told = index.kind, f"{self._bundle.features.n_items:,}", time.perf_counter() - start, index.recall, index.pool
        if index.recall < LEAST_RECALL:
            logger.warning(said + " That is too little: similar items are found by comparing all.", *told)
            return
        logger.info(said, *told)
        self._index = index


def _best(
    bundle: Bundle, item: int, k: int, cosines: Cosines, known: Places, space: ItemSpace, allowed: Mask | None
) -> tuple[Place, ...]:
    """Return the best places, given the cosines with items of the catalogue and with all that came later."""
    places = np.concatenate([known, np.arange(space.n_known, space.n_known + space.added.shape[0])])
    fit = (cosines > 0) & (places != item)
    if allowed is not None:
        fit &= allowed[places]
    places, cosines = places[fit], cosines[fit]
    if not len(places):
        return ()
    order, scores = (found[0] for found in top_k(cosines[None], min(k, len(places)), n_threads=1))
    return bundle.places(places[order], scores)


class _Projection:
    """Maps rows like those it was made for."""

    def __init__(self, rows: sp.csr_array, rng: np.random.Generator, n_directions: int = _DIRECTIONS) -> None:
        """Decompose `rows` ``[n, d]``; with so few columns that there is nothing to save, they stay as they are."""
        n_columns = rows.shape[1]
        self._singular = np.empty((n_columns, 0), np.float32)
        self._random: _Vectors | None = None
        if n_columns <= 2 * n_directions:
            return
        from sklearn.utils.extmath import randomized_svd  # imported by those who use it alone

        count, seed = min(n_directions, *rows.shape), int(rng.integers(2**31))
        _, _, right = randomized_svd(rows, count, n_iter=_POWER_ITERATIONS, random_state=seed, flip_sign=False)
        self._singular = np.ascontiguousarray(right.T, np.float32)  # [d, r]
        scale = np.float32(1 / np.sqrt(n_directions))
        self._random = scale * rng.standard_normal((n_columns, n_directions), np.float32)  # [d, m]
        self._overlap = self._singular.T @ self._random  # [r, m]

    @property
    def width(self) -> int:
        """Dimensions of the vectors."""
        return self._singular.shape[0] if self._random is None else sum(self._overlap.shape)

    def __call__(self, rows: sp.csr_array) -> _Vectors:
        """Return the vectors of rows ``[n, d]``, float32 ``[n, r + m]``."""
        if self._random is None:
            return np.asarray(rows.toarray(), np.float32)
        common = np.asarray(rows @ self._singular)  # [n, r]
        rest = rows @ self._random - common @ self._overlap  # [n, m]
        return np.hstack([common, rest]).astype(np.float32, copy=False)


class _ItemIndex:
    """The catalogue in FAISS: every vector is compared, or from `HNSW_FROM` items on those that a graph leads to."""

    def __init__(self, space: ItemSpace, rng: np.random.Generator, *, hnsw_from: int = HNSW_FROM) -> None:
        """Project the items, add them, and measure how many candidates it takes.

        Raises
        ------
        CatalogTooLargeError
            If the vectors do not fit in memory.
        """
        require_memory(
            _index_bytes(space),
            purpose=f"An index of {space.n_known:,} items",
            way_out="Similar items are found without one, by comparing all.",
        )
        self.kind: Kind = "hnsw" if space.n_known >= hnsw_from else "flat"
        self._attributes = _Projection(space.attributes, rng)
        vectors = np.hstack([self._attributes(space.attributes), _Projection(space.clicks, rng)(space.clicks)])
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


def _index_bytes(space: ItemSpace) -> int:
    """Return what the index takes while it is made: vectors three times, the projections, and links."""
    width = sum(min(rows.shape[1], 2 * _DIRECTIONS) for rows in (space.attributes, space.clicks))
    columns = space.attributes.shape[1] + space.clicks.shape[1]
    return 4 * int(3 * width * space.n_known + 4 * _DIRECTIONS * columns + 3 * LINKS * space.n_known)


def _measured(index: _ItemIndex, space: ItemSpace, rng: np.random.Generator) -> tuple[int, float]:
    """Return the fewest candidates that reach `WANTED_RECALL`, or most of `_POOLS`, and the recall they reach.

    That is the share of the `LIST` most like items which is among the candidates, the mean over a sample of items; of
    the sample as it is and of the same items without their clicks, as new ones are, the worse counts.
    """
    sample = rng.choice(space.n_known, min(SAMPLE, space.n_known), replace=False)
    pairs = [[(int(item), space.weights(item)) for item in sample], [(int(item), (1.0, 0.0)) for item in sample]]
    lists = [[_exactly(space, item, weights) for item, weights in side] for side in pairs]
    pool, recall = _POOLS[0], 0.0
    for pool in _POOLS:
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
    index: _ItemIndex,
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
