"""Which model is to be served, and where it comes from: an alias in the MLflow registry, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from coldray.errors import BundleError, TrackingError
from coldray.serving.live import ModelVersion
from coldray.tracking.bundle import Bundle, load_bundle

SELF_TEST = 10
"""Items of the list that a bundle has to give before it is served, and users that it is asked for."""


class ModelSource(Protocol):
    """Where the model to be served comes from."""

    def current(self) -> ModelVersion:
        """Return which version is to be served now."""

    def load(self, version: ModelVersion) -> Bundle:
        """Return that version, read and checked."""


class FolderSource:
    """A bundle in a folder; it never changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> ModelVersion:
        """Return the folder's name as the model's, without a version."""
        return ModelVersion(self.folder.resolve().name, "-")

    def load(self, version: ModelVersion) -> Bundle:
        """Return the bundle.

        Raises
        ------
        BundleError
            If it cannot be read or does not pass the self-test.
        """
        return self_tested(load_bundle(self.folder))


class RegistrySource:
    """The version of a registered model that an alias points to."""

    def __init__(self, tracking_uri: str, name: str, alias: str = "champion") -> None:
        self.name, self.alias = name, alias
        self._uri = tracking_uri
        self._client = MlflowClient(tracking_uri, tracking_uri)

    def current(self) -> ModelVersion:
        """Return the version that has the alias.

        Raises
        ------
        TrackingError
            If the registry cannot be reached, or there is no such model or alias.
        """
        try:
            found = self._client.get_model_version_by_alias(self.name, self.alias)
        except MlflowException as error:
            raise TrackingError(
                f"The registry {self._uri} has no model {self.name!r} with the alias {self.alias!r} to serve: "
                f"{error.message}. Run a tuning job, name another with --model-name, or serve a folder with --bundle."
            ) from error
        return ModelVersion(self.name, str(found.version))

    def load(self, version: ModelVersion) -> Bundle:
        """Fetch a version and return its bundle.

        Raises
        ------
        TrackingError
            If it cannot be fetched.
        BundleError
            If it cannot be read or does not pass the self-test.
        """
        address = f"models:/{quote(version.name, safe=' .-_')}/{version.version}"
        try:
            mlflow.set_tracking_uri(self._uri)
            mlflow.set_registry_uri(self._uri)
            folder = Path(mlflow.artifacts.download_artifacts(address))
        except (MlflowException, OSError) as error:
            raise TrackingError(f"{address} cannot be fetched from {self._uri}: {error}") from error
        manifests = sorted(folder.rglob("manifest.json"))
        if not manifests:
            raise BundleError(f"{address} holds no bundle: it has no manifest.json.")
        return self_tested(load_bundle(manifests[0].parent))


def self_tested(bundle: Bundle) -> Bundle:
    """Return the bundle if it gives some of its users finite scores that tell items apart.

    Raises
    ------
    BundleError
        If it does not.
    """
    users = np.flatnonzero(np.diff(bundle.interactions.indptr) > 0)[:SELF_TEST]
    scores = bundle.model.score(bundle.interactions[users], np.arange(bundle.model.n_items))
    if not np.isfinite(scores).all():
        raise BundleError("The model did not pass its self-test: a score is not a finite number. Register it again.")
    if len(users) and bundle.model.n_items > 1 and np.ptp(scores, axis=1).max() == 0:
        raise BundleError("The model did not pass its self-test: it scores all items alike. Register it again.")
    return bundle


def latest_champion(tracking_uri: str, alias: str = "champion") -> str:
    """Return the registered model whose version with the alias is the youngest.

    Raises
    ------
    TrackingError
        If the registry cannot be reached or no model has the alias.
    """
    client = MlflowClient(tracking_uri, tracking_uri)
    try:
        models = [model for model in client.search_registered_models() if alias in model.aliases]
        made = {
            model.name: client.get_model_version(model.name, str(model.aliases[alias])).creation_timestamp
            for model in models
        }
    except MlflowException as error:
        raise TrackingError(f"The registry {tracking_uri} cannot be read: {error.message}") from error
    if not made:
        raise TrackingError(
            f"The registry {tracking_uri} has no model with the alias {alias!r}. Run a tuning job first (make tune), "
            "or serve a folder with --bundle."
        )
    latest: str = max(made, key=lambda name: made[name])
    return latest
