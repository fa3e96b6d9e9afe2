"""External ids as they are read: whole numbers of 64 bits, or text, whatever kind of file they come from.

A CSV file has no types, a parquet file has many. So that one table written to either is one dataset, an id that is
written as a whole number is a number in the one and in the other, up to the last of its 19 digits; if a single id of a
column is none, or is beyond 64 bits with a sign, all of the column are text. Blanks around an id are no part of it.
"""

from __future__ import annotations

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.tables.numbers import MISSING, refuse_first

_WHOLE = r"^-?[0-9]+(\.0+)?$"
BLANKS = "".join(chr(code) for code in range(0x10000) if chr(code).isspace()) + "\u200b\u2060\ufeff"
"""Blanks of all kinds, those without a width too, such as the mark that begins a file and lies inside of two joined."""


def read_ids(ids: pl.Series, source: str, notes: list[str], *, untyped: bool = False) -> pl.Series:
    """Return ids as Int64 or String; what is left out around them is noted, and how many ids become one by it.

    Parameters
    ----------
    source
        The file and the column, for errors and notes.
    untyped
        True of a file without types: text that is all whole numbers is numbers.

    Raises
    ------
    DataFormatError
        If an id is blank or, where all others are numbers, a word for a missing one, such as ``nan``; or if the column
        has another type.
    """
    if ids.dtype.is_integer():
        refuse_first(ids.is_null(), ids, source, "have no id")
        numbers = ids.cast(pl.Int64, strict=False)
        return ids.cast(pl.String) if numbers.null_count() else numbers
    if ids.dtype not in (pl.String, pl.Categorical, pl.Enum):
        raise DataFormatError(f"{source} holds {ids.dtype}; ids must be integers or text.")
    stripped = _told_without_blanks(ids.cast(pl.String), source, notes)
    refuse_first((stripped == "").fill_null(True), stripped, source, "have no id")
    return _whole_numbers(stripped) if untyped else stripped


def without_blanks(ids: pl.Series) -> pl.Series:
    """Return ids without the blanks around them where they are text."""
    return ids.str.strip_chars(BLANKS) if ids.dtype == pl.String else ids


def blanks_note(source: str, changed: int, merged: int) -> str:
    """Return the sentence that blanks are left out, and how many ids become one with another by it."""
    told = f"; {merged:,} ids become one with another" if merged else ""
    return f"{source}: blanks around {changed:,} ids are left out{told}."


def _whole_numbers(texts: pl.Series) -> pl.Series:
    """Return text as Int64 if each is a whole number in its one usual form, else as it is: ``007`` and ``1.0`` are."""
    numbers = texts.cast(pl.Int64, strict=False)
    same = (numbers.cast(pl.String) == texts).fill_null(False)
    return numbers if same.all() else texts


def of_one_type(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return two columns of ids, as :func:`read_ids` gives them, in one type: numbers if all are, else text."""
    if first.dtype == second.dtype:
        return first, second
    first, second = (_whole_numbers(ids) if ids.dtype == pl.String else ids for ids in (first, second))
    if first.dtype == second.dtype:
        return first, second
    return first.cast(pl.String), second.cast(pl.String)


def _told_without_blanks(texts: pl.Series, source: str, notes: list[str]) -> pl.Series:
    stripped = without_blanks(texts)
    changed = (stripped != texts).fill_null(False)
    if changed.any():
        notes.append(blanks_note(source, int(changed.sum()), texts.n_unique() - stripped.n_unique()))
    absent = stripped.str.to_lowercase().is_in(list(MISSING)).fill_null(False)
    if absent.any():
        others = stripped.filter(~absent & stripped.is_not_null() & (stripped != ""))
        if others.str.contains(_WHOLE).all():
            refuse_first(
                absent, stripped, source, "stand for no id, among ids that are numbers", " Leave the rows out."
            )
        seen = ", ".join(repr(word) for word in stripped.filter(absent).unique().sort().head(4).to_list())
        notes.append(f"{source}: {int(absent.sum()):,} rows have the id {seen}, which is taken as an id like others.")
    return stripped
