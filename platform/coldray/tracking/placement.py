"""The alias that a version gets when it is registered: as it was decided, unless the registry has moved on since.

A decision is made when a study is tested, and a spool may send it hours later. The champion that a version was held
against is therefore named in the record, and a version takes its place only while that one is the champion.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion as MlflowVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from coldray.experiments.promotion.outcome import CHALLENGER, CHAMPION, Place
from coldray.tracking.limits import TAG_LIMIT, taken_text

NOT_THERE = frozenset({"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST"})
"""What a registry says when it is well and has no such model, alias or version."""
ALIAS_TAG, REASON_TAG, SYNTHETIC_TAG = "coldray.alias", "coldray.promotion", "coldray.synthetic"
DATASET_TAG, DIGEST_TAG = "coldray.dataset", "coldray.manifest"


@dataclass(frozen=True)
class Placement:
    """A version that was registered."""

    name: str
    version: str
    alias: Place
    reason: str

    @property
    def words(self) -> str:
        """What a person is told."""
        return f"registered {self.name} version {self.version}, alias {self.alias}: {self.reason}"


def champion_key(version: MlflowVersion) -> str:
    """Return what a version is, whatever its number: one that was deleted and made again has another key."""
    return f"{version.version} of run {version.run_id} at {version.creation_timestamp}"


def present_version(client: MlflowClient, name: str, alias: str = CHAMPION) -> MlflowVersion | None:
    """Return the version of a model that has an alias; None if none has it, or there is no such model.

    Raises
    ------
    MlflowException
        If the registry cannot be asked.
    """
    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in NOT_THERE:
            return None
        raise


def place(client: MlflowClient, name: str, version: str, promotion: Mapping[str, Any] | None) -> Placement:
    """Give a version that was registered its alias, and write why to its tags and those of its run.

    Parameters
    ----------
    promotion
        Fields of a :class:`~coldray.experiments.promotion.outcome.Promotion`; None of a record that was made without
        one: it was held against nobody.
    """
    made = client.get_model_version(name, version)
    present = present_version(client, name)
    alias, reason = _decided(promotion or {}, present, made)
    client.set_registered_model_alias(name, alias, version)
    tags = {ALIAS_TAG: alias, REASON_TAG: taken_text(reason, TAG_LIMIT)}
    for tag, text in tags.items():
        client.set_model_version_tag(name, version, tag, text)
        if made.run_id:
            client.set_tag(made.run_id, tag, text)
    return Placement(name, version, alias, reason)


def _decided(promotion: Mapping[str, Any], present: MlflowVersion | None, made: MlflowVersion) -> tuple[Place, str]:
    """Return the alias, and why."""
    held_against, reason = promotion.get("champion"), str(promotion.get("reason", "it was held against no champion"))
    unchanged = present is not None and champion_key(present) in (held_against, champion_key(made))
    if promotion.get("alias", CHAMPION) == CHALLENGER:
        return CHALLENGER, reason
    if promotion.get("mode") == "always" or unchanged:
        return CHAMPION, reason
    if present is None:
        if held_against is None:
            return CHAMPION, reason if promotion.get("asked", False) else "there is no champion of that name"
        return CHAMPION, f"the champion that it was held against is none any more ({reason})"
    if not promotion.get("asked", False):
        return CHALLENGER, (
            f"it was not held against the champion, version {present.version}, as the registry could not be asked when "
            "it was tested; run the study again, or move the alias"
        )
    was = f"it was {held_against}" if held_against else "there was none"
    return CHALLENGER, (
        f"the champion changed since it was tested: {was}, it is {champion_key(present)}; run the study again, or move "
        "the alias"
    )


def version_tags(manifest: Path) -> dict[str, str]:
    """Return the tags of a version that say what is in it: its data, and the digest of its manifest."""
    content = manifest.read_bytes()
    try:
        data = dict(json.loads(content).get("dataset", {}))
    except ValueError:  # damaged, which is told where it is read
        data = {}
    return {
        DIGEST_TAG: hashlib.sha256(content).hexdigest(),
        **({DATASET_TAG: str(data["name"])} if "name" in data else {}),
        **({SYNTHETIC_TAG: str(bool(data["synthetic"])).lower()} if "synthetic" in data else {}),
    }
