"""The model bundle: what is logged, registered and served.

A folder of plain files, read without unpickling anything:

- ``manifest.json``: schema version, model and configuration, encoders, dataset fingerprint, protocol, metrics, and the
  SHA-256 of every other file;
- ``arrays.safetensors``: the model's arrays, those of the encoders, and embeddings of texts;
- ``items.parquet``: item ids and attributes, those that no model reads included; ``users.parquet``: user ids and their
  clicks, as item indices, with the ratings and the places in their order if the model reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import safetensors
import safetensors.numpy
import scipy.sparse as sp
from pydantic import ValidationError

from coldray import __version__
from coldray.bundle.item_table import attributes_of, item_table, joined
from coldray.core.errors import BundleError, ColdrayError, UnknownIdError
from coldray.core.files import replacing_folder
from coldray.data.dataset import Attribute, Dataset, Ids, IntArray, LabelAttribute
from coldray.data.signals import Reads, places_in, ratings_in
from coldray.data.tables.labels import refuse_list_text
from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import top_k
from coldray.features.builder import AttributeKind, FeatureEncoder, attribute_kinds, attributes_from_records
from coldray.features.feature_set import FeatureSet, VectorFeature
from coldray.models.base import Recommender, TrainingSet
from coldray.models.registry import model_type

History: TypeAlias = Sequence[Any] | Mapping[Any, float]
"""Item ids, or ratings by item id."""
SCHEMA_VERSION = 1
FILES = ("arrays.safetensors", "items.parquet", "users.parquet")
RATINGS, PLACES = "ratings", "places"
"""The column of users.parquet beside their items, for a model that reads ratings, or the order of clicks."""


@dataclass(frozen=True)
class Recommendation:
    """One place of a list."""

    item: Any
    """External item id."""
    score: float
    cold: bool
    """True if the item had no click when the model was fitted."""


@dataclass(frozen=True, eq=False)
class Bundle:
    """A fitted model with everything it needs to serve."""

    model: Recommender[Any]
    encoder: FeatureEncoder
    user_ids: Ids
    item_ids: Ids
    attributes: Mapping[str, Attribute]
    """All that is known of the items, by name: what the encoder reads, and what is shown only, such as a title."""
    features: FeatureSet
    """The encoded attributes of all items."""
    interactions: sp.csr_array
    """Clicks the model was fitted on ``[U, I]``, as it reads them."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the model, as plain JSON values: dataset, protocol, metrics."""

    @property
    def kinds(self) -> dict[str, AttributeKind]:
        """What each attribute holds: what :func:`~coldray.features.builder.attributes_from_records` needs."""
        return attribute_kinds(self.attributes)

    @cached_property
    def listed_items(self) -> IntArray:
        """Items that a list may hold unless others are named, ascending.

        Those of a model that knows items by clicks alone have some: it has nothing to tell the others apart by.
        """
        if self.model.scores_cold_items:
            return np.arange(self.model.n_items, dtype=np.int32)
        return np.unique(self.interactions.indices).astype(np.int32)

    def recommend(self, histories: Sequence[History], k: int) -> list[list[Recommendation]]:
        """Return the best `k` items for users described by what they clicked; clicked items are left out.

        Parameters
        ----------
        histories
            Item ids of each user, for a model that reads their order the first one first. For a model that reads
            ratings better their ratings by item id: an item without one is taken to be liked
            (:attr:`~coldray.models.base.Recommender.click_value`).
        k
            Length of a list.

        Raises
        ------
        UnknownIdError
            If a history names an item the bundle does not have.
        """
        clicked = self._histories(histories)
        items = self.listed_items
        seen = sp.csr_array(ones_where_stored(clicked)[:, items])
        seen.sort_indices()
        places, scores = top_k(self.model.score(clicked, items), k, exclude=seen)
        indices = np.where(places >= 0, items[places], -1)
        warm = np.bincount(self.interactions.indices, minlength=self.model.n_items) > 0
        return [
            [
                Recommendation(_plain(self.item_ids[i]), float(s), not bool(warm[i]))
                for i, s in zip(row, values, strict=True)
                if i >= 0
            ]
            for row, values in zip(indices, scores, strict=True)
        ]

    def most_clicked(self, k: int) -> list[Recommendation]:
        """Return the `k` items with the most clicks, scored by their logarithm: the list of whom nothing is known."""
        clicks = np.bincount(self.interactions.indices, minlength=self.model.n_items)
        order = self.listed_items[np.argsort(-clicks[self.listed_items], kind="stable")[:k]]
        return [Recommendation(_plain(self.item_ids[i]), float(np.log1p(clicks[i])), clicks[i] == 0) for i in order]

    def history(self, user_id: Any) -> History:
        """Return the ids of the items a user of the bundle clicked, in order if the model reads that.

        For a model that reads ratings, they are by item.

        Raises
        ------
        UnknownIdError
            If the bundle does not know the user.
        """
        user = _position(self.user_ids, user_id, "user")
        row = slice(self.interactions.indptr[user], self.interactions.indptr[user + 1])
        reads, values = self.model.reads, self.interactions.data[row]
        order = np.argsort(places_in(values), kind="stable") if reads.order else np.arange(len(values))
        items = [_plain(self.item_ids[i]) for i in self.interactions.indices[row][order]]
        return dict(zip(items, ratings_in(values)[order].tolist(), strict=True)) if reads.ratings else items

    def add_items(self, records: Mapping[Any, Mapping[str, object]], *, list_text: bool = False) -> Bundle:
        """Return a bundle that also knows new items, given as attribute values by name under the item's id.

        New items come after the known ones, in the order given. Attributes that no model reads are taken in too.

        Parameters
        ----------
        list_text
            Whether a label that is a list written as text is taken whole: for items that were accepted so before.

        Raises
        ------
        UnknownIdError
            If an item is in the bundle already.
        UnknownAttributeError
            If a record has an attribute that items do not have.
        DataFormatError
            If a value is not of its attribute's kind, or is a list of labels written as text.
        """
        for record in records.values() if not list_text else ():
            self.refuse_list_text(record)
        known = set(self.item_ids.tolist())
        repeated = [item for item in records if item in known]
        if repeated:
            raise UnknownIdError(f"Item {repeated[0]!r} is in the bundle already; new items need new ids.")
        new = attributes_from_records(list(records.values()), self.kinds)
        features = self.encoder.transform(new, len(records))
        attributes = {name: joined(attribute, new[name]) for name, attribute in self.attributes.items()}
        added = np.asarray(list(records)).astype(self.item_ids.dtype.kind if self.item_ids.dtype.kind == "U" else int)
        width = len(self.item_ids) + len(records)
        clicks = self.interactions
        return Bundle(
            self.model.add_items(features),
            self.encoder,
            self.user_ids,
            np.concatenate([self.item_ids, added]),
            attributes,
            self.features.append(features),
            sp.csr_array((clicks.data, clicks.indices, clicks.indptr), shape=(clicks.shape[0], width)),
            self.manifest,
        )

    def refuse_list_text(self, record: Mapping[str, object]) -> None:
        """Refuse labels of a new item that are lists written as text, unless there are such labels.

        Raises
        ------
        DataFormatError
            With the way to write them.
        """
        for name, value in record.items():
            attribute = self.attributes.get(name)
            if isinstance(attribute, LabelAttribute):
                refuse_list_text(value, set(attribute.labels.tolist()), name)

    def _histories(self, histories: Sequence[History]) -> sp.csr_array:
        index = {item: i for i, item in enumerate(self.item_ids.tolist())}
        reads, unknown = self.model.reads, self.model.click_value
        rows, columns, ratings, places = [], [], [], []
        for row, history in enumerate(histories):
            rated = history if isinstance(history, Mapping) and reads.ratings else {}
            for place, item in enumerate(dict.fromkeys(history), start=1):
                if item not in index:
                    raise UnknownIdError(f"History {row} names the item {item!r}, which the model does not know.")
                rows.append(row)
                columns.append(index[item])
                ratings.append(rated.get(item, unknown))
                places.append(place)
        shape = (len(histories), len(self.item_ids))
        values = reads.values(np.asarray(ratings, np.float32), np.asarray(places, np.float32))
        return sp.csr_array((values, (rows, columns)), shape=shape)


