"""How much memory a computation may take, checked before it is allocated."""

from __future__ import annotations

from pathlib import Path

import psutil

from coldray.errors import CatalogTooLargeError

GIB = 2**30


def available_bytes(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes this process may still allocate: the machine's free memory or what its container leaves.

    Both cgroup versions are read; a container without a limit does not lower the figure.
    """
    machine = int(psutil.virtual_memory().available)
    for limit_file, usage_file in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        limit, usage = _read(cgroup / limit_file), _read(cgroup / usage_file)
        if limit is not None and usage is not None:
            return min(machine, max(limit - usage, 0))
    return machine


def require_memory(need: int, *, purpose: str, way_out: str, available: int | None = None) -> None:
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

    Raises
    ------
    CatalogTooLargeError
        If `need` exceeds what is available.
    """
    free = available_bytes() if available is None else available
    if need > free:
        raise CatalogTooLargeError(
            f"{purpose} needs {need / GIB:,.1f} GiB of memory; {free / GIB:,.1f} GiB is free. {way_out}"
        )


def _read(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None  # "max" means no limit
