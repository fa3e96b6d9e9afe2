"""The study and comparison files that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest

FOLDER = Path(__file__).parents[1] / "tune_spaces"
"""Where they are; in the repository a link to the folder of that name."""
Kind: TypeAlias = Literal["study", "comparison"]
_MARKS: dict[Kind, str] = {"study": "\nspace:", "comparison": "\nentries:"}


def shipped(kind: Kind) -> list[str]:
    """Return the names of the files of a kind, sorted."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml") if _MARKS[kind] in file.read_text(encoding="utf-8"))


def named_file(name: str | Path, kind: Kind) -> Path:
    """Return the path of a file: one that comes with the package, by its name, or any other by its path.

    A name is one word without a suffix; a file of that name in the present folder is named ``./NAME``.

    Raises
    ------
    ConfigError
        If no file of that name comes with the package.
    """
    path = Path(name)
    if path.suffix or len(path.parts) != 1 or str(name).startswith("."):
        return path
    known = shipped(kind)
    if name not in known:
        raise ConfigError(
            f"There is no {kind} {str(name)!r}.{nearest(str(name), known)} There are: {choices(known)}; or give the "
            "path of a file of your own."
        )
    return FOLDER / f"{name}.yaml"
