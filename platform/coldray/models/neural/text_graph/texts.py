"""What the text view of a network reads of the items: embeddings of their texts, or else their encoded attributes.

Notation used for shapes: n items, D embedding dim, F inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.core.errors import ConfigError
from coldray.core.memory import require_memory
from coldray.features.feature_set import FeatureSet, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

OVERVIEW, OTHER, ENCODED, TERMS = "overview.", "other.", "encoded.", "terms."
"""What the names of arrays begin with, and the attribute ends them: its embeddings as the overview, or as one of the
other texts; the rows of encoded attributes, and how they were encoded."""


TABLES, STEP_VECTORS = 5, 14
"""What the check of memory reckons with, measured: tables of the texts in a fit (those kept with the model, of the
training that finds when to stop and of the one on everything; the network stacks its own), and vectors of D that a step
keeps of each item for the way back."""


def text_arrays(train: TrainingSet, *, overview: str, most: int, text_dim: int | None) -> Arrays:
    """Return what the text view reads of all items.

    Parameters
    ----------
    overview
        The attribute that is the overview if it is embedded; the first embedded one is if not.
    most
        How many other texts there may be.
    text_dim
        The width that embeddings must have, if not None.

    Raises
    ------
    ConfigError
        If embeddings have another width, or not all the same.
    DataError
        If no text is embedded, and no attribute tells the warm items apart either.
    CatalogTooLargeError
        If the embeddings do not fit in memory.
    """
    embedded = [name for name, feature in train.features.features.items() if _is_embedding(feature)]
    if not embedded:
        return _encoded(train.features, AttributeInputs.of(train))
    widths = {name: train.features.features[name].matrix.shape[1] for name in embedded}  # type: ignore[union-attr]
    wanted = text_dim or widths[embedded[0]]
    for name, width in widths.items():
        if width != wanted:
            raise ConfigError(
                f"The embeddings of {name!r} have {width} dimensions, not {wanted}. Encode all texts by one model, and "
                "give text_dim its dimensions or leave it out."
            )
    first = overview if overview in embedded else embedded[0]
    others = [name for name in embedded if name != first][:most]
    require_memory(
        4 * train.features.n_items * wanted * (TABLES * (1 + len(others)) + STEP_VECTORS),
        purpose=f"The embeddings of {1 + len(others)} texts of {train.features.n_items:,} items",
        way_out="Use fewer texts, a smaller embedding model, or more memory.",
    )
    return _embedded(train.features, {first: OVERVIEW, **dict.fromkeys(others, OTHER)})


def new_text_arrays(arrays: Arrays, features: FeatureSet) -> Arrays:
    """Return the arrays with the items of `features` appended, read in the same way."""
    if not has_embeddings(arrays):
        added = _encoded(features, AttributeInputs(arrays_under(TERMS, arrays)))
        starts = added[ENCODED + "indptr"][1:] + arrays[ENCODED + "indptr"][-1]
        joined = {ENCODED + "indptr": np.concatenate([arrays[ENCODED + "indptr"], starts])}
        for part in (ENCODED + "indices", ENCODED + "data"):
            joined[part] = np.concatenate([arrays[part], added[part]])
        return {**arrays, **joined}
    kinds = {name: kind for kind in (OVERVIEW, OTHER) for name in arrays_under(kind, arrays)}
    added = _embedded(features, kinds)
    return {name: np.concatenate([rows, added[name]]) for name, rows in arrays.items()}


def _is_embedding(feature: Any) -> bool:
    """Return whether an attribute is an embedding: of a text, or of what else there is."""
    return isinstance(feature, VectorFeature) and feature.is_embedding


def without_text(arrays: Arrays) -> tuple[int, int]:
    """Return how many items have no overview, and how many have no text at all, or no encoded attribute."""
    if not has_embeddings(arrays):
        missing = int((np.diff(arrays[ENCODED + "indptr"]) == 0).sum())
        return missing, missing
    ((overview, *_), others) = (list(arrays_under(kind, arrays).values()) for kind in (OVERVIEW, OTHER))
    has_overview = present(overview)
    has_any = np.logical_or.reduce([has_overview, *map(present, others)])
    return int((~has_overview).sum()), int((~has_any).sum())


def step_bytes(arrays: Arrays) -> int:
    """Return what the text view keeps of all items for the way back."""
    if not has_embeddings(arrays):
        return 0
    (overview, *_) = arrays_under(OVERVIEW, arrays).values()
    return 4 * STEP_VECTORS * overview.size


def present(rows: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    """Return which items have a text ``[n]``; the row of a blank one is empty."""
    return np.asarray((rows != 0).any(axis=1))


def has_embeddings(arrays: Arrays) -> bool:
    """Return whether texts are embedded, rather than attributes encoded."""
    return ENCODED + "indptr" not in arrays


def attributes_read(arrays: Arrays) -> list[str]:
    """Return the names of the attributes that are read."""
    return sorted(name for prefix in (OVERVIEW, OTHER, TERMS) for name in arrays_under(prefix, arrays))


def _embedded(features: FeatureSet, kinds: dict[str, str]) -> Arrays:
    rows = {}
    for name, kind in kinds.items():
        feature = features.features[name]
        if not isinstance(feature, VectorFeature):
            raise TypeError(f"The attribute {name!r} is no vector.")
        rows[kind + name] = np.asarray(feature.matrix.toarray(), np.float32)
    return rows


def _encoded(features: FeatureSet, inputs: AttributeInputs) -> Arrays:
    # In the order of names, which a stored model keeps.
    ordered = FeatureSet({name: features.features[name] for name in sorted(inputs.parameters)}, features.n_items)
    rows = inputs.encode(ordered)
    return {
        ENCODED + "indptr": rows.indptr.astype(np.int64),
        ENCODED + "indices": rows.indices.astype(np.int64),
        ENCODED + "data": rows.data.astype(np.float32),
        ENCODED + "width": np.array([rows.shape[1]]),
        **{TERMS + name: values for name, values in inputs.parameters.items()},
    }
