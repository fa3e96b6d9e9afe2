"""A table of items, or users, beside the clicks: which of either are in the other, and why so few, if they are few.

Items that nobody has clicked yet are items all the same. Those of either side are counted; what hardly fits is told,
and what does not fit at all is refused, as a study without attributes ends well and means nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import polars as pl

from coldray.core.errors import UnmatchedItemsError, UnmatchedUsersError
from coldray.data.dataset import Ids

logger = logging.getLogger(__name__)

MATCHES = ("catalogue", "texts_match")
"""Where the provenance has the matches of the table of items, and of that of texts."""
VECTORS_MATCH = "vectors_match "
"""What the name begins with where it has that of a file of vectors; the name of the attribute ends it."""
AS_TEXT = "ids_as_text"
"""Where it says why ids are text, if those of one table would be numbers."""
_FEW = 0.1
"""Shares of the clicked items, and of the clicks, below which it is a warning that no more have a row."""
_SHOWN = 2
"""Ids of either side that are shown."""
_Way: TypeAlias = Callable[[pl.Series], pl.Series]
_WAYS: Mapping[str, _Way] = {
    "without the blanks around them": lambda ids: ids.str.strip_chars(),
    "without leading zeros": lambda ids: ids.str.replace(r"^0+(\d)", "${1}"),
    "without '.0' at their end": lambda ids: ids.str.replace(r"\.0+$", ""),
    "whatever their case": lambda ids: ids.str.to_lowercase(),
    "in the composed form of Unicode (NFC)": lambda ids: ids.str.normalize("NFC"),
}
"""How ids that are written in several ways come to be written in one."""
_ALL_WAYS = "without blanks, leading zeros, '.0' and case"


@dataclass(frozen=True)
class Catalogue:
    """The table of items of a dataset."""

    ids: pl.Series
    """One a row: Int64 or String, as those of the clicks; none is null or twice there."""
    table: str
    """Name of its file."""


@dataclass(frozen=True)
class Match:
    """How a table of items fits the clicks."""

    table: str
    rows: int
    """Rows of the table, one an item."""
    rows_without_clicks: int
    """Of the rows, those of items that nobody has clicked."""
    clicked_items: int
    clicked_items_without_row: int
    """Of the clicked items, those that the table does not have."""
    clicks: int
    clicks_without_row: int
    """Clicks on those items."""
    alike: str
    """Why some of them may have no row: ids that are alike, in words; nothing where none are."""

    @property
    def few(self) -> bool:
        """True if less than :data:`_FEW` of the clicked items, or of the clicks, have a row."""
        items, clicks = self.clicked_items, self.clicks
        return items - self.clicked_items_without_row < _FEW * items or clicks - self.clicks_without_row < _FEW * clicks

    @property
    def suspicious(self) -> bool:
        """True if few have a row, or ids that are alike have none."""
        return self.few or bool(self.alike)

    @property
    def text(self) -> str:
        """What was counted, in words."""
        counts = (
            f"{self.table}: {self.clicked_items_without_row:,} of {self.clicked_items:,} clicked items, with "
            f"{self.clicks_without_row:,} of {self.clicks:,} clicks, have no row, and {self.rows_without_clicks:,} of "
            f"{self.rows:,} rows are of items that nobody has clicked."
        )
        return f"{counts} {self.alike}".strip()

    def noted(self, provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Return a provenance that has the match under a name, as plain values, and what was counted in its notes."""
        plain = {**vars(self), "suspicious": self.suspicious, "text": self.text}
        return {**provenance, name: plain, "notes": [*provenance.get("notes", ()), self.text]}


def match_items(clicked: pl.DataFrame, catalogue: Catalogue, file: str) -> Match:
    """Count which clicked items have a row, and which rows a click; what is suspicious is logged.

    Parameters
    ----------
    clicked
        A row an item that has clicks in `file`: `item`, in the type of the ids of the catalogue, and `clicks`.

    Raises
    ------
    UnmatchedItemsError
        If the table has rows, and none of them is of a clicked item.
    """
    rows = catalogue.ids.alias("item").to_frame()
    lost = clicked.join(rows, on="item", how="anti").sort("item")
    spare = rows.join(clicked, on="item", how="anti").sort("item")
    match = Match(
        table=catalogue.table,
        rows=rows.height,
        rows_without_clicks=spare.height,
        clicked_items=clicked.height,
        clicked_items_without_row=lost.height,
        clicks=int(clicked["clicks"].sum()),
        clicks_without_row=int(lost["clicks"].sum()),
        alike=alike_ids(lost["item"], spare["item"]),
    )
    if rows.height and lost.height == clicked.height:
        raise UnmatchedItemsError(
            f"{catalogue.table} and {file} have no item in common: none of {rows.height:,} rows is of one of "
            f"{clicked.height:,} clicked items. Ids are {_shown(spare['item'])} there and {_shown(lost['item'])} in "
            f"{file}. {match.alike or 'Name the columns with the ids of the items, or leave the table out.'}"
        )
    if match.suspicious and rows.height:
        examples = f"Without a row are {_shown(lost['item'])}, without a click {_shown(spare['item'])}."
        logger.warning("%s %s", match.text, examples)
    return match


