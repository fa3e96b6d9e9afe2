"""The command ``coldray``: it answers at once, and loads what a command needs only when there is one to run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TypeAlias

from rich.console import Console
from typer import Exit, Option, Typer, TyperException
from typer.main import get_command

from coldray import __version__
from coldray.cli.lines import command_line, timed
from coldray.cli.options.base import Options
from coldray.cli.options.catalogue import DatasetsOptions, ModelsOptions
from coldray.cli.options.check import CheckOptions
from coldray.cli.options.doctor import DoctorOptions
from coldray.cli.options.init import DemoOptions, InitOptions
from coldray.cli.options.lists import ListsOptions
from coldray.cli.options.models import EvaluateOptions, FitJobOptions
from coldray.cli.options.service import ServeOptions
from coldray.cli.options.studies import AblationOptions, ComparisonOptions, NetworkOptions, StudyOptions
from coldray.cli.options.tracking import StatusOptions, SyncOptions
from coldray.cli.reported import printable, reported, tell
from coldray.command.parameters import OptionsCommand, callback_of
from coldray.core.environment import unset_empty
from coldray.core.errors import ConfigError
from coldray.core.spelling import nearest

Arguments: TypeAlias = Sequence[str] | None
"""Of the command line; None for those of this process."""
_STUDY_GOES_ON = "What was done before is kept; --resume goes on with the study."
_LOADS = {
    "coldray.command.doctor": "Ray, torch and MLflow",
    "coldray.command.demo": "Ray, torch and MLflow",
    "coldray.command.fit": "torch",
    "coldray.command.models": "torch",
    "coldray.cli.jobs.recommend_all": "Ray and MLflow",
    "coldray.cli.jobs.serve": "Ray and MLflow",
    "coldray.cli.jobs.sync_runs": "MLflow",
    "coldray.cli.jobs.check_data": "torch and matplotlib",
    "coldray.cli.jobs.tune": "Ray, torch and MLflow",
    "coldray.cli.jobs.categories": "Ray, torch and MLflow",
    "coldray.cli.jobs.compare": "Ray, torch and MLflow",
    "coldray.cli.jobs.ablation": "Ray, torch and MLflow",
    "coldray.cli.jobs.dry_run": "Ray, torch and MLflow",
}
"""What takes seconds to load, of which a command's first line tells."""


@dataclass(frozen=True)
class Command:
    """A command."""

    help: str
    options: type[Options]
    work: Callable[[Any], str]
    """Returns which function does the work that the options ask for, as ``module:name``."""
    way_on: str = ""
    """How to go on after an error that nobody foresaw, if there is a way."""
    panel: str = "Experiments"


def _always(work: str) -> Callable[[Options], str]:
    return lambda _: work


def _tuning(options: Any) -> str:
    if options.dry_run:
        return "dry_run:dry_study"
    return "tune:tune" if options.phase is None else "categories:tune_categories"


COMMANDS = {
    "tune": Command(
        "Tune a model on a dataset, test the winner once, and register it.",
        StudyOptions,
        lambda options: f"coldray.cli.jobs.{_tuning(options)}",
        _STUDY_GOES_ON,
    ),
    "compare": Command(
        "Compare models on the same splits: quality, significance, costs, nearest items.",
        ComparisonOptions,
        lambda options: f"coldray.cli.jobs.{'dry_run:dry_comparison' if options.dry_run else 'compare:compare'}",
        _STUDY_GOES_ON,
    ),
    "ablation": Command(
        "Compare MARec with and without its learned refinements over splits and seeds.",
        AblationOptions,
        _always("coldray.cli.jobs.ablation:ablate"),
        _STUDY_GOES_ON,
    ),
    "check": Command(
        "Check a dataset and its split before anything is tuned on it: sizes, overlap, leaks, ratings, factors.",
        CheckOptions,
        _always("coldray.cli.jobs.check_data:check_data"),
        panel="Data and models",
    ),
    "demo": Command(
        "Show all of it on generated data: study, comparison, service, and a new item that is recommended.",
        DemoOptions,
        _always("coldray.command.demo:show_demo"),
        panel="Data and models",
    ),
    "init": Command(
        "Look at files of your own, guess what their columns mean, and write a study file.",
        InitOptions,
        _always("coldray.cli.jobs.init:write_study"),
        panel="Data and models",
    ),
    "fit": Command(
        "Fit a model without a study, and write it to a folder as a bundle.",
        FitJobOptions,
        _always("coldray.command.fit:fit"),
        panel="Data and models",
    ),
    "evaluate": Command(
        "Measure a bundle on the validation part of a split.",
        EvaluateOptions,
        _always("coldray.command.fit:evaluate"),
        panel="Data and models",
    ),
    "models": Command(
        "List the models, or the parameters of one: defaults, values and meaning.",
        ModelsOptions,
        _always("coldray.command.models:show_models"),
        panel="Data and models",
    ),
    "datasets": Command(
        "List the datasets and where they are, or read and describe one.",
        DatasetsOptions,
        _always("coldray.command.datasets:show_datasets"),
        panel="Data and models",
    ),
    "recommend": Command(
        "Make lists for all users of parquet histories with a registered model, restartable by partition.",
        ListsOptions,
        _always("coldray.cli.jobs.recommend_all:recommend_all"),
        "Partitions that are finished are kept; the same command goes on with the others.",
        panel="Lists",
    ),
    "serve": Command(
        "Serve the champion of the MLflow registry behind HTTP until interrupted.",
        ServeOptions,
        lambda options: f"coldray.cli.jobs.{'serve:run_service' if options.new_key is None else 'keys:print_new_key'}",
        panel="Lists",
    ),
    "status": Command(
        "Show how far a running or finished study is: progress, the best trials, failures and the time left.",
        StatusOptions,
        _always("coldray.cli.jobs.study_status:show_status"),
    ),
    "sync": Command(
        "Send what studies have logged, and the tracking server has not taken yet, to the server.",
        SyncOptions,
        _always("coldray.cli.jobs.sync_runs:sync_runs"),
    ),
    "doctor": Command(
        "Look at this machine: versions, CPUs, memory, BLAS, GPU, disk, Ray, MLflow and store, each with the way out.",
        DoctorOptions,
        _always("coldray.command.doctor:examine"),
        panel="Help",
    ),
}  # fmt: skip
"""By name, as they are listed."""


