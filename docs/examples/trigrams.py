"""Texts → the trigrams of their characters, hashed into so many columns: names of brands, titles in several languages.

Notation used for shapes: I items, d columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import scipy.sparse as sp
from sklearn.feature_extraction.text import HashingVectorizer

from coldray.data.dataset import TextAttribute
from coldray.features.feature_set import VectorFeature


class TrigramEncoder:
    """Hashed trigrams of characters, each row of unit length. Nothing is learned but how many columns there are.

    Parameters
    ----------
    columns
        d.
    """

    def __init__(self, columns: int = 4096) -> None:
        self.columns = columns

    def fit(self, attribute: TextAttribute) -> Self:
        """Learn nothing: any text has a place."""
        return self

    def transform(self, attribute: TextAttribute) -> VectorFeature:
        """Encode texts, float32 ``[I, d]``; a text shorter than three characters has an empty row."""
        hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 3), n_features=self.columns, dtype="float32")
        matrix = sp.csr_array(hashing.transform(attribute.texts))
        return VectorFeature(matrix, tuple(map(str, range(self.columns))))

    def state(self) -> dict[str, Any]:
        """Return what :meth:`from_state` needs, as JSON values."""
        return {"columns": self.columns}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Restore an encoder from :meth:`state`."""
        return cls(int(state["columns"]))
