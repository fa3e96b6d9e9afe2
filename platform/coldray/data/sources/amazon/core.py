"""Raw Amazon ratings → the 5-core layout: the k-core of users and items, split by time, a parquet file a part.

Source: Hou et al., *Bridging Language and Items for Retrieval and Recommendation* (Amazon Reviews 2023), 2024: 5-core
filtering, then the last or the latest interactions held out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.core.files import replacing
from coldray.data.filters import k_core
from coldray.data.sources.amazon.layout import COLUMNS, clip_ratings, part_path
from coldray.data.sources.amazon.raw import read_raw_ratings
from coldray.data.splits.published import PARTS, Part
from coldray.data.tables.swapped import swapped_note


class FiveCoreConfig(BaseModel):
    """What is kept of the ratings, and how they are split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    core: PositiveInt = 5
    """Least interactions of every user and item, counted again and again until none has fewer."""
    split: Literal["leave-last", "temporal"] = "leave-last"
    """``leave-last``: of each user the last interaction is test and the one before it validation. ``temporal``: the
    latest of all interactions are test, those before them validation."""
    validation_share: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the interactions that ``temporal`` validates on; ties in time may move it a little."""
    test_share: float = Field(default=0.1, gt=0.0, lt=1.0)
    """Share of the interactions that ``temporal`` tests on."""
    strict: bool = False
    """Whether a rating beyond 1 to 5 is an error; else it is clipped and counted."""

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.validation_share + self.test_share >= 1.0:
            raise ConfigError(
                f"validation_share={self.validation_share:g} and test_share={self.test_share:g} leave nothing to train "
                "on; their sum must be below 1."
            )
        if self.split == "leave-last" and self.core < len(PARTS):
            raise ConfigError(
                f"core={self.core} lets users have too few interactions for leave-last, which takes two of each. Set "
                f"it to {len(PARTS)} or more."
            )
        return self


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _FiveCoreReport:
    """What became of the raw ratings."""

    files: Mapping[Part, Path]
    """The file of each part."""
    ratings_read: int
    ratings_clipped: int
    """Ratings beyond 1 to 5."""
    ratings_repeated: int
    """Ratings left out because their user rated the item again later."""
    ratings_outside_core: int
    """Ratings left out with a user or an item that has too few."""
    users: int
    items: int
    parts: Mapping[Part, int]
    """Interactions of each part; with the three counts above they add up to `ratings_read`, clipped ones apart."""
    notes: tuple[str, ...] = ()
    """What is to be known of how the raw ratings were read, a sentence each."""


def write_five_core(
    raw: Path, folder: Path, category: str, config: FiveCoreConfig | None = None, *, size: str | None = None
) -> _FiveCoreReport:
    """Write the three parquet files of a category from its raw ratings; complete or not at all.

    Of a user's ratings of one item the latest is kept, of equally late ones the highest. Interactions of one time are
    ordered by item id. Rows are written by user, then time.

    Parameters
    ----------
    raw
        A file that :func:`~coldray.data.sources.amazon.raw.read_raw_ratings` reads.
    folder
        Where the files go; made if absent. Earlier files of the category are replaced.
    size
        The ``<size>`` in the names of the files, if any.

    Raises
    ------
    DataFileError, DataFormatError
        If the raw ratings cannot be read, or, under ``strict``, one is beyond 1 to 5.
    EmptyDatasetError
        If the core is empty, or the split leaves a part empty.
    OutputError
        If the files cannot be written.
    """
    config = config or FiveCoreConfig()
    notes: list[str] = []
    table, clipped = clip_ratings(read_raw_ratings(raw, notes), raw.name, strict=config.strict)
    if not (read := table.height):
        raise EmptyDatasetError(f"{raw.name} has no ratings: nothing to learn from.")
    coded = _coded(table)
    del table
    if swapped := swapped_note(coded, raw.name):
        notes.append(swapped)
    for note in notes:
        logger.warning("%s", note)
    latest = _latest(coded)
    core = _core(latest, config.core, raw.name)
    parts = core.with_columns(part=_parts(core, config))
    counts = dict(zip(PARTS, np.bincount(parts["part"].to_numpy(), minlength=len(PARTS)).tolist(), strict=True))
    if empty := [part for part in PARTS if counts[part] == 0]:
        raise EmptyDatasetError(
            f"{raw.name}: the {config.split} split of {core.height:,} interactions leaves the {empty[0]} part empty. "
            "Use another split, or other shares."
        )
    files = {part: part_path(folder, category, part, size) for part in PARTS}
    _write(parts, files)
    return _FiveCoreReport(
        files=files,
        ratings_read=read,
        ratings_clipped=clipped,
        ratings_repeated=read - latest.height,
        ratings_outside_core=latest.height - core.height,
        users=core["user"].n_unique(),
        items=core["item"].n_unique(),
        parts=counts,
        notes=tuple(notes),
    )


def _coded(table: pl.DataFrame) -> pl.DataFrame:
    """Return `table` with its ids as Enum: a number a row, in the order of the ids, so that nothing hangs on chance."""
    ids = {column: table.get_column(column).unique().cast(pl.String).sort() for column in ("user", "item")}
    return table.with_columns(pl.col(column).cast(pl.Enum(values)) for column, values in ids.items())


def _latest(table: pl.DataFrame) -> pl.DataFrame:
    """Return the latest rating of each pair, ordered by user, time and item."""
    user, item = _codes(table, "user"), _codes(table, "item")
    order = np.lexsort((table["rating"].to_numpy(), table["timestamp"].to_numpy(), item, user))
    user, item = user[order], item[order]
    last = np.append((user[1:] != user[:-1]) | (item[1:] != item[:-1]), True)
    kept = order[last]
    return table.select(
        pl.all().gather(kept[np.lexsort((item[last], table["timestamp"].to_numpy()[kept], user[last]))])
    )


def _core(table: pl.DataFrame, least: int, file: str) -> pl.DataFrame:
    user, item = _codes(table, "user"), _codes(table, "item")
    clicks = sp.csr_array((np.ones(len(user), np.bool_), (user, item)))
    users, items = k_core(clicks, min_row=least, min_column=least)
    core = table.filter(pl.Series(users[user] & items[item]))
    if core.is_empty():
        raise EmptyDatasetError(
            f"{file}: its {table.height:,} ratings have no {least}-core: no user and item are left with {least} "
            "interactions. Use a smaller core or more data."
        )
    return core


def _parts(table: pl.DataFrame, config: FiveCoreConfig) -> npt.NDArray[np.uint8]:
    """Return the number of the part of each row of a table that is ordered by user and time."""
    if config.split == "leave-last":
        user = _codes(table, "user")
        _, counts = np.unique(user, return_counts=True)
        later = np.repeat(np.cumsum(counts), counts) - np.arange(len(user)) - 1  # interactions after it of its user
        numbers: npt.NDArray[np.int64] = np.maximum(2 - later, 0)
        return numbers.astype(np.uint8)
    times = table["timestamp"].to_numpy()
    ordered, n = np.sort(times), len(times)
    first_validation = ordered[int(n * (1.0 - config.validation_share - config.test_share))]
    first_test = ordered[int(n * (1.0 - config.test_share))]
    # All interactions of one time are in one part, so that none of a later part is as early as one of an earlier.
    in_part: npt.NDArray[np.uint8] = np.add(times >= first_validation, times >= first_test, dtype=np.uint8)
    return in_part


def _write(table: pl.DataFrame, files: Mapping[Part, Path]) -> None:
    named = table.lazy().rename({new: name for name, new in COLUMNS.items()})
    named = named.with_columns(pl.col("user_id", "parent_asin").cast(pl.String))
    with ExitStack() as stack:  # no file takes its name before all are written
        for number, part in enumerate(PARTS):
            target = stack.enter_context(replacing(files[part]))
            named.filter(pl.col("part") == number).drop("part").sink_parquet(target)


def _codes(table: pl.DataFrame, column: str) -> npt.NDArray[Any]:
    return table.get_column(column).to_physical().to_numpy()
