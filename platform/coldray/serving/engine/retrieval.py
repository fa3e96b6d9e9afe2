"""Lists of a large catalogue from the vectors of users and items: candidates by FAISS, in the place of all scores.

Scores of a hundred thousand items take longer than all else that the list of a user needs. Until the index is made, in
the background once somebody asks, and where it would miss too much, all are scored.

Notation used for shapes: b who ask, I items, c candidates.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.bundle.io import Bundle
from coldray.core.errors import CatalogTooLargeError
from coldray.models.linalg.vector_index import HNSW_FROM, VectorIndex, VectorModel
from coldray.serving.engine.profiles import Asked, Best, Scores, as_read

logger = logging.getLogger(__name__)
WANTED_RECALL, LEAST_RECALL = 0.99, 0.95
"""What is wanted, and what an index must reach: one that finds fewer of the `LIST` best items is not used."""
POOLS = (200, 400, 800, 1600)
"""Vectors in view of a search that are tried for the wanted recall."""
LIST, SAMPLE = 10, 100
"""The recall is of lists of this length, of that many users."""
LARGEST_SHARE = 0.25
"""Where more of the catalogue would have to be candidates, all items are scored."""
ROUNDING = 1e-6
"""Scores that differ by less are equal."""
SEED = 0


@dataclass(frozen=True)
class Ready:
    """An index that is used."""

    index: VectorIndex
    recall: float
    """Of the `LIST` best items of users of the bundle, the share that it finds."""


class Retrieval:
    """Finds the best items for histories in a catalogue, and among the items that came later."""

    def __init__(self, bundle: Bundle, *, index_from: int = HNSW_FROM, hnsw_from: int = HNSW_FROM) -> None:
        """Take a catalogue; nothing is computed before somebody asks.

        Parameters
        ----------
        index_from
            Items from which on there is an index, if the model has vectors.
        hnsw_from
            As for :class:`~coldray.models.linalg.vector_index.VectorIndex`.
        """
        self._bundle, self._index_from, self._hnsw_from = bundle, index_from, hnsw_from
        self._lock = threading.Lock()
        self._building: threading.Thread | None = None
        self._unused = "no index is made: all items are scored"
        self.ready: Ready | None = None
        """The index; None until it is made, or if there is none."""

    @property
    def told(self) -> str:
        """How lists are found at present, in words: by scoring all items, or through an index, with what it misses."""
        if self.ready is None:
            return self._unused
        index = self.ready.index
        exact = "all vectors are looked at" if index.kind == "flat" else f"{index.search_pool} vectors in view"
        return (
            f"{index.kind} index of {len(index.items):,} items, {exact}: {self.ready.recall:.1%} of the best {LIST} "
            "items are found; lists in files (recommend_all) score all items"
        )

    def lists(self, bundle: Bundle, asked: Sequence[Asked], removed: int) -> list[Best | None]:
        """Return the best items for each who asks; None where all items are to be scored.

        Parameters
        ----------
        bundle
            Has the items of this catalogue, and perhaps more after them.
        removed
            Items of the index that nobody may be shown.
        """
        self._build_once()
        ready, model, n_known = self.ready, bundle.model, self._bundle.model.n_items
        if ready is None or not asked or not isinstance(model, VectorModel):
            return [None] * len(asked)
        # What may not be in a list is among the candidates too.
        count = removed + max(one.pool + len(one.profile.items) + len(one.query.exclude) for one in asked)
        if count > LARGEST_SHARE * len(ready.index.items):
            return [None] * len(asked)
        users = model.user_vectors(as_read(model, [one.profile.history for one in asked]))
        scores, items = ready.index.nearest(users, count)
        later = np.arange(n_known, model.n_items)
        if len(later):
            scores = np.hstack([scores, users @ model.item_vectors(later).T])
            items = np.hstack([items, np.tile(later, (len(asked), 1))])
        return [_best(one, *row) for one, *row in zip(asked, items, scores, strict=True)]

    def wait(self) -> None:
        """Return when the index is made, or it is clear that there will be none."""
        self._build_once()
        if self._building is not None:
            self._building.join()

    def _build_once(self) -> None:
        model = self._bundle.model
        with self._lock:
            if self._building is None and isinstance(model, VectorModel) and model.n_items >= self._index_from:
                self._building = threading.Thread(target=self._build, args=[model], name="vector-index", daemon=True)
                self._building.start()

    def _build(self, model: VectorModel) -> None:
        start = time.perf_counter()
        try:
            index = VectorIndex(model, self._bundle.listed_items, hnsw_from=self._hnsw_from)
            recall = _measured(index, self._bundle.interactions)
        except CatalogTooLargeError as error:
            self._unused = f"{error}"
            logger.warning("%s", error)
            return
        except Exception:
            self._unused = "the index failed: all items are scored"
            logger.exception("There is no index; lists are found by scoring all items.")
            return
        said = "%s index of %s items in %.1f s: recall %.3f with %d vectors in view."
        told = index.kind, f"{len(index.items):,}", time.perf_counter() - start, recall, index.search_pool
        if recall < LEAST_RECALL:
            self._unused = f"an index would find {recall:.1%} of the best {LIST} items: all items are scored"
            logger.warning(said + " That is too little: lists are found by scoring all items.", *told)
            return
        logger.info(said, *told)
        self.ready = Ready(index, recall)


def _best(asked: Asked, items: npt.NDArray[np.int64], scores: Scores) -> Best | None:
    """Return the best of some candidates ``[c]``, -1 for none; None if they are too few, as a graph leads to some."""
    allowed = (items >= 0) & asked.allowed[items] & ~np.isin(items, asked.profile.items)
    if allowed.sum() < asked.pool:
        return None
    items, scores = items[allowed], scores[allowed]
    order = np.lexsort((items, -scores))[: asked.pool]
    return Best(items[order], scores[order], None)


def _measured(index: VectorIndex, clicks: sp.csr_array) -> float:
    """Give the index the smallest of `POOLS` that reaches the wanted recall, or the largest; return what it reaches.

    That is the share of the `LIST` best items that it finds, the mean over a sample of users with clicks.
    """
    known = np.flatnonzero(np.diff(clicks.indptr))
    sample = np.random.default_rng(SEED).choice(known, min(SAMPLE, len(known)), replace=False)
    users, length = index.model.user_vectors(clicks[sample]), min(LIST, len(index.items))
    vectors = index.model.item_vectors(index.items)
    least = np.asarray([np.partition(vectors @ user, -length)[-length] for user in users])[:, None]
    recall = 0.0
    for index.search_pool in POOLS:
        recall = float((index.nearest(users, length)[0] >= least - ROUNDING).mean())
        if recall >= WANTED_RECALL:
            break
    return recall
