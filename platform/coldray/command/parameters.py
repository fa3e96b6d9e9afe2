"""A command of typer from a dataclass of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields
from typing import Annotated, Any, get_type_hints

from typer import Option
from typer.core import TyperArgument, TyperCommand, TyperOption
from typer.models import ArgumentInfo, OptionInfo

from coldray.cli.options.base import Options, Values, told_of
from coldray.cli.options.data import source_name, sources_of

_KIND = "options_kind"
"""Where the function of a command keeps its options' class."""


def callback_of(kind: type[Options], run: Callable[[Any], int], defaults: Mapping[str, Any]) -> Callable[..., int]:
    """Return a function whose parameters are the options of a dataclass, for typer to read.

    Parameters
    ----------
    run
        What is done with them.
    defaults
        Values in the place of the defaults of some fields; an argument among them becomes an option, as in
        jobs.
    """

    def callback(**given: Any) -> int:
        return run(kind(**given))

    hints = get_type_hints(kind, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, _default(field)),
            annotation=_as_option(hints[field.name]) if field.name in defaults else hints[field.name],
        )
        for field in fields(kind)
        if told_of(hints[field.name], (ArgumentInfo, OptionInfo))
    ]
    callback.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    callback.__annotations__ = {one.name: one.annotation for one in parameters}
    setattr(callback, _KIND, kind)
    return callback


class OptionsCommand(TyperCommand):
    """A command whose help has what the named source reads, and whose options may take no value or several."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the command line."""
        kind = getattr(self.callback, _KIND)
        read = sources_of(kind)
        source = source_name(_value(args, "--dataset") or _named(kind, args), _value(args, "--interactions"))
        for parameter in self.params:
            if isinstance(parameter, TyperArgument | TyperOption):
                parameter.hidden = source not in read.get(parameter.name, (source,))
        return super().parse_args(ctx, _spelled_out(args, _numbers_of_values(kind)))


def _default(field: Field[Any]) -> Any:
    if field.default_factory is not MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is MISSING else field.default


def _as_option(hint: Any) -> Any:
    """Return the annotation of an argument as that of an option; another as it is."""
    argument = told_of(hint, ArgumentInfo)
    return hint if argument is None else Annotated[hint.__origin__, Option(help=argument.help, metavar="NAME")]


def _named(kind: type[Options], args: list[str]) -> str | None:
    """Return the dataset of a command line on which it is the argument."""
    hint = get_type_hints(kind, include_extras=True).get("dataset")
    return next((word for word in args if not word.startswith("-")), None) if told_of(hint, ArgumentInfo) else None


def _value(args: list[str], option: str) -> str | None:
    """Return the last value of an option on a command line that is not parsed yet."""
    found = None
    for place, word in enumerate(args):
        if word == option and place + 1 < len(args):
            found = args[place + 1]
        elif word.startswith(f"{option}="):
            found = word.partition("=")[2]
    return found


def _numbers_of_values(kind: type[Options]) -> dict[str, Values]:
    """Return the options with another number of values than one."""
    hints = get_type_hints(kind, include_extras=True)
    marks = {f"--{name.replace('_', '-')}": told_of(hint, Values) for name, hint in hints.items()}
    return {option: mark for option, mark in marks.items() if mark}


def _spelled_out(args: list[str], numbers: Mapping[str, Values]) -> list[str]:
    """Return a command line on which every option has one value."""
    spelled: list[str] = []
    several = ""
    for place, word in enumerate(args):
        following = args[place + 1] if place + 1 < len(args) else "-"
        if several and not word.startswith("-"):
            spelled.append(f"{several}={word}")
            continue
        several = ""
        if word == "--":
            return [*spelled, *args[place:]]
        if numbers.get(word) is Values.OPTIONAL and following.startswith("-"):
            spelled.append(f"{word}=")
        elif numbers.get(word) is Values.SEVERAL and not following.startswith("-"):
            several = word
        else:
            spelled.append(word)
    return spelled
