"""A pipeline of two models in a study file, ``pipeline: {retrieve: two_tower, k: 500, rank: deepfm}``, and its name.

What it does is in :mod:`~coldray.models.two_stage`, which takes the second that torch takes to load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest

Stage: TypeAlias = Literal["retrieve", "rank"]
STAGES: tuple[Stage, Stage] = ("retrieve", "rank")
JOINT = "+"
"""What joins the names of the stages of a pipeline."""
_SHORT = ("k", "weight")
"""Parameters of the pipeline itself, which may be said beside its stages."""


def with_pipeline(study: Any) -> Any:
    """Return the fields of a study file with its pipeline, if it has one, as a model and values of the space.

    Raises
    ------
    ConfigError
        If the pipeline lacks a stage, has another field, or stands beside a `model`.
    """
    if not isinstance(study, Mapping) or study.get("pipeline") is None:
        return study
    given = study["pipeline"]
    if not isinstance(given, Mapping) or not all(isinstance(given.get(stage), str) for stage in STAGES):
        raise ConfigError(
            f"pipeline names a model for each stage, {{retrieve: two_tower, k: 500, rank: deepfm}}, not {given!r:.60}."
        )
    known = (*STAGES, *_SHORT)
    for name in given:
        if name not in known:
            raise ConfigError(
                f"pipeline.{name} is no field of a pipeline.{nearest(str(name), known)} Fields: {choices(known)}. "
                f"Parameters of a stage are in space, such as {STAGES[0]}__{name}."
            )
    name = JOINT.join(given[stage] for stage in STAGES)
    if study.get("model", name) != name:
        raise ConfigError(f"model: {study['model']!r} stands beside the pipeline {name}. Leave one of them out.")
    space = dict(study.get("space") or {})
    for field in _SHORT:
        if field in given and space.setdefault(field, given[field]) != given[field]:
            raise ConfigError(f"pipeline.{field} is {given[field]!r}, and space.{field} {space[field]!r}. Give one.")
    rest = {field: value for field, value in study.items() if field != "pipeline"}
    return {**rest, "model": name, "space": space}
