"""A cold-item split whose items are listed in a file, as published splits are.

Notation used for shapes: n items of the table.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl

from coldray.core.errors import ConfigError, DataFormatError, UnmatchedItemsError
from coldray.data.dataset import Dataset, Ids, IntArray
from coldray.data.sources.tabular import ids_table, refuse_repeated
from coldray.data.splits.items import Split, listed_item_split
from coldray.data.tables.files import is_csv, read_columns, table_columns
from coldray.data.tables.ids import of_one_type, read_ids

logger = logging.getLogger(__name__)

_PART = "part"
_PARTS = ("train", "validation", "test")


def item_file_split(dataset: Dataset, items: Path | None, only_users: Path | None = None, *, seed: int = 0) -> Split:
    """Return the split of the items by a table: those it does not list are train.

    Parameters
    ----------
    items
        A table (CSV with a header, or parquet) with the column ``part``, which says ``train``, ``validation`` or
        ``test``; the first of its other columns has the ids of the items. Items that the dataset does not have, or
        that nobody has clicked in it, are counted and left out.
    only_users
        A table whose first column has the ids of the users whose lists are measured; all of them unless given. Models
        are fitted on the clicks of all.
    seed
        What is drawn of the users where a study measures some of them.

    Raises
    ------
    ConfigError
        If no table of items is named.
    DataFileError
        If a file is missing or unreadable.
    DataFormatError
        If a column is missing, a part is none of the three, or an id is blank or listed twice.
    UnmatchedItemsError
        If none of the ids is of an item, or of a user, of the dataset.
    EmptyDatasetError
        If a part has no item with clicks.
    """
    if items is None:
        raise ConfigError("splits.items: the protocol 'item-file' reads the parts of items from a table. Name it.")
    ids, parts = read_id_table(items, with_part=True)
    wrong = ~parts.is_in(list(_PARTS)).fill_null(False)
    if wrong.any():
        raise DataFormatError(
            f"{items.name}, row {int(wrong.arg_max() or 0) + 1}: part is {parts.filter(wrong)[0]!r}, none of "
            f"{', '.join(_PARTS)} ({wrong.sum():,} such rows)."
        )
    places = known_places(ids, dataset.item_ids, items.name, "items")
    clicked = np.zeros(dataset.n_items + 1, bool)  # the last place, which -1 is, stands for what there is not
    clicked[dataset.clicked_items] = True
    usable = clicked[places]
    if left_out := int(np.sum(~usable)):
        logger.warning(
            "%s: %s of %s listed items are not in %s, or nobody has clicked them; they are left out of the split.",
            items.name, f"{left_out:,}", f"{len(places):,}", dataset.name,
        )  # fmt: skip
    named = parts.to_numpy()
    validation, test = (_ascending(places[usable & (named == part)]) for part in _PARTS[1:])
    train = np.setdiff1d(dataset.clicked_items, np.concatenate([validation, test])).astype(np.int32)
    users = None if only_users is None else _measured(dataset, only_users)
    return listed_item_split(dataset, train, validation, test, users=users, left_out=left_out, seed=seed)


def _measured(dataset: Dataset, path: Path) -> IntArray:
    ids, _ = read_id_table(path)
    places = known_places(ids, dataset.user_ids, path.name, "users")
    if unknown := int(np.sum(places < 0)):
        logger.warning("%s: %s of %s users are not in %s.", path.name, f"{unknown:,}", f"{len(ids):,}", dataset.name)
    return _ascending(places[places >= 0])


def read_id_table(path: Path, *, with_part: bool = False) -> tuple[pl.Series, pl.Series]:
    """Return the ids in the first column of a table, and its column ``part``, or nothing if that is not wanted.

    Raises
    ------
    DataFileError
        If the file is missing or unreadable.
    DataFormatError
        If a column is missing, or an id is blank or listed twice.
    """
    others = [name for name in table_columns(path, "csv") if name != _PART]
    if not others:
        raise DataFormatError(f"{path.name} has no column of ids besides {_PART!r}.")
    columns = {"id": others[0], **({_PART: _PART} if with_part else {})}
    rows = read_columns(path, columns, "csv", {"id": "id"}).rows
    notes: list[str] = []
    ids = read_ids(rows["id"], f"{path.name}, column {others[0]!r}", notes, untyped=is_csv(path, "csv"))
    refuse_repeated(ids.alias(others[0]).to_frame(), (others[0],), path.name)
    for note in notes:
        logger.warning("%s", note)
    return ids, rows[_PART] if with_part else pl.Series(dtype=pl.String)


def known_places(ids: pl.Series, known: Ids, file: str, what: str) -> IntArray:
    """Return the place of each id among those of a dataset, int32 ``[n]``; −1 where it is not among them.

    Raises
    ------
    UnmatchedItemsError
        If none is.
    """
    listed, ours = of_one_type(ids.rename("item"), ids_table(known)["item"])
    table = ours.to_frame().with_row_index("place")
    found = listed.to_frame().join(table, on="item", how="left", maintain_order="left")["place"]
    places = found.cast(pl.Int64).fill_null(-1).to_numpy().astype(np.int32)
    if not (places >= 0).any():
        raise UnmatchedItemsError(
            f"{file}: none of its {len(ids):,} ids is one of the {len(known):,} {what} of the dataset; they are such "
            f"as {', '.join(map(repr, ids.head(2).to_list()))} there and "
            f"{', '.join(map(repr, ours.head(2).to_list()))} here. Name the file that goes with the data."
        )
    return places


def _ascending(places: IntArray) -> IntArray:
    return np.sort(places).astype(np.int32)
