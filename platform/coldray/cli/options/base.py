"""What the options of commands are made of: each command has a dataclass, whose annotated fields are its options.

The modules of options load nothing that takes long: ``coldray --help`` reads them all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from typer import BadParameter, Option

from coldray.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a command is told: a field that is annotated with an option or an argument of typer is one."""

    command: Sequence[str] = ()
    """As it was typed, for who goes on with it."""

    def check(self) -> None:
        """Find out what is wrong with what was typed, before anything is loaded that takes long.

        Raises
        ------
        ConfigError
            If an option has no valid value, or two of them do not go together.
        """

    def status(self, result: Any) -> int:
        """Return the exit status of a command that has come to its end with a result.

        Raises
        ------
        ColdrayError
            If something is to be told at the very end.
        """
        return 0


@dataclass(frozen=True)
class OfSource:
    """Marks an option that some sources alone read: with others it is refused, and not in the help."""

    names: tuple[str, ...]


class Values(Enum):
    """Marks an option that takes another number of values than one, parted by blanks."""

    OPTIONAL = "none, which is the empty text, or one"
    SEVERAL = "one or more"


@dataclass(frozen=True, kw_only=True)
class OutputOptions(Options):
    """Where results go."""

    output_dir: Annotated[Path, Option(help="where reports and bundles go", file_okay=False)] = Path("runs")

    @property
    def output(self) -> Path:
        """Where results go, absolute."""
        return self.output_dir.absolute()


@dataclass(frozen=True, kw_only=True)
class TrackingOptions(Options):
    """Where runs and models are registered."""

    tracking_uri: Annotated[
        str,
        Option(
            help="MLflow tracking and registry URI", envvar="MLFLOW_TRACKING_URI", rich_help_panel="Tracking",
        ),
    ] = "sqlite:///mlflow.db"  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ExperimentOptions(TrackingOptions):
    """Where runs are logged."""

    experiment: Annotated[str, Option(help="MLflow experiment", rich_help_panel="Tracking")] = "coldray"


@dataclass(frozen=True, kw_only=True)
class RayOptions(Options):
    """Which cluster does the work."""

    ray_address: Annotated[str, Option(help="cluster, or 'local'", envvar="RAY_ADDRESS", rich_help_panel="Ray")] = (
        "local"
    )
    cpus: Annotated[int | None, Option(min=1, help="CPUs of a local Ray; all by default", rich_help_panel="Ray")] = None


@dataclass(frozen=True, kw_only=True)
class SettingsOptions(Options):
    """What takes the place of fields by name."""

    set: Annotated[
        list[str] | None,
        Option(
            metavar="FIELD=VALUE",
            help="set a field by dotted name, such as search.trials=64 of a file; may be repeated",
        ),
    ] = None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Values by dotted name; they are read like YAML.

        Raises
        ------
        ConfigError
            If a setting has no ``=``, or its value is not valid YAML.
        """
        values = {}
        for setting in self.set or ():
            name, equals, text = setting.partition("=")
            if not equals:
                raise ConfigError(f"--set takes FIELD=VALUE, such as search.trials=64, not {setting!r}.")
            try:
                values[name] = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise ConfigError(
                    f"--set {name}: {text!r} is not valid YAML; brackets and quotes must be closed."
                ) from error
        return values


def told_of(hint: Any, kind: type | tuple[type, ...]) -> Any:
    """Return what the annotation of a field has of some kind beside its type; None if it has nothing of it."""
    return next((one for one in getattr(hint, "__metadata__", ()) if isinstance(one, kind)), None)


def names(given: list[str] | None) -> list[str] | None:
    """Return names that commas part; of an option that may be repeated."""
    return None if given is None else [name.strip() for text in given for name in text.split(",") if name.strip()]


def registry_name(text: str | None) -> str | None:
    """Return a name that the registry takes.

    Raises
    ------
    BadParameter
        If it is none.
    """
    if text is not None and not re.fullmatch(r"[\w .-]+", text):
        # of the rest, MLflow refuses some, and its search language others
        raise BadParameter(f"{text!r} is no name of a model; use letters, digits, '_', '.' and '-'")
    return text
