"""In which context interactions were, as columns of their own table have it: the device, the page, the weather.

Context is what is known *before* an interaction. Of several events of a pair the context of the latest is kept, as its
time is: of events at the same time, and where there are no times, that of the last row.

Notation used for shapes: n rows of a table, r different contexts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import polars as pl

from coldray.core.errors import ConfigError
from coldray.data.attributes import Attribute, NumberAttribute, is_known
from coldray.data.sources.assembly import Described, label_attribute
from coldray.data.tables.ids import BLANKS
from coldray.data.tables.labels import label_lists
from coldray.data.tables.numbers import numbers


def check_context_columns(names: tuple[str, ...], others: Mapping[str, str]) -> None:
    """Raise ConfigError if a column of context is one of the `others`, by what they are, as well."""
    for role, column in others.items():
        if column in names:
            raise ConfigError(
                f"Column {column!r} is given as a context, and as {role}_column: context is what else was known before "
                "an interaction. Name it once."
            )


@dataclass(frozen=True, eq=False)
class Contexts:
    """The different contexts of the rows of a table."""

    attributes: Mapping[str, Attribute]
    """By the name of the column: each describes r contexts."""
    rows: pl.Series
    """Which of them each row was in, from 0 ``[n]``."""

    @classmethod
    def read(cls, table: pl.DataFrame, columns: Described, separator: str, file: str, notes: list[str]) -> Self:
        """Read the columns ``attribute NAME`` of a table; how they were read is noted.

        Raises
        ------
        DataFormatError
            If a number is none, or a label is a list that is broken.
        """
        read = [_cells(table.get_column(f"attribute {name}"), name, columns, separator, file, notes)
                for name in columns.names]  # fmt: skip
        names = [f"attribute {name}" for name in columns.names]
        rows = pl.DataFrame(read).with_row_index("row")
        different = rows.group_by(names, maintain_order=True).agg("row").with_row_index("item")
        contexts = np.arange(different.height)
        attributes: dict[str, Attribute] = {}
        for name in columns.labels:
            labels = different.select("item", label=f"attribute {name}").explode("label")
            attributes[name] = label_attribute(labels, contexts)
        for name in columns.numbers:
            values = different.get_column(f"attribute {name}").fill_null(float("nan")).to_numpy()
            attributes[name] = NumberAttribute(values)
        numbered = different.select("item", "row").explode("row").sort("row")
        return cls(attributes, numbered["item"].alias("context"))

    def unknown(self, rows: pl.Series, file: str) -> list[str]:
        """Return how many interactions, whose contexts are `rows`, have nothing in a column, a sentence each."""
        counts = {
            name: int((~is_known(attribute))[rows.to_numpy()].sum()) for name, attribute in self.attributes.items()
        }
        return [
            f"{file}, column {name!r}: {count:,} of {len(rows):,} interactions have none: of them this context is not "
            "known."
            for name, count in counts.items()
            if count
        ]


def _cells(cells: pl.Series, name: str, columns: Described, separator: str, file: str, notes: list[str]) -> pl.Series:
    """Return cells in one form: numbers, null where unknown, or ascending lists of labels, empty where unknown."""
    where = f"{file}, column {name!r}"
    if name in columns.numbers:
        return numbers(cells, where, notes, blank_allowed=True).alias(cells.name)
    label = pl.element().str.strip_chars(BLANKS)
    lists = label_lists(cells, separator, where, notes).alias(cells.name).to_frame()
    known = pl.col(cells.name).list.eval(label.filter(label != "").unique().sort())
    return lists.select(known.fill_null(pl.lit([], pl.List(pl.String)))).to_series()
