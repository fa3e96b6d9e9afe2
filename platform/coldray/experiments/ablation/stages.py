"""The stages of an ablation: a baseline and what is added to it, each tuned on validation data given those before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coldray.core.errors import ConfigError
from coldray.experiments.edges import Edge, found_edges
from coldray.experiments.space import StudyConfig, drawn_points, grid_points, is_range
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.plus import REFINEMENTS, MARecPlus, MARecPlusConfig

BASELINE = "MARec"


@dataclass(frozen=True)
class Stage:
    """One row of the ablation."""

    name: str
    """``MARec``, ``+CA``, …"""
    prefix: str | None
    """Prefix of the parameters that it adds; None for the baseline, which has all others."""


def stages() -> tuple[Stage, ...]:
    """Return the stages in order: the baseline, then one refinement more each time."""
    added = list(REFINEMENTS)
    refined = tuple(
        Stage("".join(f"+{prefix.upper()}" for prefix in added[: i + 1]), prefix) for i, prefix in enumerate(added)
    )
    return (Stage(BASELINE, None), *refined)


def stage_of(name: str) -> str | None:
    """Return the prefix of a parameter, None for those of the baseline."""
    return next((prefix for prefix in REFINEMENTS if name.startswith(f"{prefix}_")), None)


def check_stages(config: StudyConfig) -> None:
    """Find out whether a study file can be tuned stage by stage.

    Raises
    ------
    ConfigError
        If it is of another model, a parameter has a range instead of listed values or is none that a stage could
        choose, or too few configurations are asked for to try a refinement.
    """
    if config.model != MARecPlus.name:
        raise ConfigError(
            f"An ablation is of the model {MARecPlus.name!r}; the study {config.name!r} tunes {config.model!r}."
        )
    for name, spec in config.space.items():
        if is_range(spec) and "choice" not in spec:
            raise ConfigError(
                f"space.{name}: an ablation tries listed values, {{choice: […]}}, not {next(iter(spec))}. List them."
            )
        if name == "train_seed":
            raise ConfigError("space.train_seed: an ablation trains with the seed of each split. Leave it out.")
        if name in _of_training() and is_range(spec) and len(spec["choice"]) > 1:
            raise ConfigError(
                f"space.{name}: it belongs to the training of all refinements, and the baseline, tuned first, cannot "
                f"choose among {spec['choice']!r}. Give one value."
            )
    if config.splits.users is not None:
        raise ConfigError("splits.users: an ablation measures all users of a split. Leave it out.")
    if config.search.trials < 2:
        raise ConfigError(
            "search.trials: 1 leaves a stage no room but for the weight 0, without its refinement. Use 2 or more."
        )


def _of_training() -> set[str]:
    """Return the parameters that all refinements are trained with, none of which the baseline depends on."""
    own = set(MARecPlusConfig.model_fields) - set(MARecConfig.model_fields)
    return {name for name in own if stage_of(name) is None}


def stage_configurations(config: StudyConfig, stage: Stage, chosen: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations a stage is tuned over.

    What earlier stages chose stays; refinements of later stages have the weight 0. There are at most `search.trials`
    of them, drawn from all combinations with the study's seed. Those of a refinement begin with its weight 0, so a
    stage that does not help on validation data is left out.

    Parameters
    ----------
    chosen
        Parameters that earlier stages chose.
    """
    prefixes = list(REFINEMENTS)
    reached = prefixes.index(stage.prefix) if stage.prefix else -1
    later = {f"{prefix}_weight": 0.0 for prefix in prefixes[reached + 1 :]}
    own = {name: spec for name, spec in config.space.items() if stage_of(name) == stage.prefix}
    kept = {name: value for name, value in chosen.items() if stage_of(name) != stage.prefix}  # without the weight 0
    points = [{**kept, **point, **later} for point in grid_points(own)]
    left_out = [{**kept, **later, f"{stage.prefix}_weight": 0.0}] if stage.prefix else []
    trained = [point for point in points if not stage.prefix or point.get(f"{stage.prefix}_weight", 1) > 0]
    return [*left_out, *drawn_points(trained, config.search.trials - len(left_out), config.search.seed)]


def neighbours(config: StudyConfig, stage: Stage, best: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the configurations of a stage that differ from `best` in one of its own parameters.

    Of a refinement that was left out, with the weight 0, there are none: it has nothing else to choose.
    """
    weight = f"{stage.prefix}_weight"
    if stage.prefix and best.get(weight, 1.0) == 0:
        return []
    own = {name: spec for name, spec in config.space.items() if stage_of(name) == stage.prefix and is_range(spec)}
    return [
        {**best, name: value}
        for name, spec in own.items()
        for value in spec["choice"]
        if value != best[name] and not (name == weight and value == 0)
    ]


def beside_edge(config: StudyConfig, edge: Edge, chosen: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the configuration with the value next to an end of a list; None where that is the other end."""
    values = sorted(config.space[edge.parameter]["choice"])
    if len(values) < 3:
        return None
    return {**chosen, edge.parameter: values[1] if edge.end == "low" else values[-2]}


def stage_edges(config: StudyConfig, stage: Stage, chosen: Mapping[str, Any]) -> tuple[Edge, ...]:
    """Return which of the parameters that a stage chose are on the edge of what it tried.

    Those of a refinement that was left out, with the weight 0, are no choice.
    """
    if stage.prefix and chosen.get(f"{stage.prefix}_weight", 1.0) == 0:
        return ()
    own = {name: spec for name, spec in config.space.items() if stage_of(name) == stage.prefix}
    return found_edges(own, chosen, MARecPlusConfig)
