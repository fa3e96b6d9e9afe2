"""Reader of Coat: what people think of coats that they chose themselves, and of coats drawn for them.

Users and coats are known by their places, from 0. ``train.ascii`` and ``test.ascii`` have a line a user and a number a
coat, divided by blanks: the rating from 1 to 5, or 0 for none. In train are 24 coats that the user chose to rate, in
test 16 that were drawn at random. ``user_features.ascii`` and ``item_features.ascii`` have a line a user, or coat, of
zeros and ones, and ``*_features_map.txt`` names their columns ``attribute:label``.

Source: Schnabel, Swaminathan, Singh, Chandak and Joachims, *Recommendations as Treatments: Debiasing Learning and
Evaluation*, ICML 2016.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import Described, Profiles, label_attribute
from coldray.data.splits.published import PredefinedSplit, assemble_split
from coldray.data.tables.archive import DataFiles, parse_numbers, refuse_values

NAME = "coat"
TRAIN_FILE = "train.ascii"
_TEST_FILE = "test.ascii"
_USERS, _ITEMS = "user_features", "item_features"
_DEFAULT_ATTRIBUTES = ("gender", "jackettype", "color")
"""What a coat is. ``onfrontpage`` is what the shop made of it."""
_SPLIT = "random"
"""Of the published parts, the second was drawn at random."""


def read_coat(path: Path) -> Dataset:
    """Read the dataset Coat: the ratings of both parts, and what is known of users and coats.

    Users have a gender, an age (of six ranges, as labels), a place to live and an interest in fashion; coats a gender,
    a type, a colour, and whether they were on the front page.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a file has another number of lines or columns than the others say, or a value that is none.
    EmptyDatasetError
        If nobody rated anything.
    """
    return read_coat_split(path).dataset


def read_coat_split(path: Path) -> PredefinedSplit:
    """Read the split that Coat was published with: train as chosen by users, test as drawn at random.

    A coat that a user chose and that was drawn for them as well is of the train part alone: no model is tested on what
    it was fitted on. How many these are is noted.

    Raises
    ------
    DataFileError, DataFormatError
        As :func:`read_coat`.
    EmptyDatasetError
        If one of the parts is empty.
    """
    files = DataFiles(path, "Coat")
    items, n_items = _labels(files, _ITEMS)
    users, n_users = _labels(files, _USERS)
    train, test = (_ratings(files, name, n_users, n_items) for name in (TRAIN_FILE, _TEST_FILE))
    drawn = test.join(train, on=["user", "item"], how="anti", maintain_order="left")
    note = (
        f"{_TEST_FILE}: {test.height - drawn.height:,} of {test.height:,} ratings are of coats that the user has rated "
        f"in {TRAIN_FILE} as well; these are left out, and of the train part."
    )
    provenance: dict[str, Any] = {
        "source": NAME, "ratings_file": f"{TRAIN_FILE}, {_TEST_FILE}", "ratings": train.height + drawn.height,
        "notes": [*files.notes, note],
    }  # fmt: skip

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        return {name: label_attribute(edges, item_ids) for name, edges in items.items()}

    return assemble_split(
        {"train": train, "test": drawn},
        attributes,
        name=NAME,
        split=_SPLIT,
        file=f"{TRAIN_FILE} with {_TEST_FILE}",
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(pl.Series("item", range(n_items), pl.Int64), f"{_ITEMS}.ascii"),
        profiles=_profiles(users, n_users),
    )


def _numbered(files: DataFiles, name: str, columns: list[str]) -> pl.DataFrame:
    """Return a row a cell of a matrix: its `line` in the file, its `row` from 0, its `column` and the text `value`."""
    rows = files.rows(name, " ", columns).with_row_index("row")
    return rows.unpivot(index=["line", "row"], variable_name="column", value_name="value")


def _ratings(files: DataFiles, name: str, n_users: int, n_items: int) -> pl.DataFrame:
    """Return a row a rating: `user`, `item` and `rating`."""
    cells = _numbered(files, name, [str(item) for item in range(n_items)])
    _check_length(name, cells, f"{_USERS}.ascii", n_users)
    ratings = parse_numbers(cells, "value", pl.Float32(), name)
    refuse_values(~ratings.is_in([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]), cells, "value", name, "not a whole number up to 5")
    user, item = pl.col("row").cast(pl.Int64), pl.col("column").cast(pl.Int64)
    return cells.select(user=user, item=item, rating=ratings).filter(pl.col("rating") > 0).sort("user", "item")


def _labels(files: DataFiles, name: str) -> tuple[dict[str, pl.DataFrame], int]:
    """Return by attribute a row (`item`, `label`) a label that users, or coats, have; and how many these are."""
    names_file, file = f"{name}_map.txt", f"{name}.ascii"
    names = files.rows(names_file, "\n", ("name",))
    refuse_values(~names["name"].str.contains(r"^[^:]+:."), names, "name", names_file, "not like attribute:label")
    columns = names["name"].to_list()
    if len(set(columns)) < len(columns):
        raise DataFormatError(f"{names_file} has {len(columns):,} names, {len(set(columns)):,} of them different.")
    cells = _numbered(files, file, columns)
    refuse_values(~cells["value"].is_in(["0", "1"]), cells, "value", file, "neither 0 nor 1")
    divided = pl.col("column").str.splitn(":", 2)
    edges = cells.filter(pl.col("value") == "1").select(
        item=pl.col("row").cast(pl.Int64),
        attribute=divided.struct.field("field_0"),
        label=divided.struct.field("field_1"),
    )
    attributes = dict.fromkeys(column.partition(":")[0] for column in columns)
    found = {name: edges.filter(pl.col("attribute") == name).select("item", "label") for name in attributes}
    return found, cells["row"].n_unique()


def _profiles(users: dict[str, pl.DataFrame], n_users: int) -> Profiles:
    rows = pl.DataFrame({"item": pl.Series(range(n_users), dtype=pl.Int64)})
    for name, edges in users.items():
        labels = edges.group_by("item").agg(pl.col("label").sort().str.join("|").alias(f"attribute {name}"))
        rows = rows.join(labels, on="item", how="left", maintain_order="left")
    return Profiles(rows, f"{_USERS}.ascii", Described("users", "user", tuple(users), (), ()))


def _check_length(name: str, cells: pl.DataFrame, other: str, expected: int) -> None:
    if (found := cells["row"].n_unique()) != expected:
        raise DataFormatError(
            f"{name} has {found:,} lines of users, and {other} has {expected:,}. They must be of the same users."
        )
