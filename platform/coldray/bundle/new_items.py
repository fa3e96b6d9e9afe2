"""Items that come after the fit: from a table, and what of them the model makes nothing of."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import polars as pl
import scipy.sparse as sp

from coldray.bundle.item_table import joined
from coldray.core.errors import DataFormatError, UnknownAttributeError, UnknownIdError
from coldray.core.spelling import choices, nearest
from coldray.data.attributes import Attribute, LabelAttribute, VectorAttribute
from coldray.data.tables.frames import Frame, as_polars
from coldray.data.tables.ids import read_ids
from coldray.data.tables.labels import refuse_list_text
from coldray.features.builder import attributes_from_records
from coldray.features.vectors import check_dim
from coldray.models.base import Recommender

if TYPE_CHECKING:
    from coldray.bundle.model import Bundle

logger = logging.getLogger(__name__)
_WHAT = "New items"


def with_items(
    bundle: Bundle, items: Mapping[Any, Mapping[str, object]] | Frame, id_column: str, separator: str, *,
    list_text: bool,
) -> Bundle:  # fmt: skip
    """Return a bundle that also knows new items, as :meth:`~coldray.bundle.model.Bundle.add_items` says."""
    if isinstance(items, Mapping) and all(isinstance(record, Mapping) for record in items.values()):
        records: Mapping[Any, Mapping[str, object]] = items
        text = bundle.item_ids.dtype.kind == "U"
        for given in records:
            if isinstance(given, bool) or not isinstance(given, str if text else Integral):
                _refuse_type(text, f"; the first of another type is {given!r:.60}")
    else:
        records, notes = _records_of(bundle, items, id_column, separator)
        for note in notes:
            logger.warning("%s", note)
    for name, labels in bundle.encoder.unread_labels(records.values()).items():
        logger.warning(
            "%d labels of %r are unknown to the model, which makes nothing of them; the first is %r.",
            len(labels), name, labels[0],
        )  # fmt: skip
    for record in records.values() if not list_text else ():
        refuse_text_lists(bundle, record)
    repeated = [item for item in records if item in bundle.item_places]
    if repeated:
        raise UnknownIdError(f"Item {repeated[0]!r} is in the bundle already; new items need new ids.")
    new = new_attributes(bundle, list(records.values()))
    features = bundle.encoder.transform(new, len(records))
    known, clicks = bundle.item_ids, bundle.interactions
    added = np.asarray(list(records)).astype(known.dtype.kind if known.dtype.kind == "U" else int)
    width = len(known) + len(records)
    return replace(
        bundle,
        model=bundle.model.add_items(features),
        item_ids=np.concatenate([known, added]),
        attributes={name: joined(attribute, new[name]) for name, attribute in bundle.attributes.items()},
        features=bundle.features.append(features),
        interactions=sp.csr_array((clicks.data, clicks.indices, clicks.indptr), shape=(clicks.shape[0], width)),
        before=bundle.before or bundle,
    )


def new_attributes(bundle: Bundle, records: Sequence[Mapping[str, object]]) -> dict[str, Attribute]:
    """Read attributes of new items, given as plain dicts, as those of the bundle's items are.

    Raises
    ------
    UnknownAttributeError
        If a record has an attribute that these do not have.
    DataFormatError
        If a value is not of its attribute's kind, or a vector of another length than theirs.
    """
    new = attributes_from_records(records, bundle.kinds)
    for name, attribute in bundle.attributes.items():
        added = new[name]
        if isinstance(attribute, VectorAttribute) and isinstance(added, VectorAttribute):
            check_dim(f"New items: {name!r}", added, attribute.dim)
    return new


def knowing(bundle: Bundle, model: Recommender[Any]) -> Bundle:
    """Return a bundle whose model knows more clicks; what was made of ids, attributes and the fit's clicks is shared.

    An index of vectors is shared, too: no model that takes clicks is searched by one.
    """
    twin = copy(bundle)
    twin.__dict__["model"] = model  # dataclasses.replace would make all that was made once again
    twin.__dict__.pop("_all_lists", None)
    return twin


def _records_of(
    bundle: Bundle, items: Frame, id_column: str, separator: str
) -> tuple[dict[Any, dict[str, Any]], list[str]]:
    """Return the attributes of new items by id, from a table with a row an item, and notes on how ids were read.

    Parameters
    ----------
    separator
        What divides labels that are text.

    Raises
    ------
    DataFormatError
        If there is no column of ids, an id is missing, doubled, or not of the type that the bundle's are.
    UnknownAttributeError
        If another column is no attribute of the bundle's items.
    """
    table = as_polars(items, _WHAT)
    if id_column not in table.columns:
        raise DataFormatError(
            f"{_WHAT} have no column {id_column!r}.{nearest(id_column, table.columns)} Columns: "
            f"{choices(table.columns)}. Name the one with ids: item=…"
        )
    notes: list[str] = []
    ids = read_ids(table[id_column], f"{_WHAT}, column {id_column!r}", notes)
    text = bundle.item_ids.dtype.kind == "U"
    if (ids.dtype == pl.String) != text:
        _refuse_type(text)
    if (doubled := ids.filter(ids.is_duplicated())).len():
        raise DataFormatError(f"{_WHAT} have the id {doubled[0]!r} more than once. Give an item one row.")
    attributes = table.drop(id_column)
    for name in attributes.columns:
        if name not in bundle.kinds:
            raise UnknownAttributeError(
                f"{_WHAT}: the column {name!r} is no attribute of the items.{nearest(name, bundle.kinds)} Attributes: "
                f"{choices(bundle.kinds)}. Leave the column out."
            )
        if bundle.kinds[name] == "labels" and attributes.schema[name] == pl.String:
            attributes = attributes.with_columns(pl.col(name).str.split(separator))
    rows = [
        {name: value for name, value in row.items() if value is not None and value == value}
        for row in attributes.iter_rows(named=True)
    ]
    return dict(zip(ids.to_list(), rows or [{} for _ in ids], strict=True)), notes


def _refuse_type(text: bool, first: str = "") -> NoReturn:
    mine, theirs = ("numbers", "text") if text else ("text", "numbers")
    raise DataFormatError(
        f"The ids of new items are {mine}, and those of the bundle are {theirs}{first}. Give {theirs}."
    )


def refuse_text_lists(bundle: Bundle, record: Mapping[str, object]) -> None:
    """Refuse labels of a new item that are lists written as text, unless there are such labels.

    Raises
    ------
    DataFormatError
        With the way to write them.
    """
    for name, value in record.items():
        attribute = bundle.attributes.get(name)
        if isinstance(attribute, LabelAttribute):
            refuse_list_text(value, set(attribute.labels.tolist()), name)
