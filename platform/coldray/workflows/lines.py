"""Lines that jobs print."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from rich.text import Text

from coldray.masking import masked


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
