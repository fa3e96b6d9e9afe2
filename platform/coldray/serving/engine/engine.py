"""A bundle ready to answer: what does not depend on who asks is made once, and queries are answered in batches.

A query may set conditions on attributes, and ask for lists whose items are not all alike.

Notation used for shapes: b queries, I items.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.bundle.item_space import item_vectors
from coldray.bundle.lists import ListMaker, Lists, Mask, Place, Scores
from coldray.bundle.model import Bundle
from coldray.bundle.new_items import knowing
from coldray.bundle.people import TIME_OF_CONTEXT
from coldray.core.errors import ConfigError, DataFormatError, UnknownAttributeError, UnknownIdError
from coldray.core.spelling import nearest
from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, VectorAttribute
from coldray.data.item_names import ItemNames
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender
from coldray.serving.engine.ids import as_known, has_numbers, names_none, whole_number
from coldray.serving.engine.names import NameIndex
from coldray.serving.engine.profiles import Asked, Best, KeptProfiles, Profile, all_scores, people_of
from coldray.serving.engine.queries import Answer, Condition, ItemId, Query, UserId, plain
from coldray.serving.exploration.explore import Explorer, context_of


def _meeting(attributes: Mapping[str, Attribute], name: str, condition: Condition) -> npt.NDArray[np.bool_]:
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
        kind = "vector" if isinstance(attribute, VectorAttribute) else "text"
        raise ConfigError(f"filters: {name!r} is a {kind}, and {kind}s cannot be filtered on.")
    raise ConfigError(f"filters: {name!r} takes {wanted}.")


def _diverse(vectors: sp.csr_array, values: npt.NDArray[np.floating[Any]], weight: float, k: int) -> list[int]:
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


def _known_attributes(bundle: Bundle, place: int) -> dict[str, Any]:
    """Return the attributes of an item by name: labels, a number or a text.

    Those that are not known are left out, and so are vectors.
    """
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
        elif isinstance(attribute, VectorAttribute):
            continue  # hundreds of numbers that nobody reads, in every place of a list
        elif attribute.texts[place]:
            found[name] = attribute.texts[place]
    return found


_POOL = 10
"""A list of k items that is diverse or explored is chosen among this many times k of the best."""
_LEAST_POOL = 100
_KEPT_MASKS = 256
"""Answers to conditions on attributes that are kept."""
_KEPT_FACTS = 20_000
"""Items whose attributes are kept as JSON, some kilobytes each."""


class Engine:
    """Answers queries from a bundle, from what users did since it was fitted, and from what was removed."""

    def __init__(
        self, bundle: Bundle, *, events: Mapping[UserId, Mapping[ItemId, float | None]] | None = None,
        removed: Iterable[ItemId] = (), names: NameIndex | None = None,
    ) -> None:  # fmt: skip
        self.bundle = bundle
        n_items = bundle.model.n_items
        self.clicks = bundle.clicks
        """Of each item, when the model was fitted ``[I]``."""
        self.maker = ListMaker.of(bundle.model, self.clicks, np.arange(n_items, dtype=np.int32), bundle.index)
        """Makes lists of all items."""
        self.ids: list[ItemId] = bundle.plain_ids
        """Of all items, by index; removed ones are still there."""
        self._items: dict[ItemId, int] = bundle.item_places
        self._users: dict[UserId, int] = {plain(user): row for row, user in enumerate(bundle.user_ids)}
        self.names = ItemNames(bundle.attributes, self.ids)
        """What all items are called."""
        self._known_names = NameIndex([]) if names is None else names
        self.warm: Mask = self.clicks > 0
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
        self._meeting = lru_cache(_KEPT_MASKS)(self._met)
        self.facts = lru_cache(_KEPT_FACTS)(self._written)
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
        return _known_attributes(self.bundle, self.place(item))

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

    def knowing(self, model: Recommender[Any]) -> Engine:
        """Return an engine whose model knows more clicks on the same items; what does not hang on them is shared."""
        engine = copy(self)
        engine.bundle = knowing(self.bundle, model)
        engine.maker = ListMaker.of(model, self.clicks, self.maker.items, self.bundle.index)
        engine._kept = KeptProfiles()
        return engine

    def check(self, query: Query) -> None:
        """Find out what is wrong with a query.

        Raises
        ------
        UnknownIdError
            If a history, an exclusion or a candidate list names an item that is not there.
        UnknownAttributeError
            If a condition names an attribute that items do not have, or a profile one that users do not have.
        ConfigError
            If a condition is not one of that attribute's kind, or the model cannot tell the candidates apart.
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
        self.bundle.check_candidates(query.candidates)
        if query.profile is not None:
            if self.bundle.people is None or not self.bundle.people.encoder.kinds:
                raise ConfigError(
                    f"user_attributes: the model {self.bundle.model.name!r} reads none. Leave them out, or promote one "
                    "that does, such as kernel_align_users."
                )
            self.bundle.people.read([query.profile])
            _refuse_unread("user_attributes: nobody", self.bundle.people.unread([query.profile]))
        if query.context is not None:
            if (moments := self.bundle.moments) is None:
                raise ConfigError(
                    f"context: the model {self.bundle.model.name!r} reads none. Leave it out, or promote one that does."
                )
            moments.read([query.context])
            _refuse_unread("context: no click", moments.unread([query.context]))
        for name, condition in query.conditions.items():
            self._meeting(name, condition)

    def answer(self, queries: Sequence[Query]) -> list[Answer]:
        """Return a list for each query; queries with errors, which :meth:`check` finds, raise here too."""
        asked = [Asked(query, self._profile(query), self._allowed(query), self._pool(query)) for query in queries]
        # What tries out items reads the scores of all.
        maker = self.maker if self.explorer is None else replace(self.maker, index=None)
        histories = maker.rows([one.profile.cells for one in asked])
        whole: dict[int, Scores] = {}

        def scored(rows: npt.NDArray[np.intp]) -> Scores:
            profiles = [asked[row].profile for row in rows]

            def made(new: list[Profile]) -> Scores:
                return maker.scores(maker.rows([one.cells for one in new]), people_of(new))

            scores = all_scores(profiles, self._kept, made)
            whole.update(zip(rows.tolist(), scores, strict=True))
            return scores

        lengths = np.array([one.pool for one in asked])
        people = people_of([one.profile for one in asked])
        lists = maker.make(histories, lengths, masks=self._masks(asked), scored=scored, people=people)
        return [self._answer(one, lists, row, whole.get(row)) for row, one in enumerate(asked)]

    def _answer(self, asked: Asked, lists: Lists, row: int, scores: Scores | None) -> Answer:
        history, items = asked.profile.history, lists.items[row]
        left = int(np.count_nonzero(items >= 0))
        explorer = self.explorer if asked.query.explore and left else None
        places = self._chosen(Best(items[:left], lists.scores[row, :left], scores), asked.query, history, explorer)
        path = lists.origin(row, known=asked.profile.known)
        method = None if explorer is None else explorer.method
        return Answer(places, path, history, self._unknown_context(asked.query), method)

    def _unknown_context(self, query: Query) -> tuple[str, ...]:
        moments = self.bundle.moments
        return () if moments is None else moments.missing(query.context or {})

    def _profile(self, query: Query) -> Profile:
        row = None
        if query.history is None and query.profile is None and not self._done(query.user_id):
            row = self.row_of(query.user_id)
        if self.bundle.moments is not None:  # the same user's scores are others at another moment
            row = None
        kept = None if row is None else self._kept.get(row)
        if kept is not None:
            return kept
        history, known = self._history(query)
        return Profile(history, self.maker.read(history), known, row=row, person=self._person(query, history))

    def _person(self, query: Query, history: Mapping[int, float | None]) -> FeatureSet | None:
        """Return what is known of the user beside the history, and of the moment, if the model reads it."""
        people = self.bundle.people
        if people is None:
            return None
        row = None if query.user_id is None or query.history is not None else self.row_of(query.user_id)
        context = {TIME_OF_CONTEXT: time.time(), **(query.context or {})}
        of_moments = (None, None) if people.moments is None else ([context], [history])
        return people.asking([row], None if query.profile is None else [query.profile], *of_moments)

    def _pool(self, query: Query) -> int:
        """Return among how many of the best items a list is chosen."""
        several = query.diversity or (query.explore and self.explorer is not None)
        return min(max(_POOL * query.k, _LEAST_POOL) if several else query.k, self.n_items)

    def _masks(self, asked: Sequence[Asked]) -> Mask | None:
        """Return which items may be in each list ``[b, I]``; None where all may."""
        if self.alive.all() and all(one.allowed is self.alive for one in asked):
            return None
        return np.stack([one.allowed for one in asked])

    def _history(self, query: Query) -> tuple[dict[int, float | None], bool]:
        """Return the items and ratings that a list is made from, and whether they are of a user of the bundle."""
        if query.history is not None:
            return {self.place(item, "history"): rating for item, rating in query.history.items()}, False
        done, row = self._done(query.user_id), self.row_of(query.user_id)
        return (dict(done), False) if row is None else (self.bundle.clicks_of(row) | done, True)

    def rows(self, histories: Sequence[Mapping[int, float | None]]) -> sp.csr_array:
        """Return histories, by index of the item and the first click first, as the model reads them ``[b, I]``."""
        return self.maker.rows([self.maker.read(history) for history in histories])

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
        return _meeting(self.bundle.attributes, name, condition)

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
            chosen = _diverse(vectors, worth, query.diversity, min(query.k, len(items)))
            items, values = items[chosen], values[chosen]
        return self.bundle.places(items[: query.k], values[: query.k])

    def _open(self, history: Mapping[int, Any]) -> Mask:
        """Return which items a user with that history could be shown ``[I]``."""
        open_ = self.alive.copy()
        open_[list(history)] = False
        return open_

    def context(self, user: UserId, item: ItemId) -> dict[str, float]:
        """Return the context in which a user is shown an item, as it is now: to learn from what became of it."""
        query = Query(user_id=user)
        history, _ = self._history(query)
        (scores,) = self.maker.scores(self.rows([history]), self._person(query, history))
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

    def row_of(self, user: UserId | None) -> int | None:
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


def _refuse_unread(who: str, unread: Mapping[str, Sequence[str]]) -> None:
    """Raise DataFormatError for the first label that says nothing to the model."""
    for name, labels in unread.items():
        raise DataFormatError(f"{who} the model was fitted on has the label {labels[0]!r} of {name!r}. Leave it out.")
