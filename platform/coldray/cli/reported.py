"""The end of a command: its errors as one line, and its exit status."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable

from rich.console import Console
from rich.text import Text

from coldray.cli.interrupts import interruptions
from coldray.core.environment import unset_empty
from coldray.core.errors import (
    ColdrayError,
    ConfigError,
    DataError,
    DownloadError,
    SearchInterruptedError,
    UnsentError,
)
from coldray.core.masking import masked
from coldray.core.ray_errors import is_of_ray, of_ray

_MLFLOW = "MLFLOW_"
"""How the variables of MLflow begin, which reads some of them when it is imported."""
_MISTYPED_STATUS = 2
"""The exit status when what was typed, or a file that it names, says what cannot be."""
_FAILED_STATUS = 1
"""The exit status of a job that failed at its work."""
_UNSENT_STATUS = 3
"""The exit status when all is done, and the tracking server has refused a part of what was to be logged."""
_STATUS = {
    DownloadError: _FAILED_STATUS,
    DataError: _MISTYPED_STATUS,
    ConfigError: _MISTYPED_STATUS,
    UnsentError: _UNSENT_STATUS,
}
"""By error, the more special first."""
_EVERYTHING = "^"
"""What Ray is not to print of its own, which it is told before it is loaded: what matters is said by the job."""


def reported(work: Callable[[], int | None], way_on: str = "") -> int:
    """Do the work; return the exit status, with every deliberate error, and every one of Ray, as one line.

    Before the line of an error that nobody foresaw, its traceback is printed.

    Parameters
    ----------
    work
        Returns the status where all went well; None is 0.
    way_on
        How to go on after such an error, if the job has a way.
    """
    printable()
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _EVERYTHING)
    unset_empty(_MLFLOW)
    with interruptions() as interrupted:
        try:
            return work() or 0
        except ColdrayError as error:
            tell(of_ray(error) if is_of_ray(error) else error)
            if isinstance(error, SearchInterruptedError):
                return interrupted.status
            return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), _FAILED_STATUS)
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
            return interrupted.status
        except Exception as error:
            tell(of_ray(error) if is_of_ray(error) else _unexpected(error, way_on))
            return _FAILED_STATUS


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


def tell(error: BaseException) -> None:
    """Print an error as one line."""
    Console(stderr=True, soft_wrap=True).print(Text.assemble(("error: ", "bold red"), str(error)))
