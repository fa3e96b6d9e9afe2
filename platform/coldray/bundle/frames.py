"""Lists of a bundle as a frame of external ids, with a policy for those that are unknown."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
import polars as pl

from coldray.bundle.lists import Candidates, Place
from coldray.bundle.reasons import explain
from coldray.core.errors import ConfigError, UnknownIdError
from coldray.core.notebook import facts_html
from coldray.data.dataset import TextAttribute
from coldray.data.tables.frames import is_frame

if TYPE_CHECKING:
    from coldray.bundle.model import Bundle, History
    from coldray.bundle.people import Context, Profile
    from coldray.features.feature_set import FeatureSet

logger = logging.getLogger(__name__)
_Act: TypeAlias = Literal["raise", "warn", "ignore"]
Policy: TypeAlias = _Act | Mapping[Literal["users", "items"], _Act]
"""What becomes of users and items that the model can say nothing of: one for both, or each its own (``warn`` if it is
not named)."""
_POPULAR, _LEFT_OUT = "They get the items with the most clicks.", "They are left out."


def list_frame(
    bundle: Bundle,
    asked: tuple[Sequence[Any] | None, Sequence[History] | None, Sequence[Profile] | None, Sequence[Context] | None],
    k: int,
    *,
    candidates: Candidates,
    exclude: Sequence[Any],
    policy: Policy,
) -> pl.DataFrame:
    """Return lists as :meth:`~coldray.bundle.model.Bundle.recommend` says, for users, histories or profiles."""
    users, histories, profiles, contexts = asked
    if (users is None) == (histories is None and profiles is None):
        raise ConfigError("recommend takes users or histories, or profiles, alone or beside histories; not both.")
    acts = _acts(policy)
    if isinstance(users, str) or isinstance(candidates, list):
        wrong, right = ("users", "a list") if isinstance(users, str) else ("candidates", "a tuple")
        raise ConfigError(f"{wrong} takes {right} of ids, or is left out.")
    for name, given_ones in (("histories", histories), ("profiles", profiles), ("contexts", contexts)):
        if isinstance(given_ones, str) or is_frame(given_ones):
            raise ConfigError(f"{name} takes a list with one for each user, not a {type(given_ones).__name__}.")
    known = users is not None
    given: Sequence[History] = [[] for _ in profiles or ()] if histories is None else histories
    people = _people(bundle, users, given, profiles, contexts)
    if users is not None:
        clicked = _histories_of(bundle, users, acts["users"])
    else:
        clicked = _known_parts(bundle, given, acts, people)
    if not isinstance(candidates, str):
        candidates = _usable(bundle, candidates, acts["items"])
    _tell([item for item in exclude if item not in bundle.item_places], len(exclude), acts["items"],
          "excluded items are unknown", "No list has them anyway.")  # fmt: skip
    lists = bundle.lists(clicked, k, candidates=candidates, exclude=exclude, known=known, people=people)
    frame = _places_frame(bundle, [places for _, places in lists])
    whence = [origin for origin, places in lists for _ in places]
    frame = frame.with_columns(origin=pl.Series(whence, dtype=pl.String))
    names = range(len(clicked)) if users is None else list(users)
    whose = [user for user, (_, places) in zip(names, lists, strict=True) for _ in places]
    frame.insert_column(0, pl.Series("user", whose, dtype=None if whose else pl.Int64()))
    return _titled(bundle, frame)


def similar_frame(bundle: Bundle, item: Any, k: int) -> pl.DataFrame:
    """Return items like another as :meth:`~coldray.bundle.model.Bundle.similar` says."""
    found = bundle.similarity.similar(bundle, _index_of(bundle, item), k)
    return _titled(bundle, _places_frame(bundle, [found.places]))


@dataclass(frozen=True, eq=False)
class ScoreParts:
    """The score of one item for one user, taken apart."""

    score: float
    note: str
    """What the parts are; or why the score cannot be taken apart."""
    parts: pl.DataFrame
    """A row a part, which add up to the score: ``part`` (an attribute, or what is no attribute in brackets), ``added``,
    ``share`` of the score. Empty if it cannot be taken apart."""
    reasons: pl.DataFrame
    """The items of the history that speak for the item most: ``item``, ``title`` where items have one, ``part`` (the
    attribute through which they do, null of a model that reads clicks alone), ``shared`` (labels or words that both
    have) and ``added``."""

    def __repr__(self) -> str:
        made = ", ".join(f"{part} {added:+.4f}" for part, added, _ in self.parts.iter_rows())
        return f"Score {self.score:.4f}: {made or self.note}"

    def _repr_html_(self) -> str:
        facts = [(part, f"{added:+.4f}") for part, added, _ in self.parts.iter_rows()]
        return facts_html(f"Score {self.score:.4f}", facts, (self.note,))


def explained_frame(bundle: Bundle, user: Any, item: Any, history: History | None) -> ScoreParts:
    """Take a score apart as :meth:`~coldray.bundle.model.Bundle.explain` says."""
    if (user is None) == (history is None):
        raise ConfigError("explain takes a user or a history, one of the two, and an item.")
    if item is None:
        raise ConfigError("explain takes an item: explain(user, item).")
    place = _index_of(bundle, item)
    maker = bundle.list_maker((item,))
    read = bundle.by_index(0, bundle.history(user) if history is None else history)
    people = None if user is None else _people(bundle, [user], [])
    score = float(maker.scores(maker.rows([maker.read(read)]), people)[0, 0])
    found = explain(bundle, maker, read, [Place(bundle.plain_ids[place], score, cold=bool(bundle.clicks[place] == 0))])
    parts = found.items[0].parts if found.items else {}
    rows = [(part, added, added / score if score else None) for part, added in parts.items()]
    types = {"part": pl.String(), "added": pl.Float64(), "share": pl.Float64()}
    strongest = found.items[0].strongest if found.items else ()
    reasons = pl.DataFrame(
        [(one.item, one.part, list(one.shared), one.added) for one in strongest],
        schema={"item": _id_type(bundle), "part": pl.String(), "shared": pl.List(pl.String()), "added": pl.Float64()},
        orient="row",
    )
    return ScoreParts(score, found.note, pl.DataFrame(rows, schema=types, orient="row"), _titled(bundle, reasons))


def _index_of(bundle: Bundle, item: Any) -> int:
    if item not in bundle.item_places:
        raise UnknownIdError(f"The bundle has no item {item!r}.")
    return bundle.item_places[item]


def _id_type(bundle: Bundle) -> pl.String | pl.Int64:
    return pl.String() if bundle.item_ids.dtype.kind == "U" else pl.Int64()


def _places_frame(bundle: Bundle, lists: Sequence[Sequence[Place]]) -> pl.DataFrame:
    rows = [
        (rank, place.item, place.score, place.cold) for places in lists for rank, place in enumerate(places, start=1)
    ]
    types = {"rank": pl.Int64(), "item": _id_type(bundle), "score": pl.Float64(), "cold": pl.Boolean()}
    return pl.DataFrame(rows, schema=types, orient="row")


def _titled(bundle: Bundle, frame: pl.DataFrame) -> pl.DataFrame:
    """Return the frame with the titles of its items, where items have a text of that name."""
    titles = bundle.attributes.get("title")
    if not isinstance(titles, TextAttribute):
        return frame
    shown = [titles.texts[bundle.item_places[item]] for item in frame["item"].to_list()]
    return frame.with_columns(title=pl.Series(shown, dtype=pl.String))


def _acts(policy: Policy) -> dict[str, _Act]:
    """Return the policy of users and that of items."""
    acts: dict[str, Any] = {"users": "warn", "items": "warn"}
    given = policy if isinstance(policy, Mapping) else dict.fromkeys(acts, policy)
    for name, act in given.items():
        if name not in acts:
            raise ConfigError(f"policy names {name!r}; it is of users and items.")
        if act not in get_args(_Act):
            raise ConfigError(f"policy is {act!r}; it is one of {', '.join(get_args(_Act))}.")
    return acts | dict(given)


def _histories_of(bundle: Bundle, users: Sequence[Any], act: _Act) -> list[History]:
    if len(types := {str if isinstance(user, str) else int for user in users}) > 1:
        raise ConfigError(f"users are of {len(types)} types, text and numbers. Ids are of one type.")
    _tell([user for user in users if user not in bundle.user_places], len(users), act, "users are unknown", _POPULAR)
    histories = [bundle.history(user) if user in bundle.user_places else [] for user in users]
    silent = [user for user, own in zip(users, histories, strict=True) if not own and user in bundle.user_places]
    if bundle.people is not None:
        described = bundle.people.features.described
        silent = [user for user in silent if not described[bundle.user_places[user]]]
    _tell(silent, len(users), act, "users are known without a click", _POPULAR)
    return histories


def _people(
    bundle: Bundle,
    users: Sequence[Any] | None,
    histories: Sequence[History],
    profiles: Sequence[Profile] | None = None,
    contexts: Sequence[Context] | None = None,
) -> FeatureSet | None:
    """Return what is known of those who are asked for beside their clicks, if the model reads any of it."""
    people, name = bundle.people, bundle.model.name
    if profiles is not None and (people is None or not people.encoder.kinds):
        raise ConfigError(f"The model {name!r} reads no attributes of users: leave profiles out.")
    if contexts is not None and (people is None or people.moments is None):
        raise ConfigError(f"The model {name!r} reads no context: leave contexts out.")
    n_asked = len(histories) if users is None else len(users)
    for what, given in (("profiles", profiles), ("contexts", contexts)):
        if given is not None and len(given) != n_asked:
            whose = "histories" if users is None else "users"
            raise ConfigError(f"There are {n_asked:,} {whose} and {len(given):,} {what}. Give one of each.")
    if people is None or (people.moments is None and users is None and profiles is None):
        return None
    if profiles is not None:
        people.read(profiles)  # one that is None says nothing of whom it is
        people.tell_unread(profiles)
    if users is not None:
        asking = people.asking([bundle.user_places.get(user) for user in users], None, contexts)
    else:
        rated = [_rated_places(bundle, history) for history in histories]
        asking = people.asking([None] * n_asked, profiles, contexts, rated)
    if people.moments is not None:
        people.moments.tell(contexts, n_asked)
    return asking


def _rated_places(bundle: Bundle, history: History) -> dict[int, float | None]:
    """Return the ratings of a history by the index of the items that are known."""
    rated = history if isinstance(history, Mapping) else dict.fromkeys(history)
    places = bundle.item_places
    return {places[item]: rating for item, rating in rated.items() if item in places}


def _known_parts(
    bundle: Bundle, histories: Sequence[History], acts: Mapping[str, _Act], people: FeatureSet | None
) -> list[History]:
    places = bundle.item_places
    unknown = [item for history in histories for item in history if item not in places]
    _tell(unknown, sum(map(len, histories)), acts["items"], "items in histories are unknown", _LEFT_OUT)
    kept: list[History] = [
        {item: rating for item, rating in history.items() if item in places}
        if isinstance(history, Mapping)
        else [item for item in history if item in places]
        for history in histories
    ]
    described = np.zeros(len(kept), np.bool_) if people is None else people.described
    empty = [row for row, history in enumerate(kept) if not (history or described[row])]
    what = "histories have no known item" if people is None else "users have neither a known item nor a known attribute"
    _tell(empty, len(kept), acts["users"], what, _POPULAR)
    return kept


def _usable(bundle: Bundle, candidates: tuple[Any, ...], act: _Act) -> tuple[Any, ...]:
    """Return the candidates that the model can tell apart."""
    unknown = [item for item in candidates if item not in bundle.item_places]
    _tell(unknown, len(candidates), act, "candidates are unknown", _LEFT_OUT)
    silent = bundle.silent_items([item for item in candidates if item in bundle.item_places])
    _tell(silent, len(candidates), act, f"candidates have no clicks, by which alone {bundle.model.name} knows items",
          _LEFT_OUT)  # fmt: skip
    left_out = {*unknown, *silent}
    return tuple(item for item in candidates if item not in left_out)


def _tell(those: Sequence[Any], total: int, act: _Act, what: str, becomes: str) -> None:
    if not those or act == "ignore":
        return
    text = f"{len(those):,} of {total:,} {what}; the first is {those[0]!r}."
    if act == "raise":
        raise UnknownIdError(f"{text} Leave them out, or use policy='warn': {becomes[0].lower()}{becomes[1:]}")
    logger.warning("%s %s", text, becomes)
