"""Columns of numbers and of times, as files have them: parsed without loss, or refused with the first bad value."""

from __future__ import annotations

import numpy as np
import polars as pl

from coldray.core.errors import DataFormatError

MISSING = ("na", "n/a", "null", "none", "nan", r"\n", "-")
"""What other programs write, in any case, where a number is not known."""
LARGEST = 1e30
"""Models compute in single precision, which ends at 3.4e38, and with sums and differences of numbers."""
_UNITS = (("seconds", 1), ("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))
"""Units of times, and how many are a second."""
_LATEST = 10**11
"""Seconds since 1970 that no time reaches: the year 5138. A larger number is of a smaller unit."""
_DATES = ("%Y-%m-%d", "%Y/%m/%d", "%Y%m%d")
_MOMENTS = ("%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%d %H:%M")
_TIME_FORMS = (
    "numbers since 1970 (UTC) or ISO 8601, such as 2024-01-31, 2024-01-31 18:30:00 or 2024-01-31T18:30:00+02:00"
)
"""Accepted texts of times."""


def refuse_first(bad: pl.Series, values: pl.Series, source: str, problem: str, hint: str = "") -> None:
    """Raise :class:`DataFormatError` with the count of the `bad` values and the first of them, if there are any."""
    if bad.any():
        row = int(bad.arg_max() or 0)
        first = f"the first is {values[row]!r} in row {row + 1:,}"
        raise DataFormatError(f"{source}: {int(bad.sum()):,} values {problem}; {first}.{hint}")


def numbers(values: pl.Series, source: str, notes: list[str], *, blank_allowed: bool = False) -> pl.Series:
    """Return finite Float64 values; blank, NaN and what stands for them become null where allowed, and are counted.

    Dates become seconds since 1970; booleans, as a type or as text in every row, 0 and 1.
    """
    if values.dtype in (pl.Date, pl.Datetime):
        values = values.dt.epoch("s")
    texts = _texts(values)
    parsed = values.cast(pl.Float64, strict=False) if texts is None else texts.cast(pl.Float64, strict=False)
    empty = values.is_null() | parsed.is_nan().fill_null(False)
    if texts is not None:
        lower = texts.str.to_lowercase()
        if lower.drop_nulls().is_in(["true", "false"]).all() and len(lower.drop_nulls()):
            parsed = (lower == "true").cast(pl.Float64)
        absent = lower.is_in(list(MISSING)).fill_null(False)
        if blank_allowed and absent.any():
            seen = ", ".join(texts.filter(absent).unique().sort().head(4).to_list())
            notes.append(f"{source}: {int(absent.sum()):,} values ({seen}) are taken as not known.")
        empty = empty | (texts == "").fill_null(True) | absent
        parsed = parsed.set(absent, None)
    bad = ~parsed.is_finite().fill_null(False)
    if blank_allowed:
        bad &= ~empty
    hint = " Write 3.5, not 3,5, and no blanks or commas between thousands." if _has_comma(bad, texts) else ""
    refuse_first(bad, values, source, "are no number", hint)
    parsed = parsed.fill_nan(None)  # NaN is more than any number to polars
    refuse_first((parsed.abs() > LARGEST).fill_null(False), values, source, f"are beyond {LARGEST:g}")
    return parsed


def times(values: pl.Series, source: str, notes: list[str]) -> pl.Series:
    """Return times as whole seconds since 1970, Float64: from numbers of any unit, dates, or ISO 8601.

    The unit of numbers is told by their size, for the whole column: as seconds they would lie beyond the year 5138. It
    is noted unless it is seconds. Times without a zone are taken as UTC.

    Raises
    ------
    DataFormatError
        If a value is no time, or the values are of different units.
    """
    if values.dtype in (pl.Date, pl.Datetime):
        refuse_first(values.is_null(), values, source, "are no number or date")
        return values.dt.epoch("s").cast(pl.Float64)
    texts = _texts(values)
    parsed = values.cast(pl.Float64, strict=False) if texts is None else texts.cast(pl.Float64, strict=False)
    if texts is not None and not parsed.is_finite().fill_null(False).any():
        parsed = _moments(texts)
        refuse_first(parsed.is_null(), values, source, "are no number or date", f" Times are {_TIME_FORMS}.")
        notes.append(f"{source}: times are read from text, those without a zone as UTC.")
        return parsed
    bad = ~parsed.is_finite().fill_null(False)
    refuse_first(bad, values, source, "are no number or date", f" Times are {_TIME_FORMS}.")
    if _all_days(parsed):
        notes.append(f"{source}: times are days written as numbers, such as {int(parsed[0])}.")
        return parsed.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d").dt.epoch("s").cast(pl.Float64)
    largest = parsed.abs()
    most = float(np.max(largest.to_numpy(), initial=0.0))
    unit, divisor = next((u for u in _UNITS if most < _LATEST * u[1]), ("", 0))
    if not divisor:
        refuse_first(
            largest >= _LATEST * _UNITS[-1][1], values, source, "are too large for times", f" Times are {_TIME_FORMS}."
        )
    if divisor == 1:
        return parsed
    smaller = (largest < _LATEST * divisor // 1000) & (parsed != 0)
    # Of one unit the first days of 1970 alone look like one a thousand times larger.
    refuse_first(smaller, values, source, f"are of another unit than the others, which are {unit}")
    notes.append(f"{source}: times are {unit} since 1970, by their size; kept as whole seconds.")
    exact = (values if texts is None else texts).cast(pl.Int64, strict=False)  # float64 would round nanoseconds
    return ((parsed if exact.null_count() else exact) // divisor).cast(pl.Float64)


def _moments(texts: pl.Series) -> pl.Series:
    """Return ISO 8601 texts as seconds since 1970, Float64, null for what is none."""
    plain = texts.str.replace(r"(?i)(\d)T(\d)", "$1 $2").str.replace(r"(?i) ?(z|utc)$", "+00:00")
    zoned = plain.str.contains(r":.*[+-]\d\d(:?\d\d)?$")
    with_zone = plain.set(~zoned, None).str.replace(r"([+-]\d\d)$", "${1}00")
    found = pl.Series(texts.name, [None] * len(texts), dtype=pl.Float64)
    for form in _MOMENTS:
        moment = with_zone.str.to_datetime(f"{form}%#z", strict=False, time_unit="us", time_zone="UTC")
        found = found.fill_null(moment.dt.epoch("s").cast(pl.Float64))
    for form in _MOMENTS:
        moment = plain.str.to_datetime(form, strict=False, time_unit="us")
        found = found.fill_null(moment.dt.epoch("s").cast(pl.Float64))
    for form in _DATES:
        found = found.fill_null(plain.str.to_date(form, strict=False).dt.epoch("s").cast(pl.Float64))
    return found


def _all_days(parsed: pl.Series) -> bool:
    """Return whether all numbers are days such as 20240131, which as seconds would all be in 1970."""
    if not len(parsed) or not parsed.is_between(19_000_101, 21_001_231).all():
        return False
    return not parsed.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d", strict=False).is_null().any()


def _texts(values: pl.Series) -> pl.Series | None:
    """Return stripped texts, None of a column that holds none."""
    if values.dtype in (pl.String, pl.Categorical, pl.Enum):
        return values.cast(pl.String).str.strip_chars()
    return None


def _has_comma(bad: pl.Series, texts: pl.Series | None) -> bool:
    return texts is not None and bool(texts.filter(bad).str.contains(r"^-?[\d., ]*\d,\d+").fill_null(False).any())
