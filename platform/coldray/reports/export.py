"""Reports as files: page, figures and data, written completely or not at all; the same report repeats its bytes."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from coldray.core.errors import OutputError
from coldray.core.files import replacing, replacing_folder
from coldray.reports.report import PAGE, SYNTHETIC_LABEL, Picture, Report
from coldray.reports.style import CSS_PIXELS_PER_INCH, HALF_WIDTH, as_data_uri, save_figure

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold


@dataclass(frozen=True)
class ReportFiles:
    """Where a report was exported to."""

    folder: Path
    archive: Path
    """All files of the folder in one zip file beside it."""
    written: tuple[Path, ...]
    """The files of the folder, the page first."""


def write_page(report: Report, path: Path) -> Path:
    """Write a report as a page to `path`, completely or not at all, and return the path.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    with replacing(path) as temporary:
        temporary.write_text(page(report), encoding="utf-8")
    return path


def write_files(report: Report, folder: Path) -> list[Path]:
    """Write page, figures and data of a report among what `folder` has, and return their paths, the page first.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    written = []
    for name, content in report.files.items():
        with replacing(folder / name) as temporary:
            if isinstance(content, pl.DataFrame):
                content.write_csv(temporary)
            else:
                temporary.write_text(_json(content), encoding="utf-8")
        written.append(folder / name)
    names = ((picture, suffix) for picture in report.pictures for suffix in report.formats)
    written += [_save(picture, folder / f"{picture.name}{suffix}") for picture, suffix in names]
    return [write_page(report, folder / PAGE), *written]


def _save(picture: Picture, path: Path) -> Path:
    if path.suffix != ".png":
        return save_figure(picture.figure, path)
    with replacing(path) as temporary:
        temporary.write_bytes(picture.png)
    return path


def export(report: Report, folder: Path, *, unlike: str | None = None) -> ReportFiles:
    """Write a report to a folder of its own and to a zip file beside it, completely or not at all.

    An earlier export in `folder` is replaced.

    Parameters
    ----------
    unlike
        Name of a JSON file of the report: an earlier export in which it differs stays, and this one goes to a folder
        beside it with a number behind its name.

    Raises
    ------
    OutputError
        If the folder cannot be written, or holds files that are not those of an export.
    """
    folder = folder.absolute()
    if unlike is not None:
        folder = _free(folder, unlike, _json(report.files[unlike]))
    archive = folder.with_name(f"{folder.name}.zip")
    figures = {*report.names, *(picture.name for picture in report.pictures)}
    _check_free(folder, archive, {PAGE, *report.files, *(f"{n}{suffix}" for n in figures for suffix in report.formats)})
    with replacing(archive) as packed, replacing_folder(folder) as made:
        written = [folder / path.name for path in write_files(report, made)]
        _pack(made, packed, folder.name)
    return ReportFiles(folder, archive, tuple(written))


def _free(folder: Path, name: str, text: str) -> Path:
    """Return the folder, or the first one with a number, in which the file `name` has no other text."""
    count, found = 1, folder
    while (found / name).is_file() and (found / name).read_text(encoding="utf-8") != text:
        count += 1
        found = folder.with_name(f"{folder.name}-{count}")
    return found


def _check_free(folder: Path, archive: Path, names: Collection[str]) -> None:
    """Refuse to replace what is no earlier export, naming what would be lost."""
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


def _json(values: Any) -> str:
    return json.dumps(_plain(values), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it; what JSON has no form for, as text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, str | int):
        return value
    return value if isinstance(value, float) and math.isfinite(value) else str(value)


def _pack(folder: Path, archive: Path, name: str) -> None:
    """Write the files of `folder` as `name` to `archive`, by name and without times, so that the bytes repeat."""
    with zipfile.ZipFile(archive, "w") as packed:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(f"{name}/{path.name}", _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3  # Unix, whichever system this is
            entry.external_attr = 0o100644 << 16
            packed.writestr(entry, path.read_bytes())


def page(report: Report) -> str:
    """Return the report as one page; every text in it is escaped."""
    environment = Environment(
        loader=PackageLoader("coldray", "reports"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"as_data_uri": as_data_uri, "half": HALF_WIDTH, "pixels": CSS_PIXELS_PER_INCH}
    banner = SYNTHETIC_LABEL if report.synthetic else None
    return environment.get_template("page.html").render(report=report, synthetic=banner)
