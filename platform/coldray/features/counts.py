"""How many labels or words an item has: a number of its own for each attribute that is a list.

A long cast or a long plot is evidence of its own, whatever is in it. Labels too rare to become a column count as well.

Notation used for shapes: I items.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, VectorAttribute
from coldray.features.tfidf import UNSPACED, words

_PREFIX = "number of "
"""``number of actors`` is the count of the attribute ``actors``."""


def count_attributes(attributes: Mapping[str, Attribute], names: Iterable[str]) -> dict[str, NumberAttribute]:
    """Return ``log(1 + n)`` of the n labels, or words, that each item has of each attribute that is a list of them.

    None at all is 0, which tells something too; an item of which nothing is known by `names` has an unknown count.

    Parameters
    ----------
    names
        Attributes to count; numbers and vectors have nothing to count but say whether an item is known.

    Returns
    -------
    dict
        Numbers ``[I]`` by name of the count.
    """
    chosen = {name: attributes[name] for name in names if name in attributes}
    sizes = {name: _sizes(attribute) for name, attribute in chosen.items()}
    known = np.any([size > 0 for size in sizes.values()], axis=0) if sizes else np.zeros(0, bool)
    return {
        _PREFIX + name: NumberAttribute(np.log1p(np.where(known, size, np.nan)))
        for name, size in sizes.items()
        if not isinstance(chosen[name], NumberAttribute | VectorAttribute)
    }


def _sizes(attribute: Attribute) -> npt.NDArray[np.float64]:
    if isinstance(attribute, LabelAttribute):
        return np.asarray(np.diff(attribute.matrix.indptr), np.float64)
    if isinstance(attribute, NumberAttribute):
        return np.asarray(np.isfinite(attribute.values), np.float64)
    if isinstance(attribute, VectorAttribute):
        return attribute.known.astype(np.float64)
    return np.array([_length(text) for text in attribute.texts], np.float64)


def _length(text: str) -> int:
    """Return how many words a text has; those of scripts without blanks are pairs of characters."""
    return len(words(text)) if UNSPACED.search(text) else len(text.split())
