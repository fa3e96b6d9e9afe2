"""Lines that jobs print."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from pathlib import Path

from rich.text import Text

from coldray.core.masking import masked


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help with the default of each option, passwords in it masked: defaults come from the environment."""

    def _expand_help(self, action: argparse.Action) -> str:
        return masked(super()._expand_help(action))


def timed(message: Text | str) -> Text:
    """Return a message after the time of day; brackets in it are text, never markup, and passwords are masked."""
    if masked(str(message)) != str(message):
        message = masked(str(message))
    return Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", message)


def from_here(path: Path) -> Path:
    """Return a path as it is typed from the working directory: relative if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def typed(*words: Path | str) -> str:
    """Return a command as it is typed into a shell: what is printed can be pasted, whatever is in its paths."""
    return shlex.join(
        f"./{word}" if isinstance(word, Path) and str(word).startswith("-") else str(word) for word in words
    )


def tool(name: str) -> Path:
    """Return a program of this Python's environment as it is typed from the working directory."""
    return from_here(Path(sys.executable).parent) / name


def job_file(name: str) -> Path:
    """Return the file of a job as it is typed from the working directory: it lies beside the one that runs."""
    running = Path(sys.argv[0]).absolute()
    return from_here(running.parent) / name if running.parent.name == "jobs" else Path("jobs") / name
