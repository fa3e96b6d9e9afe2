"""The nearest of all items to a user, by their vectors: an index of FAISS, and whether lists come from it.

A model whose scores are inner products need not score all items: it gives the vector of the user, and the index those
near it. Source: Douze et al., *The Faiss library*, 2024.

Notation used for shapes: b users, n items, d dimensions, U users of the data, I all items.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError
from coldray.core.memory import require_memory
from coldray.models.base import Items, Scores
from coldray.models.forms import Form

Kind: TypeAlias = Literal["flat", "hnsw"]
HNSW_FROM = 100_000
"""Items from which on not all vectors are looked at."""
_INDEX_FROM = 100_000
"""Items from which on lists come from an index, if the model has vectors."""
LINKS, BUILD_POOL, SEARCH_POOL = 16, 100, 200
"""Of the graph (Malkov and Yashunin, *Hierarchical navigable small world graphs*, 2018): links of a vector, how many
candidates they are chosen among, and how many vectors a search keeps in view at least."""
WANTED_RECALL, LEAST_RECALL = 0.99, 0.95
"""What is wanted, and what an index must reach: one that finds fewer of the `LIST` best items is not used."""
_POOLS = (200, 400, 800, 1600)
"""Vectors in view of a search that are tried for the wanted recall."""
LIST, SAMPLE = 10, 100
"""The recall is of lists of this length, of that many users."""
ROUNDING = 1e-5
"""Scores that differ by less are equal: of their size where that is above 1."""
SEED = 0


@runtime_checkable
class VectorModel(Protocol):
    """A model whose scores are inner products of vectors."""

    @property
    def n_items(self) -> int:
        """Number of items."""

    def item_vectors(self, items: Items) -> Scores:
        """Return the vectors of items, float32 ``[n, d]``."""

    def user_vectors(self, histories: sp.csr_array) -> Scores:
        """Return the vectors of users with these clicks, CSR ``[b, I]``: float32 ``[b, d]``."""


class VectorIndex:
    """Some items of a model, by the nearness of their vectors.

    Parameters
    ----------
    model
        A fitted one.
    items
        Indices of the items that may be found ``[n]``, ascending.
    hnsw_from
        Items from which on not all vectors are looked at, but those that a graph leads to.

    Raises
    ------
    CatalogTooLargeError
        If the vectors do not fit in memory.
    """

    def __init__(self, model: VectorModel, items: Items, *, hnsw_from: int = HNSW_FROM) -> None:
        import faiss  # imported by those who search alone

        self.items, self.n_known = np.asarray(items, np.int64), model.n_items
        self.search_pool = SEARCH_POOL
        """Vectors that a search of a graph keeps in view at least: the more, the fewer it misses."""
        width = model.item_vectors(self.items[:1]).shape[1]
        self.kind: Kind = "hnsw" if len(self.items) >= hnsw_from else "flat"
        self.n_bytes = len(self.items) * 4 * (width + (3 * LINKS if self.kind == "hnsw" else 0))
        """What it takes, about."""
        require_memory(
            self.n_bytes + len(self.items) * 4 * 2 * width,
            purpose=f"An index of {len(self.items):,} items",
            way_out="Lists are found without one, by scoring all items.",
        )
        self._index: Any = graph(width) if self.kind == "hnsw" else faiss.IndexFlatIP(width)
        self._index.add(model.item_vectors(self.items))

    def nearest(self, vectors: Scores, count: int) -> tuple[Scores, npt.NDArray[np.int64]]:
        """Return the scores of the `count` items nearest to each vector, best first, and the items ``[b, count]``.

        Where fewer are found, the last ones are −inf and -1.

        Parameters
        ----------
        vectors
            Of users, float32 ``[b, d]``.
        """
        options: Any = None
        if self.kind == "hnsw":
            import faiss

            options = faiss.SearchParametersHNSW(efSearch=max(count, self.search_pool))  # type: ignore[attr-defined]
        scores, places = self._index.search(vectors, count, params=options)
        missing = places < 0
        return np.where(missing, np.float32(-np.inf), scores), np.where(missing, -1, self.items[places])


def graph(width: int) -> Any:
    """Return an empty graph of FAISS for vectors of `width` dimensions."""
    import faiss

    made: Any = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
    made.hnsw.efConstruction = BUILD_POOL
    return made


def settled_index(
    model: Any, items: Items, clicks: sp.csr_array, settled: Form | None = None
) -> tuple[VectorIndex | None, Form]:
    """Return what finds the best items for lists, None where all items are scored, and why it does.

    Parameters
    ----------
    model
        A fitted one.
    items
        Indices of the items that may be listed ``[n]``, ascending.
    clicks
        Of the users by whom the loss is measured, as the model reads them ``[U, I]``.
    settled
        The form that was chosen before, which is kept if there is the memory.
    """

    def exact(reason: str) -> tuple[None, Form]:
        return None, Form("lists", "exact", True, reason)

    if settled is not None and settled.value == "exact":
        return None, settled
    if not isinstance(model, VectorModel):
        return exact("All items are scored, as the model has no vectors for an index.")
    if settled is None and len(items) < _INDEX_FROM:
        return exact(f"All items are scored, as there are fewer than {_INDEX_FROM:,}.")
    if clicks.nnz == 0:
        return exact("All items are scored, as there is nobody by whom the loss of an index could be measured.")
    by_graph = len(items) >= HNSW_FROM if settled is None else settled.value == "hnsw"
    try:
        index = VectorIndex(model, items, hnsw_from=0 if by_graph else len(items) + 1)
    except CatalogTooLargeError as error:
        return exact(str(error))
    recall = _measured(index, model, clicks)
    how = f"share of the {LIST} best items of {SAMPLE} users that it does not find, {index.search_pool} vectors in view"
    if settled is None and recall < LEAST_RECALL:
        return exact(f"All items are scored, as an index would lose {1 - recall:.1%} ({how}).")
    reason = f"An index of the vectors of {len(items):,} items finds the best."
    return index, Form("lists", index.kind, index.kind == "flat", reason, 1 - recall, how)


def _measured(index: VectorIndex, model: VectorModel, clicks: sp.csr_array) -> float:
    """Give the index the smallest of `_POOLS` that reaches the wanted recall, or the largest; return what it reaches.

    That is the share of the `LIST` best items that it finds, the mean over a sample of users with clicks.
    """
    known = np.flatnonzero(np.diff(clicks.indptr))
    sample = np.random.default_rng(SEED).choice(known, min(SAMPLE, len(known)), replace=False)
    users, length = model.user_vectors(clicks[sample]), min(LIST, len(index.items))
    vectors = model.item_vectors(index.items)
    least = np.asarray([np.partition(vectors @ user, -length)[-length] for user in users])[:, None]
    recall = 0.0
    for index.search_pool in _POOLS:
        recall = float((index.nearest(users, length)[0] >= least - ROUNDING * np.maximum(1, np.abs(least))).mean())
        if recall >= WANTED_RECALL:
            break
    return recall
