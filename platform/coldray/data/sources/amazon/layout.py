"""Reader of Amazon reviews in the 5-core layout: a parquet file for each part of each category.

The files are ``<CATEGORY>.5core.{train,valid,test}[.<size>].parquet`` with the columns `user_id`, `parent_asin`,
`rating` and `timestamp`; a ``/`` in the name of a category is written ``-``. Beside them may lie what is known of the
products, ``meta_<CATEGORY>.jsonl`` (:mod:`~coldray.data.sources.amazon.metadata`).
:func:`coldray.data.sources.amazon.core.write_five_core` makes them from raw ratings.

Source: Hou et al., *Bridging Language and Items for Retrieval and Recommendation* (Amazon Reviews 2023), 2024.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.core.spelling import choices, nearest
from coldray.data.catalogue import MATCHES, Catalogue, match_items
from coldray.data.sources.amazon.metadata import ATTRIBUTES, Metadata, metadata_path, read_metadata
from coldray.data.splits.published import Part, PredefinedSplit, assemble_split
from coldray.data.tables.files import require_columns
from coldray.data.tables.streaming import collect_typed, readable, with_seconds

logger = logging.getLogger(__name__)

_FILE_PARTS: dict[Part, str] = {"train": "train", "validation": "valid", "test": "test"}
COLUMNS = {"user_id": "user", "parent_asin": "item", "rating": "rating", "timestamp": "timestamp"}
"""Columns of the files, and what they are called here."""
_TYPES = {"user_id": pl.String(), "parent_asin": pl.String(), "rating": pl.Float32(), "timestamp": pl.Int64()}
LOWEST, HIGHEST = 1.0, 5.0
"""Stars are from 1 to 5."""
_FILE_NAME = re.compile(r"(?P<category>.+)\.5core\.(?P<part>train|valid|test)(\.(?P<size>[^.]+))?\.parquet")


def file_stem(category: str) -> str:
    """Return the name of a category as files have it: without the ``/``."""
    return category.replace("/", "-")


def part_path(folder: Path, category: str, part: Part, size: str | None = None) -> Path:
    """Return the path of the file of a part of a category."""
    suffix = "" if size is None else f".{size}"
    return folder / f"{file_stem(category)}.5core.{_FILE_PARTS[part]}{suffix}.parquet"


def amazon_categories(folder: Path, size: str | None = None) -> tuple[str, ...]:
    """Return the categories that a folder has files of, as the file names write them, ascending."""
    matches = [_FILE_NAME.fullmatch(path.name) for path in folder.iterdir()]
    return tuple(sorted({match["category"] for match in matches if match is not None and match["size"] == size}))


def read_amazon(folder: Path, category: str, *, size: str | None = None, strict: bool = False) -> PredefinedSplit:
    """Read a category: its interactions with ratings and times (seconds since 1970), and the part of each.

    Products have attributes where the folder has their metadata; those of other products are counted and left out. Ids
    are text. Times in milliseconds become seconds, which is noted. Ratings beyond 1 to 5 are clipped, warned of and
    counted in ``provenance["ratings_clipped"]``. Users and items without a train interaction are warned of and counted.

    Parameters
    ----------
    size
        The ``<size>`` in the names of the files; None for those without one.
    strict
        Whether a rating beyond 1 to 5 is an error.

    Raises
    ------
    DataFileError
        If the file of a part is missing or cannot be read.
    DataFormatError
        If a column is missing, a value is blank or not of its type, a pair is repeated, or, under `strict`, a rating is
        beyond its limits.
    LeakageError
        If a pair is in two parts.
    UnmatchedItemsError
        If there are metadata, and of none of the products.
    EmptyDatasetError
        If the train or the test part is empty.
    """
    paths = _paths(folder, category, size)
    parts: dict[Part, pl.DataFrame] = {}
    notes: list[str] = []
    clipped = 0
    for part, path in paths.items():
        table = _interactions(path, notes)
        parts[part], beyond = clip_ratings(table, path.name, strict=strict)
        clipped += beyond
    if clipped:
        notes.append(f"{clipped:,} ratings beyond {LOWEST:g} to {HIGHEST:g} are clipped.")
    provenance: dict[str, Any] = {
        "source": "amazon",
        "category": category,
        "files": [path.name for path in paths.values()],
        "ratings": sum(table.height for table in parts.values()),
        "ratings_clipped": clipped,
        "notes": notes,
    }
    metadata = _metadata(folder, category, parts, provenance)
    return assemble_split(
        parts,
        metadata.attributes if metadata is not None else lambda _: {},
        name=f"amazon {category}",
        split=category,
        file=f"{file_stem(category)}.5core",
        default_attributes=ATTRIBUTES if metadata is not None else (),
        provenance=provenance,
    )


def _metadata(
    folder: Path, category: str, parts: Mapping[Part, pl.DataFrame], provenance: dict[str, Any]
) -> Metadata | None:
    """Return what is known of the products, and say in the provenance of how many; None if nothing is."""
    path = metadata_path(folder, file_stem(category))
    if path is None:
        return None
    clicked = pl.concat([table.select("item") for table in parts.values()]).group_by("item").len("clicks")
    metadata = read_metadata(path, set(clicked["item"]))
    match = match_items(clicked, Catalogue(metadata.ids, path.name), f"{file_stem(category)}.5core")
    notes = [*provenance["notes"], *metadata.notes]
    provenance |= match.noted({**provenance, "metadata_file": path.name, "notes": notes}, MATCHES[0])
    return metadata


def clip_ratings(table: pl.DataFrame, file: str, *, strict: bool) -> tuple[pl.DataFrame, int]:
    """Return `table` with its column `rating` clipped to 1 to 5, and how many ratings were beyond.

    They are warned of; under `strict` they are a DataFormatError.
    """
    ratings = table.get_column("rating")
    beyond = ~ratings.is_between(LOWEST, HIGHEST)
    count = int(beyond.sum())
    if not count:
        return table, 0
    problem = (
        f"{file}: {count:,} ratings are beyond {LOWEST:g} to {HIGHEST:g}; the first is {ratings.filter(beyond)[0]:g}"
    )
    if strict:
        raise DataFormatError(f"{problem}. Correct them, or read without `strict` to have them clipped.")
    logger.warning("%s. They are clipped.", problem)
    return table.with_columns(ratings.clip(LOWEST, HIGHEST)), count


def _paths(folder: Path, category: str, size: str | None) -> dict[Part, Path]:
    paths = {part: part_path(folder, category, part, size) for part in _FILE_PARTS}
    absent = [path.name for path in paths.values() if not path.is_file()]
    if not absent:
        return paths
    if len(absent) < len(paths):
        raise DataFileError(
            f"{folder} has no {' and no '.join(absent)}: the category {category!r} lacks a part. Put it there, or make "
            "all three anew from the raw ratings."
        )
    matches = [_FILE_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    found = {match["category"] for match in matches if match is not None}
    sizes = {match["size"] or "none" for match in matches if match and match["category"] == file_stem(category)}
    there = (
        f"Its files are of size {choices(sizes)}." if sizes else f"{nearest(category, found)} It has: {choices(found)}."
    )
    raise DataFileError(f"{folder} has no {paths['train'].name} of category {category!r}. {there.strip()}")


def _interactions(path: Path, notes: list[str]) -> pl.DataFrame:
    with readable(path):
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        require_columns(scan.collect_schema().names(), COLUMNS, path.name)
    schema = scan.collect_schema()
    for column, dtype in _TYPES.items():
        if dtype.is_numeric() and not (schema[column].is_numeric() or schema[column].is_temporal()):
            raise DataFormatError(f"{path.name}: column {column!r} holds {schema[column]}; it must hold numbers.")
    if schema["timestamp"].is_temporal():
        scan = scan.with_columns(pl.col("timestamp").dt.epoch("s"))
    table = collect_typed(scan.with_row_index("line", offset=1), _TYPES, path, notes)
    return with_seconds(table.rename(COLUMNS), path, notes)
