"""What tables mean: which columns of the clicks name the rows of the others, and what all other columns are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFormatError, UnmatchedItemsError, UnmatchedUsersError
from coldray.core.spelling import choices
from coldray.data.guess.attributes import OF_ITEMS, OF_USERS, Owners, guess_attributes
from coldray.data.guess.columns import Column, read_table
from coldray.data.guess.guess import Guess, Use
from coldray.data.guess.interactions import ITEMS, USERS, guess_interactions
from coldray.data.tables.files import FileFormat

_MATCHED = 0.2
"""Share of the different ids of a column that must be in a table of items."""


@dataclass(frozen=True)
class GuessedTables:
    """What the columns of tables are for."""

    interactions: Path
    items: Path | None
    rows: tuple[int, int]
    """Of both."""
    of_interactions: tuple[Guess, ...]
    of_items: tuple[Guess, ...]
    """But for the column of ids."""
    key: Guess | None = None
    """The column of ids of the items."""
    separator: str = "|"
    """What divides labels."""
    repeated: int = 0
    """Interactions of a user and an item that have one before; 0 of events, of which there may be several."""
    users: Path | None = None
    n_users: int = 0
    """Rows of its table."""
    of_users: tuple[Guess, ...] = ()
    """But for the column of ids, which has the name that it has among the interactions."""

    @property
    def event(self) -> Guess | None:
        """The column of kinds of events, if there is one."""
        return next((guess for guess in self.of_interactions if guess.use == "event"), None)

    @property
    def columns(self) -> dict[str, Any]:
        """Fields of :class:`~coldray.data.sources.tabular.TabularColumns` that are not at their defaults."""
        named = {guess.use: guess.column for guess in self.of_interactions if guess.use is not None}
        fields: dict[str, Any] = {
            f"{use}_column": named[use] for use in ("user", "item", "rating", "event", "timestamp") if use in named
        }
        if self.event is not None:
            fields["event_weights"] = dict(self.event.weights)
        if contexts := [guess.column for guess in self.of_interactions if guess.use == "context"]:
            fields["context_label_columns"] = contexts
        if self.key is not None and self.key.column != fields["item_column"]:
            fields["item_id_column"] = self.key.column
        for guesses, owner in ((self.of_items, ""), (self.of_users, "user_")):
            for use, field in (("labels", "label_columns"), ("number", "number_columns"), ("text", "text_columns")):
                if found := [guess.column for guess in guesses if guess.use == use]:
                    fields[owner + field] = found
        if self.separator != "|":
            fields["label_separator"] = self.separator
        return fields


@dataclass(frozen=True)
class _Match:
    """The columns of two tables that hold the same ids."""

    column: Column
    """Of the interactions."""
    key: Column
    """Of the other table."""
    reason: str
    sure: bool

    def guess(self, name: str, use: Use) -> Guess:
        return Guess(name, use, self.reason, self.sure)

    def clicks(self) -> pl.Series:
        """Return how often each row of the other table is among the interactions."""
        counts = self.column.cells.cast(pl.String).alias("id").to_frame().group_by("id").len("clicks")
        rows = self.key.cells.cast(pl.String).alias("id").to_frame()
        return rows.join(counts, on="id", how="left", maintain_order="left")["clicks"].fill_null(0)


@dataclass(frozen=True)
class _TableKind:
    """What a table beside the interactions may be of, and what is said where it is not."""

    words: Collection[str]
    others: Collection[str]
    rows: str
    row: str
    other_rows: str
    unmatched: type[DataFormatError]
    way_out: str
    """For a table of the others, with ``{path}`` of the interactions and ``{file}`` of the table."""


_ITEM_TABLE = _TableKind(
    ITEMS, USERS, "items", "a row an item", "users", UnmatchedItemsError, "Give it as --users {file}"
)
_USER_TABLE = _TableKind(
    USERS, ITEMS, "users", "a row a user", "items", UnmatchedUsersError, "Give it behind {path}, without --users"
)


def guess_tables(
    interactions: Path,
    items: Path | None,
    now: float,
    file_format: FileFormat = "parquet",
    *,
    users: Path | None = None,
) -> GuessedTables:
    """Look at a table of interactions, at one of items and at one of users, and guess what their columns mean.

    Those of interactions and of items may be named in either order, where it can be told.

    Raises
    ------
    UnmatchedItemsError
        If no column of the interactions holds ids of the items.
    UnmatchedUsersError
        If none holds ids of the users.
    DataFormatError
        If the table of items is one of users, or users' ids have another name there than among the interactions.
    DataError
        If a file cannot be read, or has no columns of users and items.
    """
    clicks = read_table(interactions, file_format)
    table = None if items is None else read_table(items, file_format)
    people = None if users is None else read_table(users, file_format)
    item = person = None
    if table is not None and items is not None:
        if _match(clicks, table, ITEMS, USERS) is None and _match(table, clicks, ITEMS, USERS) is not None:
            interactions, items, clicks, table = items, interactions, table, clicks
        item = _matched(_ITEM_TABLE, interactions, clicks, items, table)
    if people is not None and users is not None:
        others = [one for one in clicks if item is None or one is not item.column]
        person = _matched(_USER_TABLE, interactions, others, users, people)
        if person.key.name != person.column.name:
            raise DataFormatError(
                f"Users are {person.column.name!r} in {interactions.name} and {person.key.name!r} in {users.name}, and "
                f"are read from columns of one name. Rename that of {users.name}."
            )
    found = guess_interactions(
        clicks,
        None if item is None else item.guess(item.column.name, "item"),
        now,
        None if person is None else person.guess(person.column.name, "user"),
    )
    of_items = _attributes(table, item, now, OF_ITEMS)
    of_users = _attributes(people, person, now, OF_USERS)
    separator = _separator([*of_items, *of_users])
    return GuessedTables(
        interactions,
        items,
        (_height(clicks), _height(table or ())),
        tuple(found),
        tuple(_taken_whole(guess, separator) for guess in of_items),
        None if item is None else item.guess(item.key.name, "item"),
        separator,
        _repeated(clicks, found),
        users,
        _height(people or ()),
        tuple(_taken_whole(guess, separator) for guess in of_users),
    )


def _matched(kind: _TableKind, path: Path, clicks: Sequence[Column], file: Path, table: Sequence[Column]) -> _Match:
    """Return the columns of the same ids in the interactions at `path` and in the table of a `file`.

    Raises
    ------
    UnmatchedItemsError, UnmatchedUsersError
        If there are none.
    DataFormatError
        If the interactions name what the table should not be of.
    """
    match = _match(clicks, table, kind.words, kind.others)
    if match is None:
        raise kind.unmatched(
            f"No column of {path.name} ({choices(column.name for column in clicks)}) holds ids of {file.name}, where "
            f"these have one in every row and none twice: {_keys(table)}. A table of {kind.rows} has {kind.row}; leave "
            "it out, or write the ids of both alike."
        )
    if match.column.named(kind.others) == 2:
        raise DataFormatError(
            f"{file.name} looks like a table of {kind.other_rows}: of {path.name} the column {match.column.name!r} "
            f"alone holds its ids. {kind.way_out.format(path=path.name, file=file.name)}, or rename that column if it "
            f"is of {kind.rows}."
        )
    return match


def _attributes(table: Sequence[Column] | None, match: _Match | None, now: float, of: Owners) -> list[Guess]:
    if table is None or match is None:
        return []
    return guess_attributes([one for one in table if one is not match.key], match.clicks(), now, of)


def _keys(table: Sequence[Column]) -> str:
    return choices(column.name for column in table if column.names_things and column.distinct == len(column.cells))


def _separator(guesses: Sequence[Guess]) -> str:
    """Return the sign that divides labels in most columns, ``|`` where one has it."""
    signs = Counter(guess.separator for guess in guesses if guess.separator)
    return max(signs, key=lambda sign: (sign == "|", signs[sign])) if signs else "|"


def _taken_whole(guess: Guess, separator: str) -> Guess:
    """Return a guess of labels; unsure if another sign divides them than the one read, or ``;``, which is found out."""
    if guess.separator in (None, separator, ";"):
        return guess
    reason = f"{guess.reason}; taken whole, as labels of other columns are divided by {separator!r}"
    return replace(guess, reason=reason, sure=False)


def _repeated(clicks: Sequence[Column], guesses: Sequence[Guess]) -> int:
    """Return how many rows have a user and an item that a row before has."""
    ids = {guess.column: guess.use for guess in guesses if guess.use in ("user", "item")}
    if any(guess.use == "event" for guess in guesses):
        return 0
    pairs = pl.DataFrame([column.cells.alias(column.name) for column in clicks if column.name in ids])
    return pairs.height - pairs.n_unique()


def _height(columns: Sequence[Column]) -> int:
    return len(columns[0].cells) if columns else 0


def _match(
    clicks: Sequence[Column], table: Sequence[Column], words: Collection[str], others: Collection[str]
) -> _Match | None:
    """Return the columns of the same ids in both tables; None without any.

    Parameters
    ----------
    words, others
        Words of names of whose table it is, and of the others that interactions have.
    """
    found = []
    for key in table:
        if not key.names_things or key.distinct < len(key.cells) or not len(key.cells):
            continue
        for column in clicks:
            if not column.names_things or column.distinct == len(column.cells):
                continue
            both = int(column.texts.is_in(key.texts.implode()).sum())
            if both >= _MATCHED * column.distinct and both > 1:
                found.append((column, key, both))
    if not found:
        return None

    def same(column: Column, key: Column) -> bool:
        return column.telling and column.words == key.words

    def rank(one: tuple[Column, Column, int]) -> tuple[int, int, float]:
        column, key, both = one
        named = column.named(words) + key.named(words) - 2 * column.named(others)
        return 2 * same(column, key) + (column.named(words) == 2), named, both / (column.distinct + key.distinct)

    column, key, both = max(found, key=rank)
    told = (same(column, key) and not column.named(others)) or column.named(words) == 2
    whose = "items" if words is ITEMS else "users"
    reason = f"{both:,} of its {column.distinct:,} different ones are in the table of {whose}"
    return _Match(column, key, reason, told or len(found) == 1)
