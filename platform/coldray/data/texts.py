"""Texts of items from a table of their own: overviews, reviews, descriptions for a dataset that has none.

Notation used for shapes: I items.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import scipy.sparse as sp

from coldray.core.errors import DataFormatError
from coldray.core.spelling import choices
from coldray.data.catalogue import Catalogue, match_items
from coldray.data.dataset import Dataset, TextAttribute
from coldray.data.sources.assembly import ascending, ids_table, positions
from coldray.data.tables.column_types import Role
from coldray.data.tables.files import is_csv, read_columns, table_columns
from coldray.data.tables.ids import of_one_type, read_ids

logger = logging.getLogger(__name__)

_ITEM_COLUMN = "item_id"
MOST_TEXTS = 10
"""Texts of one column that an item may have; later rows of it are left out, and counted."""


def with_texts(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset with the texts of a table as attributes, in the order of its items.

    The table has the column ``item_id`` and a column for each kind of text. Where an item has several rows, such as
    one a review, the texts of a column are attributes of their own: ``review_1`` to ``review_10``. Blank texts are
    none. Of a dataset that nothing else is known of the items of, such as ``amazon``, the table is the catalogue: its
    items that nobody has clicked become items of the dataset. What fits no item, and the items that are left without
    any text, are counted in the provenance and logged.

    Parameters
    ----------
    path
        A parquet file, a folder of parquet files, or a CSV file with a header.

    Raises
    ------
    DataError
        If the file is missing or unreadable, has no text column, an id is null, no row is of a clicked item, or the
        dataset has an attribute of that name.
    """
    columns = [name for name in table_columns(path, wanted=(_ITEM_COLUMN,)) if name != _ITEM_COLUMN]
    if not columns:
        raise DataFormatError(f"{path.name} has no column besides {_ITEM_COLUMN!r}. Give each kind of text a column.")
    roles: dict[str, Role] = {"item": "id", **{f"text {name}": "text" for name in columns}}
    read = read_columns(path, {"item": _ITEM_COLUMN, **{f"text {name}": name for name in columns}}, roles=roles)
    source, notes = f"{path.name}, column {_ITEM_COLUMN!r}", list(read.notes)
    ids = read_ids(read.rows.get_column("item"), source, notes, untyped=is_csv(path, "parquet"))
    dataset, known, ids = matched_items(dataset, ids, path.name, "texts_match")
    table = read.rows.with_columns(ids.alias("item"))
    rows = table.join(known, on="item", how="semi", maintain_order="left")
    texts: dict[str, TextAttribute] = {}
    beyond = 0
    for name in columns:
        found, left_out = numbered_texts(rows.select("item", text=f"text {name}"), name, known)
        texts, beyond = texts | found, beyond + left_out
    if taken := sorted(texts.keys() & dataset.attributes.keys()):
        raise DataFormatError(
            f"{path.name} has a column for {choices(taken)}, and so has {dataset.name!r} itself. Rename the column."
        )
    counts = {
        "texts_of_no_item": table.height - rows.height,
        "texts_beyond_those_kept": beyond,
        "items_without_texts": sum(
            not any(parts) for parts in zip(*(text.texts for text in texts.values()), strict=True)
        ),
    }
    if any(counts.values()):
        notes.append(
            f"{path.name}: {counts['items_without_texts']:,} of {dataset.n_items:,} items have no text, "
            f"{counts['texts_of_no_item']:,} rows are of no item, and {beyond:,} texts beyond {MOST_TEXTS} of an item "
            "are left out."
        )
        logger.warning("%s", notes[-1])
    provenance = {**dataset.provenance, "texts": path.name, **counts, "notes": [*dataset.notes, *notes]}
    return replace(dataset, attributes={**dataset.attributes, **texts}, provenance=provenance)


def matched_items(
    dataset: Dataset, ids: pl.Series, file: str, match_name: str
) -> tuple[Dataset, pl.DataFrame, pl.Series]:
    """Return the dataset, with the items that only the table has if it is the catalogue, its ids and those of the rows.

    The ids are in one type, and those of the items a table of the column `item` in their order. How the file fits the
    clicks is in the provenance under `match_name`.

    Raises
    ------
    UnmatchedItemsError
        If none of its ids is of a clicked item.
    """
    known, ids = of_one_type(ids_table(dataset.item_ids)["item"], ids.rename("item"))
    clicks = np.bincount(dataset.interactions.indices, minlength=dataset.n_items)
    clicked = pl.DataFrame({"item": known, "clicks": clicks}).filter(pl.col("clicks") > 0)
    match = match_items(clicked, Catalogue(ids.unique(), file), dataset.name)
    dataset = replace(dataset, provenance=match.noted(dataset.provenance, match_name))
    if dataset.attributes or "catalogue" in dataset.provenance:
        return dataset, known.to_frame(), ids
    dataset = _with_items(dataset, known, ids)
    return dataset, ids_table(dataset.item_ids, ids.dtype), ids


def _with_items(dataset: Dataset, known: pl.Series, ids: pl.Series) -> Dataset:
    """Return a dataset without attributes whose items are `known`, in their order, with those of `ids` beside them."""
    item_ids = ascending(pl.concat([known, ids]))
    columns, shape = positions(known, item_ids), (dataset.n_users, len(item_ids))

    def moved(matrix: sp.csr_array) -> sp.csr_array:
        return sp.csr_array((matrix.data, columns[matrix.indices], matrix.indptr), shape=shape).sorted_indices()

    return dataset.with_pairs(moved, item_ids=item_ids)


def numbered_texts(rows: pl.DataFrame, name: str, known: pl.DataFrame) -> tuple[dict[str, TextAttribute], int]:
    """Return the texts of items as attributes, and how many are left out beyond :data:`MOST_TEXTS` of an item.

    The first text of each item that is not blank, in the order of the rows, is ``NAME_1``, the next ``NAME_2``; where
    no item has several, there is one attribute, ``NAME``.

    Parameters
    ----------
    rows
        A row a text: `item` and `text`.
    known
        The items, `item`, in the order of the dataset.
    """
    kept = rows.select("item", text=pl.col("text").cast(pl.String).str.strip_chars()).filter(pl.col("text") != "")
    grouped = kept.group_by("item", maintain_order=True).agg("text")
    lists = known.join(grouped, on="item", how="left", maintain_order="left")["text"]
    of_items = [list(texts) if texts is not None else [] for texts in lists.to_list()]
    beyond = sum(max(0, len(found) - MOST_TEXTS) for found in of_items)
    most = max(1, min(max(map(len, of_items), default=0), MOST_TEXTS))
    places = {f"{name}_{place + 1}" if most > 1 else name: place for place in range(most)}
    texts = {
        named: TextAttribute(tuple(found[place] if place < len(found) else "" for found in of_items))
        for named, place in places.items()
    }
    return texts, beyond
