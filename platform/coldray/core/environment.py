"""Environment variables as shells have them: one that is empty was meant to be taken away."""

from __future__ import annotations

import os


def variable(name: str, default: str = "") -> str:
    """Return the value of an environment variable without blanks around it; the default where it is unset or empty."""
    return os.environ.get(name, "").strip() or default


def unset_empty(prefix: str) -> None:
    """Take away the variables of a library that are empty: it would take them for values, such as a time of nothing."""
    for name in [name for name, value in os.environ.items() if name.startswith(prefix) and not value.strip()]:
        del os.environ[name]
