"""Texts of items from a table of their own: overviews, reviews, descriptions for a dataset that has none.

Notation used for shapes: I items.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import polars as pl

from coldray.data.dataset import Dataset, TextAttribute
from coldray.data.table_files import read_columns, table_columns
from coldray.data.tabular import as_item_ids, ids_table
from coldray.errors import DataFormatError
from coldray.spelling import choices

logger = logging.getLogger(__name__)

ITEM_COLUMN = "item_id"
MOST_TEXTS = 10
"""Texts of one column that an item may have; later rows of it are left out, and counted."""


def with_texts(dataset: Dataset, path: Path) -> Dataset:
    """Return the dataset with the texts of a table as attributes, in the order of its items.

    The table has the column ``item_id`` and a column for each kind of text. Where an item has several rows, such as
    one a review, the texts of a column are attributes of their own: ``review_1`` to ``review_10``. Blank texts are
    none. What fits no item, and the items that are left without any text, are counted in the provenance and logged.

    Parameters
    ----------
    path
        A parquet file, a folder of parquet files, or a CSV file with a header.

    Raises
    ------
    DataError
        If the file is missing or unreadable, has no text column, an id is null or of another type than the items', or
        the dataset has an attribute of that name.
    """
    columns = [name for name in table_columns(path) if name != ITEM_COLUMN]
    if not columns:
        raise DataFormatError(f"{path.name} has no column besides {ITEM_COLUMN!r}. Give each kind of text a column.")
    table = read_columns(path, {"item": ITEM_COLUMN, **{f"text {name}": name for name in columns}})
    known = ids_table(dataset.item_ids)
    ids = as_item_ids(table.get_column("item"), known.schema["item"], f"{path.name}, column {ITEM_COLUMN!r}")
    table = table.with_columns(ids)
    rows = table.join(known, on="item", how="semi", maintain_order="left")
    texts: dict[str, TextAttribute] = {}
    beyond = 0
    for name in columns:
        of_items = _texts(rows, f"text {name}", known)
        beyond += sum(max(0, len(found) - MOST_TEXTS) for found in of_items)
        most = min(max(map(len, of_items), default=0), MOST_TEXTS)
        for place in range(max(most, 1)):
            of_place = tuple(found[place] if place < len(found) else "" for found in of_items)
            texts[f"{name}_{place + 1}" if most > 1 else name] = TextAttribute(of_place)
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
        logger.warning(
            "%s: %s of %s items have no text, %s rows are of no item, and %s texts beyond %d of an item are left out.",
            *(path.name, f"{counts['items_without_texts']:,}", f"{dataset.n_items:,}"),
            *(f"{counts['texts_of_no_item']:,}", f"{beyond:,}", MOST_TEXTS),
        )
    provenance = {**dataset.provenance, "texts": path.name, **counts}
    return replace(dataset, attributes={**dataset.attributes, **texts}, provenance=provenance)


def _texts(rows: pl.DataFrame, column: str, known: pl.DataFrame) -> list[list[str]]:
    """Return the texts of each item that are not blank, in the order of the rows."""
    kept = rows.select("item", text=pl.col(column).cast(pl.String).str.strip_chars()).filter(pl.col("text") != "")
    grouped = kept.group_by("item", maintain_order=True).agg("text")
    found = known.join(grouped, on="item", how="left", maintain_order="left")["text"]
    return [list(texts) if texts is not None else [] for texts in found.to_list()]
