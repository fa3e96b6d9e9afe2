"""Lines that jobs print."""

from __future__ import annotations

import time
from pathlib import Path

from rich.text import Text


def timed(message: Text | str) -> Text:
    """Return a message after the time of day; brackets in it are text, never markup."""
    return Text.assemble((time.strftime("%H:%M:%S"), "dim"), " ", message)


def from_here(path: Path) -> Path:
    """Return a path as it is typed from the working directory: relative if it lies below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
