"""Lines that jobs print."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from coldray.core.commands import installed, job_of
from coldray.core.masking import masked


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


def other_command(name: str) -> tuple[Path | str, ...]:
    """Return how another command is typed: as the one that runs was, which may be the file of a job."""
    job = job_of(name)
    return ("coldray", name) if job is None else (tool("python"), from_here(job))


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
    return [*_program(), *kept]


def with_option(command: Sequence[str], name: str, value: str) -> list[str]:
    """Return a command, as it is typed, with another value of an option that it may have had before.

    The value is typed as it is given: it may bring other options.
    """
    kept, skip = [], False
    for word in command:
        if not skip and word != name and not word.startswith(f"{name}="):
            kept.append(word)
        skip = not skip and word == name
    return [*kept, name, value]


def _program() -> list[str]:
    """Return how the program that runs is typed."""
    program = Path(sys.argv[0])
    if installed():
        return ["coldray"]
    if program.name == "__main__.py":
        return [typed(from_here(Path(sys.executable))), "-m", program.parent.name]
    python = [] if os.access(program, os.X_OK) and program.suffix != ".py" else [typed(from_here(Path(sys.executable)))]
    return [*python, typed(from_here(program))]
