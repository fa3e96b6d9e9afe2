"""What the largest fit of a study holds in memory, before any is begun."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from coldray.core.errors import ConfigError
from coldray.experiments.space import StudyConfig, is_range


def largest_fit_bytes(config: StudyConfig, n_users: int, n_items: int) -> int:
    """Return the most memory that a fit with parameters of the space takes, in bytes."""
    largest = largest_parameters(config, n_users, n_items)
    return 0 if largest is None else config.configured(largest).memory_bytes(n_users, n_items)


def largest_parameters(config: StudyConfig, n_users: int, n_items: int) -> dict[str, Any] | None:
    """Return the parameters of the space with which a fit takes most memory; None if they do not go together.

    One parameter after the other is given that of its values, or the end of its range, with which the fit takes most.
    """

    def need(parameters: dict[str, Any]) -> int:
        try:
            model = config.configured(parameters)
            model.check_options(config.fit)
            return model.memory_bytes(n_users, n_items)
        except (ValidationError, ConfigError):  # values that do not go together
            return -1

    chosen = {name: spec for name, spec in config.space.items() if not is_range(spec)}
    for name, spec in config.space.items():
        if is_range(spec):
            (values,) = spec.values()  # choices, or the ends of a range
            default: list[dict[str, Any]] = [{}] if need(chosen) >= 0 else []
            chosen |= max([*default, *({name: value} for value in values)], key=lambda one: need({**chosen, **one}))
    return chosen if need(chosen) >= 0 else None
