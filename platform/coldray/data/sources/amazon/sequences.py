"""Reader of the sequences of Amazon Beauty that the literature on the next item compares models on.

``Beauty.txt`` has a line a user, divided by blanks: the user's number, then the items in the order of time. When each
was bought is not published. ``Beauty_item2attributes.json`` lists the numbers of categories and brand of each item;
what they are called is not published.

Source: McAuley, Targett, Shi and van den Hengel, *Image-based Recommendations on Styles and Substitutes*, SIGIR 2015;
these files: Zhou et al., *S³-Rec: Self-Supervised Learning for Sequential Recommendation with Mutual Information
Maximization*, CIKM 2020.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import assemble, label_attribute, refuse_repeated
from coldray.data.tables.archive import DataFiles, parse_numbers

NAME = "amazon-beauty-sequences"
SEQUENCE_FILE = "Beauty.txt"
_ATTRIBUTE_FILE = "Beauty_item2attributes.json"
_ATTRIBUTE = "attributes"


def read_sequences(path: Path) -> Dataset:
    """Read the dataset of sequences.

    Of an item that a line names several times the last place counts, and how many these are is noted. Timestamps are
    places: 1 for the first item of a user, 2 for the second, so that they tell what a user bought before what, and
    nothing of different users.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If an id is no whole number, a user has two lines, or the attributes are not lists of numbers by item.
    EmptyDatasetError
        If no line names an item.
    """
    files = DataFiles(path, "sequences of Amazon Beauty")
    pairs, (labels, items) = _sequences(files), _labels(files)
    files.notes.append(
        f"{SEQUENCE_FILE} has no times: timestamps are places among the items of a user, 1 the first, and do not order "
        "those of different users. Split by leave-last or per-user-temporal, not by temporal."
    )
    provenance: dict[str, Any] = {"source": NAME, "interactions": SEQUENCE_FILE, "notes": files.notes}

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        return {_ATTRIBUTE: label_attribute(labels, item_ids)}

    return assemble(
        pairs,
        attributes,
        name=NAME,
        file=SEQUENCE_FILE,
        default_attributes=(_ATTRIBUTE,),
        provenance=provenance,
        catalogue=Catalogue(items, _ATTRIBUTE_FILE),
    )


def _sequences(files: DataFiles) -> pl.DataFrame:
    """Return a row an item of a line: `user`, `item` and the `timestamp`, its place."""
    lines = files.rows(SEQUENCE_FILE, "\n", ("text",)).select("line", fields=pl.col("text").str.extract_all(r"\S+"))
    users = lines.select("line", user=pl.col("fields").list.first())
    numbered = lines.select("line", user=parse_numbers(users, "user", pl.Int64(), SEQUENCE_FILE), fields="fields")
    refuse_repeated(numbered, ("user",), SEQUENCE_FILE)
    items = numbered.select("line", "user", item=pl.col("fields").list.slice(1))
    if nothing := items.filter(pl.col("item").list.len() == 0).height:
        files.notes.append(f"{SEQUENCE_FILE}: {nothing:,} users have no item and are left out.")
    listed = items.filter(pl.col("item").list.len() > 0).explode("item")
    events = listed.select("user", item=parse_numbers(listed, "item", pl.Int64(), SEQUENCE_FILE))
    places = pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("user")
    pairs = events.with_columns(timestamp=places).unique(("user", "item"), keep="last", maintain_order=True)
    if repeated := events.height - pairs.height:
        files.notes.append(
            f"{SEQUENCE_FILE}: {repeated:,} items stand in a line again; the last place of an item counts."
        )
    return pairs


def _labels(files: DataFiles) -> tuple[pl.DataFrame, pl.Series]:
    """Return a row (`item`, `label`) an attribute of an item, and all items that are described."""
    content = files.content(_ATTRIBUTE_FILE)
    if content is None:
        raise DataFileError(
            f"{files.path} has no {_ATTRIBUTE_FILE}. Name the folder that holds the {files.layout} files, or their "
            ".zip, by --data-dir."
        )
    try:
        found = json.loads(content)
    except ValueError as error:
        raise DataFormatError(f"{_ATTRIBUTE_FILE} in {files.path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataFormatError(f"{_ATTRIBUTE_FILE} is a {type(found).__name__}, not lists of attributes by item.")
    for item, numbers in found.items():
        if not (item.isdecimal() and isinstance(numbers, list) and all(type(number) is int for number in numbers)):
            raise DataFormatError(
                f"{_ATTRIBUTE_FILE}: {item!r} has {numbers!r:.60}, not a list of whole numbers by that of an item."
            )
    rows = [(int(item), str(number)) for item, numbers in found.items() for number in numbers]
    items = pl.Series("item", [int(item) for item in found], pl.Int64)
    return pl.DataFrame(rows, schema={"item": pl.Int64, "label": pl.String}, orient="row"), items
