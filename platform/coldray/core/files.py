"""Files that are either complete or absent: written under a temporary name, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from coldray.core.errors import OutputError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` if the block succeeds.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    with _refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            temporary.chmod(0o644)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it takes the place of `path` if the block succeeds.

    Raises
    ------
    OutputError
        If the folder cannot be created or written, or `path` is a file.
    """
    with _refused(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield temporary
            temporary.chmod(0o755)
            previous = temporary.with_name(f"{temporary.name}.previous")
            if path.exists():
                path.replace(previous)
            temporary.replace(path)
            shutil.rmtree(previous, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    """Raise our error for a file that cannot be written; any other (a network's) goes on as it is."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OutputError(f"Cannot write {path}: {error.strerror}. Free space or choose another folder.") from error


@contextmanager
def writable_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and try to write in it; if the block fails, what was made for it goes again unless it holds files.

    Raises
    ------
    OutputError
        If a file cannot be created in `folder`.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        check_writable(folder)
        yield
    except BaseException:
        for path in made:
            with suppress(OSError):  # it holds files, or was never made
                path.rmdir()
        raise


def check_writable(folder: Path) -> None:
    """Fail now, not after an hour of work, when `folder` cannot be written.

    Raises
    ------
    OutputError
        If a file cannot be created in `folder`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"Cannot write to {folder}: {error.strerror}. Choose another folder.") from error
