"""Files of settings: read, changed field by field, and refused in one sentence."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.data.sources.registry import SourceConfig


class Section(BaseModel):
    """Base of every part of a file: frozen, and a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WithData(Section):
    """Base of a whole file of a study or a comparison, which may say what data it is of."""

    data: SourceConfig | None = Field(default=None, exclude=True)
    """The data, unless the command line names others. Relative paths begin at the folder of the file. It is no part of
    what a study is known by: the data are told by what they hold."""

    def found_in(self, folder: Path) -> Self:
        """Return what a file in a folder says."""
        return self if self.data is None else self.model_copy(update={"data": self.data.below(folder)})


class _UniqueKeys(yaml.SafeLoader):
    """Refuses a name that a file gives twice, of which YAML would keep the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"{name!r} is given twice. Give it once, or another name.")
        return super().construct_mapping(node, deep)


def read_settings(path: Path, what: str, expected: str) -> dict[str, Any]:
    """Return the fields of a YAML file.

    Parameters
    ----------
    what
        The kind of file, for errors: ``study file``.
    expected
        Some of its fields, in words.

    Raises
    ------
    ConfigError
        If the file cannot be read, is not YAML, holds no fields, or names one twice.
    """
    try:
        with path.open(encoding="utf-8") as file:
            content = yaml.load(file, _UniqueKeys)
    except OSError as error:
        raise ConfigError(f"Cannot read the {what} {path}: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())  # YAML's own text has a line for every detail
        raise ConfigError(f"The {what} {path} is not valid YAML: {reason}.") from error
    except ConfigError as error:
        raise ConfigError(f"{what.capitalize()} {path}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"The {what} {path} must hold fields such as {expected}.")
    return content


def replace_settings(content: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put values in the place of those in `content`, by dotted name (``search.trials``).

    Raises
    ------
    ConfigError
        If a name leads into what is no section.
    """
    for dotted, value in overrides.items():
        *sections, last = dotted.split(".")
        target = content
        for depth, section in enumerate(sections, start=1):
            if target.get(section) is None:
                target[section] = {}
            target = target[section]
            if not isinstance(target, dict):
                held = ".".join(sections[:depth])
                raise ConfigError(f"{dotted!r} cannot be set: {held} holds {target!r}, no fields. Set {held} itself.")
        target[last] = value


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Put the first problem into one sentence that names the field and, for a misspelt one, the nearest."""
    problems = error.errors()
    # A name that is misspelt is missed under the right one, too.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        valid = _fields_at(model, problem["loc"][:-1])
        return f"unknown field {where!r}.{nearest(str(problem['loc'][-1]), valid)} Fields: {choices(valid)}."
    if problem["type"] == "missing":
        return f"the field {where!r} is missing."
    return f"{where}: {problem['msg']}, got {problem['input']!r}."


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    parts = iter(location)
    for part in parts:
        annotation = model.model_fields[str(part)].annotation
        if get_origin(annotation) is dict:
            next(parts)  # the key of an entry, whose own fields follow
        nested = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type)]
        model = next(kind for kind in nested if issubclass(kind, BaseModel))
    return list(model.model_fields)
