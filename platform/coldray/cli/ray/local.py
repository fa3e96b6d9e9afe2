"""Where and how Ray starts on this machine, whatever the folders of the project and of the user are called."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coldray.core.environment import variable
from coldray.core.errors import ClusterError

EMBEDDED = "COLDRAY_EMBEDDED_RAY"
"""In the environment of the processes of a Ray that a job has started for itself: no other job is meant to join it."""
_SOCKET_BYTES = 107
"""The longest path of a socket on Linux."""
_LONGEST_SOCKET = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""What Ray adds to the folder that it is given, with the largest number of a process."""
_LEAST_FREE = 2**26
"""Bytes: Ray's logs and the memory that it maps need some room even where nothing is spilled."""
_FALLBACKS = ("/tmp", "/var/tmp", "/dev/shm")


def ray_folder() -> tuple[Path, str]:
    """Return the folder in which Ray keeps its sockets, logs and spilled objects, and what there is to say about it.

    It is in the folder of temporary files, RAY_TMPDIR before TMPDIR, if that is short enough for sockets, can be
    written and has room; else in another one, and that is said. It is this user's own: Ray's default is one for all
    users of a machine, which belongs to whoever came first.

    Raises
    ------
    ClusterError
        If no folder will do.
    """
    chosen = [(name, variable(name)) for name in ("RAY_TMPDIR", "TMPDIR") if variable(name)]
    refused: list[tuple[str, str]] = []
    for name, folder in [*chosen, *(("", folder) for folder in _FALLBACKS)]:
        own = Path(folder).absolute() / f"coldray-{os.geteuid()}"
        problem = _problem(own)
        if not problem:
            named = [text for of, text in refused if of]
            return own / "ray", f"Ray keeps its files in {own}: {'; '.join(named)}" if named else ""
        refused.append((name, f"{name + ' ' if name else ''}{folder} {problem}"))
    raise ClusterError(
        f"Ray has no folder for its sockets and logs: {'; '.join(text for _, text in refused)}. Set RAY_TMPDIR to a "
        f"folder with a short path (at most {_SOCKET_BYTES - len(_LONGEST_SOCKET) - len(own.name) - 1} bytes) that can "
        "be written and has room."
    )


def _problem(folder: Path) -> str:
    """Return why Ray cannot use a folder, which is made if need be; nothing if it can."""
    length = len(os.fsencode(folder)) + len(_LONGEST_SOCKET)
    if length > _SOCKET_BYTES:
        return f"is too long: the path of a socket in it would have {length} bytes, and {_SOCKET_BYTES} are allowed"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_uid != os.geteuid():
            return f"has a folder {folder.name} of another user"
        with tempfile.TemporaryFile(dir=folder):
            pass
        status = os.statvfs(folder)
    except OSError as error:
        return f"cannot be written: {error.strerror}"
    free = status.f_bavail * status.f_frsize
    return f"has only {free / 2**20:.0f} MiB left" if free < _LEAST_FREE else ""


def worker_environment() -> dict[str, Any]:
    """Return the runtime environment that lets workers start where the path of Python is not a plain word.

    Ray puts that path into a line for a shell as it is; nothing is needed where a shell takes it as it is.
    """
    quoted = shlex.quote(sys.executable)
    return {} if quoted == sys.executable else {"py_executable": quoted}


@contextmanager
def readable_commands() -> Iterator[None]:
    r"""Have Ray write the commands of its processes as it reads them again, whatever is in their paths.

    It writes them by the rules of Windows, under which ``'`` and ``\`` are letters, and reads them by those of shells.
    """
    before = subprocess.list2cmdline
    subprocess.list2cmdline = shlex.join  # type: ignore[assignment] # it is given words
    try:
        yield
    finally:
        subprocess.list2cmdline = before
