"""External ids as they are read: whole numbers of 64 bits, or text, whatever kind of file they come from.

A CSV file has no types, a parquet file has many. So that one table written to either is one dataset, an id that is
written as a whole number is a number in the one and in the other, up to the last of its 19 digits; if a single id of a
column is none, or is beyond 64 bits with a sign, all of the column are text.
"""

from __future__ import annotations

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.tables.numbers import refuse_first


def read_ids(ids: pl.Series, source: str, *, untyped: bool = False) -> pl.Series:
    """Return ids as Int64 or String.

    Parameters
    ----------
    source
        The file and the column, for errors.
    untyped
        True of a file without types: text that is all whole numbers is numbers.

    Raises
    ------
    DataFormatError
        If an id is blank, or the column has another type.
    """
    blank = (ids.is_null() | (ids == "").fill_null(True)) if ids.dtype == pl.String else ids.is_null()
    refuse_first(blank, ids, source, "have no id")
    if ids.dtype.is_integer():
        numbers = ids.cast(pl.Int64, strict=False)
        return ids.cast(pl.String) if numbers.null_count() else numbers
    if ids.dtype in (pl.String, pl.Categorical, pl.Enum):
        texts = ids.cast(pl.String)
        return whole_numbers(texts) if untyped else texts
    raise DataFormatError(f"{source} holds {ids.dtype}; ids must be integers or text.")


def whole_numbers(texts: pl.Series) -> pl.Series:
    """Return text as Int64 if each is a whole number in its one usual form, else as it is: ``007`` and ``1.0`` are."""
    numbers = texts.cast(pl.Int64, strict=False)
    same = (numbers.cast(pl.String) == texts).fill_null(False)
    return numbers if same.all() else texts


def of_one_type(first: pl.Series, second: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return two columns of ids, as :func:`read_ids` gives them, in one type: numbers if all are, else text."""
    if first.dtype == second.dtype:
        return first, second
    first, second = (whole_numbers(ids) if ids.dtype == pl.String else ids for ids in (first, second))
    if first.dtype == second.dtype:
        return first, second
    return first.cast(pl.String), second.cast(pl.String)
