"""The command line of a job: it answers at once, and loads what a study needs only when there is one to run."""

from __future__ import annotations

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from coldray.cli.arguments import (
    ablation_parser,
    categories_parser,
    command_line,
    comparison_parser,
    network_parser,
    overrides,
    source_of,
    study_parser,
)
from coldray.cli.interrupts import interruptions
from coldray.cli.lines import timed
from coldray.core.environment import unset_empty
from coldray.core.errors import ColdrayError, SearchInterruptedError, UnsentError
from coldray.core.masking import masked
from coldray.core.ray_errors import is_of_ray, of_ray

MLFLOW = "MLFLOW_"
"""How the variables of MLflow begin, which reads some of them when it is imported."""
UNSENT_STATUS = 3
"""The exit status when all is done, and the tracking server has refused a part of what was to be logged."""

EVERYTHING = "^"
"""What Ray is not to print of its own, which it is told before it is loaded: what matters is said by the job."""


def main(description: str, study: Path, arguments: Sequence[str] | None = None) -> int:
    """Run a tuning job from the command line; return its exit status.

    Parameters
    ----------
    study
        The study file used unless ``--study`` names another.
    """

    def run(options: argparse.Namespace, console: Console) -> None:
        from coldray.cli.jobs.tune import tune  # seconds of imports, after the first line is out

        tune(options, console)

    return run_job(study_parser(description, study), run, arguments)


def networks_main(description: str, spaces: Path, arguments: Sequence[str] | None = None) -> int:
    """Run the tuning job of networks from the command line; return its exit status.

    Parameters
    ----------
    spaces
        The folder with a study file for each of them.
    """

    def run(options: argparse.Namespace, console: Console) -> None:
        from coldray.cli.jobs.tune import tune

        options.default_study = spaces / f"{options.model}.yaml"
        options.study = options.study or options.default_study
        tune(options, console, f"tune_neural.py --model {options.model}", real_data="ml-100k")

    return run_job(network_parser(description, spaces), run, arguments)


def categories_main(description: str, study: Path, job: str, arguments: Sequence[str] | None = None) -> int:
    """Run a job of several categories from the command line; return its exit status.

    Parameters
    ----------
    job
        The file name of the job, for the hint at its end.
    """

    def run(options: argparse.Namespace, console: Console) -> None:
        from coldray.cli.jobs.categories import tune_categories

        tune_categories(options, console, job)

    return run_job(categories_parser(description, study), run, arguments)


def ablation_main(description: str, study: Path, arguments: Sequence[str] | None = None) -> int:
    """Run the ablation job from the command line; return its exit status."""

    def run(options: argparse.Namespace, console: Console) -> None:
        from coldray.cli.jobs.ablation import ablate

        ablate(options, console)

    return run_job(ablation_parser(description, study), run, arguments)


def comparison_main(description: str, comparison: Path, job: str, arguments: Sequence[str] | None = None) -> int:
    """Run a comparison job from the command line; return its exit status.

    Parameters
    ----------
    job
        The file name of the job, for the hint at its end.
    """

    def run(options: argparse.Namespace, console: Console) -> None:
        from coldray.cli.jobs.compare import compare

        compare(options, console, job)

    return run_job(comparison_parser(description, comparison), run, arguments)


def sync_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Send what waits for the tracking server from the command line; return the exit status."""
    unset_empty(MLFLOW)
    from coldray.cli.jobs.sync_runs import sync_parser, sync_runs

    options = sync_parser(description).parse_args(arguments)

    def work() -> None:
        from coldray.cli.jobs.tune import quiet_libraries

        quiet_libraries()
        sync_runs(options, Console(soft_wrap=not sys.stdout.isatty()))

    return reported(work)


def status_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Show how far a study is from the command line; return the exit status."""
    from coldray.cli.jobs.study_status import show_status, status_parser

    options = status_parser(description).parse_args(arguments)
    return reported(lambda: show_status(options, Console(soft_wrap=not sys.stdout.isatty())))


def serve_main(description: str, arguments: Sequence[str] | None = None) -> int:
    """Serve recommendations from the command line; return the exit status."""
    unset_empty(MLFLOW)
    from coldray.cli.jobs.serve import run_service, serve_parser

    options = serve_parser(description).parse_args(arguments)
    return reported(lambda: run_service(options, Console(soft_wrap=not sys.stdout.isatty())))


def run_job(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace, Console], None],
    arguments: Sequence[str] | None,
) -> int:
    """Parse the command line and run a job, turning every deliberate error into one line and the exit status 1."""
    printable()  # the help is printed, too
    options = parser.parse_args(arguments)
    options.command = command_line(sys.argv[1:] if arguments is None else arguments)
    console = Console(soft_wrap=not sys.stdout.isatty())

    def work() -> None:
        overrides(options.settings)
        source_of(options)
        console.print(timed("loading Ray, torch and MLflow"), highlight=False)
        from coldray.cli.jobs.tune import quiet_libraries

        quiet_libraries()
        options.unsent = []
        run(options, console)
        if options.unsent:
            raise UnsentError(f"The job has come to its end, but {' And '.join(options.unsent)}")

    return reported(work, "What was done before is kept; --resume goes on with the study.")


def reported(work: Callable[[], None], way_on: str = "") -> int:
    """Do the work; return the exit status, with every deliberate error, and every one of Ray, as one line.

    Before the line of an error that nobody foresaw, its traceback is printed.

    Parameters
    ----------
    way_on
        How to go on after such an error, if the job has a way.
    """
    printable()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", EVERYTHING)
    unset_empty(MLFLOW)
    with interruptions() as interrupted:
        try:
            work()
        except ColdrayError as error:
            _tell(of_ray(error) if is_of_ray(error) else error)
            if isinstance(error, SearchInterruptedError):
                return interrupted.status
            return UNSENT_STATUS if isinstance(error, UnsentError) else 1
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            return interrupted.status
        except Exception as error:
            _tell(of_ray(error) if is_of_ray(error) else _unexpected(error, way_on))
            return 1
    return 0


def printable() -> None:
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
