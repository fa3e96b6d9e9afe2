"""What two tables mean: which column of the clicks names the items of the other, and what all other columns are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import UnmatchedItemsError
from coldray.core.spelling import choices
from coldray.data.guess.columns import Column, read_table
from coldray.data.guess.guess import Guess
from coldray.data.guess.interactions import ITEMS, USERS, guess_interactions
from coldray.data.guess.items import guess_items
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
    """Interactions of a user and an item that have one before."""

    @property
    def columns(self) -> dict[str, Any]:
        """Fields of :class:`~coldray.data.sources.tabular.TabularColumns` that are not at their defaults."""
        named = {guess.use: guess.column for guess in self.of_interactions if guess.use is not None}
        fields: dict[str, Any] = {
            f"{use}_column": named[use] for use in ("user", "item", "rating", "timestamp") if use in named
        }
        if self.key is not None and self.key.column != fields["item_column"]:
            fields["item_id_column"] = self.key.column
        for use, field in (("labels", "label_columns"), ("number", "number_columns"), ("text", "text_columns")):
            if found := [guess.column for guess in self.of_items if guess.use == use]:
                fields[field] = found
        if self.separator != "|":
            fields["label_separator"] = self.separator
        return fields


def guess_tables(
    interactions: Path, items: Path | None, now: float, file_format: FileFormat = "parquet"
) -> GuessedTables:
    """Look at a table of interactions and at one of items, and guess what their columns mean.

    The files may be named in either order, where it can be told.

    Raises
    ------
    UnmatchedItemsError
        If no column of the one holds ids of the other.
    DataError
        If a file cannot be read, or has no columns of users and items.
    """
    clicks = read_table(interactions, file_format)
    if items is None:
        found = guess_interactions(clicks, None, now)
        return GuessedTables(
            interactions, None, (_height(clicks), 0), tuple(found), (), repeated=_repeated(clicks, found)
        )
    table = read_table(items, file_format)
    matched = _match(clicks, table)
    if matched is None and (other := _match(table, clicks)) is not None:
        interactions, items, clicks, table, matched = items, interactions, table, clicks, other
    if matched is None:
        keys = [column.name for column in table if column.names_things and column.distinct == len(column.cells)]
        raise UnmatchedItemsError(
            f"No column of {interactions.name} ({choices(column.name for column in clicks)}) holds ids of "
            f"{items.name}, where these have one in every row and none twice: {choices(keys)}. A table of items has a "
            "row an item; leave it out, or write the ids of both alike."
        )
    column, key, reason, sure = matched
    found = guess_interactions(clicks, Guess(column.name, "item", reason, sure), now)
    counts = column.cells.cast(pl.String).alias("id").to_frame().group_by("id").len("clicks")
    rows = key.cells.cast(pl.String).alias("id").to_frame()
    of_row = rows.join(counts, on="id", how="left", maintain_order="left")["clicks"].fill_null(0)
    others = guess_items([one for one in table if one is not key], of_row, now)
    separator = _separator(others)
    return GuessedTables(
        interactions,
        items,
        (_height(clicks), _height(table)),
        tuple(found),
        tuple(_taken_whole(guess, separator) for guess in others),
        Guess(key.name, "item", reason, sure),
        separator,
        _repeated(clicks, found),
    )


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
    pairs = pl.DataFrame([column.cells.alias(column.name) for column in clicks if column.name in ids])
    return pairs.height - pairs.n_unique()


def _height(columns: Sequence[Column]) -> int:
    return len(columns[0].cells) if columns else 0


def _match(clicks: Sequence[Column], items: Sequence[Column]) -> tuple[Column, Column, str, bool] | None:
    """Return the columns of ids of items in both tables, why, and whether they are the only ones; None without any."""
    found = []
    for key in items:
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
        named = column.named(ITEMS) + key.named(ITEMS) - 2 * column.named(USERS)
        return 2 * same(column, key) + (column.named(ITEMS) == 2), named, both / (column.distinct + key.distinct)

    column, key, both = max(found, key=rank)
    told = (same(column, key) and not column.named(USERS)) or column.named(ITEMS) == 2
    reason = f"{both:,} of its {column.distinct:,} different ones are in the table of items"
    return column, key, reason, told or len(found) == 1
