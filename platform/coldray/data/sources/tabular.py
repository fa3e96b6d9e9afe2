"""Tables → :class:`Dataset`: bring-your-own parquet, CSV and frames."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Self, TypeAlias

import polars as pl
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.core.spelling import nearest
from coldray.data.catalogue import AS_TEXT, Catalogue
from coldray.data.context import Contexts, check_context_columns
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.events import EventWeights, check_event_columns, with_strongest
from coldray.data.sources.assembly import Described, Profiles, assemble, described_attributes, refuse_repeated
from coldray.data.tables.column_types import Role
from coldray.data.tables.files import FileFormat, Table, TableFile, TableFrame
from coldray.data.tables.ids import of_one_type, read_ids
from coldray.data.tables.named_values import named_values
from coldray.data.tables.numbers import numbers, times
from coldray.data.tables.swapped import SWAPPED, swapped_note

logger = logging.getLogger(__name__)
_PAIR_ROLES: dict[str, Role] = {"user": "id", "item": "id", "rating": "rating", "timestamp": "time", "event": "text"}
"""Columns of an interaction, and what they are read as."""


def _first_read(value: Any) -> Any:
    return named_values(value, "first_labels", "column", "number", "cast=5,crew=2")


FirstLabels: TypeAlias = Annotated[dict[str, PositiveInt], BeforeValidator(_first_read), Field(min_length=1)]


class TabularColumns(BaseModel):
    """What the columns of a table of interactions, of one of items and of one of users mean."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_column: str = "user_id"
    """Column of `interactions` with the user's id: integer or text."""
    item_column: str = "item_id"
    """Column of `interactions` with the item's id: integer or text."""
    rating_column: str | None = None
    """Column of `interactions` with a rating; null when a row alone says it all."""
    event_column: str | None = None
    """Column of `interactions` with the kind of each: text, such as ``view`` and ``purchase``. A user may have several
    rows with an item then; what becomes of them says :mod:`~coldray.data.events`."""
    event_weights: EventWeights | None = None
    """What an event of each kind in `event_column` is worth: ``{purchase: 5, view: 1}``, above 0."""
    timestamp_column: str | None = None
    """Column of `interactions` with a time: a number since 1970, whose unit is told by its size, a date type of
    parquet, or ISO 8601 text (UTC)."""
    context_label_columns: tuple[str, ...] = ()
    """Columns of `interactions` with labels, as `label_columns`, that were known before each: the device, the page. Of
    several rows of a user with an item the latest says it, see :mod:`~coldray.data.context`."""
    context_number_columns: tuple[str, ...] = ()
    """Columns of `interactions` with one number that was known before each; empty, null and NaN mean unknown."""
    item_id_column: str | None = None
    """Column of `items` with the item's id; null means the name in `item_column`."""
    label_columns: tuple[str, ...] = ()
    """Columns of `items` with labels: a parquet list, a list written as text, or text divided by `label_separator`."""
    label_separator: str = Field(default="|", min_length=1)
    """What divides the labels in a text column."""
    first_labels: FirstLabels | None = None
    """Of columns of labels, how many labels of an item, or user, are read, the first ones in the order of the cell:
    ``{cast: 5}``. What is left out is counted."""
    number_columns: tuple[str, ...] = ()
    """Columns of `items` with one number; empty, null and NaN mean unknown."""
    text_columns: tuple[str, ...] = ()
    """Columns of `items` with free text."""
    user_label_columns: tuple[str, ...] = ()
    """Columns of `users` with labels, as `label_columns`; their ids are in `user_column` there, too."""
    user_number_columns: tuple[str, ...] = ()
    """Columns of `users` with one number."""
    user_text_columns: tuple[str, ...] = ()
    """Columns of `users` with free text."""

    @property
    def of_items(self) -> Described:
        """What the columns of a table of items mean."""
        id_column = self.item_id_column or self.item_column
        columns = self.label_columns, self.number_columns, self.text_columns
        return Described("items", id_column, *columns, self._first_of(self.label_columns))

    @property
    def of_users(self) -> Described:
        """What the columns of a table of users mean."""
        columns = self.user_label_columns, self.user_number_columns, self.user_text_columns
        return Described("users", self.user_column, *columns, self._first_of(self.user_label_columns))

    @property
    def of_contexts(self) -> Described:
        """What the columns of a table of interactions mean that say in which context each was."""
        return Described("interactions", "", self.context_label_columns, self.context_number_columns, ())

    @property
    def of_pairs(self) -> dict[str, str]:
        """The columns of a table of interactions, by what they are: ``user``, ``item`` and what else there is."""
        given = {role: getattr(self, f"{role}_column") for role in _PAIR_ROLES}
        return {role: name for role, name in given.items() if name is not None}

    def _first_of(self, columns: tuple[str, ...]) -> dict[str, int]:
        return {name: most for name, most in (self.first_labels or {}).items() if name in columns}

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        for names in (self.of_items.names, self.of_users.names, self.of_contexts.names):
            if repeated := sorted({name for name in names if names.count(name) > 1}):
                raise ConfigError(f"Column {repeated[0]!r} is given as an attribute twice; name it once.")
        labelled = (*self.label_columns, *self.user_label_columns)
        for name in self.first_labels or ():
            if name not in labelled:
                raise ConfigError(
                    f"first_labels names {name!r}, which is no column of labels of items or users."
                    f"{nearest(name, labelled)} Name it among the label columns, or leave it out."
                )
        check_event_columns(self.event_column, self.event_weights, self.rating_column)
        check_context_columns(self.of_contexts.names, self.of_pairs)
        return self

    def require_tables(self, *, items: bool, users: bool) -> None:
        """Raise :class:`ConfigError` if columns of a table are named, of `items` or `users`, and it is not given."""
        for described, given in ((self.of_items, items), (self.of_users, users)):
            if described.names and not given:
                names, noun = ", ".join(described.names), described.noun
                raise ConfigError(f"Attribute columns are given ({names}) but no {noun} table; set `{noun}`.")


