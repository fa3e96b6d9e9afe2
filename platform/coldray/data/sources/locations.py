"""Where the data sets that are never downloaded are looked for."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from coldray.core.environment import variable
from coldray.core.errors import DataFileError

DATA_VARIABLE = "COLDRAY_DATA"
"""Environment variable with the folder that holds the datasets when `data_dir` is not given."""


@dataclass(frozen=True)
class Location:
    """What a data set is called on a disk."""

    name: str
    """Name of the source."""
    folder: str
    """Name of its folder; its archive is called the same, with ``.zip``."""
    marker: str
    """A file that only a folder of it has, as a glob pattern."""
    expected: str
    """What to put in the folder, for the error message."""
    zipped: bool = True
    """Whether its archive can be read."""


def find_files(location: Location, data_dir: Path | None, others: Set[str] = frozenset()) -> Path:
    """Return the folder or archive of a source: `data_dir` itself, or the folder or ``.zip`` of its name in it.

    Parameters
    ----------
    others
        Folders of other sources, which are not taken for this one: the releases of MovieLens have files of the same
        names.

    Raises
    ------
    DataFileError
        If it is in none of them; it is never downloaded.
    """
    root = data_root(data_dir)
    if root is not None and location.zipped and root.suffix == ".zip":
        return root
    archive = f"{location.folder}.zip"
    places = [] if root is None else [root, root / location.folder]
    if root is not None and location.zipped:
        places.append(root / archive)
    for place in places:
        packed = location.zipped and place.name == archive and place.is_file()
        if packed or (place.name not in others and any(place.glob(location.marker))):
            return place
    where = " nor in ".join(str(place) for place in places) or "any folder, as none was given"
    or_archive = f", or {archive}," if location.zipped else ""
    raise DataFileError(
        f"{location.name} is not in {where}. It is not downloaded: put {location.expected}{or_archive} in a folder and "
        f"name it with --data-dir (or {DATA_VARIABLE})."
    )


def found_below(path: Path, folder: Path) -> Path:
    """Return where a file is that one in `folder` names: there, else in the folder of the data; there if in neither."""
    root = data_root(None)
    beside = folder / path
    if beside.exists() or root is None or not (root / path).exists():
        return beside
    return root / path


def data_root(data_dir: Path | None) -> Path | None:
    """Return the folder to look in, which must exist when somebody named it."""
    named = variable(DATA_VARIABLE)
    root = data_dir if data_dir is not None else Path(named) if named else None
    if root is not None and not root.exists():
        origin = "--data-dir" if data_dir is not None else DATA_VARIABLE
        raise DataFileError(f"{origin} names {root}, which does not exist.")
    return root
