"""Which model is to be served, and where it comes from: an alias in the MLflow registry, or a folder."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import mlflow
import numpy as np
from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from coldray.bundle.io import load_bundle
from coldray.bundle.model import Bundle
from coldray.core.errors import BundleError, TrackingError, UnknownIdError
from coldray.serving.live.model import ModelVersion
from coldray.tracking.access import open_client
from coldray.tracking.placement import NOT_THERE, SYNTHETIC_TAG, champion_key

logger = logging.getLogger("coldray.serving")
_SELF_TEST = 10
"""Items of the list that a bundle has to give before it is served, and users that it is asked for."""
_LISTED = 100
"""Versions of a model that are told, the youngest ones."""
_LONGEST_NUMBER = 18
"""Digits of a version."""


@dataclass(frozen=True)
class _RegisteredVersion:
    """A version that may be asked for by name."""

    version: ModelVersion
    aliases: tuple[str, ...] = ()


class ModelSource(Protocol):
    """Where the model to be served comes from."""

    def current(self) -> ModelVersion:
        """Return which version is to be served now."""

    def aliased(self, alias: str) -> ModelVersion | None:
        """Return the version of the same model that has an alias, or None if none has it."""

    def named(self, version: str) -> ModelVersion:
        """Return the version of the same model that is called so."""

    def registered(self) -> list[_RegisteredVersion]:
        """Return the versions of the model, youngest first."""

    def load(self, version: ModelVersion) -> Bundle:
        """Return that version, read and checked."""


class FolderSource:
    """A bundle in a folder; it never changes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def current(self) -> ModelVersion:
        """Return the folder's name as the model's, without a version."""
        return ModelVersion(self.folder.resolve().name, "-")

    def aliased(self, alias: str) -> None:
        """Return None: a folder has no aliases."""

    def named(self, version: str) -> ModelVersion:
        """Return the folder's version, which is called ``-``.

        Raises
        ------
        UnknownIdError
            If another one is asked for.
        """
        if version != self.current().version:
            raise _no_version(self.current().name, version)
        return self.current()

    def registered(self) -> list[_RegisteredVersion]:
        """Return the one version that there is."""
        return [_RegisteredVersion(self.current())]

    def load(self, version: ModelVersion) -> Bundle:
        """Return the bundle.

        Raises
        ------
        BundleError
            If it cannot be read or does not pass the self-test.
        """
        return _self_tested(load_bundle(self.folder))


class RegistrySource:
    """The version of a registered model that an alias points to."""

    def __init__(self, tracking_uri: str, name: str, alias: str = "champion") -> None:
        self.name, self.alias = name, alias
        self._uri = tracking_uri
        self._client = open_client(tracking_uri)

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
        return self._version(found)

    def _version(self, found: MlflowVersion) -> ModelVersion:
        return ModelVersion(self.name, str(found.version), champion_key(found))

    def aliased(self, alias: str) -> ModelVersion | None:
        """Return the version that has an alias, or None if none has it.

        Raises
        ------
        TrackingError
            If the registry cannot be reached.
        """
        try:
            found = self._client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                return None
            raise TrackingError(f"The registry {self._uri} cannot be read: {error.message}") from error
        return self._version(found)

    def named(self, version: str) -> ModelVersion:
        """Return the version of a number.

        Raises
        ------
        UnknownIdError
            If there is no such version.
        TrackingError
            If the registry cannot be reached.
        """
        if not (version.isascii() and version.isdigit() and len(version) <= _LONGEST_NUMBER):
            raise _no_version(self.name, version)
        try:
            found = self._client.get_model_version(self.name, version)
        except MlflowException as error:
            if error.error_code in NOT_THERE:
                raise _no_version(self.name, version) from error
            raise TrackingError(f"The registry {self._uri} cannot be read: {error.message}") from error
        return self._version(found)

    def registered(self) -> list[_RegisteredVersion]:
        """Return the `_LISTED` youngest versions, youngest first.

        Raises
        ------
        TrackingError
            If the registry cannot be reached.
        """
        try:
            aliases = self._client.get_registered_model(self.name).aliases
            found = self._client.search_model_versions(
                f"name = '{self.name}'", order_by=["version_number DESC"], max_results=_LISTED
            )
        except MlflowException as error:
            raise TrackingError(f"The registry {self._uri} cannot be read: {error.message}") from error
        return [
            _RegisteredVersion(
                self._version(one),
                tuple(sorted(alias for alias, version in aliases.items() if str(version) == str(one.version))),
            )
            for one in found
        ]

    def load(self, version: ModelVersion) -> Bundle:
        """Fetch a version and return its bundle.

        Raises
        ------
        TrackingError
            If it cannot be fetched, or another version has its number by now.
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
        bundle = _self_tested(load_bundle(manifests[0].parent))
        if version.identity and self.named(version.version) != version:
            raise TrackingError(f"{address} was deleted and made again while it was fetched; it is fetched again.")
        return bundle


def _no_version(name: str, version: str) -> UnknownIdError:
    return UnknownIdError(f"version: there is no version {version!r} of {name!r}. GET /v1/versions lists them.")


def _self_tested(bundle: Bundle) -> Bundle:
    """Return the bundle if it gives some of its users finite scores that tell items apart.

    Raises
    ------
    BundleError
        If it does not.
    """
    users = np.flatnonzero(np.diff(bundle.interactions.indptr) > 0)[:_SELF_TEST]
    scores = bundle.model.score(bundle.interactions[users], np.arange(bundle.model.n_items))
    if not np.isfinite(scores).all():
        raise BundleError("The model did not pass its self-test: a score is not a finite number. Register it again.")
    if len(users) and bundle.model.n_items > 1 and np.ptp(scores, axis=1).max() == 0:
        raise BundleError("The model did not pass its self-test: it scores all items alike. Register it again.")
    return bundle


def latest_champion(tracking_uri: str, alias: str = "champion") -> str:
    """Return the registered model whose version with the alias is the youngest; one of real data, if there is any.

    A study of the generated sample that came last would otherwise be served in the place of what is in use.

    Raises
    ------
    TrackingError
        If the registry cannot be reached or no model has the alias.
    """
    client = open_client(tracking_uri)
    try:
        versions = [
            client.get_model_version(model.name, str(model.aliases[alias]))
            for model in client.search_registered_models()
            if alias in model.aliases
        ]
        ranked = {found.name: (not _is_generated(client, found), found.creation_timestamp) for found in versions}
    except MlflowException as error:
        raise TrackingError(f"The registry {tracking_uri} cannot be read: {error.message}") from error
    if not ranked:
        raise TrackingError(
            f"The registry {tracking_uri} has no model with the alias {alias!r}. Run a tuning job first (make tune), "
            "or serve a folder with --bundle."
        )
    latest: str = max(ranked, key=lambda name: ranked[name])
    passed = sorted((name for name in ranked if ranked[name][1] > ranked[latest][1]), key=lambda name: ranked[name])
    if passed:
        logger.warning("%s is of generated data and passed over for %s; name it to have it.", passed[-1], latest)
    return latest


def _is_generated(client: MlflowClient, version: MlflowVersion) -> bool:
    """Tell whether a version is known to be of generated data: by its tag, or that of its run."""
    told = version.tags.get(SYNTHETIC_TAG)
    if told is None and version.run_id:
        try:
            told = client.get_run(version.run_id).data.tags.get("dataset.synthetic")
        except MlflowException:  # the run was deleted
            told = None
    return told == "true"
