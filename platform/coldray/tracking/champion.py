"""The present champion of a registered model: what it is, what it is configured like, and of which data."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from coldray.bundle.family import Family
from coldray.bundle.io import FILES, read_manifest
from coldray.core.errors import BundleError, TrackingError
from coldray.models.registry import model_type
from coldray.tracking.access import open_client
from coldray.tracking.placement import champion_key, present_version
from coldray.tracking.server import active_server

_MANIFEST = "manifest.json"
_DEPTH = 3
"""Folders below a model's artifacts in which its bundle is looked for."""


@dataclass(frozen=True)
class Champion:
    """The version that has the alias now."""

    version: str
    key: str
    """As of :func:`~coldray.tracking.placement.champion_key`."""
    manifest: Mapping[str, Any]
    family: Family

    @property
    def model(self) -> str:
        """Name of the model."""
        return str(self.manifest["model"])

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the model."""
        return model_type(self.model).config_type.stored(self.manifest["config"])

    @property
    def features(self) -> dict[str, Any]:
        """How its items are encoded: fields of :class:`~coldray.features.builder.FeatureConfig`."""
        return dict(self.manifest["encoder"]["config"])

    @property
    def user_features(self) -> dict[str, Any] | None:
        """How its users are encoded, the same fields; None if it knows them by their clicks alone."""
        people = self.manifest.get("people")
        return None if people is None else dict(people["config"])

    @property
    def moment_features(self) -> dict[str, Any] | None:
        """How moments of clicks are encoded, the same fields; None if it reads nothing of them."""
        moments = self.manifest.get("moments")
        return None if moments is None else {**moments["config"], "attributes": moments["moment_names"]}


def champion_version(tracking_uri: str, name: str) -> tuple[str, str] | None:
    """Return the number and the key of the champion of a registered model; None if there is none.

    Raises
    ------
    TrackingError
        If the registry cannot be asked.
    """
    try:
        found = present_version(open_client(tracking_uri), name)
    except (MlflowException, requests.RequestException, OSError) as error:
        raise TrackingError(f"The registry {tracking_uri} cannot be asked for the champion of {name!r}.") from error
    return None if found is None else (str(found.version), champion_key(found))


def read_champion(tracking_uri: str, name: str, version: str, key: str) -> Champion:
    """Fetch what is known of a version: its manifest, its items and the type of its users, but not its arrays.

    Raises
    ------
    BundleError
        If its files are gone, or are no bundle that this version reads.
    """
    with active_server(tracking_uri), tempfile.TemporaryDirectory(prefix="coldray-champion-") as folder:
        try:
            repository: Any = get_artifact_repository(f"models:/{quote(name, safe=' .-_')}/{version}")
            place = _bundle_in(repository)
            for file in (_MANIFEST, *FILES[1:]):
                repository.download_artifacts(f"{place}{file}", folder)
        except (MlflowException, requests.RequestException, OSError) as error:
            raise BundleError(f"its files cannot be fetched ({str(error).splitlines()[0]})") from error
        found = next(Path(folder).rglob(_MANIFEST)).parent
        return Champion(version, key, read_manifest(found), Family.of_folder(found))


def _bundle_in(repository: Any) -> str:
    """Return the folder of a bundle in a model's artifacts, with a slash behind it; empty if they are the bundle."""
    folders = [""]
    for _ in range(_DEPTH):
        listed = {folder: repository.list_artifacts(folder or None) for folder in folders}
        for folder, entries in listed.items():
            if any(Path(entry.path).name == _MANIFEST for entry in entries):
                return f"{folder}/" if folder else ""
        folders = [entry.path for entries in listed.values() for entry in entries if entry.is_dir]
    raise BundleError("its artifacts hold no bundle")
