"""In which contexts interactions are: how many values a column has, how evenly they come, and what train has not seen.

Notation used for shapes: n interactions, v values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, VectorAttribute, is_known
from coldray.data.dataset import Dataset
from coldray.data.moments import contexts_of
from coldray.data.splits.parts import BoolArray


@dataclass(frozen=True)
class ContextFacts:
    """What a column of context says of the interactions."""

    name: str
    interactions: int
    unknown: int
    """Interactions of which it says nothing."""
    values: int
    """Different labels, numbers or texts."""
    evenness: float | None
    """Shannon entropy of how often each value comes, over that of values which all come as often (Pielou 1966): 1 where
    they do, towards 0 where one is in nearly all interactions; None of fewer than two values."""
    commonest: str | None
    """The label that most interactions have; None of numbers and texts, or where nothing is known."""
    of_commonest: int
    """Interactions that have it."""
    ends: tuple[float, float] | None
    """The lowest and the highest number; None of labels and texts, or where nothing is known."""
    held_out: int
    """Interactions of validation and test of which it says something."""
    unseen: int
    """Of these, those with a label that no train interaction has; 0 of numbers and texts."""


def context_facts(dataset: Dataset, train: BoolArray, held_out: BoolArray) -> tuple[ContextFacts, ...]:
    """Return the facts of each column of context.

    Parameters
    ----------
    train, held_out
        Which interactions are train, and which validation or test, bool ``[n]``.
    """
    return tuple(_facts(name, one, train, held_out) for name, one in contexts_of(dataset).items())


def _facts(name: str, attribute: Attribute, train: BoolArray, held_out: BoolArray) -> ContextFacts:
    known = is_known(attribute)
    counts = _counts(attribute, known)
    labels = attribute if isinstance(attribute, LabelAttribute) and len(counts) else None
    numbers = attribute.values[known] if isinstance(attribute, NumberAttribute) and known.any() else None
    return ContextFacts(
        name,
        interactions=len(known),
        unknown=int((~known).sum()),
        values=len(counts),
        evenness=_evenness(counts),
        commonest=None if labels is None else _commonest(labels),
        of_commonest=0 if labels is None else int(counts.max()),
        ends=None if numbers is None else (float(numbers.min()), float(numbers.max())),
        held_out=int((held_out & known).sum()),
        unseen=0 if labels is None else _unseen(labels, train, held_out),
    )


def _counts(attribute: Attribute, known: BoolArray) -> npt.NDArray[np.intp]:
    """Return how often each value that occurs does ``[v]``."""
    if isinstance(attribute, LabelAttribute):
        counts = np.bincount(attribute.matrix.indices)
        return counts[counts > 0]
    if isinstance(attribute, NumberAttribute):
        return np.unique(attribute.values[known], return_counts=True)[1]
    if isinstance(attribute, VectorAttribute):
        return np.unique(attribute.vectors[known], axis=0, return_counts=True)[1]
    texts = np.array(attribute.texts, dtype=object)[known]
    return np.unique(texts.astype(str), return_counts=True)[1]


def _commonest(attribute: LabelAttribute) -> str:
    return str(attribute.labels[np.bincount(attribute.matrix.indices).argmax()])


def _evenness(counts: npt.NDArray[Any]) -> float | None:
    if len(counts) < 2:
        return None
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum() / np.log(len(shares)))


def _unseen(attribute: LabelAttribute, train: BoolArray, held_out: BoolArray) -> int:
    """Return how many held-out interactions have a label that no train interaction has."""
    matrix = attribute.matrix
    seen = np.bincount(matrix[np.flatnonzero(train)].indices, minlength=matrix.shape[1]) > 0
    return int(((matrix @ (~seen).astype(np.float32) > 0) & held_out).sum())
