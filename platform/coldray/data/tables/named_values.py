"""Numbers by name as they are written on a command line: ``purchase=5,view=1``."""

from __future__ import annotations

from typing import Any

from coldray.core.errors import ConfigError


def named_values(value: Any, field: str, name: str, number: str, example: str) -> Any:
    """Return text such as ``purchase=5,view=1`` as a mapping; anything else as it is.

    Parameters
    ----------
    field, name, number, example
        For errors: what is read, what a name and a number of it are, and how it is written.

    Raises
    ------
    ConfigError
        If a part of the text is no name with a number, or a name comes twice.
    """
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for part in value.split(","):
        named, sign, given = (text.strip() for text in part.rpartition("="))
        if not (sign and named and given):
            raise ConfigError(f"{field}: {part!r} is no {name} with a {number}. Write {example}.")
        if named in found:
            raise ConfigError(f"{field}: the {name} {named!r} has two {number}s, {found[named]} and {given}. Name one.")
        found[named] = given
    return found
