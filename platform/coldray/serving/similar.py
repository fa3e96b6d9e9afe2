"""Items that are like an item, by what is known of them and by who clicked them.

The cosines with all items are computed and the largest taken: below 100,000 items that takes milliseconds, and an
approximate index, such as those of FAISS, would only cost exactness.

Notation used for shapes: I items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.evaluation.topk import top_k
from coldray.serving.engine import Engine
from coldray.serving.item_vectors import item_vectors
from coldray.serving.queries import Place


def similar(engine: Engine, item: int, k: int) -> tuple[Place, ...]:
    """Return the k items most like an item, given by its index, best first; those with nothing in common are left out.

    An item that nobody had clicked is compared by the cosine of attributes alone. For one with clicks the score is the
    mean of that and of the cosine of clicks, which is 0 with an item that has none; one of which no attribute is known
    is compared by clicks alone.
    """
    alike = _by_attributes(engine, item)
    if engine.warm[item]:
        clicked = _by_clicks(engine.bundle.interactions, engine.clicks, item)
        alike = np.float32(0.5) * (alike + clicked) if alike[item] > 0 else clicked
    allowed = engine.alive & (alike > 0)
    allowed[item] = False
    left = int(allowed.sum())
    if not left:
        return ()
    scores = np.where(allowed, alike, -np.inf).astype(np.float32)
    places, values = (found[0] for found in top_k(scores[None], min(k, left), n_threads=1))
    return tuple(
        Place(engine.ids[place], float(score), not bool(engine.warm[place]))
        for place, score in zip(places.tolist(), values.tolist(), strict=True)
    )


def _by_attributes(engine: Engine, item: int) -> npt.NDArray[np.float32]:
    """Return the cosine of the attributes of an item and of all items, float32 ``[I]``."""
    features = engine.bundle.features
    vectors = item_vectors(features, np.arange(features.n_items))
    return np.asarray((vectors @ vectors[[item]].T).toarray(), np.float32)[:, 0]


def _by_clicks(clicks: sp.csr_array, counts: npt.NDArray[np.integer], item: int) -> npt.NDArray[np.float32]:
    """Return the cosine of the clicks of an item and of all items, float32 ``[I]``."""
    users = np.searchsorted(clicks.indptr, np.flatnonzero(clicks.indices == item), side="right") - 1
    common = np.bincount(clicks[users].indices, minlength=clicks.shape[1])
    norms = np.sqrt(counts.astype(np.float64) * counts[item])
    cosines = np.divide(common, norms, out=np.zeros(len(norms)), where=norms > 0)
    return np.asarray(cosines, np.float32)
