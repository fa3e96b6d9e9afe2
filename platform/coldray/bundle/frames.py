"""Lists of a bundle as a frame of external ids, with a policy for those that are unknown."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import polars as pl

from coldray.bundle.lists import Candidates
from coldray.core.errors import ConfigError, UnknownIdError
from coldray.data.dataset import TextAttribute

if TYPE_CHECKING:
    from coldray.bundle.model import Bundle, History

logger = logging.getLogger(__name__)
Policy: TypeAlias = Literal["raise", "warn", "ignore"]
"""What becomes of ids that are unknown."""
_POPULAR, _LEFT_OUT = "They get the items with the most clicks.", "They are left out."


def list_frame(
    bundle: Bundle,
    users: Sequence[Any] | None,
    k: int,
    histories: Sequence[History] | None,
    *,
    candidates: Candidates,
    exclude: Sequence[Any],
    policy: Policy,
) -> pl.DataFrame:
    """Return lists as :meth:`~coldray.bundle.model.Bundle.recommend` says."""
    if (users is None) == (histories is None):
        raise ConfigError("recommend takes users or histories, one of the two.")
    if policy not in get_args(Policy):
        raise ConfigError(f"policy is {policy!r}; it is one of {', '.join(get_args(Policy))}.")
    if isinstance(users, str) or isinstance(candidates, list):
        wrong, right = ("users", "a list") if isinstance(users, str) else ("candidates", "a tuple")
        raise ConfigError(f"{wrong} takes {right} of ids, or is left out.")
    known = users is not None
    asked = _histories_of(bundle, users or (), policy) if known else _known_parts(bundle, histories or (), policy)
    lists = bundle.lists(asked, k, candidates=candidates, exclude=exclude, known=known)
    rows = [
        (rank, place.item, place.score, place.cold, origin)
        for origin, places in lists
        for rank, place in enumerate(places, start=1)
    ]
    ids = pl.String() if bundle.item_ids.dtype.kind == "U" else pl.Int64()
    types = {"rank": pl.Int64(), "item": ids, "score": pl.Float64(), "cold": pl.Boolean(), "origin": pl.String()}
    frame = pl.DataFrame(rows, schema=types, orient="row")
    names = range(len(asked)) if users is None else list(users)
    whose = [user for user, (_, places) in zip(names, lists, strict=True) for _ in places]
    frame.insert_column(0, pl.Series("user", whose, dtype=None if whose else pl.Int64()))
    titles = bundle.attributes.get("title")
    if not isinstance(titles, TextAttribute):
        return frame
    shown = [titles.texts[bundle.item_places[item]] for item in frame["item"].to_list()]
    return frame.with_columns(title=pl.Series(shown, dtype=pl.String))


def _histories_of(bundle: Bundle, users: Sequence[Any], policy: Policy) -> list[History]:
    if len(types := {str if isinstance(user, str) else int for user in users}) > 1:
        raise ConfigError(f"users are of {len(types)} types, text and numbers. Ids are of one type.")
    unknown = [user for user in users if user not in bundle.user_places]
    _refuse_or_tell(policy, unknown, len(users), "users", _POPULAR)
    return [bundle.history(user) if user in bundle.user_places else [] for user in users]


def _known_parts(bundle: Bundle, histories: Sequence[History], policy: Policy) -> list[History]:
    places = bundle.item_places
    unknown = [item for history in histories for item in history if item not in places]
    _refuse_or_tell(policy, unknown, sum(map(len, histories)), "items in histories", _LEFT_OUT)
    return [
        {item: rating for item, rating in history.items() if item in places}
        if isinstance(history, Mapping)
        else [item for item in history if item in places]
        for history in histories
    ]


def _refuse_or_tell(policy: Policy, unknown: Sequence[Any], total: int, what: str, becomes: str) -> None:
    if not unknown or policy == "ignore":
        return
    text = f"{len(unknown):,} of {total:,} {what} are unknown; the first is {unknown[0]!r}."
    if policy == "raise":
        raise UnknownIdError(f"{text} Leave them out, or use policy='warn': {becomes[0].lower()}{becomes[1:]}")
    logger.warning("%s %s", text, becomes)
