"""Whether a chosen configuration lies on the edge of what was searched: beyond it something better may lie.

A value of a range is on its edge within :data:`_EDGE_SHARE` of either end (in logarithms where it was drawn so), one of
a list of numbers if it is the smallest or the largest of them. Where the parameter itself ends there, as a weight does
at 0, nothing lies beyond, and the edge is natural: it is not told.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard

from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.experiments.space import is_range
from coldray.models.base import ModelConfig

_EDGE_SHARE = 0.05
"""Share of a range, at either end, that counts as its edge."""
_BEYOND = 1e-6
"""How far beyond an end, as a share of it, a value is looked for that the parameter takes; a whole number is one on."""


@dataclass(frozen=True)
class Edge:
    """One parameter of a chosen configuration that is at an end of its range."""

    parameter: str
    value: float
    end: Literal["low", "high"]
    searched: str
    """The range or list, as the study file has it."""

    @property
    def told(self) -> str:
        """The finding in one sentence."""
        side = {"low": "lower", "high": "upper"}[self.end]
        return (
            f"{self.parameter}={self.value:g} is at the {side} end of {self.searched}: a better value may lie beyond. "
            "Widen it."
        )


def found_edges(
    space: Mapping[str, Any], chosen: Mapping[str, Any], config_type: type[ModelConfig]
) -> tuple[Edge, ...]:
    """Return where a chosen configuration is on the edge of a space, and the parameter goes on beyond it.

    Parameters
    ----------
    space
        What was searched, as in a study file.
    chosen
        The configuration, of which parameters that are not numbers have no edge.
    config_type
        Type of the configurations, which says what a parameter takes.
    """
    found = []
    for name, spec in space.items():
        value = chosen.get(name)
        if not is_range(spec) or not _is_number(value):
            continue
        kind, values = next(iter(spec.items()))
        for end in _ends(kind, values, float(value)):
            limit = (min if end == "low" else max)(values)
            if any(_is_valid(config_type, chosen, name, beyond) for beyond in _beyond(limit, end)):
                found.append(Edge(name, float(value), end, f"{kind} {values!r}"))
    return tuple(found)


def edge_words(edges: tuple[Edge, ...]) -> str:
    """Return the parameters with their values and ends, for a tag or a cell of a table."""
    return "; ".join(f"{edge.parameter}={edge.value:g} ({edge.end} end of {edge.searched})" for edge in edges)


def _ends(kind: str, values: list[Any], value: float) -> Iterator[Literal["low", "high"]]:
    """Yield the end that a value is at; neither for a list that holds anything but numbers, or only one."""
    if kind == "choice":
        if not all(map(_is_number, values)) or len(set(values)) < 2:
            return
        low = high = 0.0
    else:
        low = high = _EDGE_SHARE
    scale = math.log if kind == "log_uniform" else float
    first, last = scale(min(values)), scale(max(values))
    share = (scale(value) - first) / (last - first)
    if share <= low:
        yield "low"
    if share >= 1 - high:
        yield "high"


def _beyond(limit: float, end: Literal["low", "high"]) -> tuple[float, ...]:
    sign = -1 if end == "low" else 1
    near = limit + sign * _BEYOND * max(abs(limit), _BEYOND)
    return (near, int(limit) + sign) if float(limit).is_integer() else (near,)


def _is_valid(config_type: type[ModelConfig], chosen: Mapping[str, Any], name: str, value: float) -> bool:
    try:
        config_type.model_validate({**chosen, name: value})
    except (ValidationError, ConfigError):
        return False
    return True


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