def fit_bundle(
    model: Recommender[Any], dataset: Dataset, encoder: FeatureEncoder, manifest: Mapping[str, Any]
) -> Bundle:
    """Fit `model` on every interaction of `dataset`, for serving.

    Raises
    ------
    MissingFieldError
        If the model reads ratings or the order of clicks, and the dataset has no ratings or no timestamps.
    """
    interactions = model.reads.of(dataset).interactions
    features = encoder.fit(dataset).transform(dataset.attributes, dataset.n_items)
    model.fit(TrainingSet(interactions, features, "all interactions"))
    return Bundle(
        model,
        encoder,
        dataset.user_ids,
        dataset.item_ids,
        dataset.attributes,
        features,
        interactions,
        manifest,
    )


def even_bundle(bundle: Bundle) -> tuple[Bundle, str | None]:
    """Return a bundle whose lists mix items with clicks and without on one scale, and what its notes say if it changes.

    For the winner of a study that ranked cold items among themselves: how they compare with the others it has not
    measured.
    """
    model = bundle.model.evened(bundle.interactions)
    if model is bundle.model:
        return bundle, None
    note = (
        "Lists mix items with and without clicks so that both reach the top as easily, as the study ranked cold items "
        "among themselves; the order within each kind is that of the study."
    )
    notes = [*bundle.manifest.get("notes", ()), note]
    return replace(bundle, model=model, manifest={**bundle.manifest, "notes": notes}), note


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write `bundle` to `folder`, completely or not at all.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    """
    encoder_state = bundle.encoder.state()
    encoder_arrays = {key: value for key, value in encoder_state.items() if isinstance(value, np.ndarray)}
    arrays = {f"model/{name}": np.ascontiguousarray(value) for name, value in bundle.model.state().items()}
    arrays |= {f"encoder/{name}": np.ascontiguousarray(value) for name, value in encoder_arrays.items()}
    arrays |= {f"embedding/{name}": matrix for name, matrix in _embeddings(bundle).items()}
    with replacing_folder(folder) as temporary:
        safetensors.numpy.save_file(arrays, temporary / FILES[0])
        items = item_table(bundle.item_ids, bundle.attributes, bundle.encoder.kinds)
        items.write_parquet(temporary / FILES[1])
        _users_frame(bundle).write_parquet(temporary / FILES[2])
        manifest = {
            "forms": [asdict(form) for form in bundle.model.forms],
            **bundle.manifest,
            "schema_version": SCHEMA_VERSION,
            "coldray_version": __version__,
            "model": bundle.model.name,
            "config": bundle.model.config.model_dump(mode="json"),
            "encoder": {key: value for key, value in encoder_state.items() if key not in encoder_arrays},
            "files": {name: _sha256(temporary / name) for name in FILES},
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


def load_bundle(folder: Path) -> Bundle:
    """Read a bundle, verifying every file; nothing is unpickled.

    Raises
    ------
    BundleError
        If a file is missing or damaged, or the schema is newer than this version.
    """
    manifest = read_manifest(folder)
    for name in FILES:
        path = folder / name
        if not path.is_file():
            raise BundleError(f"The bundle {folder} lacks {name}.")
        if _sha256(path) != manifest["files"].get(name):
            raise BundleError(f"{path} is damaged: its SHA-256 is not the manifest's. Fetch the bundle again.")
    arrays = safetensors.numpy.load_file(folder / FILES[0])
    items, users = (pl.read_parquet(folder / name, glob=False, hive_partitioning=False) for name in FILES[1:3])
    try:
        encoder_state = dict(manifest["encoder"])
        encoder_state |= _part(arrays, "encoder/")
        encoder = FeatureEncoder.from_state(encoder_state)
        kind = model_type(manifest["model"])
        config = kind.config_type.model_validate(manifest["config"])
        attributes = attributes_of(items, encoder.kinds)
        embedded = {name: _embedding(matrix) for name, matrix in _part(arrays, "embedding/").items()}
        features = encoder.transform(attributes, items.height, encoded=embedded)
        model = kind.from_state(config, _part(arrays, "model/"), features)
    except (KeyError, ValidationError, ColdrayError) as error:
        raise BundleError(f"The bundle {folder} cannot be restored: {error}.") from error
    return Bundle(
        model,
        encoder,
        _ids(users["user_id"]),
        _ids(items["item_id"]),
        attributes,
        features,
        _clicks(users, items.height, model.reads),
        manifest,
    )


def _embeddings(bundle: Bundle) -> dict[str, npt.NDArray[np.float32]]:
    """Return the dense embeddings: to encode them again, a server would need the sentence model and minutes."""
    return {
        name: feature.matrix.toarray()
        for name, feature in bundle.features.features.items()
        if bundle.encoder.methods[name] == "embedding" and isinstance(feature, VectorFeature)
    }


def _embedding(matrix: npt.NDArray[np.float32]) -> VectorFeature:
    return VectorFeature(sp.csr_array(matrix), tuple(str(number) for number in range(matrix.shape[1])))


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle.

    Raises
    ------
    BundleError
        If it is missing, damaged or of another schema.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{folder} is no bundle: manifest.json cannot be read ({error}).") from error
    if not isinstance(manifest, dict):
        raise BundleError(f"{folder} is no bundle: manifest.json holds no fields.")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"The bundle {folder} has schema version {version}; this coldray reads version {SCHEMA_VERSION}. "
            "Use the coldray version that wrote it, or register the model again."
        )
    if not isinstance(manifest.get("files"), dict):
        raise BundleError(f"The manifest of the bundle {folder} lacks 'files', the checksums.")
    return manifest


def _users_frame(bundle: Bundle) -> pl.DataFrame:
    clicks = bundle.interactions
    items = pa.LargeListArray.from_arrays(clicks.indptr.astype(np.int64), clicks.indices.astype(np.int32))
    frame = pl.DataFrame({"user_id": bundle.user_ids, "items": pl.Series(items)})
    reads = bundle.model.reads
    read = {RATINGS: ratings_in} if reads.ratings else {}
    read |= {PLACES: places_in} if reads.order else {}
    ends = clicks.indptr.astype(np.int64)
    return frame.with_columns(
        pl.Series(name, pa.LargeListArray.from_arrays(ends, part(clicks.data).astype(np.float32)))
        for name, part in read.items()
    )


def _ids(ids: pl.Series) -> Ids:
    return ids.to_numpy() if ids.dtype.is_integer() else np.asarray(ids.to_list(), dtype=np.str_)


def _clicks(users: pl.DataFrame, n_items: int, reads: Reads) -> sp.csr_array:
    lengths = users["items"].list.len().to_numpy()
    indptr = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    indices = users["items"].explode(empty_as_null=False).to_numpy().astype(np.int32)
    ones = np.ones(len(indices), np.float32)
    ratings, places = (
        users[name].explode(empty_as_null=False).to_numpy() if name in users.columns else ones
        for name in (RATINGS, PLACES)
    )
    return sp.csr_array((reads.values(ratings, places), indices, indptr), shape=(users.height, n_items))


def _part(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _position(ids: Ids, wanted: Any, kind: str) -> int:
    found = np.flatnonzero(ids == wanted)
    if len(found) == 0:
        raise UnknownIdError(f"The bundle does not know the {kind} {wanted!r}.")
    return int(found[0])


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