def main(arguments: Arguments = None) -> int:
    """Run ``coldray`` from the command line; return its exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    return _run(application(given), given or ["--help"], "coldray")


def job(name: str, description: str | None, arguments: Arguments = None, **defaults: Any) -> int:
    """Run a command as the file of a job; return its exit status.

    Parameters
    ----------
    description
        What the job does, for its help.
    defaults
        Values in the place of the defaults of some options; an argument among them is an option of the job.
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    command = COMMANDS[name]
    if defaults.pop("networks", False):
        command = replace(command, options=NetworkOptions)
    app = Typer(add_completion=False)
    _add(app, name, replace(command, help=description or command.help), given, defaults)
    return _run(app, given, Path(sys.argv[0]).name)


def application(arguments: Sequence[str] = ()) -> Typer:
    """Return the application of typer, with all commands; `arguments` are kept to say how to go on."""
    app = Typer(help="Train, tune, compare and serve recommenders; cold-start items first.")
    for name, command in COMMANDS.items():
        _add(app, name, command, arguments, {})
    app.callback()(_version)
    return app


def _version(
    version: Annotated[bool, Option("--version", help="Show the version, and exit.", is_eager=True)] = False,
) -> None:
    if version:
        Console(highlight=False).print(f"coldray {__version__}")
        raise Exit


def _add(
    app: Typer,
    name: str,
    command: Command,
    arguments: Sequence[str],
    defaults: Mapping[str, Any],
) -> None:
    run = partial(_work, command, arguments)
    callback = callback_of(command.options, run, defaults)
    app.command(name, cls=OptionsCommand, help=command.help, rich_help_panel=command.panel)(callback)


def _work(command: Command, arguments: Sequence[str], options: Options) -> int:
    """Do what a command is for; return the exit status."""
    options = replace(options, command=command_line(arguments))
    console = Console(soft_wrap=not sys.stdout.isatty())

    def work() -> int:
        options.check()
        module, _, function = command.work(options).partition(":")
        if module in _LOADS:
            console.print(timed(f"loading {_LOADS[module]}"), highlight=False)
        return options.status(getattr(import_module(module), function)(options, console))

    return reported(work, command.way_on)


def _run(app: Typer, arguments: Sequence[str], program: str) -> int:
    """Run an application; what is wrong with a command line is one line."""
    printable()  # the help is printed, too
    for name in ("MLFLOW_TRACKING_URI", "RAY_ADDRESS"):  # defaults of options
        unset_empty(name)
    try:
        return get_command(app).main(arguments, prog_name=program, standalone_mode=False) or 0
    except TyperException as error:
        message = " ".join(error.format_message().split())
        if possible := getattr(error, "possibilities", None):
            message = f"{error.message}.{nearest(getattr(error, 'option_name', ''), possible)}"
        context = getattr(error, "ctx", None)
        tell(ConfigError(message if context is None else f"{message} See {context.command_path} --help."))
        return error.exit_code
