"""Why items are in a list: what each item of the history adds to their scores, and through which attribute.

Notation used for shapes: h items of the history, n items that are explained, I all items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.bundle.lists import ListMaker, Place
from coldray.features.feature_set import VectorFeature
from coldray.models.explanation import CLICKS, COMMON, POPULARITY, Explaining, Explanation

if TYPE_CHECKING:
    from coldray.bundle.model import Bundle

_Kind: TypeAlias = Literal["attributes", "history", "none"]
"""``attributes``: by item of the history and attribute. ``history``: by item of the history. ``none``: not at all."""
HISTORY, EVERYBODY = "(history)", "(everybody)"
"""Parts of scores that know no attributes: what the history adds to what somebody without one is given."""
_EXPLAINED = 20
"""Items of a list that are explained, from its beginning: each takes some hundredths of a second."""
_STRONGEST = 5
"""Reasons an item is given."""
_SHARED = 3
"""Labels or words a reason names."""
_ROUNDING = 1e-3
"""How far parts may be from their sum, relative to the sum of their sizes: scores are of single precision."""
_BLOCK = 64
"""Histories of one item that are scored at once."""


@dataclass(frozen=True)
class Reason:
    """One item of the history that speaks for an item of the list."""

    item: Any
    """Its external id."""
    part: str | None
    """The attribute through which it does; None if the model reads clicks alone."""
    shared: tuple[str, ...]
    """Labels or words that both items have, those that count most first."""
    added: float
    """What it adds to the score."""


@dataclass(frozen=True)
class ItemReasons:
    """The score of one item, taken apart."""

    strongest: tuple[Reason, ...]
    parts: Mapping[str, float]
    """What each part adds; all of them add up to the score."""


@dataclass(frozen=True)
class Explained:
    """The first items of a list, explained as far as the model allows."""

    kind: _Kind
    note: str
    """What is explained, or why nothing is."""
    items: tuple[ItemReasons, ...]


def explain(
    bundle: Bundle, maker: ListMaker, history: Mapping[int, float | None], places: Sequence[Place]
) -> Explained:
    """Explain the first `_EXPLAINED` items of a list.

    A model that can take its scores apart is asked to. Of any other the history is scored item by item; where that adds
    up to the scores, which is so for all models that are linear in the clicks, it is the explanation.

    Parameters
    ----------
    maker
        Knows how the model reads a history.
    history
        Ratings by the index of the item, the first click first.
    """
    model = bundle.model
    if model.reads_askers():
        what = "by who asks, and when," if model.reads_moments else "by who a user is,"
        return Explained("none", f"The model {model.name!r} scores {what} too: that is not taken apart.", ())
    if not history:
        return Explained("none", "Nothing is known of this user, so there is nothing to give as a reason.", ())
    if not model.personalised:
        return Explained("none", f"The model {model.name!r} gives everybody the same scores.", ())
    items = np.array([bundle.item_places[place.item] for place in places[:_EXPLAINED]], np.intp)
    if isinstance(model, Explaining):
        found = model.explanations(_rows(maker, [history]), items)
        note = "Reasons: items of the history, and the attributes in which they are like the item."
        return Explained("attributes", note, tuple(_by_attribute(bundle, one) for one in found))
    shares = _single_items(bundle, maker, history, items)
    scores = np.array([place.score for place in places[: len(items)]])
    if (np.abs(shares.sum(axis=0) - scores) > _ROUNDING * np.abs(shares).sum(axis=0)).any():
        return Explained("none", f"A score of the model {model.name!r} is no sum over the items of a history.", ())
    clicked = [bundle.plain_ids[item] for item in history]
    by_item = (_by_item(clicked, shares[:, place]) for place in range(len(items)))
    return Explained("history", "Reasons: what each item of the history adds to the score.", tuple(by_item))


def _rows(maker: ListMaker, histories: Sequence[Mapping[int, float | None]]) -> sp.csr_array:
    return maker.rows([maker.read(history) for history in histories])


def _single_items(
    bundle: Bundle, maker: ListMaker, history: Mapping[int, float | None], items: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Return what nobody's history gives some items, and what each item of a history adds to it ``[1 + h, n]``."""
    singles: Sequence[Mapping[int, float | None]] = [{}, *({item: rating} for item, rating in history.items())]
    scorer = bundle.model.scorer(items)
    blocks = [scorer(_rows(maker, singles[start : start + _BLOCK])) for start in range(0, len(singles), _BLOCK)]
    scores = np.concatenate(blocks).astype(np.float64)
    scores[1:] -= scores[0]
    return scores


def _by_item(history: Sequence[Any], shares: npt.NDArray[np.float64]) -> ItemReasons:
    of_items = shares[1:]
    order = [place for place in np.argsort(-of_items, kind="stable")[:_STRONGEST].tolist() if of_items[place] > 0]
    strongest = (Reason(history[place], None, (), float(of_items[place])) for place in order)
    return ItemReasons(tuple(strongest), {HISTORY: float(of_items.sum()), EVERYBODY: float(shares[0])})


def _by_attribute(bundle: Bundle, explanation: Explanation) -> ItemReasons:
    attributes = [part for part in explanation.parts if part not in (COMMON, POPULARITY, CLICKS)]
    cells = explanation.shares[:, : len(attributes)].ravel()  # those come last
    strongest = []
    for cell in np.argsort(-cells, kind="stable")[:_STRONGEST].tolist():
        if cells[cell] > 0:
            row, column = divmod(cell, len(attributes))
            clicked, part = int(explanation.history[row]), attributes[column]
            shared = _shared(bundle, part, clicked, explanation.item)
            strongest.append(Reason(bundle.plain_ids[clicked], part, shared, float(cells[cell])))
    return ItemReasons(tuple(strongest), explanation.by_part)


def _shared(bundle: Bundle, part: str, one: int, other: int) -> tuple[str, ...]:
    """Return the labels or words that two items share in an attribute, those that count most first."""
    feature = bundle.features.features.get(part)
    if not isinstance(feature, VectorFeature) or feature.dense:
        return ()
    common: Any = feature.matrix[[one]].multiply(feature.matrix[[other]]).tocoo()
    order = np.argsort(-common.data, kind="stable")[:_SHARED]
    return tuple(feature.terms[column] for column in common.col[order])
