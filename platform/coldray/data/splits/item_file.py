"""A cold-item split whose items are listed in a file, as published splits are.

Notation used for shapes: n items of the table.
"""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import polars as pl

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, UnmatchedItemsError
from coldray.data.catalogue import alike_ids
from coldray.data.dataset import Dataset, Ids, IntArray
from coldray.data.sources.assembly import ids_table, refuse_repeated
from coldray.data.splits.items import Split, listed_item_split
from coldray.data.tables.column_types import Role
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
    places, parts = listed_places(items, dataset.item_ids, "items", with_part=True)
    wrong = ~parts.is_in(list(_PARTS)).fill_null(False)
    if wrong.any():
        raise DataFormatError(
            f"{items.name}, row {int(wrong.arg_max() or 0) + 1}: part is {parts.filter(wrong)[0]!r}, none of "
            f"{', '.join(_PARTS)} ({wrong.sum():,} such rows)."
        )
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
    places, _ = listed_places(path, dataset.user_ids, "users")
    if unknown := int(np.sum(places < 0)):
        logger.warning("%s: %s of %s users are not in %s.", path.name, f"{unknown:,}", f"{len(places):,}", dataset.name)
    return _ascending(places[places >= 0])


def listed_places(path: Path, known: Ids, what: str, *, with_part: bool = False) -> tuple[IntArray, pl.Series]:
    """Return the place of each id of a table as :func:`known_places`, and its column ``part`` if that is wanted.

    The ids are in the first column, or the first besides ``part``. What is to be known of the reading is logged.

    Raises
    ------
    DataFileError
        If the file is missing or unreadable.
    DataFormatError
        If a column is missing or of another type, an id is blank or listed twice, or there is no header.
    EmptyDatasetError
        If it has no rows.
    UnmatchedItemsError
        If no id is one of the `known` ones.
    """
    others = [name for name in table_columns(path, "csv", [_PART] if with_part else ()) if name != _PART]
    if not others:
        raise DataFormatError(f"{path.name} has no column of ids besides {_PART!r}.")
    if others[0] in known.astype(np.str_):
        raise DataFormatError(
            f"{path.name} has no header: its first line is {others[0]!r}, which is one of the {what}, not a name. "
            "Put a line with the name of the column first."
        )
    columns = {"id": others[0], **({_PART: _PART} if with_part else {})}
    roles: dict[str, Role] = {"id": "id", **({_PART: "text"} if with_part else {})}
    read = read_columns(path, columns, "csv", roles)
    if read.rows.is_empty():
        raise EmptyDatasetError(f"{path.name} has no rows. List the {what}, or leave the table out.")
    notes = list(read.notes)
    ids = read_ids(read.rows["id"], f"{path.name}, column {others[0]!r}", notes, untyped=is_csv(path, "csv"))
    refuse_repeated(ids.alias(others[0]).to_frame(), (others[0],), path.name)
    for note in notes:
        logger.warning("%s", note)
    parts = read.rows[_PART].cast(pl.String) if with_part else pl.Series(dtype=pl.String)
    return known_places(ids, known, path.name, what), parts


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
    if len(ids) and not (places >= 0).any():
        alike = alike_ids(ours, listed, what)
        raise UnmatchedItemsError(
            f"{file}: none of its {len(ids):,} ids is one of the {len(known):,} {what} of the dataset; they are such "
            f"as {', '.join(map(repr, ids.head(2).to_list()))} there and "
            f"{', '.join(map(repr, ours.head(2).to_list()))} here. "
            f"{alike or 'Name the file that goes with the data.'}"
        )
    return places


def _ascending(places: IntArray) -> IntArray:
    return np.sort(places).astype(np.int32)
