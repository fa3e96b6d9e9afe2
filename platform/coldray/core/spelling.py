"""The nearest valid name for a misspelt one, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"``, or ``""`` when nothing valid is close to `name`."""
    match = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return f" Did you mean {match[0]!r}?" if match else ""


def choices(valid: Iterable[str]) -> str:
    """Return the valid names as one sorted, comma-separated line."""
    return ", ".join(sorted(valid)) or "none"
