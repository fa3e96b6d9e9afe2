"""Tables of other libraries as polars frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import polars as pl

from coldray.core.errors import DataFormatError

Frame: TypeAlias = Any
"""A table in memory: polars (eager or lazy), pandas, arrow, another with the arrow stream interface, or a mapping of
column names to values."""


def is_frame(value: object) -> bool:
    """Tell a table in memory from a name or a path."""
    return isinstance(value, Mapping) or hasattr(value, "__arrow_c_stream__") or isinstance(value, pl.LazyFrame)


def as_polars(frame: Frame, what: str) -> pl.DataFrame:
    """Return a table as a polars frame.

    Parameters
    ----------
    what
        The table in words, for messages: ``interactions``.

    Raises
    ------
    DataFormatError
        If it has two columns of one name, or values of several types in one.
    """
    names = [str(name) for name in _column_names(frame)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise DataFormatError(f"{what} have the column {repeated[0]!r} {names.count(repeated[0])} times. Rename one.")
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if not (isinstance(frame, Mapping) or _of_pandas(frame)):
        return pl.DataFrame(frame)
    columns: dict[str, pl.Series] = {}
    for name in names:
        values = frame[name] if name in frame else next(frame[key] for key in frame if str(key) == name)
        columns[name] = _column(values, name, what)
    if len(lengths := {len(column) for column in columns.values()}) > 1:
        raise DataFormatError(
            f"{what} have columns of {', '.join(map(str, sorted(lengths)))} values; all need as many."
        )
    return pl.DataFrame(columns)


def _column_names(frame: Frame) -> list[Any]:
    if isinstance(frame, Mapping):
        return list(frame)
    if hasattr(frame, "column_names"):  # arrow
        return list(frame.column_names)
    return list(frame.columns) if isinstance(frame, pl.DataFrame) or _of_pandas(frame) else []


def _of_pandas(frame: Frame) -> bool:
    return hasattr(frame, "iloc")


def _column(values: Any, name: str, what: str) -> pl.Series:
    """Return a column, whose values must be of one type."""
    try:
        if _of_pandas(values) and values.dtype == object:  # anything may be in it, missing values of several kinds too
            return pl.Series(
                name, [value if there else None for value, there in zip(values, values.notna(), strict=True)]
            )
        return pl.from_pandas(values).alias(name) if _of_pandas(values) else pl.Series(name, values)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        reason = str(error).split("\n")[0]
        raise DataFormatError(
            f"{what}, column {name!r} cannot be read: {reason}. Values of a column need one type, such as text."
        ) from error
