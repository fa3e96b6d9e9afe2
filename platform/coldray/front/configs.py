"""Configurations from what was given by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from coldray.core.errors import ConfigError
from coldray.experiments.settings import explain

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def validated(kind: type[ConfigT], fields: Mapping[str, Any]) -> ConfigT:
    """Return a configuration; what is wrong with a field is told in one sentence, by :class:`ConfigError`."""
    try:
        return kind.model_validate(dict(fields))
    except ValidationError as error:
        raise ConfigError(explain(error, kind)) from error
