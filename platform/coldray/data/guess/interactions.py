"""Which columns of a table of interactions are users, items, ratings, times and contexts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.core.spelling import choices
from coldray.data.guess.columns import Column
from coldray.data.guess.guess import Guess
from coldray.data.tables.swapped import ids_swapped

USERS = (
    *("user", "users", "usr", "u", "uid", "customer", "cust", "member", "reviewer", "visitor", "account", "client"),
    *("person", "listener", "reader", "viewer", "buyer", "player", "profile", "session", "household"),
)
ITEMS = (
    *("item", "items", "i", "iid", "product", "prod", "movie", "film", "book", "song", "track", "artist", "article"),
    *(
        "sku",
        "asin",
        "isbn",
        "show",
        "game",
        "recipe",
        "business",
        "listing",
        "content",
        "video",
        "restaurant",
        "paper",
    ),
)
"""Words of the names of columns, as data sets have them."""
_RATINGS = ("rating", "stars", "star", "rate", "score", "overall", "grade", "weight", "count", "plays", "playcount")
_AMOUNTS = ("quantity", "qty", "listens", "amount")
_TIMES = ("timestamp", "time", "ts", "datetime", "date", "day", "created", "when")
_KINDS = ("event", "events", "action", "activity", "behavior", "behaviour", "interaction", "kind", "type", "feedback")
_STRENGTHS = (
    ("impression", "show"),
    ("view", "pv", "click", "detail", "watch", "visit", "play", "listen"),
    ("like", "fav", "favorite", "favourite", "wish", "wishlist", "save", "bookmark", "share", "collect"),
    ("cart", "addtocart", "basket", "checkout"),
    ("purchase", "purchased", "buy", "bought", "order", "ordered", "transaction", "payment", "rent"),
)
"""Words of kinds of events, the weakest first."""
_MOST_KINDS = 12
"""Kinds of events that somebody may weigh."""
_CONTEXTS = (
    *("device", "platform", "os", "browser", "app", "channel", "page", "screen", "placement", "surface", "referrer"),
    *("referer", "weather", "daypart", "occasion", "companion", "mood", "holiday"),
)
"""Words of what is known before a click, and is no feature that is made of its time."""
_MOST_CONTEXTS = 50
"""Different contexts of a column at most: where there are more, hardly two clicks are alike."""
_LAST_DAY = 253_402_300_799
"""Of the year 9999, in seconds since 1970."""
_FEW_VALUES = 21
"""Values of a scale of ratings, from half a star to ten, at most."""


def guess_interactions(
    columns: Sequence[Column], item: Guess | None, now: float, user: Guess | None = None
) -> list[Guess]:
    """Return a guess for each column of a table with a row an interaction.

    Parameters
    ----------
    item, user
        The columns of items and of users, where a table of them has told them.
    now
        The time, in seconds since 1970: no click is later.

    Raises
    ------
    DataFormatError
        If no two columns can be users and items.
    """
    told = {guess.column for guess in (item, user) if guess is not None}
    ids = [column for column in columns if column.names_things and (column.name in told or _may_be_id(column))]
    found = _users_and_items(ids, item, user)
    taken = {guess.column for guess in found}
    left = [column for column in columns if column.name not in taken]
    found += _time(left, now)
    taken = {guess.column for guess in found}
    left = [column for column in left if column.name not in taken]
    owners = [one for one in columns for guess in found if guess.column == one.name and guess.use in ("user", "item")]
    found += (contexts := _contexts(left, owners))
    found += _ratings_or_events([one for one in left if one.name not in {guess.column for guess in contexts}], owners)
    known = {guess.column: guess for guess in found}
    (of_item,) = (column for column in columns if known.get(column.name, _NONE).use == "item")
    sure = all(guess.sure for guess in found)
    return [known.get(column.name) or _left_out(column, of_item, sure=sure) for column in columns]


_NONE = Guess("", None, "")


def _may_be_id(column: Column) -> bool:
    named = max(column.named(USERS), column.named(ITEMS))
    return named == 2 or not (
        column.named((*_RATINGS, *_AMOUNTS))
        or (column.named(_TIMES) and column.seconds is not None)
        or _sentences(column)
    )


def _sentences(column: Column) -> bool:
    """Whether most cells are of several words."""
    several = column.known.str.contains(r"\S+\s+\S+\s+\S+") if column.kind == "text" else pl.Series([False])
    return 2 * int(several.sum()) > len(several)


def _users_and_items(ids: Sequence[Column], item: Guess | None, user: Guess | None) -> list[Guess]:
    if len(ids) < 2:
        raise DataFormatError(
            f"Users and items are columns of ids with one in every row; such are {choices(one.name for one in ids)}. "
            "Name them yourself: --interactions FILE --user-column A --item-column B."
        )
    told = item is not None or user is not None
    if item is None:
        others = [column for column in ids if user is None or column.name != user.column]
        item = _best(others, ITEMS, "item", [column for column in others if column.named(USERS) == 2])
    if user is None:
        others = [column for column in ids if column.name != item.column]
        user = _best(others, USERS, "user", [column for column in others if column.named(ITEMS) == 2])
    pairs = pl.DataFrame({one.use: _cells(ids, one.column) for one in (user, item)}).head(1000)
    swapped = ids_swapped(pairs)
    if swapped is not None and not (user.sure and item.sure) and not (swapped and told):
        if swapped:
            user, item = item, user
        looks = "by what its ids look like"
        return [Guess(user.column, "user", looks), Guess(item.column, "item", looks)]
    if swapped:
        doubt = "named so, but its ids look like those of the other column"
        return [Guess(user.column, "user", doubt, sure=False), Guess(item.column, "item", doubt, sure=False)]
    return [user, item]


def _cells(columns: Sequence[Column], name: str) -> pl.Series:
    return next(column for column in columns if column.name == name).cells.cast(pl.String)


def _best(ids: Sequence[Column], words: Sequence[str], use: str, others: Sequence[Column]) -> Guess:
    """Return the column that is named so best; without one, the most telling of those not named for the other."""
    named = {column.name: column.named(words) for column in ids}
    best = max(named.values())
    if best:
        first = [column for column in ids if named[column.name] == best]
        chosen = max(first, key=lambda column: column.distinct)
        reason = f"named so; {chosen.distinct:,} different ones in {len(chosen.cells):,} rows"
        if alone := chosen.distinct == len(chosen.cells) > 1:
            reason += ", none twice: is this a table of items?"
        if same := len(first) > 1:
            reason += "; others are named so, too"
        return Guess(chosen.name, use, reason, best == 2 and not same and not alone)  # type: ignore[arg-type]
    rest = [column for column in ids if column not in others] or list(ids)
    chosen = max(
        rest,
        key=lambda column: (column.distinct > _FEW_VALUES, -rest.index(column) if use == "user" else column.distinct),
    )
    return Guess(chosen.name, use, f"no name says so; {chosen.distinct:,} different ones", sure=False)  # type: ignore[arg-type]


def _time(columns: Sequence[Column], now: float) -> list[Guess]:
    found: list[Guess] = []
    past: list[Column] = []
    for column in columns:
        if column.seconds is None or not column.complete:
            continue
        latest = float(column.seconds.max())  # type: ignore[arg-type]
        if latest <= now and column.distinct > 1:
            past.append(column)
        elif column.kind == "time" or column.named(_TIMES):
            day = (
                datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d")
                if latest < _LAST_DAY
                else "after the year 9999"
            )
            future = f"its latest time is {day}: nothing was clicked in the future"
            found.append(Guess(column.name, None, future if latest > now else "all times are the same"))
    if not past:
        return found
    told = [column for column in past if column.kind == "time" or column.named(_TIMES)]
    chosen = min(told or past, key=lambda column: (-column.named(_TIMES), _place(column)))
    reason = "times, and named so" if chosen.named(_TIMES) else "its cells are times"
    if len(told) > 1:
        reason += "; others are times, too"
    return [*found, Guess(chosen.name, "timestamp", reason, len(told) == 1)]


def _place(column: Column) -> int:
    return min((_TIMES.index(word) for word in column.words if word in _TIMES), default=len(_TIMES))


def _ratings_or_events(columns: Sequence[Column], owners: Sequence[Column]) -> list[Guess]:
    """Return the guesses of a rating and of a kind of event, one of which is left out: a pair has one or the other."""
    events = _event(columns, owners)
    ratings = _rating([column for column in columns if column.name not in {guess.column for guess in events}])
    rated = [guess for guess in ratings if guess.use == "rating"]
    if not (events and rated):
        return [*events, *ratings]
    if rated[0].sure:
        return [Guess(events[0].column, None, "kinds of events, and there are ratings: one is read", False), *ratings]
    left = Guess(rated[0].column, None, "may be a rating, and there are kinds of events: one is read", False)
    return [*events, left, *(guess for guess in ratings if guess is not rated[0])]


def _event(columns: Sequence[Column], owners: Sequence[Column]) -> list[Guess]:
    """Return the guess of the column with the kinds of interactions, if there is one.

    What is the same in all rows of an item, or of a user (`owners`), is theirs.
    """
    for column in sorted(columns, key=lambda column: -column.named(_KINDS)):
        few = column.names_things and 1 < column.distinct <= _MOST_KINDS and column.named(_KINDS)
        if few and not any(_is_of(column, owner) for owner in owners):
            counts = column.texts_counted
            weights = {kind: float(place) for place, kind in enumerate(_by_strength(counts), 1)}
            kinds = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
            return [Guess(column.name, "event", f"named so; {kinds}", column.named(_KINDS) == 2, weights=weights)]
    return []


def _by_strength(kinds: Iterable[str]) -> list[str]:
    """Return kinds of events, the weakest first: by their words if all have one that is known, else as they are."""
    strengths = {
        kind: strength
        for kind in kinds
        for strength, words in enumerate(_STRENGTHS)
        if set(re.findall("[a-z]+", kind.lower())) & set(words)
    }
    return sorted(kinds, key=lambda kind: strengths[kind]) if strengths.keys() >= set(kinds) else list(kinds)


def _contexts(columns: Sequence[Column], owners: Sequence[Column]) -> list[Guess]:
    """Return the guesses of columns that say in which context a click was: few labels, which no owner has alone."""
    return [
        Guess(column.name, "context", f"named so; {column.distinct:,} different ones", column.kind == "text")
        for column in columns
        if column.named(_CONTEXTS) == 2
        and column.kind in ("whole", "text")
        and 1 < column.distinct <= min(_MOST_CONTEXTS, len(column.known) / 2)
        and not any(_is_of(column, owner) for owner in owners)
    ]


def _is_of(column: Column, owner: Column) -> bool:
    """Whether each of several owners has one cell of a column in all its rows."""
    each = pl.DataFrame({"owner": owner.cells, "value": column.cells})
    return each.n_unique() == owner.distinct


def _rating(columns: Sequence[Column]) -> list[Guess]:
    numbers = [
        column for column in columns if column.kind in ("whole", "number") and column.complete and len(column.known)
    ]
    named = [column for column in numbers if column.named((*_RATINGS, *_AMOUNTS))]
    scales = [
        column for column in numbers if column.distinct <= _FEW_VALUES and _least(column) >= 0 and _most(column) <= 100
    ]
    found = [Guess(one.name, None, f"it is {_least(one):g} in every row") for one in named if one.distinct == 1]
    varied = [column for column in named or scales if column.distinct > 1]
    if not varied:
        return found
    chosen = min(varied, key=lambda column: (-column.named((*_RATINGS, *_AMOUNTS)), _rating_place(column)))
    reason = f"{'named so; ' if named else 'a scale; '}from {_least(chosen):g} to {_most(chosen):g}"
    sure = bool(named) and len(varied) == 1 and chosen.named((*_RATINGS, *_AMOUNTS)) == 2
    given = chosen.distinct <= _FEW_VALUES and _least(chosen) >= 0 and _most(chosen) <= 10
    middle = (_least(chosen) + _most(chosen)) / 2 if given else None
    return [*found, Guess(chosen.name, "rating", reason, sure, middle=middle)]


def _rating_place(column: Column) -> int:
    words = (*_RATINGS, *_AMOUNTS)
    return min((words.index(word) for word in column.words if word in words), default=len(words))


def _least(column: Column) -> float:
    return float(column.numbers.min() or 0.0)  # type: ignore[arg-type]


def _most(column: Column) -> float:
    return float(column.numbers.max() or 0.0)  # type: ignore[arg-type]


def _left_out(column: Column, item: Column, *, sure: bool) -> Guess:
    """Return why a column of interactions is not read; not `sure` where it may be what another was taken for."""
    if column.distinct <= 1:
        return Guess(column.name, None, "it is the same in every row")
    if column.kind not in ("list", "other") and _is_of(column, item) and item.distinct < len(item.cells):
        return Guess(column.name, None, "every item has one: an attribute, for a table with a row an item", sure)
    return Guess(
        column.name, None, "neither user, item, rating, kind, time nor context of a click", sure or _sentences(column)
    )
