"""Which types of columns can be read as what: ids, ratings, times, labels, numbers and texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import polars as pl

from coldray.core.errors import DataFormatError

Role: TypeAlias = Literal["id", "rating", "time", "labels", "number", "text"]
"""What a column is read as."""

_MOST_DIGITS = 38
"""Digits of a decimal number that polars reads."""
_TEXT = "text (also categorical)"
_ACCEPTED: Mapping[Role, str] = {
    "id": f"whole numbers or {_TEXT}",
    "rating": f"numbers (whole, floating, decimal of up to 38 digits, boolean) or {_TEXT} that holds them",
    "time": f"numbers, dates, dates with times, or {_TEXT} that holds them",
    "labels": f"{_TEXT}, numbers, booleans, dates, or lists of these",
    "number": f"numbers (whole, floating, decimal of up to 38 digits, boolean), dates, or {_TEXT} that holds numbers",
    "text": f"{_TEXT}, numbers, booleans or dates",
}
"""What the column of a role may hold, in words."""


def check_types(schema: Mapping[str, pl.DataType], roles: Mapping[str, Role], source: str) -> None:
    """Refuse the first column of a type that cannot be read as what it is for.

    Parameters
    ----------
    schema
        The type of each column.
    roles
        What columns are read as.
    source
        The file, for messages.

    Raises
    ------
    DataFormatError
        With the column, its type and the types that are accepted.
    """
    for name, role in roles.items():
        if not _readable(schema[name], role):
            hint = " Store whole numbers as integers." if role == "id" and schema[name].is_numeric() else ""
            raise DataFormatError(
                f"{source}, column {name!r} holds {schema[name]}; {_NAMES[role]} must be {_ACCEPTED[role]}.{hint}"
            )


_NAMES: Mapping[Role, str] = {
    "id": "ids", "rating": "ratings", "time": "times", "labels": "labels", "number": "numbers", "text": "texts"
}  # fmt: skip


def _readable(dtype: pl.DataType, role: Role) -> bool:
    if isinstance(dtype, pl.Null):
        return role != "id"
    text = isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    day = isinstance(dtype, pl.Date | pl.Datetime)
    if role == "id":
        return text or dtype.is_integer()
    if role == "labels" and isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner if isinstance(dtype.inner, pl.DataType) else dtype.inner()
        return not isinstance(inner, pl.List | pl.Array) and _readable(inner, "labels")
    if isinstance(dtype, pl.Decimal) and dtype.precision > _MOST_DIGITS:
        return False
    number = dtype.is_numeric() or isinstance(dtype, pl.Boolean)
    if role == "rating":
        return text or number
    if role == "time":
        return text or day or dtype.is_numeric()
    return text or number or day
