"""Raw Amazon ratings: tab- or comma-separated lines, or JSON lines of reviews, plain or packed by gzip or zstd.

Three generations are read. Ratings files have ``user item rating timestamp``, with or without a header; those of 2018,
without one, have the item first. Reviews of 2014
and 2018 name their fields `reviewerID`, `asin`, `overall` and `unixReviewTime`; those of 2023 `user_id`, `parent_asin`,
`rating` and `timestamp`, in milliseconds.
"""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.core.spelling import choices
from coldray.data.tables.delimited import DelimitedFile
from coldray.data.tables.lines import first_fields, suffix
from coldray.data.tables.streaming import (
    collect_typed,
    named_json_line,
    readable,
    scan_delimited,
    scan_json_lines,
    with_seconds,
)
from coldray.data.tables.swapped import SAMPLE, ids_swapped

_NAMES = {
    "user": ("user", "user_id", "reviewerID"),
    "item": ("item", "parent_asin", "item_id", "asin"),
    "rating": ("rating", "overall"),
    "timestamp": ("timestamp", "unixReviewTime"),
}
"""Role → names of its column, the preferred one first: of 2023's two item ids the parent joins the variants."""
_SEPARATORS = {".csv": ",", ".tsv": "\t", ".dat": "\t", ".txt": "\t"}
_JSON_SUFFIXES = (".json", ".jsonl")
_TYPES = {"user": pl.String(), "item": pl.String(), "rating": pl.Float32(), "timestamp": pl.Int64()}


def read_raw_ratings(path: Path, notes: list[str] | None = None) -> pl.DataFrame:
    """Read raw ratings: `user` and `item` (Categorical), `rating` (Float32), `timestamp` (Int64, seconds since 1970).

    The format is told by the name of the file, before ``.gz`` or ``.zst``: ``.csv``, ``.tsv``, ``.dat``, ``.txt``
    (tabs), ``.json`` or ``.jsonl``. Only the four fields of a review are read. Lines without a header that have the
    item first, as those of 2018, are told by their ids; a sentence about it, and about times that are not in seconds,
    is added to `notes`.

    Raises
    ------
    DataFileError
        If the file is missing or cannot be read.
    DataFormatError
        If its format is unknown, a field is missing, a value is blank or not of its type, or times are of two units.
    EmptyDatasetError
        If the file is empty.
    """
    kind = suffix(path)
    found = [] if notes is None else notes
    file: DelimitedFile | None = None
    with readable(path):
        if kind in _JSON_SUFFIXES:
            scan = _reviews(path)
        elif kind in _SEPARATORS:
            file, scan = _lines(path, _SEPARATORS[kind], found)
        else:
            known = choices([*_SEPARATORS, *_JSON_SUFFIXES])
            raise DataFormatError(f"{path.name}: the format of {kind or 'no suffix'!r} is unknown. Known are {known}.")
    with named_json_line(path) if kind in _JSON_SUFFIXES else nullcontext():
        table = collect_typed(scan, _TYPES, path, found, categorical=("user", "item"))
    if file is not None:
        found += file.notes_of(table.height)
    return with_seconds(table, path, found)


def _reviews(path: Path) -> pl.LazyFrame:
    # A schema of every name that may occur: a field that a line lacks is null, and other fields are skipped.
    names = [name for role in _NAMES.values() for name in role]
    return scan_json_lines(path, names).select(
        "line", *(pl.coalesce(options).alias(role) for role, options in _NAMES.items())
    )


def _lines(path: Path, separator: str, notes: list[str]) -> tuple[DelimitedFile, pl.LazyFrame]:
    first = first_fields(path, separator)
    if not set(first) & {name for names in _NAMES.values() for name in names}:
        file, scan = scan_delimited(path, separator, tuple(_NAMES), quoted=separator == ",")
        with readable(path):
            head = scan.head(SAMPLE).select("user", "item").collect()
        if not ids_swapped(head):
            return file, scan
        notes.append(f"{path.name}: its lines have the item first, then the user, as the ratings files of 2018.")
        return file, scan.rename({"user": "item", "item": "user"})
    found = {role: next((name for name in names if name in first), None) for role, names in _NAMES.items()}
    for role, name in found.items():
        if name is None:
            raise DataFormatError(
                f"{path.name} has no column of the {role} ({', '.join(_NAMES[role])}). It has: {choices(first)}."
            )
    file, scan = scan_delimited(path, separator, quoted=separator == ",")
    return file, scan.select("line", *(pl.col(str(name)).alias(role) for role, name in found.items()))
