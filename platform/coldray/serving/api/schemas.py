"""Requests and responses of the HTTP interface; what its OpenAPI page shows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    GetCoreSchemaHandler,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    field_validator,
)
from pydantic_core import CoreSchema

from coldray.bundle.lists import ListOrigin
from coldray.data.tables.numbers import LARGEST
from coldray.serving.engine.ids import MAX_ID
from coldray.serving.engine.queries import Condition, ExplorationMethod, Query

_MAX_K = 1000
MAX_HISTORY = 10_000


def _as_read(value: int | str) -> int | str:
    """Return a whole number beyond 64 bits with a sign as text, as it is in the data."""
    return str(value) if isinstance(value, int) and value >= 2**63 else value


class _OneMessage:
    """Has a union say in one sentence what it takes; of its own it speaks of the first of its types alone."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        message = f"an id is a whole number of 64 bits, or text of 1 to {MAX_ID:,} characters"
        return {**handler(source), "custom_error_type": "id", "custom_error_message": message}


Id: TypeAlias = Annotated[
    Annotated[StrictInt, Field(ge=-(2**63), lt=2**64)] | Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID)],
    _OneMessage,
    AfterValidator(_as_read),
]
"""Users and items have the ids of the data: whole numbers or text."""
KnownId: TypeAlias = int | str
"""One that the data have, in an answer: it is said as it is, whatever a request could name."""
_Rating: TypeAlias = Annotated[FiniteFloat, Field(ge=-LARGEST, le=LARGEST)]
"""What a user thinks of an item."""


