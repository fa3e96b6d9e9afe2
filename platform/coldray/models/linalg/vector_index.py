"""Lists from the vectors of users and items: the nearest of all items, by FAISS.

A model whose scores are inner products need not score all items: it gives the vector of the user, and the index those
near it. Source: Douze et al., *The Faiss library*, 2024.

Notation used for shapes: b users, n items, d dimensions, k list length.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Ranking
from coldray.evaluation.topk import check_list_length
from coldray.models.base import Items, Scores

Kind: TypeAlias = Literal["flat", "hnsw"]
HNSW_FROM = 100_000
"""Items from which on not all vectors are looked at."""
LINKS, BUILD_POOL, SEARCH_POOL = 16, 100, 200
"""Of the graph (Malkov and Yashunin, *Hierarchical navigable small world graphs*, 2018): links of a vector, how many
candidates they are chosen among, and how many vectors a search keeps in view at least."""


@runtime_checkable
class VectorModel(Protocol):
    """A model whose scores are inner products of vectors."""

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

        self.model, self.items = model, np.asarray(items, np.int64)
        self.search_pool = SEARCH_POOL
        """Vectors that a search of a graph keeps in view at least: the more, the fewer it misses."""
        width = model.item_vectors(self.items[:1]).shape[1]
        self.kind: Kind = "hnsw" if len(self.items) >= hnsw_from else "flat"
        require_memory(
            len(self.items) * 4 * (3 * width + (3 * LINKS if self.kind == "hnsw" else 0)),
            purpose=f"An index of {len(self.items):,} items",
            way_out="Lists are found without one, by scoring all items.",
        )
        self._index: Any = graph(width) if self.kind == "hnsw" else faiss.IndexFlatIP(width)
        self._index.add(model.item_vectors(self.items))

    def search(self, histories: sp.csr_array, k: int) -> Ranking:
        """Return the `k` items nearest to each user that they have not clicked.

        Parameters
        ----------
        histories
            Clicks of the users, CSR ``[b, I]``.
        k
            Length of a list; that of a user for whom fewer are found ends in -1.

        Raises
        ------
        ConfigError
            If `k` is below 1.
        """
        check_list_length(k)
        n_users = histories.shape[0]
        longest = int(np.diff(histories.indptr).max(initial=0))
        count = min(k + longest, len(self.items))
        if n_users == 0 or count == 0:
            return Ranking(
                np.full((n_users, k), -1, np.int32),
                np.full((n_users, k), -np.inf, np.float32),
                np.arange(n_users, dtype=np.int32),
            )
        scores, items = self.nearest(self.model.user_vectors(histories), count)
        known = _known(histories, items) | (items < 0)
        # Stable, so that what is left stays in order; what is not to be shown goes last.
        order = np.argsort(known, axis=1, kind="stable")[:, :k]
        items = np.where(known, -1, items)
        scores = np.where(known, -np.inf, scores)
        return Ranking(
            _filled(np.take_along_axis(items, order, axis=1), k, -1).astype(np.int32),
            _filled(np.take_along_axis(scores, order, axis=1), k, -np.inf).astype(np.float32),
            np.arange(n_users, dtype=np.int32),
        )

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


def _known(histories: sp.csr_array, items: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which of the items ``[b, c]`` their user has clicked."""
    n_items = histories.shape[1]
    rows = np.repeat(np.arange(histories.shape[0]), np.diff(histories.indptr))
    clicked = rows * n_items + histories.indices
    wanted = np.arange(len(items))[:, None] * n_items + items
    return np.isin(wanted, clicked) & (items >= 0)


def _filled(rows: npt.NDArray[Any], k: int, value: float) -> npt.NDArray[Any]:
    """Return rows of length k, those that are shorter with `value` at their end."""
    return np.pad(rows, ((0, 0), (0, k - rows.shape[1])), constant_values=value)
