"""Tables of interactions → :class:`Dataset`: the assembly that all readers share.

Notation used for shapes: U users, I items, d labels of an attribute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from coldray.core.errors import DataFormatError, EmptyDatasetError, UnmatchedItemsError
from coldray.data.catalogue import Catalogue, match_items, note_profiles
from coldray.data.dataset import (
    Attribute,
    Dataset,
    Ids,
    IntArray,
    LabelAttribute,
    NumberAttribute,
    TextAttribute,
    binary_matrix,
)
from coldray.data.tables.ids import BLANKS, of_one_type
from coldray.data.tables.labels import first_labels, label_lists
from coldray.data.tables.numbers import numbers


@dataclass(frozen=True)
class Described:
    """What the columns of a table of items, of users, or of the contexts of interactions, mean."""

    noun: str
    id_column: str
    labels: tuple[str, ...]
    numbers: tuple[str, ...]
    texts: tuple[str, ...]
    first: Mapping[str, int] = field(default_factory=dict)
    """Of columns of labels, how many of a row are read, the first ones; all of others."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every attribute's column."""
        return self.labels + self.numbers + self.texts


@dataclass(frozen=True, eq=False)
class Profiles:
    """What a table knows of users."""

    rows: pl.DataFrame
    """A row a user: `item`, the id, and a column ``attribute NAME`` for each of its attributes."""
    table: str
    """Name of its file."""
    columns: Described
    """Which attributes there are."""
    separator: str = "|"
    """What divides labels in a text."""

    def attributes(self, pairs: pl.DataFrame, user_ids: Ids, file: str, provenance: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of users; rows of others, and users without a row, are counted in the provenance."""
        theirs, ours = of_one_type(self.rows["item"], pl.Series(user_ids.tolist(), dtype=pairs.schema["user"]))
        note_profiles(provenance, self.table, theirs, ours, file)
        found: list[str] = []
        rows = self.rows.with_columns(theirs.alias("item"))
        built = described_attributes(self.columns, self.separator, self.table, rows, ours.to_numpy(), found)
        provenance["notes"] = [*provenance["notes"], *found]
        return built


def assemble(
    pairs: pl.DataFrame,
    attributes: Callable[[Ids], dict[str, Attribute]],
    *,
    name: str,
    file: str,
    default_attributes: Iterable[str],
    provenance: dict[str, Any],
    catalogue: Catalogue | None = None,
    profiles: Profiles | None = None,
    context: Mapping[str, Attribute] | None = None,
) -> Dataset:
    """Build a dataset whose users and items are in ascending order of their ids.

    `pairs`, read from `file`, has the columns `user` and `item` (Int64 or String) and may have `rating`, `timestamp`
    (seconds) and `weight`, that of the strongest event. `attributes` is called with the item ids; those of
    `default_attributes` that it returns become the default. The items of the `catalogue` are items of the dataset,
    whether anybody clicked them or not; how it fits the pairs becomes ``provenance["catalogue"]``. Of `profiles` those
    of users with a pair are kept, and of `context` those that the column `context` of the pairs leads to.

    Raises
    ------
    EmptyDatasetError
        If there is no pair.
    DataFormatError
        If a pair is repeated.
    UnmatchedItemsError
        If no item of the pairs is one of the catalogue.
    """
    if pairs.is_empty():
        raise EmptyDatasetError(f"{file} has no interactions: nothing to learn from.")
    items = pairs["item"]
    if catalogue is not None:
        clicked = pairs.group_by("item").len("clicks")
        try:
            provenance |= match_items(clicked, catalogue, file).noted(provenance, "catalogue")
        except UnmatchedItemsError as error:
            if catalogue.ids.cast(pl.String).is_in(pairs["user"].cast(pl.String).implode()).any():
                hint = "Users have some of them: is the column of users that of items?"
                raise UnmatchedItemsError(f"{error} {hint}") from error
            raise
        items = pl.concat([items.rename("item"), catalogue.ids.rename("item")])
    user_ids, item_ids = ascending(pairs["user"]), ascending(items)
    rows, columns = positions(pairs["user"], user_ids), positions(pairs["item"], item_ids)
    shape = (len(user_ids), len(item_ids))
    clicks = binary_matrix(rows, columns, shape)
    if clicks.nnz < pairs.height:
        refuse_repeated(pairs, ("user", "item"), file)

    def values(column: str, dtype: type[np.generic]) -> sp.csr_array | None:
        if column not in pairs.columns:
            return None
        return sp.csr_array((pairs[column].to_numpy().astype(dtype), (rows, columns)), shape=shape).sorted_indices()

    built = attributes(item_ids)
    of_users = {} if profiles is None else profiles.attributes(pairs, user_ids, file, provenance)
    dataset = Dataset(name, user_ids, item_ids, clicks, built, user_attributes=of_users, provenance=provenance)
    return replace(
        dataset,
        default_attributes=tuple(attribute for attribute in default_attributes if attribute in built),
        ratings=values("rating", np.float32),
        timestamps=values("timestamp", np.int64),
        events=values("weight", np.float32),
        context=context or {},
        context_rows=values("context", np.int64),
    ).without_unused_contexts()


def label_attribute(edges: pl.DataFrame, item_ids: Ids) -> LabelAttribute:
    """Return the labels of `item_ids` from a table with a row (`item`, `label`) a membership.

    Blank labels and items outside `item_ids` are left out; a repeated row counts once.
    """
    edges = edges.with_columns(pl.col("label").str.strip_chars(BLANKS)).filter(pl.col("label") != "")
    edges = edges.join(ids_table(item_ids, edges.schema["item"]), on="item", how="semi")
    labels = np.asarray(edges.get_column("label").unique().sort().to_list(), dtype=np.str_)
    rows, columns = positions(edges.get_column("item"), item_ids), positions(edges.get_column("label"), labels)
    return LabelAttribute(binary_matrix(rows, columns, (len(item_ids), len(labels))), labels)


def plain_attribute(table: pl.DataFrame, column: str, item_ids: Ids) -> NumberAttribute | TextAttribute:
    """Return a column of a table with a row an `item`: text if it is String, else numbers; missing where no row is."""
    wanted = ids_table(item_ids, table.schema["item"])
    values = wanted.join(table.select("item", value=column), on="item", how="left", maintain_order="left")["value"]
    if values.dtype == pl.String:
        return TextAttribute(tuple(values.fill_null("").to_list()))
    return NumberAttribute(values.cast(pl.Float64).fill_null(float("nan")).to_numpy().astype(np.float64))


def refuse_repeated(table: pl.DataFrame, columns: Sequence[str], source: str) -> None:
    """Raise :class:`DataFormatError` with the count and the first offender if `columns` do not tell rows apart."""
    if not (repeated := table.height - table.select(columns).n_unique()):
        return
    first = table.filter(pl.struct(columns).is_duplicated()).select(columns).row(0, named=True)
    offender = ", ".join(f"{column} {value!r}" for column, value in first.items())
    raise DataFormatError(f"{source} has {repeated:,} repeated rows; the first is of {offender}. Keep one row each.")


def ids_table(ids: Ids, dtype: pl.DataType | None = None) -> pl.DataFrame:
    """Return ids as a table of the column `item`, in their order."""
    return pl.DataFrame({"item": pl.Series(ids.tolist(), dtype=dtype)})


def ascending(ids: pl.Series) -> Ids:
    """Return the distinct ids, ascending."""
    unique = ids.unique().sort()
    return np.asarray(unique.to_list(), dtype=np.str_) if unique.dtype == pl.String else unique.to_numpy()


def positions(ids: pl.Series, vocabulary: Ids) -> IntArray:
    """Return the index in `vocabulary` of each id, all of which are in it."""
    table = ids_table(vocabulary, ids.dtype).with_row_index("position")
    found = ids.alias("item").to_frame().join(table, on="item", how="left", maintain_order="left")
    return found.get_column("position").to_numpy().astype(np.int32)


def described_attributes(
    columns: Described, separator: str, file: str, rows: pl.DataFrame, item_ids: Ids, notes: list[str]
) -> dict[str, Attribute]:
    """Return the attributes of `item_ids` from a table `file` with a row an `item`; how they were read is noted."""
    built: dict[str, Attribute] = {}
    for name in columns.labels:
        cells = rows.get_column(f"attribute {name}")
        lists = label_lists(cells, separator, f"{file}, column {name!r}", notes)
        if name in columns.first:
            lists = first_labels(lists, columns.first[name], f"{file}, column {name!r}", notes)
        built[name] = label_attribute(rows.select("item", label=lists).explode("label"), item_ids)
    for name in columns.numbers:
        cells = rows.get_column(f"attribute {name}")
        values = numbers(cells, f"{file}, column {name!r}", notes, blank_allowed=True)
        built[name] = plain_attribute(rows.with_columns(values.alias(cells.name)), cells.name, item_ids)
    for name in columns.texts:
        texts = rows.select("item", text=pl.col(f"attribute {name}").cast(pl.String))
        built[name] = plain_attribute(texts, "text", item_ids)
    return built
