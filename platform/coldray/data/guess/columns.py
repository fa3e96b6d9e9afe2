"""A column of a table that nobody has described: what its cells are, and the words of its name."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.tables.files import FileFormat, explained, is_csv, read_columns, table_columns
from coldray.data.tables.labels import listed
from coldray.data.tables.lines import SEPARATORS, divided
from coldray.data.tables.numbers import MISSING, times

Kind: TypeAlias = Literal["whole", "number", "time", "list", "text", "other"]
"""What cells are: whole numbers, numbers, dates, lists of labels (also written as text), text, or what nobody reads."""
_LOOKED_AT = 500
"""Different texts that are looked at to tell lists."""
_FIRST_TIME = 315_532_800
"""1980, in seconds: a whole number that would be earlier is no time."""
_IDENTITY = {"id", "ids", "key", "no", "nr", "number", "code", "hash", "uuid", "index"}
"""Words by which a name says that it names things."""


@dataclass(frozen=True, eq=False)
class Column:
    """The cells of a column without those that say nothing: blanks, and words such as ``nan``."""

    name: str
    cells: pl.Series
    """All, null where nothing is known; text without blanks around it."""

    @classmethod
    def of(cls, name: str, cells: pl.Series) -> Column:
        """Return a column of cells as they were read."""
        if cells.dtype in (pl.Categorical, pl.Enum, pl.String):
            texts = cells.cast(pl.String).str.strip_chars()
            nothing = (texts == "") | texts.str.to_lowercase().is_in(list(MISSING))
            cells = texts.set(nothing.fill_null(False), None)
        if cells.dtype.is_float():
            cells = cells.fill_nan(None)
        return cls(name, cells)

    @cached_property
    def known(self) -> pl.Series:
        """The cells that say something."""
        return self.cells.drop_nulls()

    @cached_property
    def complete(self) -> bool:
        """Whether all cells do."""
        return len(self.known) == len(self.cells)

    @cached_property
    def distinct(self) -> int:
        """How many different ones there are."""
        return self.known.n_unique() if self.kind != "other" else len(self.known)

    @cached_property
    def kind(self) -> Kind:
        """What the cells are."""
        dtype, known = self.cells.dtype, self.known
        if isinstance(dtype, pl.List | pl.Array):
            inner = dtype.inner
            return "other" if isinstance(inner, pl.List | pl.Array | pl.Struct | pl.Binary) else "list"
        if dtype in (pl.Date, pl.Datetime):
            return "time"
        if dtype.is_numeric() or dtype in (pl.Boolean, pl.Null):
            return "whole" if dtype.is_integer() else "number"
        if dtype != pl.String:
            return "other"
        if known.str.contains(r"^-?\d{1,18}$").all():
            return "whole"
        if (
            known.str.to_lowercase().is_in(["true", "false"]).all()
            or known.cast(pl.Float64, strict=False).is_not_null().all()
        ):
            return "number"
        if self.seconds is not None:
            return "time"
        some = known.unique(maintain_order=True).head(_LOOKED_AT)
        return "list" if some.str.contains(r"^[\[{(]").all() and all(map(_is_list, some)) else "text"

    @cached_property
    def numbers(self) -> pl.Series:
        """Whole numbers and numbers as Float64, null where nothing is known."""
        if self.cells.dtype == pl.String:
            truth = self.cells.str.to_lowercase().replace({"true": "1", "false": "0"})
            return truth.cast(pl.Float64, strict=False)
        return self.cells.cast(pl.Float64)

    @cached_property
    def seconds(self) -> pl.Series | None:
        """The known cells as seconds since 1970, if they can all be times."""
        if not len(self.known) or self.cells.dtype in (pl.Boolean, pl.Null) or isinstance(self.cells.dtype, pl.List):
            return None
        try:
            found = times(self.known, self.name, [])
        except DataFormatError:
            return None
        dates = self.cells.dtype in (pl.Date, pl.Datetime)
        return found if dates or not len(found) or float(found.min() or 0) >= _FIRST_TIME else None  # type: ignore[arg-type]

    @cached_property
    def names_things(self) -> bool:
        """Whether every row has something that can be an id."""
        return self.complete and self.kind in ("whole", "text")

    @cached_property
    def texts(self) -> pl.Series:
        """The different known cells, as text."""
        return self.known.cast(pl.String).unique()

    @property
    def texts_counted(self) -> dict[str, int]:
        """How many known cells there are of each text, most first, then by text."""
        counts = self.known.cast(pl.String).alias("text").to_frame().group_by("text").len("count")
        return dict(counts.sort("count", "text", descending=[True, False]).iter_rows())

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the name, in lower case: ``unixReviewTime`` is unix, review and time, ``userid`` user and id."""
        parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", self.name)
        found = {part.lower() for part in parts}
        joined = {
            part for part in found if len(part) > 3 and part.endswith("id") and part not in ("paid", "grid", "valid")
        }
        return frozenset(found - joined | {part.removesuffix("id") for part in joined} | ({"id"} if joined else set()))

    @cached_property
    def telling(self) -> bool:
        """Whether the name is one of words, not a letter and a number."""
        return any(
            word.isalpha() and len(word) > 2 and word not in ("col", "column", "var", "field") for word in self.words
        )

    def named(self, words: Collection[str]) -> int:
        """Return how well the name says that it is one of these: 2 that and no more, 1 beside other words, 0 not."""
        found = self.words & set(words)
        return 0 if not found else 1 if self.words - found - _IDENTITY else 2


def read_table(path: Path, file_format: FileFormat) -> list[Column]:
    """Return the columns of a file.

    Raises
    ------
    DataFormatError
        If it has no header.
    DataError
        As :func:`~coldray.data.tables.files.read_columns`.
    """
    names = table_columns(path, file_format)
    if len(names) == 1 and is_csv(path, file_format):  # by another separator, as the readers take it, if there is one
        fields = ([name.strip() for name in divided(names[0], by)] for by in SEPARATORS)
        names = max((table_columns(path, file_format, wanted) for wanted in fields), key=len)
    with explained(path):
        if is_csv(path, file_format) and any(re.fullmatch(r"[-\d.]+", name.strip()) for name in names):
            raise DataFormatError(
                f"{path} has no header: its first line is {', '.join(names)!r:.80}. Put a line with the names of the "
                "columns first."
            )
    return [Column.of(name, read_columns(path, {name: name}, file_format).rows[name]) for name in names]


def _is_list(text: str) -> bool:
    return listed(text) is not None
