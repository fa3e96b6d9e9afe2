"""The options of the jobs that run studies."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import yaml

from coldray.cli.lines import from_here, typed
from coldray.cli.options.base import Options, add_ray, add_tracking, job_parser, names, positive, registry_name
from coldray.cli.options.data import add_data, source_of
from coldray.core.errors import ConfigError
from coldray.core.masking import masked
from coldray.data.sources.registry import SourceConfig
from coldray.experiments.promotion.outcome import MODES, Mode
from coldray.models.registry import NETWORKS


@dataclass(frozen=True, kw_only=True)
class RunOptions(Options):
    """Where a study runs, and where it is kept and logged."""

    output: Path
    """Where reports and bundles go, absolute."""
    tracking_uri: str
    experiment: str = "coldray"
    offline: bool = False
    """True if no tracking server is to be asked."""
    ray_address: str = "local"
    cpus: int | None = None
    resume: str | None = None
    """The study to go on with; empty for the latest one."""
    command: Sequence[str] = ()
    """As it was typed, for who goes on with the study."""
    unsent: list[str] = field(default_factory=list)
    """What the tracking server has refused, added as it happens: the job ends with a status of its own then."""


@dataclass(frozen=True, kw_only=True)
class RegisteredRunOptions(RunOptions):
    """The same of a study whose winner is registered."""

    model_name: str | None = None
    promote: Mode = "if-better"


@dataclass(frozen=True, kw_only=True)
class JobOptions(RunOptions):
    """What every job of a study, a comparison or an ablation is told."""

    file: Path
    """The study file, or that of the comparison."""
    default_file: Path
    """The one that is used unless another is named."""
    settings: Mapping[str, Any]
    """Values that take the place of those in the file, by dotted name."""
    source: SourceConfig
    job: str
    """File of the job, and what is always typed behind it: for the hint at its end."""
    real_data: str
    """What the hint names in place of the sample."""
    file_option: str
    """The option that names another file."""

    @classmethod
    def read(cls, given: argparse.Namespace, **more: Any) -> Self:
        """Return what was given on the command line."""
        values = {"settings": _overrides(given.settings), "source": source_of(given)}
        return super().read(given, **values, output=given.output_dir.absolute(), **more)


@dataclass(frozen=True, kw_only=True)
class StudyOptions(JobOptions, RegisteredRunOptions):
    """What a job is told whose winner is registered."""


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(StudyOptions):
    """What the tuning job of networks is told."""

    @classmethod
    def read(cls, given: argparse.Namespace, **more: Any) -> Self:
        """Return what was given: the study file is that of the model, unless one is."""
        own, job = given.default_file / f"{given.model}.yaml", f"{given.job} --model {given.model}"
        return super().read(given, file=given.file or own, default_file=own, job=job, **more)


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(StudyOptions):
    """What a comparison job is told."""

    trials: int | None
    models: tuple[str, ...] | None


@dataclass(frozen=True, kw_only=True)
class CategoriesOptions(StudyOptions):
    """What a job is told that tunes one model on each of several categories."""

    category: Sequence[str] | None
    """Those named; all that are there if none is."""
    phase: Literal["all", "tune", "final"]


@dataclass(frozen=True, kw_only=True)
class AblationOptions(JobOptions):
    """What the ablation job is told."""

    seeds: Sequence[int]
    """Of splits and training."""


def study_parser(description: str, study: Path, job: str) -> argparse.ArgumentParser:
    """Return the parser of the tuning job in the file `job` whose study file is `study` unless another is given."""
    parser = _job_parser(description, "--study", study, job)
    _registry_option(parser, "the model")
    return parser


def network_parser(description: str, spaces: Path) -> argparse.ArgumentParser:
    """Return the parser of the tuning job of networks; `spaces` is the folder with a study file for each of them."""
    parser = study_parser(description, spaces, "tune_neural.py")
    parser.set_defaults(file=None, real_data="ml-100k")
    parser.add_argument("--model", choices=NETWORKS, required=True, help="the network to be tuned")
    return parser


def comparison_parser(description: str, comparison: Path, job: str) -> argparse.ArgumentParser:
    """Return the parser of the comparison job whose file is `comparison` unless another is given."""
    parser = _job_parser(description, "--comparison", comparison, job)
    _registry_option(parser, "the comparison")
    parser.add_argument(
        "--trials",
        type=positive,
        default=None,
        help="trials of every entry, whatever the files say; of a grid so many points",
    )
    parser.add_argument(
        "--models",
        type=names,
        default=None,
        metavar="A,B",
        help="compare these alone: entries of the comparison file, or models with a study file beside it",
    )
    return parser


def categories_parser(description: str, study: Path, job: str) -> argparse.ArgumentParser:
    """Return the parser of a job that tunes one model on each of several categories."""
    parser = _job_parser(description, "--study", study, job, many=True)
    parser.set_defaults(real_data="amazon --data-dir FOLDER")
    _registry_option(parser, "the study and the category")
    parser.add_argument(
        "--phase",
        choices=("all", "tune", "final"),
        default="all",
        help="tune: search and save the choice; final: test the saved choice, without a search; all: both",
    )
    return parser


def ablation_parser(description: str, study: Path) -> argparse.ArgumentParser:
    """Return the parser of the ablation job: a study's options, and seeds."""
    parser = _job_parser(description, "--study", study, "ablation.py")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[42, 43], help="seeds of splits and training; n_splits for each"
    )
    return parser


