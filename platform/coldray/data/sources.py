"""The sources a study can name, and where their files are looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, get_args

import platformdirs
from pydantic import BaseModel, ConfigDict, NonNegativeInt, field_validator

from coldray.data.dataset import Dataset
from coldray.data.download import fetch_hetrec
from coldray.data.hetrec import MOVIE_FILE, RATING_FILES, read_hetrec
from coldray.data.movielens import RATING_FILE as MOVIELENS_RATING_FILE
from coldray.data.movielens import read_movielens
from coldray.data.sample import sample_dataset
from coldray.data.tabular import TabularConfig, read_tabular
from coldray.errors import ConfigError, DataFileError
from coldray.spelling import choices, nearest

SourceName = Literal["sample", "hetrec", "ml1m-hetrec", "ml-100k", "csv", "parquet"]
SOURCES: tuple[str, ...] = get_args(SourceName)
DATA_VARIABLE = "COLDRAY_DATA"
"""Environment variable with the folder that holds the datasets when `data_dir` is not given."""
HETREC_FOLDER = "hetrec2011-movielens-2k-v2"
ML1M_FOLDER = "ml1m-hetrec"
ML100K_FOLDER = "ml-100k"


class SourceConfig(BaseModel):
    """Which data to read, and where it lies."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SourceName
    """``sample`` is generated; ``hetrec`` is found or downloaded; ``ml1m-hetrec`` and ``ml-100k`` are found; the rest
    is your own."""
    data_dir: Path | None = None
    """Folder of the files, or of the folder or .zip that has them; null means the one COLDRAY_DATA names."""
    tabular: TabularConfig | None = None
    """Tables and columns of ``csv`` and ``parquet``."""
    seed: NonNegativeInt = 0
    """Seed of ``sample``; without effect on real data."""
    download: bool = True
    """Whether ``hetrec`` may be downloaded when it is not found."""

    @field_validator("name", mode="before")
    @classmethod
    def _known(cls, name: Any) -> Any:
        if name not in SOURCES:
            raise ConfigError(
                f"Unknown data source {name!r}.{nearest(str(name), SOURCES)} There are: {choices(SOURCES)}."
            )
        return name


def load_dataset(source: SourceConfig) -> Dataset:
    """Return the dataset of `source`, read from disk, downloaded, or generated.

    Raises
    ------
    ConfigError
        If `source` lacks the tables of a tabular source.
    DataError
        If the files are missing, cannot be fetched or are malformed. Real data is never replaced by the sample.
    """
    if source.name == "sample":
        return sample_dataset(source.seed)
    if source.name == "hetrec":
        return read_hetrec(find_hetrec(source.data_dir, download=source.download))
    if source.name == "ml1m-hetrec":
        return read_hetrec(find_ml1m_hetrec(source.data_dir), name="ml1m-hetrec")
    if source.name == "ml-100k":
        return read_movielens(find_ml100k(source.data_dir))
    if source.tabular is None:
        raise ConfigError(f"Source {source.name!r} needs `tabular`: the tables and the meaning of their columns.")
    return read_tabular(source.tabular, source.name)


def find_hetrec(data_dir: Path | None, *, download: bool = True) -> Path:
    """Return the folder or archive of HetRec 2011: in `data_dir`, else in the download cache, else downloaded.

    Raises
    ------
    DataFileError
        If it is nowhere and `download` is false, or `data_dir` does not exist.
    DownloadError
        If it cannot be fetched.
    """
    root = _data_root(data_dir)
    archive = f"{HETREC_FOLDER}.zip"
    cache = Path(platformdirs.user_cache_dir("coldray"))
    if root is not None and root.suffix == ".zip":
        return root
    places = [cache / archive]
    if root is not None:
        places = [root, root / archive, root / HETREC_FOLDER, root / HETREC_FOLDER / archive, *places]
    for place in places:
        if place.is_file() or (_holds_files(place) and place.name != ML1M_FOLDER):
            return place
    if download:
        return fetch_hetrec(cache)
    raise DataFileError(
        f"HetRec 2011 is not in {' nor in '.join(str(place) for place in places)}, and downloading is off. "
        f"Put {archive} or its files in a folder and name it with --data-dir."
    )


def find_ml1m_hetrec(data_dir: Path | None) -> Path:
    """Return the folder of ``ml1m-hetrec``: `data_dir` itself or the folder of that name in it.

    Raises
    ------
    DataFileError
        If it is in neither; it is never downloaded.
    """
    root = _data_root(data_dir)
    places = [] if root is None else [root, root / ML1M_FOLDER]
    for place in places:
        if _holds_files(place) and place.name != HETREC_FOLDER:
            return place
    where = " nor in ".join(str(place) for place in places) or "any folder, as none was given"
    raise DataFileError(
        f"ml1m-hetrec is not in {where}. It is not downloaded: put {MOVIE_FILE}, {RATING_FILES[1]} and the movie_*.dat "
        f"files in a folder and name it with --data-dir (or {DATA_VARIABLE})."
    )


def find_ml100k(data_dir: Path | None) -> Path:
    """Return the folder or archive of MovieLens 100K: `data_dir` itself, or the ``ml-100k`` or ``ml-100k.zip`` in it.

    Raises
    ------
    DataFileError
        If it is in none of them; it is never downloaded.
    """
    root = _data_root(data_dir)
    if root is not None and root.suffix == ".zip":
        return root
    archive = f"{ML100K_FOLDER}.zip"
    places = [] if root is None else [root, root / ML100K_FOLDER, root / archive]
    for place in places:
        if (place / MOVIELENS_RATING_FILE).is_file() or (place.name == archive and place.is_file()):
            return place
    where = " nor in ".join(str(place) for place in places) or "any folder, as none was given"
    raise DataFileError(
        f"ml-100k is not in {where}. It is not downloaded: put u.data, u.item and u.genre, or {archive}, in a folder "
        f"and name it with --data-dir (or {DATA_VARIABLE})."
    )


def _data_root(data_dir: Path | None) -> Path | None:
    """Return the folder to look in, which must exist when somebody named it."""
    named = os.environ.get(DATA_VARIABLE)
    root = data_dir if data_dir is not None else Path(named) if named else None
    if root is not None and not root.exists():
        origin = "--data-dir" if data_dir is not None else DATA_VARIABLE
        raise DataFileError(f"{origin} names {root}, which does not exist.")
    return root


def _holds_files(folder: Path) -> bool:
    return any((folder / name).is_file() for name in RATING_FILES)
