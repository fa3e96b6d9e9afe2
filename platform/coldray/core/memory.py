"""How much memory a computation may take, checked before it is allocated."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from coldray.core.errors import CatalogTooLargeError

GIB = 2**30
_FIT_SHARE = 0.8
"""Share of the free memory that the largest fit of a study may take: the data, and what fits share, need some."""

_CGROUP = Path("/sys/fs/cgroup")
FILES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""Where the two versions of cgroups say what a container may use, what it uses, and what of that is cached files."""


def _available_bytes(cgroup: Path = _CGROUP) -> int:
    """Return the bytes this process may still allocate: the machine's free memory or what its container leaves.

    Both cgroup versions are read; a container without a limit does not lower the figure. Files that the kernel keeps
    cached count as free: it gives them back.
    """
    machine = int(psutil.virtual_memory().available)
    container = _container(cgroup)
    return machine if container is None else min(machine, container[1])


def memory_here() -> tuple[int, int | None]:
    """Return the bytes this process may still allocate, and the limit of its container; None without one."""
    container = _container(_CGROUP)
    limited = container is not None and container[0] < psutil.virtual_memory().total
    return _available_bytes(), container[0] if container is not None and limited else None


def fit_bytes(free: int | None = None) -> int:
    """Return the bytes that the form of a fit is chosen by, a share of those that are `free`; here, by default.

    What is free now is not all free later: folds, and what fits share, come to lie in memory too.
    """
    return int(_FIT_SHARE * (_available_bytes() if free is None else free))


def peak_bytes() -> int:
    """Return the most resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def require_memory(
    need: int,
    *,
    purpose: str,
    way_out: str,
    available: int | None = None,
    need_of_items: Callable[[int], int] | None = None,
    n_items: int = 0,
) -> None:
    """Refuse a computation that would not fit.

    Parameters
    ----------
    need
        Bytes the computation allocates at its peak.
    purpose
        What needs them, with its size: ``"MARec on 60,000 items"``.
    way_out
        What would fit.
    available
        Bytes there are; read from the machine by default.
    need_of_items
        Bytes that another number of items would need, from which the message tells how many fit.
    n_items
        How many items `need` is for.

    Raises
    ------
    CatalogTooLargeError
        If `need` exceeds what is available.
    """
    free = _available_bytes() if available is None else available
    if need <= free:
        return
    there = f"{free / GIB:,.1f} GiB is free"
    container = _container(_CGROUP) if available is None else None
    if container is not None and container[1] <= free:
        there += f" of the container's {container[0] / GIB:,.1f} GiB"
    most = 0 if need_of_items is None else most_that_fit(need_of_items, free, n_items)
    if most:
        there += f", enough for {most:,} {'item' if most == 1 else 'items'}"
    raise CatalogTooLargeError(f"{purpose} needs {need / GIB:,.1f} GiB of memory; {there}. {way_out}")


def most_that_fit(need_of: Callable[[int], int], free: int, limit: int) -> int:
    """Return a number below `limit` that needs no more than `free` bytes, the largest where need grows with it.

    0 if there is none.
    """
    fits, too_many = 0, limit
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if need_of(middle) <= free:
            fits = middle
        else:
            too_many = middle
    return fits


def _container(cgroup: Path) -> tuple[int, int] | None:
    """Return the limit of this process's container and what is left of it; None without a limit."""
    for limit_file, usage_file, facts_file, cached in FILES:
        limit, usage = _number(_read(cgroup / limit_file)), _number(_read(cgroup / usage_file))
        if limit is not None and usage is not None:
            facts = dict(line.split(maxsplit=1) for line in _read(cgroup / facts_file).splitlines() if " " in line)
            usage -= _number(facts.get(cached, "")) or 0
            return limit, max(limit - usage, 0)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None  # "max" means no limit
