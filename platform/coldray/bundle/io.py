"""The model bundle: what is logged, registered and served.

A folder of plain files, read without unpickling anything:

- ``manifest.json``: schema version, model and configuration, encoders, dataset fingerprint, protocol, metrics, and the
  SHA-256 of every other file;
- ``arrays.safetensors``: the model's arrays, those of the encoders, and embeddings of texts;
- ``items.parquet``: item ids and attributes, those that no model reads included; ``users.parquet``: user ids and their
  clicks, as item indices, with the ratings, the places in their order or the times, and the attributes of users, if
  the model reads them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import safetensors
import safetensors.numpy
import scipy.sparse as sp
from pydantic import ValidationError

from coldray import __version__
from coldray.bundle.item_table import attribute_columns, attributes_of, item_table
from coldray.bundle.model import Bundle, History
from coldray.bundle.people import People, PeopleMoments
from coldray.core.errors import BundleError, ColdrayError, ConfigError
from coldray.core.files import replacing_folder
from coldray.data.dataset import Ids
from coldray.data.signals import Reads, places_in, ratings_in
from coldray.features.builder import FeatureEncoder
from coldray.features.feature_set import VectorFeature
from coldray.features.known_clicks import KnownClicks
from coldray.features.moments import MomentEncoder
from coldray.models.registry import MODELS, model_type

__all__ = [
    "FILES",
    "RATINGS",
    "Bundle",
    "History",
    "check_free_for_bundle",
    "load_bundle",
    "read_manifest",
    "save_bundle",
]
"""Models that earlier versions registered hold code that imports Bundle and History from here."""
_SCHEMA_VERSION = 1
FILES = ("arrays.safetensors", "items.parquet", "users.parquet")
RATINGS, _PLACES, _TIMES, _RATED = "ratings", "places", "times", "rated"
"""The columns of users.parquet beside their items, for a model that reads ratings, or the order of clicks; or moments,
whose features are made of the times and the ratings of clicks before, NaN where unknown."""
_PEOPLE, MOMENTS = "people", "moments"
"""Parts of the manifest, and what names of arrays begin with: how attributes of users, and moments, are encoded."""


def check_free_for_bundle(folder: Path) -> None:
    """Raise :class:`ConfigError` if `folder` holds something else than a bundle, which would be replaced."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "manifest.json").is_file():
        raise ConfigError(f"{folder} holds files and is no bundle, which would be replaced. Name another folder.")


def save_bundle(bundle: Bundle, folder: Path) -> Path:
    """Write `bundle` to `folder`, completely or not at all; an older bundle there is replaced.

    Raises
    ------
    ConfigError
        If the folder holds something else.
    OutputError
        If the folder cannot be written, or is a file.
    """
    check_free_for_bundle(folder)
    encoder_state = bundle.encoder.state()
    encoder_arrays = {key: value for key, value in encoder_state.items() if isinstance(value, np.ndarray)}
    arrays = {f"model/{name}": np.ascontiguousarray(value) for name, value in bundle.model.state().items()}
    arrays |= {f"encoder/{name}": np.ascontiguousarray(value) for name, value in encoder_arrays.items()}
    arrays |= {f"embedding/{name}": matrix for name, matrix in _embeddings(bundle).items()}
    described = {name: _divided(state) for name, state in _asker_states(bundle).items()}
    for name, (of_encoder, _) in described.items():
        arrays |= {f"{name}/{key}": np.ascontiguousarray(value) for key, value in of_encoder.items()}
    with replacing_folder(folder) as temporary:
        safetensors.numpy.save_file(arrays, temporary / FILES[0])
        items = item_table(bundle.item_ids, bundle.attributes, bundle.encoder.kinds)
        items.write_parquet(temporary / FILES[1])
        _users_frame(bundle).write_parquet(temporary / FILES[2])
        manifest = {
            "forms": [asdict(form) for form in bundle.model.forms],
            **bundle.manifest,
            "schema_version": _SCHEMA_VERSION,
            "coldray_version": __version__,
            "model": bundle.model.name,
            **({"package": package} if (package := MODELS.package_of(bundle.model.name)) else {}),
            "config": bundle.model.config.model_dump(mode="json"),
            "encoder": {key: value for key, value in encoder_state.items() if key not in encoder_arrays},
            **{name: values for name, (_, values) in described.items()},
            "files": {name: _sha256(temporary / name) for name in FILES},
        }
        (temporary / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), encoding="utf-8")
    return folder


