"""What people look up in the catalogue: items by name, items like another, and what is known of items at all.

The methods are endpoints of :class:`~coldray.serving.api.app.RecommendService`; as there, annotations are not text,
since FastAPI reads them.
"""

import asyncio
from typing import Annotated

import numpy as np
from fastapi import APIRouter, Query, Response

from coldray.core.errors import UnknownIdError
from coldray.data.dataset import Attribute, LabelAttribute
from coldray.serving.api.answers import similar_json
from coldray.serving.api.schemas import AttributeKind, Catalogue, Item, SearchResponse, SimilarResponse
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.ids import MAX_ID
from coldray.serving.engine.queries import ItemId, plain
from coldray.serving.live.model import LiveModel

_FREQUENT = 100
"""Labels of an attribute that are told."""
_MAX_WORDS = 200
"""Characters of words that are looked for in names."""
router = APIRouter()


def found_item(engine: Engine, item: ItemId) -> Item:
    """Return what is known of an item.

    Raises
    ------
    UnknownIdError
        If there is no such item, or it was removed.
    """
    if not engine.knows_item(item):
        raise UnknownIdError(f"item_id: there is no item {item!r:.80}.")
    place = engine.place(item)
    return Item(
        item_id=engine.ids[place],
        name=engine.names[place],
        attributes=engine.attributes(item),
        cold=engine.is_cold(item),
    )


def _find_items(engine: Engine, sought: str, limit: int) -> list[Item]:
    """Return the items whose id is what is sought, or whose name has each word of it, begun at least; best first."""
    # A longer text is an id: to look for each of its words takes a time that nobody waits for.
    words = sought if len(sought) <= _MAX_WORDS else ""
    places = engine.name_index.search(words, engine.clicks, limit, allowed=engine.alive)
    named = (engine.named_item(one) for one in (sought, sought.strip()))
    ordered = dict.fromkeys(
        item for item in (*named, *(engine.ids[place] for place in places)) if engine.knows_item(item)
    )
    return [found_item(engine, item) for item in list(ordered)[:limit]]


def _described(live: LiveModel) -> Catalogue:
    """Return what a form for users and new items has to know."""
    engine, bundle = live.engine, live.engine.bundle
    read = bundle.encoder.kinds
    attributes = [
        AttributeKind(name=name, kind=kind, read=name in read, labels=_frequent(bundle.attributes[name]))
        for name, kind in bundle.kinds.items()
    ]
    people, moments = bundle.people, bundle.moments
    columns = [] if moments is None else [(name, kind, moments.labels_of(name)) for name, kind in moments.kinds.items()]
    profile = (
        []
        if people is None
        else [
            AttributeKind(name=name, kind=kind, read=True, labels=_frequent(people.attributes[name]))
            for name, kind in people.encoder.kinds.items()
        ]
    )
    user = plain(bundle.user_ids[0])
    return Catalogue(
        n_items=int(engine.alive.sum()),
        n_users=len(bundle.user_ids),
        item_ids="number" if isinstance(engine.ids[0], int) else "text",
        user_ids="number" if isinstance(user, int) else "text",
        some_user=user,
        takes_new_items=live.takes_new_items,
        name=engine.names.attribute,
        attributes=attributes,
        user_attributes=profile,
        context=[AttributeKind(name=name, kind=kind, read=True, labels=labels) for name, kind, labels in columns],
    )


def _frequent(attribute: Attribute) -> list[str]:
    if not isinstance(attribute, LabelAttribute):
        return []
    counts = np.bincount(attribute.matrix.indices, minlength=len(attribute.labels))
    order = np.argsort(-counts, kind="stable")[:_FREQUENT]
    labels: list[str] = attribute.labels[order].tolist()
    return labels


class CatalogueEndpoints:
    """The endpoints of a service that has a live model."""

    @property
    def live(self) -> LiveModel:
        """The model that answers."""
        raise NotImplementedError

    @router.get("/v1/search", response_model=SearchResponse)
    async def search(
        self,
        q: Annotated[
            str,
            Query(
                max_length=MAX_ID,
                description=f"Words of the name, or their beginnings, {_MAX_WORDS} characters at most; or an id.",
            ),
        ],
        limit: Annotated[int, Query(ge=1, le=100, description="Items at most.")] = 10,
    ) -> SearchResponse:
        """Return items by name, best match first; case and accents do not count."""
        items = await asyncio.to_thread(_find_items, self.live.engine, q, limit)
        return SearchResponse(items=items)

    @router.get("/v1/similar/{item_id:path}", response_model=SimilarResponse)
    async def similar(
        self, item_id: str, k: Annotated[int, Query(ge=1, le=1000, description="Items at most.")] = 10
    ) -> Response:
        """Return the items most like an item: by its attributes, and by who clicked it unless it is new."""
        live = self.live
        engine = live.engine
        item = found_item(engine, engine.typed(item_id)).item_id
        found = await asyncio.to_thread(
            engine.bundle.similarity.similar, engine.bundle, engine.place(item), k, allowed=engine.alive
        )
        return Response(similar_json(live, found), media_type="application/json")

    @router.get("/v1/catalogue", response_model=Catalogue)
    async def catalogue(self) -> Catalogue:
        """Return what a form for users and new items has to know: attributes, and what ids are like."""
        return _described(self.live)
