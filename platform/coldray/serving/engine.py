"""A bundle ready to answer: what does not depend on who asks is made once, and queries are answered in batches.

Notation used for shapes: b queries, I items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import LabelAttribute, NumberAttribute
from coldray.errors import ConfigError, UnknownAttributeError, UnknownIdError
from coldray.evaluation.topk import top_k
from coldray.serving.item_vectors import item_vectors
from coldray.serving.names import ItemNames, NameIndex
from coldray.serving.queries import Answer, Condition, ItemId, Path, Place, Query, UserId, plain
from coldray.spelling import nearest
from coldray.tracking.bundle import Bundle

Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
DIVERSE_POOL = 10
"""A diverse list of k items is chosen among this many times k of the best."""
LEAST_POOL = 100
KEPT_MASKS = 256
"""Answers to conditions on attributes that are kept."""
KEPT_FACTS = 20_000
"""Items whose attributes are kept as JSON, some kilobytes each."""


class Engine:
    """Answers queries from a bundle, from what users did since it was fitted, and from what was removed."""

    def __init__(
        self, bundle: Bundle, *, events: Mapping[UserId, Mapping[ItemId, float | None]] | None = None,
        removed: Iterable[ItemId] = (), names: NameIndex | None = None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        n_items = bundle.model.n_items
        self.scorer = bundle.model.scorer(np.arange(n_items))
        self.ids: list[ItemId] = [plain(item) for item in bundle.item_ids]
        """Of all items, by index; removed ones are still there."""
        self._items: dict[ItemId, int] = {item: place for place, item in enumerate(self.ids)}
        self._users: dict[UserId, int] = {plain(user): row for row, user in enumerate(bundle.user_ids)}
        self.names = ItemNames(bundle.attributes, self.ids)
        """What all items are called."""
        self.clicks = np.bincount(bundle.interactions.indices, minlength=n_items)
        """Of each item, when the model was fitted ``[I]``."""
        self._known_names = NameIndex([]) if names is None else names
        self.warm: Mask = self.clicks > 0
        self._popular: Scores = np.log1p(self.clicks).astype(np.float32)
        self.alive: Mask = np.ones(n_items, np.bool_)
        self.alive[[self._items[item] for item in removed if item in self._items]] = False
        self._events: dict[UserId, dict[int, float | None]] = {}
        for user, done in (events or {}).items():
            for item, rating in done.items():
                self.observe(user, item, rating)
        self._meeting = lru_cache(KEPT_MASKS)(self._met)
        self.facts = lru_cache(KEPT_FACTS)(self._written)
        """Return what a list says of an item, ready for JSON: writing it anew takes longer than finding the items."""

    @property
    def n_items(self) -> int:
        """Items there are, removed ones included."""
        return len(self.ids)

    @cached_property
    def name_index(self) -> NameIndex:
        """Searches what items are called; made when first asked for."""
        known = self._known_names
        return known.extended(self.names[len(known) :])

    def typed(self, item: str) -> ItemId:
        """Return an id that came as text, as part of an address, as the catalogue has it."""
        if item in self._items:
            return item
        try:
            return int(item)
        except ValueError:
            return item

    def knows_item(self, item: ItemId) -> bool:
        """Return whether the item is there and was not removed."""
        return item in self._items and bool(self.alive[self._items[item]])

    def attributes(self, item: ItemId) -> dict[str, Any]:
        """Return what is known of an item, by name: labels, a number or a text."""
        return _described(self.bundle, self.place(item))

    def _written(self, item: ItemId) -> str:
        facts = {
            "item_id": item,
            "name": self.names[self.place(item)],
            "cold": self.is_cold(item),
            "attributes": self.attributes(item),
        }
        return json.dumps(facts)[1:-1]

    def is_cold(self, item: ItemId) -> bool:
        """Return whether nobody had clicked the item when the model was fitted."""
        return not bool(self.warm[self.place(item)])

    def observe(self, user: UserId, item: ItemId, rating: float | None) -> None:
        """Take note that a user clicked or rated an item; what the engine does not know is left out."""
        if item in self._items:
            self._events.setdefault(user, {})[self._items[item]] = rating

    def remove(self, item: ItemId) -> None:
        """Recommend the item no more; histories keep it."""
        self.alive[self.place(item)] = False

    def check(self, query: Query) -> None:
        """Find out what is wrong with a query.

        Raises
        ------
        UnknownIdError
            If a history, an exclusion or a candidate list names an item that is not there.
        UnknownAttributeError
            If a condition names an attribute that items do not have.
        ConfigError
            If a condition is not one of that attribute's kind.
        """
        for field, items in (("history", query.history or ()), ("exclude", query.exclude)):
            for item in items:
                self.place(item, field)
        if not isinstance(query.candidates, str):
            for item in query.candidates:
                self.place(item, "candidates")
        for name, condition in query.conditions.items():
            self._meeting(name, condition)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Return a list for each query; queries with errors, which :meth:`check` finds, raise here too."""
        histories = [self._history(query) for query in queries]
        scores = self._scores([history for history, _ in histories])
        answers = []
        for query, (history, path), row in zip(queries, histories, scores, strict=True):
            allowed = self._allowed(query)
            if history:
                allowed = allowed.copy()
                allowed[list(history)] = False
            if path != "popularity" and not (allowed & self.warm).any():
                path = "attributes"
            places = self._ranked(row, allowed, query)
            answers.append(Answer(places, path, history))
        return answers

    def _history(self, query: Query) -> tuple[dict[int, float | None], Path]:
        """Return the items and ratings that a list is made from, and where they come from."""
        if query.history is not None:
            found = {self.place(item, "history"): rating for item, rating in query.history.items()}
            return found, "history" if found else "popularity"
        if query.user_id is None:
            return {}, "popularity"
        done = self._events.get(query.user_id, {})
        row = self._users.get(query.user_id)
        if row is None:
            return dict(done), "history" if done else "popularity"
        clicks = self.bundle.interactions
        cells = slice(clicks.indptr[row], clicks.indptr[row + 1])
        known: dict[int, float | None] = dict(
            zip(clicks.indices[cells].tolist(), clicks.data[cells].tolist(), strict=True)
        )
        known |= done
        return known, "model" if known else "popularity"

    def _scores(self, histories: Sequence[Mapping[int, float | None]]) -> Scores:
        """Return the scores of all items ``[b, I]``: the model's, or popularity where nothing is known."""
        scores = self.scorer(self.rows(histories))
        scores[[not history for history in histories]] = self._popular
        return scores

    def rows(self, histories: Sequence[Mapping[int, float | None]]) -> sp.csr_array:
        """Return histories, by index of the item, as the model reads them ``[b, I]``."""
        unknown = self.bundle.model.click_value
        rated = self.bundle.model.reads_ratings
        ends = np.cumsum([0, *map(len, histories)])
        items = np.fromiter((item for history in histories for item in history), np.int32, ends[-1])
        values = np.ones(len(items), np.float32)
        if rated:
            given = (rating for history in histories for rating in history.values())
            values[:] = [unknown if rating is None else rating for rating in given]
        return sp.csr_array((values, items, ends.astype(np.int32)), shape=(len(histories), self.n_items))

    def _allowed(self, query: Query) -> Mask:
        """Return which items may be in the list ``[I]``; not to be written to."""
        allowed = self.alive
        if query.candidates == "warm":
            allowed = allowed & self.warm
        elif query.candidates == "cold":
            allowed = allowed & ~self.warm
        elif query.candidates != "all":
            chosen = np.zeros(self.n_items, np.bool_)
            chosen[[self.place(item, "candidates") for item in query.candidates]] = True
            allowed = allowed & chosen
        for name, condition in query.conditions.items():
            allowed = allowed & self._meeting(name, condition)
        if query.exclude:
            allowed = allowed.copy()
            allowed[[self.place(item, "exclude") for item in query.exclude]] = False
        return allowed

    def _met(self, name: str, condition: Condition) -> Mask:
        """Return which items meet a condition ``[I]``; an item whose attribute is unknown meets none."""
        attributes = self.bundle.attributes
        if name not in attributes:
            raise UnknownAttributeError(f"filters: items have no attribute {name!r}.{nearest(name, attributes)}")
        attribute = attributes[name]
        if isinstance(attribute, LabelAttribute) and condition.any is not None:
            columns = np.flatnonzero(np.isin(attribute.labels, condition.any))
            found: Mask = np.asarray(attribute.matrix[:, columns].sum(axis=1)).ravel() > 0
            return found
        if isinstance(attribute, NumberAttribute) and condition.any is None:
            low = -np.inf if condition.at_least is None else condition.at_least
            high = np.inf if condition.at_most is None else condition.at_most
            return np.asarray((attribute.values >= low) & (attribute.values <= high))
        wanted = "any: a list of labels" if isinstance(attribute, LabelAttribute) else "at_least or at_most: numbers"
        if not isinstance(attribute, LabelAttribute | NumberAttribute):
            raise ConfigError(f"filters: {name!r} is a text, and texts cannot be filtered on.")
        raise ConfigError(f"filters: {name!r} takes {wanted}.")

    def _ranked(self, scores: Scores, allowed: Mask, query: Query) -> tuple[Place, ...]:
        left = int(allowed.sum())
        if not left:
            return ()
        row = np.where(allowed, scores, -np.inf)[None, :].astype(np.float32)
        pool = query.k if not query.diversity else max(DIVERSE_POOL * query.k, LEAST_POOL)
        items, values = (found[0] for found in top_k(row, min(pool, left), n_threads=1))
        if query.diversity:
            order = self._diverse(items, values, query.diversity, min(query.k, left))
            items, values = items[order], values[order]
        return tuple(
            Place(self.ids[item], float(score), not bool(self.warm[item]))
            for item, score in zip(items.tolist(), values.tolist(), strict=True)
        )

    def _diverse(self, items: npt.NDArray[Any], scores: Scores, weight: float, k: int) -> list[int]:
        """Return places in a pool by maximal marginal relevance (Carbonell and Goldstein, 1998)."""
        spread = float(scores[0] - scores[-1])
        relevance = (scores - scores[-1]) / spread if spread > 0 else np.ones_like(scores)
        vectors = item_vectors(self.bundle.features, items)
        like = np.asarray((vectors @ vectors.T).todense(), np.float32)
        chosen: list[int] = []
        nearest_chosen = np.zeros(len(items), np.float32)
        open_ = np.ones(len(items), np.bool_)
        for _ in range(k):
            gain = np.where(open_, (1 - weight) * relevance - weight * nearest_chosen, -np.inf)
            best = int(gain.argmax())
            chosen.append(best)
            open_[best] = False
            nearest_chosen = np.maximum(nearest_chosen, like[best])
        return chosen

    def place(self, item: ItemId, field: str = "item_id") -> int:
        """Return the index of an item that a field of the request names.

        Raises
        ------
        UnknownIdError
            If there is no such item.
        """
        place = self._items.get(item)
        if place is None:
            raise UnknownIdError(f"{field}: there is no item {item!r}.")
        return place


def _described(bundle: Bundle, place: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, attribute in bundle.attributes.items():
        if isinstance(attribute, LabelAttribute):
            matrix = attribute.matrix
            labels = matrix.indices[matrix.indptr[place] : matrix.indptr[place + 1]]
            if len(labels):
                found[name] = attribute.labels[labels].tolist()
        elif isinstance(attribute, NumberAttribute):
            value = float(attribute.values[place])
            if np.isfinite(value):
                found[name] = int(value) if value.is_integer() else value
        elif attribute.texts[place]:
            found[name] = attribute.texts[place]
    return found