def load_bundle(folder: str | Path) -> Bundle:
    """Read a bundle, verifying every file; nothing is unpickled.

    Raises
    ------
    BundleError
        If a file is missing or damaged, or the schema is newer than this version.

    Examples
    --------
    >>> import coldray
    >>> bundle = coldray.fit("popularity", coldray.load_dataset("sample"))
    >>> coldray.load_bundle(bundle.save("bundle"))
    Bundle of popularity: 600 users, 500 items (0 cold), fitted on all interactions of sample
    """
    folder = Path(folder)
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
        if "package" in manifest and manifest["model"] not in MODELS:
            name, version = manifest["package"].rsplit(" ", 1)
            raise BundleError(f"its model {manifest['model']!r} is of {name} {version}. pip install {name}=={version}")
        kind = model_type(manifest["model"])
        config = kind.config_type.model_validate(kind.config_type.stored(manifest["config"]))
        attributes = attributes_of(items, encoder.kinds)
        embedded = {name: _embedding(matrix) for name, matrix in _part(arrays, "embedding/").items()}
        features = encoder.transform(attributes, items.height, encoded=embedded)
        model = kind.from_state(config, _part(arrays, "model/"), features)
        people = _people(manifest, arrays, users) if _PEOPLE in manifest else None
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
        people=people,
    )


def _asker_states(bundle: Bundle) -> dict[str, dict[str, Any]]:
    """Return the states of what encodes who asks, by the name of their part of the manifest and the arrays."""
    people = bundle.people
    if people is None:
        return {}
    moments = people.moments
    return {_PEOPLE: people.encoder.state(), **({} if moments is None else {MOMENTS: moments.encoder.state()})}


def _divided(state: Mapping[str, Any]) -> tuple[dict[str, npt.NDArray[Any]], dict[str, Any]]:
    """Return the arrays of a state, and the rest of it."""
    arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
    return arrays, {name: value for name, value in state.items() if name not in arrays}


def _people(manifest: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]], users: pl.DataFrame) -> People:
    encoder = FeatureEncoder.from_state({**manifest[_PEOPLE], **_part(arrays, f"{_PEOPLE}/")})
    attributes = attributes_of(users, encoder.kinds)
    features = encoder.transform(attributes, users.height)
    if MOMENTS not in manifest:
        return People(encoder, attributes, features)
    of_moments = MomentEncoder.from_state({**manifest[MOMENTS], **_part(arrays, f"{MOMENTS}/")})
    ends = np.concatenate([[0], np.cumsum(users["items"].list.len().to_numpy(), dtype=np.int64)])
    items, times, ratings = (users[name].explode(empty_as_null=False).to_numpy() for name in ("items", _TIMES, _RATED))
    rows = np.repeat(np.arange(users.height), np.diff(ends))
    known = KnownClicks(rows, items.astype(np.intp), times.astype(np.float64), ratings.astype(np.float64))
    return People(encoder, attributes, features, PeopleMoments(of_moments, known, ends))


def _embeddings(bundle: Bundle) -> dict[str, npt.NDArray[np.float32]]:
    """Return the dense embeddings: to encode them again, a server would need the sentence model and minutes."""
    return {
        name: feature.matrix.toarray()
        for name, feature in bundle.features.features.items()
        if bundle.encoder.methods[name] == "embedding" and isinstance(feature, VectorFeature)
    }


def _embedding(matrix: npt.NDArray[np.float32]) -> VectorFeature:
    return VectorFeature(sp.csr_array(matrix), tuple(str(number) for number in range(matrix.shape[1])), dense=True)


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
    if version != _SCHEMA_VERSION:
        raise BundleError(
            f"The bundle {folder} has schema version {version}; this coldray reads version {_SCHEMA_VERSION}. "
            "Use the coldray version that wrote it, or register the model again."
        )
    if not isinstance(manifest.get("files"), dict):
        raise BundleError(f"The manifest of the bundle {folder} lacks 'files', the checksums.")
    return manifest


def _users_frame(bundle: Bundle) -> pl.DataFrame:
    clicks = bundle.interactions
    items = pa.LargeListArray.from_arrays(clicks.indptr.astype(np.int64), clicks.indices.astype(np.int32))
    known = {} if bundle.people is None else attribute_columns(bundle.people.attributes, bundle.people.encoder.kinds)
    frame = pl.DataFrame({"user_id": bundle.user_ids, "items": pl.Series(items), **known})
    reads = bundle.model.reads
    read = {RATINGS: ratings_in} if reads.worth else {}
    read |= {_PLACES: places_in} if reads.order else {}
    columns: dict[str, npt.NDArray[Any]] = {name: part(clicks.data).astype(np.float32) for name, part in read.items()}
    if bundle.people is not None and bundle.people.moments is not None:
        columns |= {_TIMES: bundle.people.moments.known.times, _RATED: bundle.people.moments.known.ratings}
    ends = clicks.indptr.astype(np.int64)
    return frame.with_columns(
        pl.Series(name, pa.LargeListArray.from_arrays(ends, values)) for name, values in columns.items()
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
        for name in (RATINGS, _PLACES)
    )
    return sp.csr_array((reads.values(ratings, places), indices, indptr), shape=(users.height, n_items))


def _part(arrays: Mapping[str, npt.NDArray[Any]], prefix: str) -> dict[str, npt.NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
