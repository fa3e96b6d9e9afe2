"""The options that all jobs share."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from coldray.cli.lines import HelpFormatter, from_here, typed
from coldray.core.environment import variable
from coldray.core.errors import ConfigError
from coldray.core.masking import masked
from coldray.data.filters import FilterConfig
from coldray.data.sources.registry import FOLDER_SOURCES, SOURCES, SourceConfig
from coldray.data.sources.tabular import TabularConfig
from coldray.experiments.promotion.outcome import MODES
from coldray.models.registry import NETWORKS

PAPER_FILTERS = FilterConfig(
    min_rating_exclusive=3.0,
    min_user_interactions=5,
    min_item_interactions=5,
    attribute_min_items=5,
    attribute_max_share=0.3,
)
"""The filters of the published HetRec protocol."""
PHASES = ("all", "tune", "final")
"""What a job does of tuning and testing."""
DEFAULT_FILTERS = {"hetrec": PAPER_FILTERS}
"""Filters a source gets when the study file names none."""


def study_parser(description: str, study: Path) -> argparse.ArgumentParser:
    """Return the parser of a tuning job whose study file is `study` unless another is given."""
    parser = _job_parser(description, "--study", study)
    _registry_option(parser, "the model")
    return parser


def network_parser(description: str, spaces: Path) -> argparse.ArgumentParser:
    """Return the parser of the tuning job of networks, whose study file is that of the model unless one is given."""
    parser = study_parser(description, spaces)
    parser.set_defaults(study=None)
    parser.add_argument("--model", choices=NETWORKS, required=True, help="the network to be tuned")
    return parser


def comparison_parser(description: str, comparison: Path) -> argparse.ArgumentParser:
    """Return the parser of the comparison job whose file is `comparison` unless another is given."""
    parser = _job_parser(description, "--comparison", comparison)
    _registry_option(parser, "the comparison")
    parser.add_argument(
        "--trials",
        type=positive,
        default=None,
        help="trials of every entry, whatever the files say; of a grid so many points",
    )
    parser.add_argument(
        "--models",
        type=_names,
        default=None,
        metavar="A,B",
        help="compare these alone: entries of the comparison file, or models with a study file beside it",
    )
    return parser


def categories_parser(description: str, study: Path) -> argparse.ArgumentParser:
    """Return the parser of a job that tunes one model on each of several categories."""
    parser = _job_parser(description, "--study", study, many=True)
    _registry_option(parser, "the study and the category")
    parser.add_argument(
        "--phase",
        choices=PHASES,
        default="all",
        help="tune: search and save the choice; final: test the saved choice, without a search; all: both",
    )
    return parser


def ablation_parser(description: str, study: Path) -> argparse.ArgumentParser:
    """Return the parser of the ablation job: a study's options, and seeds."""
    parser = _job_parser(description, "--study", study)
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[42, 43], help="seeds of splits and training; n_splits for each"
    )
    return parser


