"""A fitted model with everything it needs to serve: ids, attributes, clicks, and the lists that are made from them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from coldray.bundle.frames import Policy, ScoreParts, explained_frame, list_frame, similar_frame
from coldray.bundle.lists import Candidates, Indices, ListMaker, ListOrigin, Place
from coldray.bundle.new_items import with_items
from coldray.bundle.people import Context, People, PeopleMoments, Profile
from coldray.bundle.similar import SimilaritySearch
from coldray.core.errors import ConfigError, UnknownIdError
from coldray.core.notebook import facts_html
from coldray.data.dataset import Attribute, Ids
from coldray.data.signals import places_in, ratings_in
from coldray.data.tables.frames import Frame
from coldray.features.builder import AttributeKind, FeatureEncoder, attribute_kinds
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender
from coldray.models.forms import Form
from coldray.models.linalg.vector_index import VectorIndex, settled_index

logger = logging.getLogger(__name__)
History: TypeAlias = Sequence[Any] | Mapping[Any, float | None]
"""Item ids, or ratings by item id, None where one is unknown."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A fitted model with everything it needs to serve."""

    model: Recommender[Any]
    encoder: FeatureEncoder
    user_ids: Ids
    item_ids: Ids
    attributes: Mapping[str, Attribute]
    """All that is known of the items, by name: what the encoder reads, and what is shown only, such as a title."""
    features: FeatureSet
    """The encoded attributes of all items."""
    interactions: sp.csr_array
    """Clicks the model was fitted on ``[U, I]``, as it reads them."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the model, as plain JSON values: dataset, protocol, metrics."""
    people: People | None = None
    """What is known of users beside their clicks, where the model reads it."""
    before: Bundle | None = field(default=None, repr=False)
    """What it was before items were added, if any were."""

    def __repr__(self) -> str:
        known = f"{len(self.user_ids):,} users, {self.model.n_items:,} items ({sum(self._cold):,} cold)"
        return f"Bundle of {self.model.name}: {known}, fitted on {self._trained_on}"

    def _repr_html_(self) -> str:
        facts: list[tuple[str, object]] = [
            ("users", len(self.user_ids)),
            ("items", self.model.n_items),
            ("cold items", sum(self._cold)),
            ("fitted on", self._trained_on),
            *self.model.config.model_dump(mode="json").items(),
        ]
        return facts_html(f"Bundle of {self.model.name}", facts, map(str, self.manifest.get("notes", ())))

    @property
    def _trained_on(self) -> str:
        return str(self.manifest.get("trained_on", "its interactions"))

    @property
    def kinds(self) -> dict[str, AttributeKind]:
        """What each attribute holds: what :func:`~coldray.features.builder.attributes_from_records` needs."""
        return attribute_kinds(self.attributes)

    @cached_property
    def clicks(self) -> npt.NDArray[np.int64]:
        """Clicks of each item when the model was fitted ``[I]``."""
        return np.bincount(self.interactions.indices, minlength=self.model.n_items)

    @cached_property
    def plain_ids(self) -> list[Any]:
        """Ids of all items, by index."""
        ids: list[Any] = self.item_ids.tolist()
        return ids

    @cached_property
    def item_places(self) -> dict[Any, int]:
        """The index of each item by its id."""
        return {item: place for place, item in enumerate(self.plain_ids)}

    @cached_property
    def user_places(self) -> dict[Any, int]:
        """The row of each user by their id."""
        return {user: row for row, user in enumerate(self.user_ids.tolist())}

    @property
    def moments(self) -> PeopleMoments | None:
        """How the moments of those who ask are read, where the model reads them."""
        return None if self.people is None else self.people.moments

    @cached_property
    def similarity(self) -> SimilaritySearch:
        """What finds items that are alike, of this bundle and of items that come later."""
        return SimilaritySearch(self) if self.before is None else self.before.similarity

    @cached_property
    def _cold(self) -> list[bool]:
        cold: list[bool] = (self.clicks == 0).tolist()
        return cold

    # ---- lists

    @cached_property
    def listed_items(self) -> Indices:
        """Items that a list may hold unless others are named, ascending.

        Those of a model that knows items by clicks alone have some: it has nothing to tell the others apart by.
        """
        if self.model.scores_cold_items:
            return np.arange(self.model.n_items, dtype=np.int32)
        return np.flatnonzero(self.clicks).astype(np.int32)

    @cached_property
    def _settled(self) -> tuple[VectorIndex | None, Form]:
        if self.before is not None:  # items that came later are compared with all
            return self.before._settled
        named = self.manifest.get("lists")
        before = None if named is None else Form(**named)
        index, form = settled_index(self.model, self.listed_items, self.interactions, before)
        if before is not None and form.value != before.value:
            logger.warning("Lists were to be made in the form %s, and are in another: %s", before.words, form.told)
        return index, form

    @property
    def index(self) -> VectorIndex | None:
        """What finds the best of all items without the scores of all, if anything does."""
        return self._settled[0]

    @property
    def lists_form(self) -> Form:
        """How the best of all items are found: the same way by all who make lists of this bundle."""
        return self._settled[1]

    def list_maker(self, candidates: Candidates = "all") -> ListMaker:
        """Return what makes lists of some of the items.

        Raises
        ------
        UnknownIdError
            If a named candidate is none of the bundle's items.
        ConfigError
            If no item may be listed, or the model knows a named candidate neither by clicks nor by attributes.
        """
        chosen = self.listed_items if candidates == "all" else self._chosen(candidates)
        if len(chosen) == 0:
            raise ConfigError(f"The model has no item to list: candidates are {candidates!r}. Use other ones.")
        return ListMaker.of(self.model, self.clicks, chosen, self.index if candidates == "all" else None)

    @cached_property
    def _all_lists(self) -> ListMaker:
        return self.list_maker()

    def _chosen(self, candidates: Candidates) -> Indices:
        if candidates in ("warm", "cold"):
            self.check_candidates(candidates)
            return np.flatnonzero((self.clicks > 0) == (candidates == "warm")).astype(np.int32)
        unknown = [item for item in candidates if item not in self.item_places]
        if unknown:
            raise UnknownIdError(
                f"{len(unknown):,} of the {len(candidates):,} candidates are no items of the model; the first is "
                f"{unknown[0]!r}. Leave them out, or fit the model on them."
            )
        self.check_candidates(candidates)
        return np.unique(np.asarray([self.item_places[item] for item in candidates], np.int32))

    def silent_items(self, items: Sequence[Any]) -> list[Any]:
        """Return those of the items, by id, that the model knows neither by clicks nor by attributes."""
        return [item for item in items if not self.model.scores_cold_items and self._cold[self.item_places[item]]]

    def check_candidates(self, candidates: Candidates) -> None:
        """Refuse candidates that the model cannot tell apart, whose scores would all be nothing.

        Raises
        ------
        ConfigError
            If the model knows items by their clicks alone, and items without any are to be ranked.
        """
        which = "cold items have none" if candidates == "cold" and not self.model.scores_cold_items else ""
        if not isinstance(candidates, str) and (silent := self.silent_items(candidates)):
            which = f"{len(silent):,} of the {len(candidates):,} candidates have none, {silent[0]!r} first"
        if which:
            raise ConfigError(
                f"The model {self.model.name!r} knows items by their clicks alone, and {which}. Leave them out, or use "
                "a model that reads attributes."
            )

    def recommend(
        self,
        users: Sequence[Any] | None = None,
        k: int = 10,
        *,
        histories: Sequence[History] | None = None,
        profiles: Sequence[Profile] | None = None,
        contexts: Sequence[Context] | None = None,
        candidates: Candidates = "all",
        exclude: Sequence[Any] = (),
        policy: Policy = "warn",
    ) -> pl.DataFrame:
        """Return the best items for users, by id, by what they clicked or who they are; clicked items are left out.

        Parameters
        ----------
        users
            Ids of users the bundle knows by their clicks.
        k
            Length of a list.
        histories
            Instead of `users`: item ids of each user, for a model that reads their order the first one first; for a
            model that reads ratings better their ratings by item id.
        profiles
            Instead of `users`, alone or beside `histories`: attributes by name of each user, for a model that reads
            them. Those of `users` are known.
        contexts
            Of the moment at which each asks, for a model that reads it: columns of context by name, and ``time``.
        candidates
            Items that may be listed: ``all``, ``warm``, ``cold``, or a tuple of ids.
        exclude
            Items that nobody is to be shown.
        policy
            What becomes of users and items that the model can say nothing of: users that are unknown or have no
            clicks; unknown items among histories, candidates or exclusions; of a model that knows items by clicks
            alone, candidates without any. ``raise``: an error. ``warn``: such users get the items with the most clicks,
            such items are left out, and both are counted in a warning. ``ignore``: the same without it; the column
            ``origin`` tells. One for both, or ``{"users": ..., "items": ...}``.

        Returns
        -------
        polars.DataFrame
            A row a place: ``user`` (the id, or the number of the history), ``rank`` from 1, ``item``, ``score``,
            ``cold`` (nobody had clicked it when the model was fitted), ``origin``
            (:data:`~coldray.bundle.lists.ListOrigin`), and ``title`` where items have a text of that name.

        Raises
        ------
        ConfigError
            If both or none of `users` and `histories` or `profiles` are given, not as many histories as profiles, no
            item may be listed, or there are profiles and the model reads none.
        UnknownIdError
            If the policy is ``raise`` and there are such users or items.

        Examples
        --------
        >>> import coldray
        >>> bundle = coldray.fit("popularity", coldray.load_dataset("sample"))
        >>> bundle.recommend(["user-0001", "user-0002"], k=2).columns
        ['user', 'rank', 'item', 'score', 'cold', 'origin', 'title']
        """
        asked = (users, histories, profiles, contexts)
        return list_frame(self, asked, k, candidates=candidates, exclude=exclude, policy=policy)

    def similar(self, item: Any, k: int = 10) -> pl.DataFrame:
        """Return the items most like an item: by attributes, and by who clicked it unless it is new.

        The score is a cosine, see :meth:`~coldray.bundle.similar.SimilaritySearch.similar`; items that have nothing in
        common with it are left out, so that there may be fewer than `k`.

        Returns
        -------
        polars.DataFrame
            A row an item: ``rank`` from 1, ``item``, ``score``, ``cold``, and ``title`` where items have a text of that
            name.

        Raises
        ------
        UnknownIdError
            If the bundle has no such item.

        Examples
        --------
        >>> import coldray
        >>> bundle = coldray.fit("popularity", coldray.load_dataset("sample"))
        >>> bundle.similar("item-0001", k=3)["rank"].to_list()
        [1, 2, 3]
        """
        return similar_frame(self, item, k)

    def explain(self, user: Any = None, item: Any = None, *, history: History | None = None) -> ScoreParts:
        """Return what the score of an item is made of, for a user of the bundle or for a given history.

        Raises
        ------
        UnknownIdError
            If the bundle does not know the user, the item, or an item of the history.
        ConfigError
            If both or none of `user` and `history` are given.

        Examples
        --------
        >>> import coldray
        >>> bundle = coldray.fit("ease", coldray.load_dataset("sample"))
        >>> parts = bundle.explain("user-0001", "item-0002")
        >>> abs(parts.parts["added"].sum() - parts.score) < 1e-3
        True
        """
        return explained_frame(self, user, item, history)

    def save(self, folder: str | Path) -> Path:
        """Write the bundle to a folder, completely or not at all, and return its path; an older bundle is replaced.

        Raises
        ------
        ConfigError
            If the folder holds something else than a bundle.
        OutputError
            If the folder cannot be written, or is a file.
        """
        from coldray.bundle.io import save_bundle  # which reads bundles as well, and so imports this module

        return save_bundle(self, Path(folder))

    def lists(
        self, histories: Sequence[History], k: int, *,
        candidates: Candidates = "all", exclude: Sequence[Any] = (), known: bool = False,
        people: FeatureSet | None = None,
    ) -> list[tuple[ListOrigin, list[Place]]]:  # fmt: skip
        """Return the lists of :meth:`recommend` for histories, each with where it comes from.

        Whose history is empty gets the items with the most clicks, scored by their logarithm. Of a model that reads
        ratings, an item without one is taken to be liked (:attr:`~coldray.models.base.Recommender.click_value`).

        Parameters
        ----------
        known
            True if the histories are those that the bundle has of its users.
        people
            What is known of these users beside their histories, for a model that reads it.

        Raises
        ------
        UnknownIdError
            If a history or a candidate is an item the bundle does not have.
        """
        maker = self._all_lists if candidates == "all" else self.list_maker(candidates)
        rows = maker.rows([maker.read(self.by_index(row, history)) for row, history in enumerate(histories)])
        hidden = [self.item_places[item] for item in exclude if item in self.item_places]
        mask = ~np.isin(maker.items, hidden) if hidden else None
        return [
            (made.origin(row, known=known), list(self.places(made.items[row], made.scores[row])))
            for made in maker.in_blocks(rows, k, mask=mask, people=people)
            for row in range(len(made.items))
        ]

    def most_clicked(self, k: int) -> list[Place]:
        """Return the `k` items with the most clicks, scored by their logarithm: the list of whom nothing is known."""
        return self.lists([[]], k)[0][1]

    def places(self, items: npt.NDArray[Any], scores: npt.NDArray[Any]) -> tuple[Place, ...]:
        """Return items, by index and -1 for none, and their scores as the places of a list."""
        ids, cold = self.plain_ids, self._cold
        return tuple(
            Place(ids[item], score, cold[item])
            for item, score in zip(items.tolist(), scores.tolist(), strict=True)
            if item >= 0
        )

    def clicks_of(self, row: int) -> dict[int, float | None]:
        """Return what the user of a row clicked: the rating of each item, in the order of clicks if that is read.

        A rating that is not read is 1.
        """
        cells, reads = slice(self.interactions.indptr[row], self.interactions.indptr[row + 1]), self.model.reads
        items, values = self.interactions.indices[cells], self.interactions.data[cells]
        ratings = ratings_in(values) if reads.worth else np.ones(len(values), np.float32)
        if reads.order:
            order = np.argsort(places_in(values), kind="stable")
            items, ratings = items[order], ratings[order]
        return dict(zip(items.tolist(), ratings.tolist(), strict=True))

    def history(self, user_id: Any) -> History:
        """Return the ids of the items a user of the bundle clicked, in order if the model reads that.

        For a model that reads ratings, they are by item.

        Raises
        ------
        UnknownIdError
            If the bundle does not know the user.
        """
        if user_id not in self.user_places:
            raise UnknownIdError(f"The bundle does not know the user {user_id!r}.")
        clicked = {self.plain_ids[item]: rating for item, rating in self.clicks_of(self.user_places[user_id]).items()}
        return clicked if self.model.reads.worth else list(clicked)

    def by_index(self, row: int, history: History) -> dict[int, float | None]:
        """Return a history by the index of the items."""
        for item in history:
            if item not in self.item_places:
                raise UnknownIdError(f"History {row} names the item {item!r}, which the model does not know.")
        rated = history if isinstance(history, Mapping) else dict.fromkeys(history)
        return {self.item_places[item]: rating for item, rating in rated.items()}

    # ---- new items

    def add_items(
        self, items: Mapping[Any, Mapping[str, object]] | Frame, *, item: str = "item_id", label_separator: str = "|",
        list_text: bool = False,
    ) -> Bundle:  # fmt: skip
        """Return a bundle that also knows new items; they are in its lists at once, known by their attributes.

        New items come after the known ones, in the order given. Attributes that no model reads are taken in too. Labels
        that the model was not fitted with say nothing to it: they are counted in a warning.

        Parameters
        ----------
        items
            Attribute values by name under the item's id; or a frame (polars, pandas, arrow, a mapping of columns) with
            a row an item and a column an attribute.
        item, label_separator
            Of a frame: the column with ids, and what divides labels that are text.
        list_text
            Whether a label that is a list written as text is taken whole: for items that were accepted so before.

        Raises
        ------
        UnknownIdError
            If an item is in the bundle already.
        UnknownAttributeError
            If there is an attribute that items do not have.
        DataFormatError
            If a value is not of its attribute's kind, or is a list of labels written as text; or if ids are missing,
            doubled or of another type than the bundle's.

        Examples
        --------
        >>> import coldray
        >>> bundle = coldray.fit("popularity", coldray.load_dataset("sample"))
        >>> more = bundle.add_items({"item_id": ["new"], "genres": [["drama"]], "title": ["The new one"]})
        >>> more.recommend(["user-0001"], k=1, candidates=("new",))["title"].to_list()
        ['The new one']
        """
        return with_items(self, items, item, label_separator, list_text=list_text)
