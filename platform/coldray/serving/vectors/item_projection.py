"""What is known of an item as a short vector: a random projection that new items and new models do not change.

Each label or word has signs of its own, drawn by a hash of the attribute and the term (Achlioptas, *Database-friendly
random projections*, 2003), and an item is the sum of those it has. So cosines stay about what they were, and an item
has one vector in whatever catalogue it is.

Notation used for shapes: I items, D terms of all attributes, d dimensions.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from coldray.features.feature_set import FeatureSet, ScalarFeature
from coldray.serving.exploration.outcomes import on_grid
from coldray.serving.vectors.items import item_vectors

DIMENSIONS = 32
"""d; a multiple of 8."""


class ItemProjection:
    """Vectors of the items of a catalogue and of those that come to it."""

    def __init__(self, features: FeatureSet) -> None:
        """Project the items there are, which stay as they are; those that come after them may change."""
        self._signs = _signs(features)
        self._known = self._projected(features, np.arange(features.n_items))

    def vectors(self, features: FeatureSet) -> npt.NDArray[np.float32]:
        """Return the vectors of the known items and of all that `features` has after them, float32 ``[I, d]``.

        Their length is 1, but for rounding to multiples of 2⁻¹⁰; it is 0 where nothing is known.
        """
        later = np.arange(len(self._known), features.n_items)
        return np.concatenate([self._known, self._projected(features, later)])

    def _projected(self, features: FeatureSet, items: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
        projected = np.asarray(item_vectors(features, items) @ self._signs)
        lengths = np.linalg.norm(projected, axis=1, keepdims=True)
        return on_grid(projected / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def _signs(features: FeatureSet) -> npt.NDArray[np.float32]:
    """Return −1 or 1 for each term and dimension, float32 ``[D, d]``."""
    terms = [
        f"{name}\0{term}"
        for name, feature in features.features.items()
        if not isinstance(feature, ScalarFeature)
        for term in feature.terms
    ]
    if not terms:
        return np.zeros((1, DIMENSIONS), np.float32)
    digests = [blake2b(term.encode("utf-8", "surrogatepass"), digest_size=DIMENSIONS // 8).digest() for term in terms]
    bits = np.unpackbits(np.frombuffer(b"".join(digests), np.uint8)).reshape(len(terms), DIMENSIONS)
    return np.asarray(2 * bits.astype(np.float32) - 1)