def _registry_option(parser: argparse.ArgumentParser, subject: str) -> None:
    parser.add_argument(
        "--model-name",
        type=registry_name,
        default=None,
        help=f"name in the MLflow registry; coldray-, the dataset's name and that of {subject} unless given",
    )
    parser.add_argument(
        "--promote",
        choices=MODES,
        default="if-better",
        help="who gets the alias champion, which is served: the new version always; if it is of the same catalogue and "
        "not worse than the champion on the same test folds; or never. Otherwise it gets the alias challenger",
    )


def _job_parser(description: str, option: str, file: Path, job: str, *, many: bool = False) -> argparse.ArgumentParser:
    parser = job_parser(description)
    kind = option.removeprefix("--")
    parser.add_argument(option, type=Path, default=file, metavar="FILE", dest="file", help=f"{kind} file")
    parser.set_defaults(default_file=file, file_option=option, job=job, real_data="hetrec", command=())
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="settings",
        help=f"replace a field of the {kind} file, by dotted name (search.trials=64); may be repeated",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where reports and bundles go")
    add_ray(parser)
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        default=None,
        metavar="STUDY",
        help="go on with an unfinished study: the one named, or the latest of this file and dataset; if there is none, "
        "a new one",
    )
    tracking = parser.add_argument_group("tracking")
    add_tracking(tracking, experiment=True)
    tracking.add_argument(
        "--offline",
        action="store_true",
        help="ask no tracking server: keep all that is to be logged in the folder of the study, for jobs/sync_runs.py",
    )
    add_data(parser, many=many)
    return parser


def command_line(arguments: Sequence[str]) -> list[str]:
    """Return the command that started a job, as it is typed, without the option of a study to go on with.

    Passwords are masked: it is printed, and kept in a file.
    """
    kept, skip = [], False
    for argument in arguments:
        named = skip and not argument.startswith("-")
        skip = argument == "--resume"
        if not (named or skip or argument.startswith("--resume=")):
            kept.append(shlex.quote(masked(argument)))
    program = Path(sys.argv[0])
    python = [] if os.access(program, os.X_OK) and program.suffix != ".py" else [typed(from_here(Path(sys.executable)))]
    return [*python, typed(from_here(program)), *kept]


def _overrides(settings: Sequence[str]) -> dict[str, Any]:
    """Return ``FIELD=VALUE`` settings as values, read like YAML.

    Raises
    ------
    ConfigError
        If a setting has no ``=``, or its value is not valid YAML.
    """
    values = {}
    for setting in settings:
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