class TabularConfig(TabularColumns):
    """Where the tables lie, and what their columns mean."""

    interactions: Path
    """Table with a row an interaction; a parquet file, a folder of parquet files, or a CSV file with a header."""
    items: Path | None = None
    """Table with a row an item; null when nothing is known of the items."""
    users: Path | None = None
    """Table with a row a user; null when nothing is known of the users but their interactions."""

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        self.require_tables(items=self.items is not None, users=self.users is not None)
        return self


def read_tabular(config: TabularConfig, file_format: FileFormat) -> Dataset:
    """Read a dataset from the tables of `config`.

    Items are those with an interaction or a row in `items`: nobody has clicked some, and of others nothing is known, so
    that they have no label, NaN and empty texts. Both are counted, see :class:`~coldray.data.catalogue.Match`. Users
    are those with an interaction; other rows of `users` are counted and left out.

    A name that ends in ``.csv``, ``.tsv`` or ``.parquet`` says how the file is read; for others `file_format` does.

    Raises
    ------
    DataError
        If a file is missing or unreadable, a column is missing, an id is null or repeated, a rating or number is not a
        number, or there is no interaction or no row of an item; each has its own subclass.
    """
    items, users = (None if path is None else TableFile(path, file_format) for path in (config.items, config.users))
    interactions = TableFile(config.interactions, file_format)
    return _dataset(config, interactions, items, users, config.interactions.stem, file_format)


def dataset_of_frames(
    interactions: pl.DataFrame,
    items: pl.DataFrame | None,
    columns: TabularColumns,
    name: str = "frame",
    *,
    users: pl.DataFrame | None = None,
) -> Dataset:
    """Build a dataset from tables in memory, as :func:`read_tabular` does from the same tables in parquet files.

    Parameters
    ----------
    name
        The dataset's name.

    Raises
    ------
    ConfigError
        If attributes are named and there are no `items`, or no `users`.
    DataError
        As :func:`read_tabular`.
    """
    columns.require_tables(items=items is not None, users=users is not None)
    of_items = None if items is None else TableFrame(items, "items")
    of_users = None if users is None else TableFrame(users, "users")
    return _dataset(columns, TableFrame(interactions, "interactions"), of_items, of_users, name, "frame")