def data_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of a job that only reads data, of several categories where there are such, and reports."""
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where reports go")
    _data_options(parser, many=True)
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


def _job_parser(description: str, option: str, file: Path, *, many: bool = False) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description, formatter_class=HelpFormatter)
    kind = option.removeprefix("--")
    parser.add_argument(option, type=Path, default=file, metavar="FILE", help=f"{kind} file")
    parser.set_defaults(default_study=file)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="settings",
        help=f"replace a field of the {kind} file, by dotted name (search.trials=64); may be repeated",
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="where reports and bundles go")
    parser.add_argument("--ray-address", default=variable("RAY_ADDRESS", "local"), help="cluster, or 'local'")
    parser.add_argument("--cpus", type=positive, default=None, help="CPUs of a local Ray; all by default")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="",
        default=None,
        metavar="STUDY",
        help="go on with an unfinished study: the one named, or the latest of this file and dataset; if there is none, "
        "a new one",
    )
    parser.set_defaults(command=())
    tracking = parser.add_argument_group("tracking")
    default_uri = variable("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    tracking.add_argument("--tracking-uri", default=default_uri, help="MLflow tracking and registry URI")
    tracking.add_argument("--experiment", default="coldray", help="MLflow experiment")
    tracking.add_argument(
        "--offline",
        action="store_true",
        help="ask no tracking server: keep all that is to be logged in the folder of the study, for jobs/sync_runs.py",
    )
    _data_options(parser, many=many)
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


def _data_options(parser: argparse.ArgumentParser, *, many: bool) -> None:
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", default="sample", help=f"one of {', '.join(SOURCES)}")
    data.add_argument("--data-dir", type=Path, default=None, help="folder of the dataset, or the folder it lies in")
    if many:
        data.add_argument(
            "--category",
            action="append",
            default=None,
            help="category of --dataset amazon; may be repeated; all there by default",
        )
    else:
        data.add_argument(
            "--category", default=None, help="category of --dataset amazon; the only one there by default"
        )
    data.add_argument("--size", default=None, help="the <size> in the names of the files of --dataset amazon")
    data.add_argument(
        "--strict-ratings", action="store_true", help="refuse ratings of --dataset amazon beyond 1 to 5, not clip them"
    )
    data.add_argument(
        "--texts",
        type=Path,
        default=None,
        metavar="FILE",
        help="CSV or parquet file with texts of items: a column item_id and one for each kind of text",
    )
    data.add_argument("--no-download", action="store_true", help="do not fetch a missing dataset")
    own = parser.add_argument_group("your own data (--dataset csv or parquet)")
    own.add_argument("--interactions", type=Path, help="file with a row for each interaction")
    own.add_argument("--items", type=Path, help="file with a row for each item and its attributes")
    own.add_argument("--user-column", default="user_id")
    own.add_argument("--item-column", default="item_id")
    own.add_argument("--rating-column", default=None)
    own.add_argument("--timestamp-column", default=None)
    own.add_argument("--label-columns", type=_names, default=(), metavar="A,B", help="attributes with labels")
    own.add_argument("--label-separator", default="|")
    own.add_argument("--number-columns", type=_names, default=(), metavar="A,B", help="attributes with numbers")
    own.add_argument("--text-columns", type=_names, default=(), metavar="A,B", help="attributes with text")


def positive(text: str) -> int:
    """Return a number of at least 1 from the command line."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def registry_name(text: str) -> str:
    """Return a name that the registry takes; argparse shows the error."""
    if not re.fullmatch(r"[\w .-]+", text):  # of the rest, MLflow refuses some, and its search language others
        raise argparse.ArgumentTypeError(f"{text!r} is no name of a model; use letters, digits, '_', '.' and '-'")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def source_of(options: argparse.Namespace) -> SourceConfig:
    """Return the data source the options describe.

    Raises
    ------
    ConfigError
        If the source is unknown, its own files are not named, or files or a folder are named that it does not read.
    """
    tabular = None
    if options.dataset in ("csv", "parquet"):
        if options.interactions is None:
            raise ConfigError(
                f"--dataset {options.dataset} needs --interactions FILE (and --items FILE for attributes)."
            )
        try:
            tabular = TabularConfig(
                **{name: value for name, value in vars(options).items() if name in TabularConfig.model_fields}
            )
        except ValidationError as error:
            problem = error.errors()[0]
            option = "--" + "-".join(map(str, problem["loc"])).replace("_", "-")
            raise ConfigError(f"{option}: {problem['msg']}, got {problem['input']!r}.") from error
    elif options.interactions is not None or options.items is not None:
        raise ConfigError(
            f"--interactions and --items are read by --dataset csv and parquet alone, not by {options.dataset!r}."
        )
    source = SourceConfig(
        name=options.dataset,
        data_dir=options.data_dir,
        category=None if isinstance(options.category, list) else options.category,
        size=options.size,
        strict=options.strict_ratings,
        tabular=tabular,
        texts=options.texts,
        download=not options.no_download,
    )
    for option in ("category", "size", "strict_ratings"):
        if getattr(options, option) and source.name != "amazon":
            raise ConfigError(
                f"--{option.replace('_', '-')} is read by --dataset amazon alone, not by {source.name!r}. Leave it out."
            )
    if source.data_dir is not None and source.name not in FOLDER_SOURCES:
        raise ConfigError(
            f"--data-dir is read by --dataset {', '.join(FOLDER_SOURCES)} alone, not by {source.name!r}. Leave it "
            "out, or name one of them."
        )
    return source


def overrides(settings: Sequence[str]) -> dict[str, Any]:
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
