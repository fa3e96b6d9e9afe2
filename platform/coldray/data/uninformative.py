"""What of a dataset says nothing: ratings and times that are all equal, attributes that do not tell items apart.

So are contexts that do not tell interactions apart, or are another in each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from coldray.data.dataset import Attribute, Dataset, LabelAttribute, NumberAttribute, VectorAttribute
from coldray.data.implausible import implausible_numbers
from coldray.data.moments import contexts_of


def with_oddities_noted(dataset: Dataset) -> Dataset:
    """Return a dataset whose notes tell what of it says nothing, and which numbers can hardly be."""
    equal = (equal_ratings(dataset), equal_times(dataset))
    told = [text for text in (*equal, *uninformative_attributes(dataset), *implausible_numbers(dataset)) if text]
    return replace(dataset, provenance={**dataset.provenance, "notes": [*dataset.notes, *told]}) if told else dataset


def equal_ratings(dataset: Dataset) -> str:
    """Return the sentence that the ratings of several interactions are all equal; nothing if they are not."""
    ratings = dataset.ratings
    return f"All ratings are {ratings.data[0]:g}." if ratings is not None and _all_equal(ratings) else ""


def equal_times(dataset: Dataset) -> str:
    """Return the sentence that the times of several interactions are all equal; nothing if they are not."""
    times = dataset.timestamps
    return "All timestamps are equal." if times is not None and _all_equal(times) else ""


def uninformative_attributes(dataset: Dataset) -> Iterator[str]:
    """Yield a sentence for each attribute that does not tell the items, or the users, of the dataset apart.

    And one for each context that tells no interactions apart, or in which no two are alike.
    """
    sides = (("items", dataset.attributes, dataset.n_items), ("users", dataset.user_attributes, dataset.n_users))
    for noun, attributes, count in sides:
        for name, attribute in attributes.items():
            if count > 1 and (what := _without_difference(attribute)):
                yield f"Attribute {name!r} tells no {noun} apart: {what}."
    for name, attribute in contexts_of(dataset).items():
        if dataset.interactions.nnz > 1 and (what := _without_difference(attribute)):
            yield f"Context {name!r} tells no interactions apart: {what}."
        elif several := _without_likeness(attribute):
            yield f"Context {name!r} is another in each of {several:,} interactions, and says nothing of others."


def _all_equal(values: sp.csr_array) -> bool:
    return values.nnz > 1 and bool((values.data == values.data[0]).all())


def _without_likeness(attribute: Attribute) -> int:
    """Return how many have a label, if no label is of two; 0 if one is, or a single one has any."""
    if not isinstance(attribute, LabelAttribute):
        return 0
    counts = np.bincount(attribute.matrix.indices, minlength=1)
    return int(counts.sum()) if counts.max() == 1 < counts.sum() else 0


def _without_difference(attribute: Attribute) -> str:
    """Return why an attribute of several items tells none of them apart, in words; nothing if it does."""
    if isinstance(attribute, LabelAttribute):
        n_items, n_labels = attribute.matrix.shape
        counts = np.bincount(attribute.matrix.indices, minlength=n_labels)
        if not counts.any():
            return "none has a label"
        return "all have the same labels" if np.isin(counts, (0, n_items)).all() else ""
    if isinstance(attribute, NumberAttribute):
        known = attribute.values[~np.isnan(attribute.values)]
        if not len(known):
            return "the number of none is known"
        return f"it is {known[0]:g} of every one whose number is known" if (known == known[0]).all() else ""
    if isinstance(attribute, VectorAttribute):
        vectors = attribute.vectors[attribute.known]
        if not len(vectors):
            return "none has a vector"
        return "all that have a vector have the same" if (vectors == vectors[0]).all() else ""
    texts = set(attribute.texts)
    if len(texts) > 1:
        return ""
    return "all have the same text" if texts.pop().strip() else "none has a text"
