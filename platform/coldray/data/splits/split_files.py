"""Split files as GAR, ALDI and ColdRec share them: a table of clicks (``user``, ``item``) a part.

==========================  ==========================================================
``warm_train.csv``          train clicks, all on warm items; ``warm_emb.csv`` in GAR and ALDI, of which the first has
                            ``warm_map.csv`` beside it, which is train too
``warm_val.csv``            clicks on warm items that validate
``warm_test.csv``           clicks on warm items that are tested
``cold_item_val.csv``       clicks on the cold items that validate
``cold_item_test.csv``      clicks on the cold items that are tested
==========================  ==========================================================

Their ids are those of the dataset. What the files list and the data lack, and the other way round, is in no part.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import scipy.sparse as sp

from coldray.core.errors import DataFileError, DataFormatError, LeakageError, UnmatchedItemsError
from coldray.data.dataset import Dataset, IntArray, rows_of
from coldray.data.sources.assembly import refuse_repeated
from coldray.data.splits.item_file import known_places
from coldray.data.splits.parts import TEST, TRAIN, UNUSED, VALIDATION, Parts
from coldray.data.tables.files import is_csv, read_columns
from coldray.data.tables.ids import read_ids

logger = logging.getLogger(__name__)

_Pairs: TypeAlias = npt.NDArray[np.int64]
"""Places of stored interactions, or numbers of (user, item) pairs ``[n]``."""
_TRAIN = ("warm_train.csv", "warm_emb.csv", "warm_map.csv")
_HELD_OUT = {
    "warm_val.csv": VALIDATION,
    "warm_test.csv": TEST,
    "cold_item_val.csv": VALIDATION,
    "cold_item_test.csv": TEST,
}
LEFT_OUT = {
    "listed_clicks_left_out": "rows that are no clicks of the data",
    "warm_clicks_on_items_without_train_clicks": "held-out clicks on warm items without a train click",
    "unlisted_interactions": "clicks of the data that no split file lists",
}
"""What is in no part, in words, by the name of its count."""


def split_files(folder: Path) -> dict[Path, int]:
    """Return the split files of a folder, and the number of the part that each is of.

    Raises
    ------
    DataFileError
        If one is missing.
    """
    train = [folder / name for name in _TRAIN if (folder / name).exists()]
    absent = [name for name in _HELD_OUT if not (folder / name).exists()]
    if not train:
        absent.insert(0, " or ".join(_TRAIN[:2]))
    if absent:
        raise DataFileError(
            f"splits.folder: {folder} has no {', no '.join(absent)}. A split by files is five tables of the columns "
            f"user and item: {_TRAIN[0]}, {', '.join(_HELD_OUT)}."
        )
    return dict.fromkeys(train, TRAIN) | {folder / name: part for name, part in _HELD_OUT.items()}


def listed_parts(dataset: Dataset, folder: Path) -> tuple[Parts, dict[int, IntArray], dict[str, int]]:
    """Return the part of each interaction, the cold items of each part, and what is in none, by the reason.

    Raises
    ------
    DataFileError
        If a file is missing or unreadable.
    DataFormatError
        If a file lacks a column, has a pair twice, or looks as if its columns were swapped.
    LeakageError
        If a pair is in two files, or a cold item has a click in a file of warm ones or in two parts.
    UnmatchedItemsError
        If none of the ids of a file is of a user, or of an item, of the dataset, or none of its rows a click of it.
    """
    parts = np.full(dataset.interactions.nnz, UNUSED, np.uint8)
    owner = np.full(len(parts), -1, np.intp)
    files, unmatched, cold = split_files(folder), 0, dict[int, IntArray]()
    taken = np.zeros(dataset.n_items, np.bool_)
    items = dataset.interactions.indices
    for number, (path, part) in enumerate(files.items()):
        found, lacking = _interactions_of(dataset, path)
        unmatched += lacking
        _refuse_shared(dataset, found, owner, [one.name for one in files], path.name)
        parts[found], owner[found] = part, number
        if path.name.startswith("warm"):
            taken[items[found]] = True
        else:
            cold[part] = np.unique(items[found]).astype(np.int32)
            _refuse_known(dataset, cold[part], taken, path.name)
            taken[cold[part]] = True  # nor may an item be cold in both parts
    learnt = np.zeros(dataset.n_items, np.bool_)
    learnt[items[parts == TRAIN]] = True
    learnt[np.concatenate([*cold.values()])] = True
    unlearnt = ~learnt[items] & (parts != UNUSED)
    parts[unlearnt] = UNUSED
    left_out = {
        "listed_clicks_left_out": unmatched,
        "warm_clicks_on_items_without_train_clicks": int(unlearnt.sum()),
        "unlisted_interactions": int((owner < 0).sum()),
    }
    for name, count in left_out.items():
        if count:
            logger.warning("%s: %s %s are left out of the split.", folder.name, f"{count:,}", LEFT_OUT[name])
    return parts, cold, left_out


def _interactions_of(dataset: Dataset, path: Path) -> tuple[_Pairs, int]:
    """Return the places of the stored interactions that a file lists, and how many of its rows are none."""
    read = read_columns(path, {"user": "user", "item": "item"}, "csv", {"user": "id", "item": "id"})
    rows, notes = read.rows, list(read.notes)
    ids = [
        read_ids(rows[name], f"{path.name}, column {name!r}", notes, untyped=is_csv(path, "csv")).alias(name)
        for name in ("user", "item")
    ]
    for note in notes:
        logger.warning("%s", note)
    refuse_repeated(pl.DataFrame(ids), ("user", "item"), path.name)
    if rows.is_empty():
        return np.zeros(0, np.int64), 0
    users, items = ids
    found = _stored(dataset, users, items, path.name)
    matched: _Pairs = found[found >= 0]
    if 2 * len(matched) < len(found) and _swapped(dataset, users, items, len(matched)):
        raise DataFormatError(
            f"{path.name}: {len(matched):,} of its {len(found):,} rows are clicks of {dataset.name!r}, and more would "
            "be if its columns user and item were swapped. Name them the other way round."
        )
    if not len(matched):
        raise UnmatchedItemsError(
            f"{path.name}: none of its {len(found):,} rows is a click of {dataset.name!r}, though users and items "
            "have such ids. Name the files that go with the data."
        )
    return matched, len(found) - len(matched)


def _stored(dataset: Dataset, users: pl.Series, items: pl.Series, file: str) -> _Pairs:
    """Return the place of each pair among the stored interactions, int64 ``[n]``; −1 where it is none of them."""
    rows = known_places(users, dataset.user_ids, file, "users").astype(np.int64)
    columns = known_places(items, dataset.item_ids, file, "items").astype(np.int64)
    known = (rows >= 0) & (columns >= 0)
    pairs, stored = rows * dataset.n_items + columns, _numbers(dataset.interactions)
    places = np.searchsorted(stored, pairs)
    places[places == len(stored)] = 0
    found: _Pairs = np.where(known & (stored[places] == pairs), places, -1)
    return found


def _numbers(clicks: sp.csr_array) -> _Pairs:
    """Return a number for each stored pair, ascending."""
    numbers: _Pairs = rows_of(clicks).astype(np.int64) * clicks.shape[1] + clicks.indices
    return numbers


def _swapped(dataset: Dataset, users: pl.Series, items: pl.Series, matched: int) -> bool:
    """Tell whether more rows are clicks if the columns are taken the other way round."""
    try:
        found = _stored(dataset, items, users, "")
    except UnmatchedItemsError:
        return False
    return int((found >= 0).sum()) > matched


def _refuse_shared(dataset: Dataset, found: _Pairs, owner: npt.NDArray[np.intp], names: list[str], file: str) -> None:
    shared = found[owner[found] >= 0]
    if len(shared):
        place = int(shared.min())
        user = dataset.user_ids[rows_of(dataset.interactions)[place]].item()
        item = dataset.item_ids[dataset.interactions.indices[place]].item()
        raise LeakageError(
            f"{len(shared):,} (user, item) pairs of {file} are in another split file, too; the first, user {user!r} "
            f"and item {item!r}, is in {names[int(owner[place])]}. Keep each pair in one file."
        )


def _refuse_known(dataset: Dataset, cold: IntArray, taken: npt.NDArray[np.bool_], file: str) -> None:
    known = cold[taken[cold]]
    if len(known):
        raise LeakageError(
            f"{file}: {len(known):,} of its {len(cold):,} cold items have a click in a file of warm items, or of the "
            f"cold ones of another part; the first is item {dataset.item_ids[known[0]].item()!r}. An item is warm, or "
            "cold in one part."
        )