def _dataset(
    columns: TabularColumns, interactions: Table, items: Table | None, users: Table | None, name: str, source: str
) -> Dataset:
    notes: list[str] = []
    pairs = _read_pairs(columns, interactions, notes)
    file, default = interactions.name, columns.of_items.names
    provenance: dict[str, Any] = {"source": source, "interactions": file, "notes": notes}
    if swapped := swapped_note(pairs, file, (columns.user_column, columns.item_column)):
        logger.warning("%s", swapped)
        notes.append(swapped)
        provenance[SWAPPED] = swapped
    contexts = None
    if columns.of_contexts.names:
        contexts = Contexts.read(pairs, columns.of_contexts, columns.label_separator, file, notes)
        pairs = pairs.select(*columns.of_pairs, contexts.rows)
    if columns.event_column is not None and columns.event_weights is not None:
        where = f"{file}, column {columns.event_column!r}"
        pairs = with_strongest(pairs, columns.event_weights, where, provenance)
    if contexts is not None:
        notes += contexts.unknown(pairs["context"], file)
    profiles = None
    if users is not None:
        rows = _read_described(columns.of_users, users, notes)
        profiles = Profiles(rows, users.name, columns.of_users, columns.label_separator)
        provenance["users"] = users.name
    if items is None:
        return assemble(
            pairs,
            lambda _: {},
            name=name,
            file=file,
            default_attributes=default,
            provenance=provenance,
            profiles=profiles,
            context=None if contexts is None else contexts.attributes,
        )
    table, rows = items.name, _read_described(columns.of_items, items, notes)
    clicked, ids = of_one_type(pairs["item"], rows["item"])
    if clicked.dtype != pairs.schema["item"]:
        _tell_text(ids, table, provenance)
    pairs, rows = pairs.with_columns(clicked), rows.with_columns(ids)
    provenance["items"] = table

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        found: list[str] = []
        built = described_attributes(columns.of_items, columns.label_separator, table, rows, item_ids, found)
        provenance["notes"] = [*provenance["notes"], *found]
        return built

    return assemble(
        pairs,
        attributes,
        name=name,
        file=file,
        default_attributes=default,
        provenance=provenance,
        catalogue=Catalogue(ids, table),
        profiles=profiles,
        context=None if contexts is None else contexts.attributes,
    )


def _read_pairs(columns: TabularColumns, source: Table, notes: list[str]) -> pl.DataFrame:
    names, contexts = columns.of_pairs, columns.of_contexts
    roles: dict[str, Role] = {role: _PAIR_ROLES[role] for role in names} | _roles(contexts)
    read = source.read(names | {f"attribute {name}": name for name in contexts.names}, roles)
    table = read.rows
    notes += read.notes
    for role, name in names.items():
        if role == "event":
            continue  # whatever it says is a kind
        cells, where = table.get_column(role), f"{source.name}, column {name!r}"
        if role in ("user", "item"):
            values = read_ids(cells, where, notes, untyped=source.untyped)
        else:
            values = numbers(cells, where, notes) if role == "rating" else times(cells, where, notes)
        table = table.with_columns(values.alias(role))
    return table


def _roles(columns: Described) -> dict[str, Role]:
    """Return what each column ``attribute NAME`` is read as."""
    kinds: tuple[tuple[tuple[str, ...], Role], ...] = (
        (columns.labels, "labels"), (columns.numbers, "number"), (columns.texts, "text")
    )  # fmt: skip
    return {f"attribute {name}": role for group, role in kinds for name in group}


def _read_described(columns: Described, source: Table, notes: list[str]) -> pl.DataFrame:
    """Return a row an item, or a user: `item`, its id, and a column ``attribute NAME`` for each attribute."""
    # Attributes are renamed because one may be called "item".
    names = {"item": columns.id_column} | {f"attribute {name}": name for name in columns.names}
    roles: dict[str, Role] = {"item": "id", **_roles(columns)}
    read, where = source.read(names, roles), f"{source.name}, column {columns.id_column!r}"
    notes += read.notes
    if read.rows.is_empty():
        raise EmptyDatasetError(
            f"{source.name} has no rows: nothing is known of the {columns.noun}. Leave the table out."
        )
    ids = read_ids(read.rows.get_column("item"), where, notes, untyped=source.untyped)
    table = read.rows.with_columns(ids.alias("item"))
    refuse_repeated(table, ("item",), source.name)
    return table


def _tell_text(ids: pl.Series, file: str, provenance: dict[str, Any]) -> None:
    """Say which rows of a table of items make text of ids that are numbers where the clicks are."""
    others = ids.filter(ids != ids.cast(pl.Int64, strict=False).cast(pl.String).fill_null(""))
    provenance[AS_TEXT] = (
        f"Item ids are text, though those of the clicks are whole numbers: {len(others):,} of {len(ids):,} ids of "
        f"{file} are not, or beyond 64 bits with a sign; the first is {others[0]!r}."
    )
    provenance["notes"] = [*provenance.get("notes", ()), provenance[AS_TEXT]]
    logger.warning("%s", provenance[AS_TEXT])
