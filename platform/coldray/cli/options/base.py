"""What the options of jobs are made of."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, fields
from typing import Any, Self

from coldray.cli.lines import HelpFormatter
from coldray.core.environment import variable


def job_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser whose help shows defaults, and no password."""
    return argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a job is told: its fields are named as the arguments are."""

    @classmethod
    def read(cls, given: argparse.Namespace, **more: Any) -> Self:
        """Return what was given on the command line, with `more` in its place.

        Raises
        ------
        ConfigError
            If an option has no valid value, or two of them do not go together.
        """
        values = {**vars(given), **more}
        return cls(**{one.name: values[one.name] for one in fields(cls) if one.name in values})


def add_tracking(parser: argparse._ActionsContainer, *, experiment: bool = False) -> None:
    """Add where runs and models are registered."""
    default = variable("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    parser.add_argument("--tracking-uri", default=default, help="MLflow tracking and registry URI")
    if experiment:
        parser.add_argument("--experiment", default="coldray", help="MLflow experiment")


def add_ray(parser: argparse.ArgumentParser) -> None:
    """Add which cluster does the work."""
    parser.add_argument("--ray-address", default=variable("RAY_ADDRESS", "local"), help="cluster, or 'local'")
    parser.add_argument("--cpus", type=positive, default=None, help="CPUs of a local Ray; all by default")


def positive(text: str) -> int:
    """Return a number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def seed(text: str) -> int:
    """Return a seed from the command line."""
    number = int(text)
    if not 0 <= number < 2**32:
        raise argparse.ArgumentTypeError(f"{number} is no seed from 0 to {2**32 - 1}")
    return number


def names(text: str) -> tuple[str, ...]:
    """Return names that commas part."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def registry_name(text: str) -> str:
    """Return a name that the registry takes; argparse shows the error."""
    if not re.fullmatch(r"[\w .-]+", text):  # of the rest, MLflow refuses some, and its search language others
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a model; use letters, digits, '_', '.' and '-'")
    return text