def note_strays(provenance: dict[str, Any], table: str, rows: pl.Series, item_ids: Ids) -> None:
    """Add to the notes of a provenance how many rows of a table of attributes are of none of the items, if any is."""
    ids = pl.DataFrame({"item": pl.Series(item_ids.tolist(), dtype=rows.dtype)})
    strays = rows.alias("item").to_frame().join(ids, on="item", how="anti")["item"]
    if len(strays):
        text = (
            f"{table}: {len(strays):,} of {len(rows):,} rows are left out, as their {strays.n_unique():,} items are "
            "neither clicked nor in the table of items."
        )
        provenance["notes"] = [*provenance.get("notes", ()), text]


def note_profiles(provenance: dict[str, Any], table: str, rows: pl.Series, users: pl.Series, file: str) -> None:
    """Add to the notes of a provenance which users have no row in a table of users, and which rows are of nobody.

    Parameters
    ----------
    rows
        Ids of the table, each once.
    users
        Ids of those who have clicks in `file`, each once, in the type of `rows`.

    Raises
    ------
    UnmatchedUsersError
        If the table has rows, and none of them is of a user with clicks.
    """
    ours, theirs = users.alias("id").to_frame(), rows.alias("id").to_frame()
    lost = ours.join(theirs, on="id", how="anti").sort("id")["id"]
    spare = theirs.join(ours, on="id", how="anti").sort("id")["id"]
    alike = alike_ids(lost, spare, "users")
    if len(rows) and len(lost) == len(users):
        raise UnmatchedUsersError(
            f"{table} and {file} have no user in common: none of {len(rows):,} rows is of one of {len(users):,} users "
            f"with clicks. Ids are {_shown(spare)} there and {_shown(lost)} in {file}. "
            f"{alike or 'Name the column with the ids of the users, or leave the table out.'}"
        )
    text = (
        f"{table}: {len(lost):,} of {len(users):,} users have no row, so that nothing is known of them but their "
        f"clicks, and {len(spare):,} of {len(rows):,} rows are left out, as they are of users without a click. {alike}"
    ).strip()
    provenance["notes"] = [*provenance.get("notes", ()), text]
    if alike or len(users) - len(lost) < _FEW * len(users):
        logger.warning("%s", text)


def alike_ids(lost: pl.Series, spare: pl.Series, noun: str = "items") -> str:
    """Return in which way most of the `lost` ids, which have no row, are `spare` ones, in words; empty if none is."""
    found = {way: _common(lost, spare, [written]) for way, written in _WAYS.items()}
    found[_ALL_WAYS] = _common(lost, spare, _WAYS.values())
    way = max(found, key=lambda name: found[name].height)  # the first of equal ones: a single way, if one will do
    if found[way].is_empty():
        return ""
    ours, theirs = found[way].row(0)
    return (
        f"{found[way].height:,} of the {len(lost):,} {noun} without a row have one but for how ids are written: "
        f"{ours!r} is {theirs!r} there. They are the same {way}; write them in one way."
    )


def _common(lost: pl.Series, spare: pl.Series, ways: Iterable[_Way]) -> pl.DataFrame:
    """Return a row (`lost`, `spare`) for each lost id that is a spare one when both are written in these ways."""
    keys = [lost.cast(pl.String), spare.cast(pl.String)]
    for written in ways:
        keys = [written(ids) for ids in keys]
    ours = pl.DataFrame({"lost": lost, "key": keys[0]})
    theirs = pl.DataFrame({"spare": spare, "key": keys[1]}).unique("key", keep="first", maintain_order=True)
    return ours.join(theirs, on="key", maintain_order="left").select("lost", "spare")


def _shown(ids: pl.Series) -> str:
    return " and ".join(map(repr, ids.head(_SHOWN).to_list())) or "none"
