"""Items that are like an item, by what is known of them and by who clicked them.

In a large catalogue FAISS finds candidates, and their exact cosines order them. Until its index is made, in the
background once somebody asks, and where it would miss too much, an item is compared with all others.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from coldray.bundle.io import Bundle
from coldray.core.errors import CatalogTooLargeError
from coldray.evaluation.topk import top_k
from coldray.features.feature_set import FeatureSet
from coldray.models.linalg.vector_index import HNSW_FROM
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Place
from coldray.serving.vectors.index import ItemIndex
from coldray.serving.vectors.items import Cosines, ItemSpace, Places

logger = logging.getLogger(__name__)
SearchKind: TypeAlias = Literal["exact", "flat", "hnsw"]
INDEX_FROM = 5_000_000
"""Labels, words and clicks of all items from which on an index is made. To compare with all takes some ten milliseconds
then; where there are fewer, it takes less than FAISS does with dense vectors, and misses nothing."""
LEAST_RECALL = 0.95
"""An index that finds fewer of the ten most like items is not used."""
PER_PLACE = 10
"""Candidates for each place of a list at least."""
SEED = 0


@dataclass(frozen=True)
class SimilarItems:
    """The items most like an item."""

    places: tuple[Place, ...]
    """Best first."""
    search: SearchKind
    """``exact``: all items were compared. ``flat``, ``hnsw``: those that an index of this kind found."""
    recall: float
    """Of the ten most like items, the share that is found; measured when the index was made."""


class SimilaritySearch:
    """Searches a catalogue, and the items that came later."""

    def __init__(self, bundle: Bundle, *, index_from: int = INDEX_FROM, hnsw_from: int = HNSW_FROM) -> None:
        """Take a catalogue; nothing is computed before somebody asks."""
        self._bundle, self._index_from, self._hnsw_from = bundle, index_from, hnsw_from
        self._lock = threading.Lock()
        self._building: threading.Thread | None = None
        self._index: ItemIndex | None = None
        self.measured_recall: float | None = None
        """Of the index, whether it is used or not; None while there is none."""
        self._extended: tuple[FeatureSet, ItemSpace] | None = None

    def similar(self, engine: Engine, item: int, k: int) -> SimilarItems:
        """Return the k items most like an item, given by its index; those with nothing in common are left out.

        An item that nobody had clicked is compared by the cosine of attributes alone. For one with clicks the score is
        the mean of that and of the cosine of clicks, which is 0 with an item that has none; one of which no attribute
        is known is compared by clicks alone.

        Parameters
        ----------
        engine
            Has the items of this catalogue, and perhaps more after them.
        """
        space = self._space(engine.bundle.features)
        self._build_once()
        weights, index = space.weights(item), self._index
        if index is not None:
            count = max(index.pool, PER_PLACE * k)
            if 2 * count < space.n_known:
                known = index.candidates(space, item, weights, count)
                places = _best(engine, item, k, space.cosines(item, weights, known), known, space)
                if len(places) == k:  # else the index found too few that are there and like it
                    return SimilarItems(places, index.kind, index.recall)
        every = np.arange(space.n_known)
        return SimilarItems(_best(engine, item, k, space.cosines(item, weights), every, space), "exact", 1.0)

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
            index = ItemIndex(self._catalogue, np.random.default_rng(SEED), hnsw_from=self._hnsw_from)
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


def _best(engine: Engine, item: int, k: int, cosines: Cosines, known: Places, space: ItemSpace) -> tuple[Place, ...]:
    """Return the best places, given the cosines with items of the catalogue and with all that came later."""
    places = np.concatenate([known, np.arange(space.n_known, space.n_known + space.added.shape[0])])
    allowed = engine.alive[places] & (cosines > 0) & (places != item)
    places, cosines = places[allowed], cosines[allowed]
    if not len(places):
        return ()
    order, scores = (found[0] for found in top_k(cosines[None], min(k, len(places)), n_threads=1))
    return engine.places(places[order], scores)
