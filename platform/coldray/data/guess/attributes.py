"""What a table of items or of users says of them: labels, numbers, texts, and what is left out for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from coldray.data.guess.columns import Column
from coldray.data.guess.guess import Guess
from coldray.data.guess.interactions import ITEMS

_AUDIENCE = (
    *(
        "vote",
        "votes",
        "voters",
        "popularity",
        "popular",
        "views",
        "view",
        "viewers",
        "plays",
        "play",
        "listens",
        "sales",
    ),
    *("sold", "rank", "ranking", "downloads", "likes", "favorites", "favourites", "reviews", "review", "rating"),
    *("ratings", "stars", "score", "scores", "bought", "purchases", "clicks", "followers", "listeners", "revenue"),
    *("gross", "trending", "upvotes", "comments", "shares", "subscribers", "helpful"),
)
"""Words of what an item gets once it has an audience: of a new item nobody knows it."""
_ACTIVITY = (
    *("watched", "listened", "read", "orders", "order", "visits", "visit", "sessions", "session", "logins", "login"),
    *("activity", "active", "points", "karma", "spent", "events", "watchlist", "engagement", "churn", "churned"),
)
"""Words of what a user gets by doing something, beside those of an audience: who has just signed up has none."""
_LATER = ("last", "updated", "modified", "scraped", "crawled")
"""Words of dates that come with an audience, or with the making of a file."""
_PERSONAL = (
    *("name", "firstname", "lastname", "surname", "forename", "username", "nickname", "nick", "handle", "email"),
    *("mail", "phone", "telephone", "mobile", "ssn", "passport", "password", "ip", "address", "street", "iban"),
)
"""Words of what tells one person from all others, and nothing that two have in common."""
_CODES = ("id", "ids", "code", "category", "type", "class", "cluster", "genre", "brand", "group", "kind", "section")
_CODES_OF_USERS = (
    *("gender", "sex", "occupation", "job", "profession", "education", "country", "region", "state", "city", "zip"),
    *("postcode", "postal", "language", "locale", "segment", "plan", "tier", "device", "marital", "income", "bracket"),
)
"""What tables of users write as whole numbers that stand for words, beside those."""
_NAMES = ("title", "name", "headline", "description", "summary", "overview", "plot", "abstract", "text", "subtitle")
_WRITTEN_DATES = "dates written as text; as numbers, such as the year, they would be read"
_FEW = 50
"""Different whole numbers that may be codes of something, and items from which clicks tell anything."""
_MISSING = 0.98
_ALIKE, _SOMEWHAT = 0.5, 0.3
"""Rank correlations with the clicks: from the first on, a number comes with an audience."""


@dataclass(frozen=True)
class Owners:
    """Whose table it is, and the words of columns that have another meaning there."""

    noun: str
    """One of them."""
    audience: frozenset[str]
    """Words of what only one that has clicks has."""
    codes: frozenset[str]
    """Words of whole numbers that stand for words."""
    why: str
    """Why the first are left out, behind ``it``."""
    personal: frozenset[str] = frozenset()
    """Words of what no two have in common."""


OF_ITEMS = Owners("item", frozenset(_AUDIENCE), frozenset(_CODES), "comes with an audience")
OF_USERS = Owners(
    "user",
    frozenset((*_AUDIENCE, *_ACTIVITY)),
    frozenset((*_CODES, *_CODES_OF_USERS)),
    "comes with what a user has done",
    frozenset(_PERSONAL),
)


def guess_attributes(columns: Sequence[Column], clicks: pl.Series, now: float, of: Owners) -> list[Guess]:
    """Return a guess for each column of a table with a row an item or a user, but for that of ids.

    Parameters
    ----------
    clicks
        How often each is in the table of interactions, in the order of the rows.
    now
        The time, in seconds since 1970: later dates are plans.
    of
        Whose table it is.
    """
    return [_guess(column, clicks, now, of) for column in columns]


def _guess(column: Column, clicks: pl.Series, now: float, of: Owners) -> Guess:
    name, known = column.name, len(column.known)
    if column.kind == "other":
        return Guess(name, None, f"its type {column.cells.dtype} is not read")
    if known <= (1 - _MISSING) * len(column.cells):
        return Guess(name, None, f"{known:,} of {len(column.cells):,} {of.noun}s have one")
    if (column.words & of.personal and not column.words & of.codes) or _addresses_of_mail(column):
        return Guess(name, None, f"it tells one {of.noun} from all others, and says nothing of what they share")
    if column.kind == "list":
        return _list(column, of)
    if column.distinct == 1:
        return Guess(name, None, f"all {of.noun}s have the same")
    if column.kind == "time":
        return _date(column, now, of)
    return _text(column, of) if column.kind == "text" else _number(column, clicks, of)


def _addresses_of_mail(column: Column) -> bool:
    """Whether most cells are such."""
    return column.kind == "text" and float(column.known.str.contains(r"^\S+@\S+\.\S+$").mean() or 0) > 0.5  # type: ignore[arg-type]


def _list(column: Column, of: Owners) -> Guess:
    """Return a guess of lists: of fractions they are vectors; of a user, one named for clicks is what they clicked."""
    dtype = column.cells.dtype
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner in (pl.Float32, pl.Float64):
        reads = f"{of.noun}_vectors (--{of.noun}-vectors {column.name}=FILE)"
        return Guess(column.name, None, f"its cells are vectors: {reads} reads ids and vectors of a file")
    if of is OF_USERS and column.words & {*of.audience, *ITEMS, "history", "clicked", "seen", "favorite", "favourite"}:
        return Guess(column.name, None, f"by its name it {of.why}, which a new {of.noun} has not", sure=False)
    return Guess(column.name, "labels", "its cells are lists")


def _date(column: Column, now: float, of: Owners) -> Guess:
    latest = float(column.seconds.max())  # type: ignore[union-attr, arg-type]
    if latest > now:
        day = datetime.fromtimestamp(latest, UTC).strftime("%Y-%m-%d")
        return Guess(column.name, None, f"its latest date is {day}: a plan, which may change")
    if column.words & {*_LATER, *of.audience}:
        return Guess(column.name, None, f"a date that {of.why}, or with the file: a new {of.noun} has none")
    if column.cells.dtype == pl.String:
        return Guess(column.name, None, _WRITTEN_DATES, sure=False)
    return Guess(column.name, "number", "a date, read as seconds")


def _number(column: Column, clicks: pl.Series, of: Owners) -> Guess:
    name, known = column.name, len(column.known)
    if column.words & of.audience:
        return Guess(name, None, f"by its name it {of.why}, which a new {of.noun} does not have")
    alike = _correlation(column.numbers, clicks)
    if abs(alike) >= _ALIKE:
        reason = f"it goes with the clicks (rank correlation {alike:.2f}): it {of.why}"
        return Guess(name, None, reason, sure=False)
    if column.kind == "whole":
        coded = column.named(("id", "ids", "key", "isbn", "ean", "code", "number"))
        if column.distinct == known and (coded or (_counted(column) and not column.telling)):
            reason = f"another number for every {of.noun}: an id, which says nothing of others"
            return Guess(name, None, reason, sure=bool(coded))
        if column.words & of.codes:
            if column.distinct <= max(_FEW, known / 4):
                return Guess(name, "labels", f"{column.distinct:,} codes", sure=column.distinct <= _FEW)
            return Guess(name, None, f"an id, and hardly two {of.noun}s have the same", sure=False)
    reason = f"from {float(column.numbers.min()):g} to {float(column.numbers.max()):g}"  # type: ignore[arg-type]
    if abs(alike) >= _SOMEWHAT and not column.telling:
        reason += f"; it goes with the clicks somewhat (rank correlation {alike:.2f})"
    return Guess(name, "number", reason, column.telling)


def _counted(column: Column) -> bool:
    """Whether whole numbers count the rows through."""
    span = float(column.numbers.max()) - float(column.numbers.min())  # type: ignore[arg-type]
    return len(column.known) > 2 and span < 2 * len(column.known)


def _correlation(values: pl.Series, clicks: pl.Series) -> float:
    """Return the rank correlation of a number with the clicks; 0 of few rows."""
    table = pl.DataFrame({"value": values, "clicks": clicks}).drop_nulls()
    if table.height < _FEW or table["value"].n_unique() == 1 or table["clicks"].n_unique() == 1:
        return 0.0
    return float(table.select(pl.corr("value", "clicks", method="spearman")).item() or 0.0)


def _text(column: Column, of: Owners) -> Guess:
    name, known = column.name, column.known
    if float(known.str.contains(r"(?i)^(https?://|www\.)|\.(jpe?g|png|gif|webp)$").mean() or 0) > 0.5:  # type: ignore[arg-type]
        return Guess(name, None, "addresses of pages or pictures")
    if column.words & {"date", "day", "time"}:
        return Guess(name, None, _WRITTEN_DATES, sure=False)
    if labels := _labels(column):
        return labels
    share, words = column.distinct / len(known), float(known.str.count_matches(r"\S+").mean() or 0)  # type: ignore[arg-type]
    if share <= 0.5 and words <= 4:
        return Guess(
            name, "labels", f"{column.distinct:,} different ones for {len(known):,} {of.noun}s", sure=share <= 0.3
        )
    if words >= 1.5:
        sure = (words >= 2.5 and share > 0.7) or bool(column.words & set(_NAMES))
        return Guess(name, "text", f"{words:.1f} words on average, {share:.0%} of them different", sure)
    if column.words & set(_NAMES):
        return Guess(name, "text", "named so, of one word mostly", sure=False)
    if share > 0.9:
        return Guess(name, None, "another word for nearly every item, which says nothing of others")
    return Guess(name, "labels", f"{column.distinct:,} different ones for {len(known):,} {of.noun}s", sure=False)


def _labels(column: Column) -> Guess | None:
    """Return a guess of several labels in a cell, if a sign divides them into few different ones."""
    known = column.known
    for sign in ("|", ";", ","):
        having = known.filter(known.str.contains(sign, literal=True))
        if len(having) < max(2, len(known) / 10):
            continue
        parts = known.str.split(sign).explode().str.strip_chars()
        share = parts.n_unique() / len(parts)
        words = float(parts.str.count_matches(r"\S+").mean() or 0)  # type: ignore[arg-type]
        if share <= 0.5 and words <= 4:
            reason = f"{parts.n_unique():,} different labels, divided by {sign!r}"
            return Guess(column.name, "labels", reason, sure=sign != "," or share <= 0.2, separator=sign)
    return None
