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


def yield_waiting_threads() -> None:
    """Let threads of torch that wait for each other leave the core soon, unless somebody has said how they wait.

    GNU OpenMP lets them spin long enough to take a busy machine's core from the one that they wait for, and a training
    has thousands of such meetings. It reads this when it is loaded, so it has to be said before torch is; worker
    processes of Ray inherit it.
    """
    if not variable("OMP_WAIT_POLICY"):
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
