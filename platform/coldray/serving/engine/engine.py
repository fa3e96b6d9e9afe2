"""A bundle ready to answer: what does not depend on who asks is made once, and queries are answered in batches.

A query may set conditions on attributes, and ask for lists whose items are not all alike.

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

from coldray.bundle.io import Bundle
from coldray.core.errors import ConfigError, DataFormatError, UnknownAttributeError, UnknownIdError
from coldray.core.spelling import nearest
from coldray.data.dataset import Attribute, LabelAttribute, NumberAttribute
from coldray.data.item_names import ItemNames
from coldray.evaluation.topk import top_k
from coldray.serving.engine.ids import as_known, has_numbers, names_none, whole_number
from coldray.serving.engine.names import NameIndex
from coldray.serving.engine.profiles import Asked, Best, KeptProfiles, Profile, all_scores, as_read, clicked, clicks_of
from coldray.serving.engine.queries import Answer, Condition, ItemId, ListOrigin, Place, Query, UserId, plain
from coldray.serving.engine.retrieval import Retrieval
from coldray.serving.exploration.explore import Explorer, context_of
from coldray.serving.vectors.items import item_vectors


def meeting(attributes: Mapping[str, Attribute], name: str, condition: Condition) -> npt.NDArray[np.bool_]:
    """Return which items meet a condition on the attribute `name` ``[I]``; one whose attribute is unknown meets none.

    Raises
    ------
    UnknownAttributeError
        If items have no such attribute.
    ConfigError
        If the condition is not one of that attribute's kind.
    """
    if name not in attributes:
        raise UnknownAttributeError(f"filters: items have no attribute {name!r}.{nearest(name, attributes)}")
    attribute = attributes[name]
    if isinstance(attribute, LabelAttribute) and condition.any is not None:
        columns = np.flatnonzero(np.isin(attribute.labels, condition.any))
        found: npt.NDArray[np.bool_] = np.asarray(attribute.matrix[:, columns].sum(axis=1)).ravel() > 0
        return found
    if isinstance(attribute, NumberAttribute) and condition.any is None:
        low = -np.inf if condition.at_least is None else condition.at_least
        high = np.inf if condition.at_most is None else condition.at_most
        return np.asarray((attribute.values >= low) & (attribute.values <= high))
    wanted = "any: a list of labels" if isinstance(attribute, LabelAttribute) else "at_least or at_most: numbers"
    if not isinstance(attribute, LabelAttribute | NumberAttribute):
        raise ConfigError(f"filters: {name!r} is a text, and texts cannot be filtered on.")
    raise ConfigError(f"filters: {name!r} takes {wanted}.")


def diverse(vectors: sp.csr_array, values: npt.NDArray[np.floating[Any]], weight: float, k: int) -> list[int]:
    """Return k places in a pool by maximal marginal relevance (Carbonell and Goldstein, 1998).

    Parameters
    ----------
    vectors
        What is known of the p items of the pool, each of length 1: CSR ``[p, d]``.
    values
        What each is worth ``[p]``, descending.
    weight
        0 orders by worth alone, 1 by how little an item is like those before it.
    k
        Places wanted, p at most.
    """
    spread = float(values[0] - values[-1])
    relevance = (values - values[-1]) / spread if spread > 0 else np.ones_like(values)
    like = np.asarray((vectors @ vectors.T).todense(), np.float32)
    chosen: list[int] = []
    nearest_chosen = np.zeros(len(values), np.float32)
    open_ = np.ones(len(values), np.bool_)
    for _ in range(k):
        gain = np.where(open_, (1 - weight) * relevance - weight * nearest_chosen, -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        open_[best] = False
        nearest_chosen = np.maximum(nearest_chosen, like[best])
    return chosen


def known_attributes(bundle: Bundle, place: int) -> dict[str, Any]:
    """Return the attributes of an item by name: labels, a number or a text; those that are not known are left out."""
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


Scores = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
POOL = 10
"""A list of k items that is diverse or explored is chosen among this many times k of the best."""
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
        self._is_warm: list[bool] = self.warm.tolist()
        self._popular: Scores = np.log1p(self.clicks).astype(np.float32)
        self.listed: Mask = np.zeros(n_items, np.bool_)
        """Which items a list may hold unless others are named ``[I]``, removed ones included."""
        self.listed[bundle.listed_items] = True
        self._lists_all = bool(self.listed.all())
        self.alive: Mask = np.ones(n_items, np.bool_)
        self.alive[[self._items[item] for item in removed if item in self._items]] = False
        self._events: dict[UserId, dict[int, float | None]] = {}
        for user, done in (events or {}).items():
            for item, rating in done.items():
                self.observe(user, item, rating)
        self._kept = KeptProfiles()
        self.explorer: Explorer | None = None
        """What tries out items, if anything does."""
        self.retrieval: Retrieval | None = None
        """What finds the best of many items without the scores of all, if anything does."""
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
        return item if item in self._items else whole_number(item)  # 007 is no number of the catalogue

    def knows_item(self, item: ItemId) -> bool:
        """Return whether the item is there and was not removed."""
        place = self.find(item)
        return place is not None and bool(self.alive[place])

    def attributes(self, item: ItemId) -> dict[str, Any]:
        """Return what is known of an item, by name: labels, a number or a text."""
        return known_attributes(self.bundle, self.place(item))

    def _written(self, item: ItemId) -> str:
        name, attributes = self.names[self.place(item)], self.attributes(item)
        facts = {"item_id": item, "name": name, "cold": self.is_cold(item), "attributes": attributes}
        return json.dumps(facts)[1:-1]

    def is_cold(self, item: ItemId) -> bool:
        """Return whether nobody had clicked the item when the model was fitted."""
        return not bool(self.warm[self.place(item)])

    def observe(self, user: UserId, item: ItemId, rating: float | None) -> None:
        """Take note that a user clicked or rated an item; what the engine does not know is left out."""
        if (place := self.find(item)) is not None:
            self._events.setdefault(self.named_user(user), {})[place] = rating

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
        DataFormatError
            If no user can have the id that is given.
        """
        if query.user_id is not None:
            self.check_user(query.user_id)
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
        asked = [Asked(query, self._profile(query), self._allowed(query), self._pool(query)) for query in queries]
        lists = self._retrieved(asked)
        left = [place for place in range(len(asked)) if place not in lists]
        lists |= dict(zip(left, self._ranked([asked[place] for place in left]), strict=True))
        return [self._answer(one, lists[place]) for place, one in enumerate(asked)]

    def _answer(self, asked: Asked, found: Best) -> Answer:
        history, path = asked.profile.history, asked.profile.path
        if path != "popularity" and not asked.may_list_any(self.warm):
            path = "attributes"
        explorer = self.explorer if asked.query.explore and len(found.items) else None
        places = self._chosen(found, asked.query, history, explorer)
        return Answer(places, path, history, None if explorer is None else explorer.method)

    def _ranked(self, asked: Sequence[Asked]) -> list[Best]:
        """Return the best items for each who asks, by scoring all."""
        if not asked:
            return []
        scores = all_scores([one.profile for one in asked], self._kept, self._scores)
        seen = clicked([one.profile.items for one in asked], self.n_items)
        masked = self._masked(scores, [one.allowed for one in asked])
        best, values = top_k(masked, max(one.pool for one in asked), exclude=seen, n_threads=1)
        left = [int((row[: one.pool] > -np.inf).sum()) for row, one in zip(values, asked, strict=True)]
        return [Best(best[row, :n], values[row, :n], scores[row]) for row, n in enumerate(left)]

    def _retrieved(self, asked: Sequence[Asked]) -> dict[int, Best]:
        """Return the best items for those who ask among all of a large catalogue, by their places."""
        if self.retrieval is None or self.explorer is not None:  # what tries out items reads the scores of all
            return {}
        places = [place for place, one in enumerate(asked) if one.among_all]
        removed = int(np.count_nonzero(self.listed & ~self.alive))
        found = self.retrieval.lists(self.bundle, [asked[place] for place in places], removed)
        return {place: best for place, best in zip(places, found, strict=True) if best is not None}

    def _profile(self, query: Query) -> Profile:
        row = None
        if query.history is None and not self._done(query.user_id):
            row = self._row_of(query.user_id)
        kept = None if row is None else self._kept.get(row)
        if kept is not None:
            return kept
        history, path = self._history(query)
        return Profile(history, path, np.fromiter(history, np.int32, len(history)), row=row)

    def _pool(self, query: Query) -> int:
        """Return among how many of the best items a list is chosen."""
        several = query.diversity or (query.explore and self.explorer is not None)
        return min(max(POOL * query.k, LEAST_POOL) if several else query.k, self.n_items)

    def _masked(self, scores: Scores, masks: Sequence[Mask]) -> Scores:
        """Return the scores ``[b, I]``, −inf where an item may not be in the list; `scores` where all may."""
        if self.alive.all() and all(mask is self.alive for mask in masks):
            return scores
        return np.where(np.stack(masks), scores, np.float32(-np.inf))

    def _history(self, query: Query) -> tuple[dict[int, float | None], ListOrigin]:
        """Return the items and ratings that a list is made from, and where they come from."""
        if query.history is not None:
            found = {self.place(item, "history"): rating for item, rating in query.history.items()}
            return found, "history" if found else "popularity"
        if query.user_id is None:
            return {}, "popularity"
        done = self._done(query.user_id)
        row = self._row_of(query.user_id)
        if row is None:
            return dict(done), "history" if done else "popularity"
        known = clicks_of(self.bundle, row) | done
        return known, "model" if known else "popularity"

    def _scores(self, histories: Sequence[Mapping[int, float | None]]) -> Scores:
        """Return the scores of all items ``[b, I]``: the model's, or popularity where nothing is known."""
        scores = self.scorer(self.rows(histories))
        scores[[not history for history in histories]] = self._popular
        return scores

    def rows(self, histories: Sequence[Mapping[int, float | None]]) -> sp.csr_array:
        """Return histories, by index of the item and the first click first, as the model reads them ``[b, I]``."""
        return as_read(self.bundle.model, histories)

    def _allowed(self, query: Query) -> Mask:
        """Return which items may be in the list ``[I]``; not to be written to."""
        allowed = self.alive
        if query.candidates == "all":
            allowed = allowed if self._lists_all else allowed & self.listed
        elif query.candidates == "warm":
            allowed = allowed & self.warm
        elif query.candidates == "cold":
            allowed = allowed & ~self.warm
        else:
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
        return meeting(self.bundle.attributes, name, condition)

    def _chosen(
        self, found: Best, query: Query, history: Mapping[int, Any], explorer: Explorer | None
    ) -> tuple[Place, ...]:
        """Return the list that is chosen from a pool, best score first, by what is asked for."""
        items, values = found.items, found.values
        worth: npt.NDArray[Any] = values
        if explorer is not None and found.scores is not None:
            worth = explorer.values(items, found.scores, self._open(history), len(history), query.draw)
            order = np.argsort(-worth, kind="stable")
            items, values, worth = items[order], values[order], worth[order]
        if query.diversity and len(items):
            vectors = item_vectors(self.bundle.features, items)
            chosen = diverse(vectors, worth, query.diversity, min(query.k, len(items)))
            items, values = items[chosen], values[chosen]
        return self.places(items[: query.k], values[: query.k])

    def places(self, items: npt.NDArray[Any], scores: Scores) -> tuple[Place, ...]:
        """Return items, by index, and their scores as the places of a list."""
        return tuple(
            Place(self.ids[item], score, not self._is_warm[item])
            for item, score in zip(items.tolist(), scores.tolist(), strict=True)
        )

    def _open(self, history: Mapping[int, Any]) -> Mask:
        """Return which items a user with that history could be shown ``[I]``."""
        open_ = self.alive.copy()
        open_[list(history)] = False
        return open_

    def context(self, user: UserId, item: ItemId) -> dict[str, float]:
        """Return the context in which a user is shown an item, as it is now: to learn from what became of it."""
        history, _ = self._history(Query(user_id=user))
        (scores,) = self._scores([history])
        return context_of(self.place(item), scores, self._open(history), len(history))

    def find(self, item: ItemId) -> int | None:
        """Return the index of an item, or None if there is no such item.

        A number names the text of its digits where ids are text, and that text the number where they are numbers.
        """
        place = self._items.get(item)
        return self._items.get(self.named_item(item)) if place is None else place

    def named_item(self, item: ItemId) -> ItemId:
        """Return the id of an item as the catalogue has it, whether there is such an item or not."""
        return as_known(item, numbers=has_numbers(self.bundle.item_ids))

    def named_user(self, user: UserId) -> UserId:
        """Return the id of a user as the bundle has it, whether there is such a user or not."""
        return as_known(user, numbers=has_numbers(self.bundle.user_ids))

    def check_user(self, user: UserId) -> None:
        """Find out whether a user can have an id; one who is known can.

        Raises
        ------
        DataFormatError
            If it is of another type than those of all users: nobody is meant who could be known.
        """
        reason = None if self.knows_user(user) else names_none(self.named_user(user), self.bundle.user_ids)
        if reason is not None:
            raise DataFormatError(f"user_id: {user!r:.80} {reason}. Leave it out for somebody without an id.")

    def knows_user(self, user: UserId) -> bool:
        """Return whether the user is of the data, or has sent feedback."""
        named = self.named_user(user)
        return named in self._users or named in self._events

    def _done(self, user: UserId | None) -> dict[int, float | None]:
        """Return what a user did since the model was fitted, by index of the item."""
        return {} if user is None or not self._events else self._events.get(self.named_user(user), {})

    def _row_of(self, user: UserId | None) -> int | None:
        """Return the row of a user in the bundle, by the rule of :meth:`find`; None if it does not have them."""
        row = None if user is None else self._users.get(user)
        return row if row is not None or user is None else self._users.get(self.named_user(user))

    def place(self, item: ItemId, field: str = "item_id") -> int:
        """Return the index of an item that a field of the request names.

        Raises
        ------
        UnknownIdError
            If there is no such item.
        """
        place = self.find(item)
        if place is None:
            raise UnknownIdError(f"{field}: there is no item {item!r:.80}.")
        return place
