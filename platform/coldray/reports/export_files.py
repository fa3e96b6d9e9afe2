"""What every export does: leave the files of others alone, write plain values, and pack so that bytes repeat."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from coldray.core.errors import OutputError
from coldray.core.files import replacing, replacing_folder

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold


@contextmanager
def exporting(folder: Path, names: Collection[str]) -> Iterator[tuple[Path, Path]]:
    """Write an export completely or not at all: its files, and a zip file of them all beside the folder.

    What the body writes to the folder it is given takes the place of an earlier export in `folder`.

    Parameters
    ----------
    folder
        An absolute path.
    names
        Files and folders that an export may have written.

    Yields
    ------
    tuple
        The folder to write to, and where the zip file will be.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds files that are not those of an export.
    """
    archive = folder.with_name(f"{folder.name}.zip")
    check_free(folder, archive, names)
    with replacing(archive) as packed, replacing_folder(folder) as made:
        yield made, archive
        pack(made, packed, folder.name)


def check_free(folder: Path, archive: Path, names: Collection[str]) -> None:
    """Refuse to replace what is no earlier export.

    Parameters
    ----------
    names
        Files and folders that an export may have written.

    Raises
    ------
    OutputError
        Naming what would be lost.
    """
    if archive.is_dir():
        raise OutputError(f"Cannot write {archive}: it is a folder. Choose another folder.")
    try:
        found = sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []
    except OSError as error:
        raise OutputError(f"Cannot write {folder}: {error.strerror}. Choose another folder.") from error
    foreign = [name for name in found if name not in names]
    if foreign:
        raise OutputError(
            f"Cannot write {folder}: it holds {foreign[0]!r}, which an export would delete. Choose an empty or a new "
            "folder."
        )


def plain(value: Any) -> Any:
    """Return `value` as JSON has it; what JSON has no form for, as text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, str | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def pack(folder: Path, archive: Path, name: str) -> None:
    """Write the files of `folder` as `name` to `archive`, by name and without times, so that the bytes repeat."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{path.name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system this is
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, path.read_bytes())
