"""Vectors of items and of users from files of their own: embeddings of pictures, of sounds, or of any model.

Notation used for shapes: I items, d dimensions, n vectors of a file.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from coldray.core.errors import ConfigError, DataFormatError
from coldray.core.memory import require_memory
from coldray.data.attributes import Attribute, VectorAttribute
from coldray.data.catalogue import VECTORS_MATCH, note_profiles
from coldray.data.dataset import Dataset
from coldray.data.sources.assembly import ids_table
from coldray.data.tables.ids import of_one_type
from coldray.data.texts import matched_items
from coldray.data.vector_files import Matrix, read_vectors

logger = logging.getLogger(__name__)


def with_vectors(dataset: Dataset, items: Mapping[str, Path], users: Mapping[str, Path]) -> Dataset:
    """Return the dataset with the vectors of files as attributes of its items and users, by name.

    They are among what a study reads of items unless it names attributes. Of a dataset that nothing else is known of
    the items of, the file is the catalogue: its items that nobody has clicked become items of the dataset. Items and
    users without a vector, and vectors of neither, are counted in the notes and logged.

    Parameters
    ----------
    items, users
        Files as :func:`~coldray.data.vector_files.read_vectors` reads them, by the name of the attribute.

    Raises
    ------
    DataError
        If a file cannot be read so, none of its ids is of a clicked item, or of a user, or the dataset has an attribute
        of that name.
    ConfigError
        If a name is blank.
    """
    for name, path in items.items():
        dataset = _of_items(dataset, name, path)
    for name, path in users.items():
        dataset = _of_users(dataset, name, path)
    return dataset


def _of_items(dataset: Dataset, name: str, path: Path) -> Dataset:
    _check_free(name, path, dataset.attributes, dataset.name)
    notes: list[str] = []
    ids, vectors = read_vectors(path, notes, name)
    dataset, known, ids = matched_items(dataset, ids, path.name, f"{VECTORS_MATCH}{name}")
    attribute = _in_order(known["item"], ids, vectors, path.name)
    absent = dataset.n_items - int(attribute.known.sum())
    strays = ids.to_frame("item").join(known, on="item", how="anti").height
    if absent or strays:
        notes.append(
            f"{path.name}: {absent:,} of {dataset.n_items:,} items have no vector in {name!r}, and {strays:,} of "
            f"{len(ids):,} vectors are of no item."
        )
    return replace(
        dataset,
        attributes={**dataset.attributes, name: attribute},
        default_attributes=(*dataset.default_attributes, name),
        provenance=_told(dataset.provenance, "item", name, path, notes + _without_direction(attribute, path, "items")),
    )


def _of_users(dataset: Dataset, name: str, path: Path) -> Dataset:
    _check_free(name, path, dataset.user_attributes, dataset.name)
    notes: list[str] = []
    ids, vectors = read_vectors(path, notes, name)
    known, ids = of_one_type(ids_table(dataset.user_ids)["item"], ids.rename("item"))
    provenance = dict(dataset.provenance)
    note_profiles(provenance, path.name, ids, known, dataset.name)
    attribute = _in_order(known, ids, vectors, path.name)
    return replace(
        dataset,
        user_attributes={**dataset.user_attributes, name: attribute},
        provenance=_told(provenance, "user", name, path, notes + _without_direction(attribute, path, "users")),
    )


def _check_free(name: str, path: Path, attributes: Mapping[str, Attribute], whose: str) -> None:
    if not name.strip():
        raise ConfigError(f"The vectors of {path} have no name. Name the attribute that they are: image={path}.")
    if name in attributes:
        raise DataFormatError(
            f"Vectors of {path.name} are called {name!r}, and {whose!r} has an attribute of that name."
        )


def _in_order(known: pl.Series, ids: pl.Series, vectors: Matrix, file: str) -> VectorAttribute:
    """Return the vectors in the order of the `known` ids, NaN of those without one."""
    dim = vectors.shape[1]
    require_memory(
        4 * len(known) * dim,
        purpose=f"The vectors of {file} for {len(known):,} ids, of {dim:,} numbers each,",
        way_out="Use shorter vectors, or fewer items.",
    )
    rows = ids.to_frame("item").with_row_index("row")
    found = known.to_frame("item").join(rows, on="item", how="left", maintain_order="left")["row"]
    there = found.is_not_null().to_numpy()
    ordered = np.full((len(known), dim), np.nan, np.float32)
    ordered[there] = vectors[found.drop_nulls().to_numpy()]
    return VectorAttribute(ordered)


def _without_direction(attribute: VectorAttribute, path: Path, noun: str) -> list[str]:
    if not (zeros := int((attribute.vectors == 0).all(axis=1).sum())):
        return []
    return [f"{path.name}: the vectors of {zeros:,} {noun} are 0 throughout, and say as little as none."]


def _told(provenance: Mapping[str, Any], side: str, name: str, path: Path, notes: list[str]) -> dict[str, Any]:
    for note in notes:
        logger.warning("%s", note)
    files = {**provenance.get(f"{side}_vectors", {}), name: path.name}
    return {**provenance, f"{side}_vectors": files, "notes": [*provenance.get("notes", ()), *notes]}
