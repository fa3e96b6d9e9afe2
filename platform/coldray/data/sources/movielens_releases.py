"""Reader of the larger MovieLens releases and of latest-small: a folder of files, or the published archive of it.

1M and 10M have ``ratings.dat`` and ``movies.dat`` without headers, divided by ``::`` and unquoted. 20M, 25M and the
latest ones have ``ratings.csv`` and ``movies.csv`` with headers, in UTF-8, fields with commas in double quotes.

Source: Harper and Konstan, *The MovieLens Datasets: History and Context*, ACM TiiS 5 (4), 2015.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import ConfigError, DataFormatError
from coldray.core.spelling import choices, nearest
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Dataset
from coldray.data.sources.assembly import Profiles, assemble, refuse_repeated
from coldray.data.sources.movielens import DEFAULT_ATTRIBUTES, YEAR_IN_TITLE, movie_attributes, person_profiles
from coldray.data.tables.archive import LATIN, DataFiles, parse_numbers, refuse_values
from coldray.data.tables.delimited import DelimitedFile
from coldray.data.tables.files import require_columns
from coldray.data.tables.streaming import collect_typed, readable, scan_delimited

_NO_GENRES = "(no genres listed)"
_COLONS = "::"
_CSV_RATINGS = {"userId": "user", "movieId": "item", "rating": "rating", "timestamp": "timestamp"}
_CSV_MOVIES = ("movieId", "title", "genres")
_USER_FILE = "users.dat"
_USER_COLUMNS = ("item", "gender", "age", "occupation", "zip")
_OCCUPATIONS = (
    "other", "academic or educator", "artist", "clerical or admin", "college or grad student", "customer service",
    "doctor or health care", "executive or managerial", "farmer", "homemaker", "K-12 student", "lawyer", "programmer",
    "retired", "sales or marketing", "scientist", "self-employed", "technician or engineer", "tradesman or craftsman",
    "unemployed", "writer",
)  # fmt: skip
"""By their numbers in ``users.dat`` of 1M, as its README has them."""
_TYPES = {"user": pl.Int64(), "item": pl.Int64(), "rating": pl.Float32(), "timestamp": pl.Int64()}


@dataclass(frozen=True)
class _Release:
    """How the files of a release are written."""

    suffix: str
    """``dat`` is divided by ``::``, ``csv`` by commas."""
    encoding: str
    """Of the movies; the ratings are ASCII."""

    @property
    def rating_file(self) -> str:
        """Name of the file of ratings."""
        return f"ratings.{self.suffix}"

    @property
    def movie_file(self) -> str:
        """Name of the file of movies."""
        return f"movies.{self.suffix}"


_RELEASES = {
    "ml-1m": _Release("dat", LATIN),
    "ml-10m": _Release("dat", "utf-8"),
    "ml-20m": _Release("csv", "utf-8"),
    "ml-25m": _Release("csv", "utf-8"),
    "ml-latest-small": _Release("csv", "utf-8"),
}


def read_movielens_release(path: Path, name: str) -> Dataset:
    """Read a MovieLens release other than 100K; the ratings are streamed.

    Items are the movies, whether anybody rated them or not; what the movie file does not know of one stays missing.
    Users have a gender, an age, an occupation and the area of their zip code where ``users.dat`` is. Ratings and times
    (seconds since 1970) are kept. The attributes are the genres, the year that ends the title, and the title without
    it.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.
    name
        One of :data:`_RELEASES`, which gives the dataset its name.

    Raises
    ------
    ConfigError
        If `name` is no release.
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a column or field is missing, a value is not of its type, or a movie or a (user, item) pair is repeated.
    EmptyDatasetError
        If there is no rating.
    """
    if name not in _RELEASES:
        raise ConfigError(f"There is no MovieLens {name!r}.{nearest(name, _RELEASES)} There are: {choices(_RELEASES)}.")
    release = _RELEASES[name]
    files = DataFiles(path, f"MovieLens {name.removeprefix('ml-')}")
    movies = _movies(files, release)
    with files.unpacked(release.rating_file) as path:
        ratings, scan = _scan_ratings(path, release)
        pairs = collect_typed(scan, _TYPES, path, files.notes)
    notes = [*ratings.notes_of(pairs.height), *files.notes]
    provenance: dict[str, Any] = {"source": name, "ratings_file": release.rating_file, "ratings": pairs.height}
    provenance |= {"notes": notes} if notes else {}
    return assemble(
        pairs,
        lambda item_ids: movie_attributes(movies, item_ids),
        name=name,
        file=release.rating_file,
        default_attributes=DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(movies["item"], release.movie_file),
        profiles=user_profiles(files),
    )


def user_profiles(files: DataFiles) -> Profiles | None:
    """Return what is known of users, if the file is there: 1M alone has it."""
    if files.content(_USER_FILE) is None:
        return None
    table = files.rows(_USER_FILE, _COLONS, _USER_COLUMNS, encoding=LATIN)
    ids, ages, jobs = (parse_numbers(table, name, pl.Int64(), _USER_FILE) for name in ("item", "age", "occupation"))
    refuse_values(~jobs.is_in(range(len(_OCCUPATIONS))), table, "occupation", _USER_FILE, "no number from 0 to 20")
    named = pl.Series("occupation", [_OCCUPATIONS[number] for number in jobs.to_list()], pl.String)
    return person_profiles(table.with_columns(ids, ages, named), _USER_FILE)


def _scan_ratings(path: Path, release: _Release) -> tuple[DelimitedFile, pl.LazyFrame]:
    if release.suffix == "csv":
        file, scan = scan_delimited(path, ",", quoted=True)
        with readable(path):
            require_columns(scan.collect_schema().names(), _CSV_RATINGS, path.name)
        return file, scan.rename(_CSV_RATINGS)
    # One byte is all that polars divides by: at each second colon there is an empty field.
    between = [f"between {number}" for number in range(len(_TYPES) - 1)]
    fields = [name for pair in zip(_TYPES, [*between, ""], strict=True) for name in pair][:-1]
    file, scan = scan_delimited(path, ":", fields)
    single = pl.any_horizontal(pl.col(between).is_not_null())
    return file, scan.with_columns(pl.when(~single).then("timestamp").alias("timestamp"))


def _movies(files: DataFiles, release: _Release) -> pl.DataFrame:
    """Return a row a movie: `item`, `title`, `year` and the list of its `genres`."""
    file = release.movie_file
    if release.suffix == "dat":
        table = files.rows(file, _COLONS, _CSV_MOVIES, encoding=release.encoding)
    else:
        table = _csv_movies(files, file)
    title = pl.col("title").str.strip_chars()
    movies = table.select(
        parse_numbers(table, "movieId", pl.Int64(), file).alias("item"),
        title=title.str.replace(YEAR_IN_TITLE, ""),
        year=title.str.extract(YEAR_IN_TITLE).cast(pl.Int32),
        genres=pl.when(pl.col("genres") != _NO_GENRES).then(pl.col("genres").str.split("|")),
    )
    refuse_repeated(movies, ("item",), file)
    return movies


def _csv_movies(files: DataFiles, name: str) -> pl.DataFrame:
    with files.unpacked(name) as file, readable(file):
        looked, scan = scan_delimited(file, ",", quoted=True)
        require_columns(scan.collect_schema().names(), _CSV_MOVIES, name)
        table = scan.select("line", *_CSV_MOVIES).collect()
        files.notes.extend(looked.notes_of(table.height))
    if table.get_column("title").null_count():
        line = table.filter(pl.col("title").is_null()).item(0, "line")
        raise DataFormatError(f"{name}, line {line}: the movie has no title.")
    return table
