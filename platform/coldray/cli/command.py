"""The command line of a job: it answers at once, and loads what a study needs only when there is one to run."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rich.console import Console
from rich.text import Text

from coldray.cli.interrupts import interruptions
from coldray.cli.lines import timed
from coldray.cli.options.base import Options
from coldray.cli.options.check import CheckOptions, check_parser
from coldray.cli.options.lists import ListsOptions, recommend_parser
from coldray.cli.options.service import ServeOptions, serve_parser
from coldray.cli.options.studies import (
    AblationOptions,
    CategoriesOptions,
    ComparisonOptions,
    JobOptions,
    NetworkOptions,
    StudyOptions,
    ablation_parser,
    categories_parser,
    command_line,
    comparison_parser,
    network_parser,
    study_parser,
)
from coldray.cli.options.tracking import StatusOptions, SyncOptions, status_parser, sync_parser
from coldray.core.environment import unset_empty
from coldray.core.errors import ColdrayError, SearchInterruptedError, UnsentError
from coldray.core.masking import masked
from coldray.core.ray_errors import is_of_ray, of_ray

Arguments: TypeAlias = Sequence[str] | None
"""Of the command line; None for those of this process."""
J = TypeVar("J", bound=JobOptions)
O = TypeVar("O", bound=Options)  # noqa: E741
_MLFLOW = "MLFLOW_"
"""How the variables of MLflow begin, which reads some of them when it is imported."""
_UNSENT_STATUS = 3
"""The exit status when all is done, and the tracking server has refused a part of what was to be logged."""

_EVERYTHING = "^"
"""What Ray is not to print of its own, which it is told before it is loaded: what matters is said by the job."""


def main(description: str, study: Path, arguments: Arguments = None) -> int:
    """Run a tuning job from the command line; return its exit status.

    Parameters
    ----------
    study
        The study file used unless ``--study`` names another.
    """
    return _run_studies(study_parser(description, study, "tune_marec.py"), StudyOptions, "tune:tune", arguments)


def networks_main(description: str, spaces: Path, arguments: Arguments = None) -> int:
    """Run the tuning job of networks from the command line; return its exit status.

    Parameters
    ----------
    spaces
        The folder with a study file for each of them.
    """
    return _run_studies(network_parser(description, spaces), NetworkOptions, "tune:tune", arguments)


def categories_main(description: str, study: Path, job: str, arguments: Arguments = None) -> int:
    """Run a job of several categories from the command line; return its exit status.

    Parameters
    ----------
    job
        The file name of the job, for the hint at its end.
    """
    parser = categories_parser(description, study, job)
    return _run_studies(parser, CategoriesOptions, "categories:tune_categories", arguments)


def ablation_main(description: str, study: Path, arguments: Arguments = None) -> int:
    """Run the ablation job from the command line; return its exit status."""
    return _run_studies(ablation_parser(description, study), AblationOptions, "ablation:ablate", arguments)


def comparison_main(description: str, comparison: Path, job: str, arguments: Arguments = None) -> int:
    """Run a comparison job from the command line; return its exit status.

    Parameters
    ----------
    job
        The file name of the job, for the hint at its end.
    """
    parser = comparison_parser(description, comparison, job)
    return _run_studies(parser, ComparisonOptions, "compare:compare", arguments)


def sync_main(description: str, arguments: Arguments = None) -> int:
    """Send what waits for the tracking server from the command line; return the exit status."""
    return _run_job(sync_parser(description), SyncOptions, _loaded("sync_runs:sync_runs", "MLflow"), arguments)


def status_main(description: str, arguments: Arguments = None) -> int:
    """Show how far a study is from the command line; return the exit status."""
    return _run_job(status_parser(description), StatusOptions, _loaded("study_status:show_status"), arguments)


def serve_main(description: str, arguments: Arguments = None) -> int:
    """Serve recommendations from the command line; return the exit status."""

    def run(options: ServeOptions, console: Console) -> None:
        _loaded("serve:run_service", "Ray and MLflow" if options.new_key is None else "")(options, console)

    return _run_job(serve_parser(description), ServeOptions, run, arguments)


def recommend_main(description: str, arguments: Arguments = None) -> int:
    """Make lists for all users from the command line; return the exit status."""
    work = _loaded("recommend_all:recommend_all", "Ray and MLflow")
    way_on = "Partitions that are finished are kept; the same command goes on with the others."
    return _run_job(recommend_parser(description), ListsOptions, work, arguments, way_on)


def check_main(description: str, arguments: Arguments = None) -> int:
    """Check data from the command line; return its exit status.

    It is 1 if nothing could be checked or, under ``--strict``, if there is a problem: a leak, a part without
    interactions, or a category that is left out.
    """
    problems = 0

    def run(options: CheckOptions, console: Console) -> None:
        nonlocal problems
        clean = _loaded("check_data:check_data", "torch and matplotlib")(options, console)
        problems = int(options.strict and not clean)

    return _run_job(check_parser(description), CheckOptions, run, arguments) or problems


def _run_studies(parser: argparse.ArgumentParser, kind: type[J], work: str, arguments: Arguments) -> int:
    """Run a job of studies; what the tracking server has refused of it is its exit status."""

    def run(options: J, console: Console) -> None:
        _loaded(work, "Ray, torch and MLflow")(options, console)
        if options.unsent:
            raise UnsentError(f"The job has come to its end, but {' And '.join(options.unsent)}")

    return _run_job(parser, kind, run, arguments, "What was done before is kept; --resume goes on with the study.")


def _loaded(work: str, what: str = "") -> Callable[[Any, Console], Any]:
    """Return a function of :mod:`coldray.cli.jobs` that is loaded when it is called.

    That takes seconds, of which the job's first line tells: it says `what` is loaded.
    """

    def run(options: Any, console: Console) -> Any:
        if what:
            console.print(timed(f"loading {what}"), highlight=False)
        module, _, function = work.partition(":")
        return getattr(import_module(f"coldray.cli.jobs.{module}"), function)(options, console)

    return run


def _run_job(
    parser: argparse.ArgumentParser,
    kind: type[O],
    run: Callable[[O, Console], object],
    arguments: Arguments,
    way_on: str = "",
) -> int:
    """Parse the command line and run a job; `way_on` is as of :func:`reported`."""
    _printable()  # the help is printed, too
    given = parser.parse_args(arguments)
    given.command = command_line(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=not sys.stdout.isatty())
    return reported(lambda: run(kind.read(given), console), way_on)


def reported(work: Callable[[], object], way_on: str = "") -> int:
    """Do the work; return the exit status, with every deliberate error, and every one of Ray, as one line.

    Before the line of an error that nobody foresaw, its traceback is printed.

    Parameters
    ----------
    way_on
        How to go on after such an error, if the job has a way.
    """
    _printable()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _EVERYTHING)
    unset_empty(_MLFLOW)
    with interruptions() as interrupted:
        try:
            work()
        except ColdrayError as error:
            _tell(of_ray(error) if is_of_ray(error) else error)
            if isinstance(error, SearchInterruptedError):
                return interrupted.status
            return _UNSENT_STATUS if isinstance(error, UnsentError) else 1
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            return interrupted.status
        except Exception as error:
            _tell(of_ray(error) if is_of_ray(error) else _unexpected(error, way_on))
            return 1
    return 0


def _printable() -> None:
    """Let a terminal or a file without λ or é show a question mark: a study is not lost for a letter."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


def _unexpected(error: Exception, way_on: str) -> ColdrayError:
    """Print where an error came from that nobody foresaw, for who mends it, with passwords masked; return its line."""
    traced = masked("".join(traceback.format_exception(error)))
    Console(stderr=True, soft_wrap=True).print(traced, markup=False, highlight=False, end="")
    fault = f"{type(error).__name__}: {error}. This is a fault of the program: report it with the lines above."
    return ColdrayError(f"{fault} {way_on}".rstrip())


def _tell(error: BaseException) -> None:
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