class Schema(BaseModel):
    """Base: an unknown field is an error that names it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RatedItem(Schema):
    """An item of a history, with what the user thinks of it."""

    item_id: Id
    rating: _Rating | None = None
    """For models that read ratings, see :class:`~coldray.data.signals.Reads`; nothing to others."""


class Filter(Schema):
    """What an attribute must be: `any` of some labels, or a number from `at_least` to `at_most`."""

    any: list[Annotated[StrictStr, Field(max_length=512)]] | None = Field(default=None, max_length=100)
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None


class RecommendRequest(Schema):
    """Who is asking, and for what."""

    user_id: Id | None = Field(default=None, description="A user of the data, or anybody who has sent feedback.")
    history: list[Id | RatedItem] | None = Field(
        default=None, max_length=MAX_HISTORY, description="Items instead of a user: for somebody the model never saw."
    )
    user_attributes: Annotated[dict[str, Any], Field(max_length=100)] | None = Field(
        default=None,
        description="Who asks: attributes of the user by name, for a model that reads them. Instead of what is known "
        "of the user; alone, it is enough for a list.",
    )
    context: Annotated[dict[str, Any], Field(max_length=100)] | None = Field(
        default=None,
        description="When and where: columns of context by name, for a model that reads them, and `time`, in seconds "
        "since 1970 or as of ISO 8601; now unless given.",
    )
    k: int = Field(default=10, ge=1, le=_MAX_K, description="Length of the list.")
    exclude: list[Id] = Field(default=[], max_length=MAX_HISTORY, description="Items that must not be in the list.")
    candidates: Literal["all", "warm", "cold"] | Annotated[list[Id], Field(min_length=1, max_length=MAX_HISTORY)] = (
        Field(
            default="all",
            description="Among which items: all, those with or without clicks when the model was fitted, or these.",
        )
    )
    filters: dict[str, Filter] = Field(default={}, max_length=20, description="By attribute; an item must meet all.")
    diversity: float = Field(default=0.0, ge=0, le=1, description="0: by score alone; 1: as different as can be.")
    explain: bool = Field(default=False, description="Say why the first items are in the list; takes longer.")
    explore: bool = Field(
        default=True, description="Let items be tried out, where the service does so; false: the order of the scores."
    )
    version: Annotated[StrictStr, Field(min_length=1, max_length=64)] | None = Field(
        default=None,
        description="Version of the model that is to answer, of those of GET /v1/versions; the service chooses unless "
        "given. The first request for a version waits until it is loaded.",
    )

    def query(self) -> Query:
        """Return what the engine is asked; a repeated item of the history counts once, the last time."""
        history: dict[Any, float | None] | None = None
        if self.history is not None:
            history = {}
            for entry in self.history:
                item, rating = (entry.item_id, entry.rating) if isinstance(entry, RatedItem) else (entry, None)
                history[item] = rating
        conditions = {
            name: Condition(None if given.any is None else tuple(given.any), given.at_least, given.at_most)
            for name, given in self.filters.items()
        }
        candidates = self.candidates if isinstance(self.candidates, str) else tuple(self.candidates)
        return Query(
            self.k,
            self.user_id,
            history,
            self.user_attributes,
            self.context,
            tuple(self.exclude),
            candidates,
            conditions,
            self.diversity,
            self.explore,
        )


class Reason(Schema):
    """One item of the history that speaks for an item of the list."""

    item_id: KnownId
    name: str
    part: str | None = Field(description="The attribute through which it does; null if the model reads clicks alone.")
    shared: list[str] = Field(description="Labels or words both items have, those that count most first.")
    added: float = Field(description="What it adds to the score.")
    share: float | None = Field(description="That as a share of the score; null if the score is 0.")


class Part(Schema):
    """A part of a score; all parts add up to it."""

    part: str = Field(
        description="An attribute, or in brackets: (all items), what all items have in common; (popularity), that the "
        "attributes promise; (clicks), that are known of the item; (history), all of its items; (everybody), what "
        "somebody without a history is given."
    )
    added: float
    share: float | None


class Explanation(Schema):
    """How a list is explained."""

    kind: Literal["attributes", "history", "none"] = Field(
        description="attributes: by item of the history and attribute; history: by item of the history; none: not."
    )
    note: str = Field(description="What is explained, or why nothing is.")


class Item(Schema):
    """What is known of an item."""

    item_id: KnownId
    name: str = Field(description="What the item is called; its id if it has no name.")
    cold: bool = Field(description="True if nobody had clicked the item when the model was fitted.")
    attributes: dict[str, Any] = Field(description="Those that are known, but for vectors.")


class ItemDetails(Item):
    """All that is known of one item."""

    unread_labels: dict[str, list[str]] = Field(
        description="By attribute, its labels that the model was not fitted with: it makes nothing of them."
    )


class RecommendedItem(Item):
    """One place of a list."""

    rank: int
    score: float
    reasons: list[Reason] | None = Field(default=None, description="If asked for: the strongest, strongest first.")
    parts: list[Part] | None = Field(default=None, description="If asked for: what the score is made of.")


class Model(Schema):
    """Which model answered."""

    name: str
    version: str


class ServedModel(Model):
    """A model that is served."""

    role: Literal["champion", "canary", "shadow"] = Field(
        description="champion: answers; canary: answers a share of the users in its place; shadow: answers too, and "
        "its answers are compared and thrown away."
    )
    share: float = Field(description="Of the users, those whom it answers.")
    lists: str = Field(description="How this replica finds lists: all items are scored, or an index with its recall.")
    forms: list[str] = Field(description="In which forms the model was fitted, where there are several, and why.")
    clicks: str = Field(description="Which clicks since its fit this replica's model knows, and which it does not.")


class NamedVersion(Model):
    """A version of the model that a request may name."""

    aliases: list[str] = Field(description="What the registry calls it beside its number.")
    refused: str | None = Field(
        default=None, description="Why it is not served in the role that its alias gives it; absent if it may be."
    )


class RecommendResponse(Schema):
    """A list, best item first; shorter than k where no more items are allowed."""

    items: list[RecommendedItem]
    path: ListOrigin = Field(
        description="model: from what is known of the user; history: from the history of the request, or from feedback "
        "of a user the model never saw; attributes: among new items alone; popularity: nothing is known of the user; "
        "profile: nothing but the user's attributes."
    )
    model: Model
    unknown_context: list[str] = Field(
        default=[], description="Columns of context that the model reads and the request did not have, if any."
    )
    exploration: ExplorationMethod | None = Field(
        default=None,
        description="If items were tried out: how. Then the list does not have the order of the scores.",
    )
    explanation: Explanation | None = Field(default=None, description="If it was asked for.")


class SearchResponse(Schema):
    """Items whose names match, best first."""

    items: list[Item]


class SimilarResponse(Schema):
    """Items most like an item, best first; the score is a cosine."""

    items: list[RecommendedItem]
    search: Literal["exact", "flat", "hnsw"] = Field(
        description="exact: compared with all items; flat, hnsw: with candidates from an index of FAISS, which looks "
        "at short vectors of all items, or of those that a graph leads to."
    )
    recall: float = Field(
        description="Of the ten items most like an item, the share that the search finds, measured on a sample when "
        "the index was made."
    )
    model: Model


class AttributeKind(Schema):
    """What is known of items, or of users, under a name."""

    name: str
    kind: Literal["labels", "number", "text", "vector"]
    read: bool = Field(description="True if the model reads it; the rest is shown only.")
    labels: list[str] = Field(description="The most frequent ones.")


class Catalogue(Schema):
    """What a form for users and new items has to know."""

    n_items: int
    n_users: int
    item_ids: Literal["number", "text"] = Field(description="What the ids of items are.")
    user_ids: Literal["number", "text"]
    some_user: KnownId = Field(description="An id, to show what they look like.")
    takes_new_items: bool
    name: str | None = Field(description="The attribute that items are called by.")
    attributes: list[AttributeKind]
    user_attributes: list[AttributeKind] = Field(
        description="What may be said of who asks; empty where the model reads nothing of users."
    )
    context: list[AttributeKind] = Field(
        description="What may be said of the moment beside its time; empty where the model reads no such thing."
    )


class BatchRequest(Schema):
    """Several lists at once."""

    requests: list[RecommendRequest] = Field(min_length=1, max_length=256)


class BatchResponse(Schema):
    """Lists in the order they were asked for."""

    responses: list[RecommendResponse]


Text: TypeAlias = Annotated[StrictStr, Field(max_length=100_000)]
Number: TypeAlias = Annotated[FiniteFloat, Field(strict=True)]
Value: TypeAlias = list[Text] | list[Number] | Text | Number | None


class NewItem(Schema):
    """An item with nothing but attributes."""

    item_id: Id
    attributes: dict[Text, Value] = Field(
        max_length=200,
        description="By name: labels as a list of text, a number, a text, or a vector as a list of numbers. What is "
        "left out is unknown.",
    )


class Feedback(Schema):
    """A click or a rating, or an item that was shown and left. The same event_id may be sent again: it counts once."""

    event_id: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    user_id: Id
    item_id: Id
    rating: _Rating | None = None
    clicked: StrictBool = Field(
        default=True,
        description="false: the item was shown and not clicked. That changes no history; a service that tries items "
        "out learns from it.",
    )

    @field_validator("clicked")
    @classmethod
    def _no_rating_without_a_click(cls, clicked: bool, info: ValidationInfo) -> bool:
        if not clicked and info.data.get("rating") is not None:
            raise ValueError("an item with a rating was clicked")
        return clicked


class FeedbackResponse(Schema):
    """What became of an event."""

    event_id: str
    new: bool = Field(description="False if it had been received before.")


class Problem(Schema):
    """What was wrong with a request."""

    code: str
    message: str


class ErrorResponse(Schema):
    """Every error has this form."""

    error: Problem
