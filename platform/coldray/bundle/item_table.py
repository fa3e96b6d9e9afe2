"""The table of a bundle's items: their ids, and all that is known of them, whether a model reads it or not.

What the encoder reads is in columns ``attribute:NAME``; what is only shown, such as a title, in ``display:NAME``.
Bundles made before there were any of the latter load without them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp

from coldray.data.attributes import Attribute, LabelAttribute, NumberAttribute, TextAttribute, VectorAttribute
from coldray.data.dataset import Ids, binary_matrix
from coldray.features.builder import AttributeKind, attributes_from_records

READ, SHOWN = "attribute:", "display:"


def item_table(item_ids: Ids, attributes: Mapping[str, Attribute], read: Collection[str]) -> pl.DataFrame:
    """Return the table; `read` names the attributes that the encoder reads. An infinite number is unknown."""
    return pl.DataFrame({"item_id": item_ids, **attribute_columns(attributes, read)})


def attribute_columns(attributes: Mapping[str, Attribute], read: Collection[str]) -> dict[str, pl.Series]:
    """Return a column an attribute, by name; `read` names those that the encoder reads."""
    return {f"{READ if name in read else SHOWN}{name}": _column(attribute) for name, attribute in attributes.items()}


def _column(attribute: Attribute) -> pl.Series:
    if isinstance(attribute, LabelAttribute):
        matrix, labels = attribute.matrix, attribute.labels.tolist()
        rows = zip(matrix.indptr[:-1], matrix.indptr[1:], strict=True)
        listed = [[labels[j] for j in matrix.indices[a:b]] for a, b in rows]
        return pl.Series(listed, dtype=pl.List(pl.String))
    if isinstance(attribute, NumberAttribute):
        return pl.Series(np.where(np.isfinite(attribute.values), attribute.values, np.nan)).fill_nan(None)
    if isinstance(attribute, VectorAttribute):
        return pl.Series(attribute.vectors, dtype=pl.Array(pl.Float32, attribute.dim))
    return pl.Series(attribute.texts, dtype=pl.String)


def attributes_of(table: pl.DataFrame, read: Mapping[str, AttributeKind]) -> dict[str, Attribute]:
    """Return the attributes of a table by name; `read` are those of the encoder and what they hold.

    Raises
    ------
    KeyError
        If the table lacks one of those.
    DataFormatError
        If a value is not of its attribute's kind.
    """
    kinds: dict[str, AttributeKind] = {}
    chosen: dict[str, pl.Expr] = {}
    for column, dtype in table.schema.items():
        prefix, _, name = column.partition(":")
        if f"{prefix}:" == READ and name in read:
            kinds[name] = read[name]
        elif f"{prefix}:" == SHOWN and name not in read:
            kinds[name] = _kind(dtype)
        else:
            continue
        chosen[name] = pl.col(column)
    for name in read:
        if name not in kinds:
            raise KeyError(f"{READ}{name}")
    vectors = [name for name, kind in kinds.items() if kind == "vector"]
    rest = {name: kind for name, kind in kinds.items() if name not in vectors}
    records = table.select(**{name: chosen[name] for name in rest}).to_dicts() if rest else []
    found = attributes_from_records(records, rest)
    found |= {name: VectorAttribute(table.select(chosen[name]).to_series().to_numpy()) for name in vectors}
    return {name: found[name] for name in kinds}


def column_kinds(schema: Mapping[str, pl.DataType]) -> dict[str, AttributeKind]:
    """Return what each attribute of a table holds, by name, whether it is read or only shown."""
    return {name: _kind(dtype) for column, dtype in schema.items() if (name := column.partition(":")[2])}


def _kind(dtype: pl.DataType) -> AttributeKind:
    if isinstance(dtype, pl.List):
        return "labels"
    if isinstance(dtype, pl.Array):
        return "vector"
    return "number" if dtype.is_numeric() else "text"


def joined(known: Attribute, added: Attribute) -> Attribute:
    """Return an attribute of some items followed by that of others; both must be of one kind."""
    match known, added:
        case LabelAttribute(), LabelAttribute():
            labels = np.union1d(known.labels, added.labels)
            parts = [_with_labels(attribute, labels) for attribute in (known, added)]
            return LabelAttribute(sp.csr_array(sp.vstack(parts, format="csr")), labels)
        case NumberAttribute(), NumberAttribute():
            return NumberAttribute(np.concatenate([known.values, added.values]))
        case TextAttribute(), TextAttribute():
            return TextAttribute((*known.texts, *added.texts))
        case VectorAttribute(), VectorAttribute():
            return known.followed_by(added)
        case _:
            raise TypeError(f"A {type(known).__name__} cannot be joined with a {type(added).__name__}.")


def _with_labels(attribute: LabelAttribute, labels: Any) -> sp.csr_array:
    """Return the memberships with one column for each of `labels`, among which are the attribute's own."""
    items, columns = attribute.matrix.nonzero()
    shape = (attribute.matrix.shape[0], len(labels))
    return binary_matrix(items, np.searchsorted(labels, attribute.labels)[columns], shape)
