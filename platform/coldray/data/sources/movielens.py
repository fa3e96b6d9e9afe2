"""Reader of MovieLens 100K in its original layout: a folder of ``u.*`` files, or the published archive of it.

The files are ISO-8859-1, without a header and unquoted. ``u.data`` has a tab-separated line a rating, ``u.item`` a line
a movie, divided by ``|``: id, title, release date, video release date, IMDb URL and a flag a genre of ``u.genre``;
``u.user``, which may be missing, a line a user: id, age, gender, occupation and zip code. The published splits have the
ratings of ``u.data`` in two files each, such as ``u1.base`` and ``u1.test``.

Source: Harper and Konstan, *The MovieLens Datasets: History and Context*, ACM TiiS 5 (4), 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import polars as pl

from coldray.core.errors import ConfigError, DataFormatError
from coldray.core.spelling import choices, nearest
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import (
    Described,
    Profiles,
    assemble,
    label_attribute,
    plain_attribute,
    refuse_repeated,
)
from coldray.data.splits.published import PredefinedSplit, assemble_split
from coldray.data.tables.archive import DataFiles, parse_numbers, refuse_values

_SplitName: TypeAlias = Literal["u1", "u2", "u3", "u4", "u5", "ua", "ub"]
_SPLITS: tuple[_SplitName, ...] = get_args(_SplitName)
"""``u1`` to ``u5`` are the folds of a 5-fold cross-validation; ``ua`` and ``ub`` test on ten ratings of each user."""
NAME = "ml-100k"
_RATING_FILE = "u.data"
_MOVIE_FILE = "u.item"
_GENRE_FILE = "u.genre"
_USER_FILE = "u.user"
_USER_COLUMNS = ("item", "age", "gender", "occupation", "zip")
_RATING_COLUMNS = ("user", "item", "rating", "timestamp")
_MOVIE_COLUMNS = ("item", "title", "release date", "video release date", "IMDb URL")
"""The fields of a movie before its genre flags."""
_UNKNOWN = "unknown"
"""The genre of the movies whose genres nobody gave, and the title of the one that has none: both mean missing."""
_FLAG = "genre "
"""Start of the names of the flag columns, lest a genre be taken for one of the other fields."""
YEAR_IN_TITLE = r"\s*\((\d{4})\)(\s*\(T?V\))?$"
"""``(1995)`` ends a title; IMDb's mark of a film made for video or television may follow."""
DEFAULT_ATTRIBUTES = ("genres", "year", "title")


def read_movielens(path: Path) -> Dataset:
    """Read a dataset in the layout of MovieLens 100K.

    Items are the movies, whether anybody rated them or not; what ``u.item`` does not know of one stays missing. Users
    have an age, a gender, an occupation and the area of their zip code, if ``u.user`` is there. Ratings and times
    (seconds since 1970) are kept. The attribute ``year`` is the one in the title, else that of the release date, which
    may be of a re-release; ``title`` is without its year.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If ``u.data``, ``u.item`` or ``u.genre`` is missing or cannot be read.
    DataFormatError
        If a line has too few or too many fields, a value is not of its type, or a movie, a genre or a (user, item) pair
        is repeated.
    EmptyDatasetError
        If there is no rating.
    """
    files = DataFiles(path, "MovieLens 100K")
    pairs, movies = _ratings(files, _RATING_FILE), _movies(files)
    provenance: dict[str, Any] = {"source": NAME, "ratings_file": _RATING_FILE, "ratings": pairs.height}
    return assemble(
        pairs,
        lambda item_ids: movie_attributes(movies, item_ids),
        name=NAME,
        file=_RATING_FILE,
        default_attributes=DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(movies["item"], _MOVIE_FILE),
        profiles=_profiles(files),
    )


def read_movielens_split(path: Path, split: str) -> PredefinedSplit:
    """Read one of the splits that MovieLens 100K was published with: its base file is train, its test file test.

    The dataset has the ratings of the two files. The published ones have all pairs of ``u.data``, but a few
    other ratings.

    Raises
    ------
    ConfigError
        If `split` is not one of :data:`_SPLITS`.
    DataFileError, DataFormatError
        As :func:`read_movielens` does.
    LeakageError
        If a (user, item) pair is in both files.
    EmptyDatasetError
        If one of the files is empty.
    """
    if split not in _SPLITS:
        raise ConfigError(
            f"MovieLens 100K has no split {split!r}.{nearest(split, _SPLITS)} It has: {choices(_SPLITS)}."
        )
    files = DataFiles(path, "MovieLens 100K")
    base, test = f"{split}.base", f"{split}.test"
    train_pairs, test_pairs, movies = _ratings(files, base), _ratings(files, test), _movies(files)
    provenance: dict[str, Any] = {
        "source": NAME, "ratings_file": f"{base}, {test}", "ratings": train_pairs.height + test_pairs.height
    }  # fmt: skip
    return assemble_split(
        {"train": train_pairs, "test": test_pairs},
        lambda item_ids: movie_attributes(movies, item_ids),
        name=NAME,
        split=split,
        file=f"{base} with {test}",
        default_attributes=DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(movies["item"], _MOVIE_FILE),
        profiles=_profiles(files),
    )


def movie_attributes(movies: pl.DataFrame, item_ids: Ids) -> dict[str, Attribute]:
    """Return the attributes of `item_ids` from a row a movie: `item`, `title`, `year` and the list of its `genres`."""
    genres = movies.select("item", label="genres").explode("label").filter(pl.col("label") != _UNKNOWN)
    return {
        "genres": label_attribute(genres, item_ids),
        "year": plain_attribute(movies, "year", item_ids),
        "title": plain_attribute(movies, "title", item_ids),
    }


def person_profiles(people: pl.DataFrame, file: str) -> Profiles:
    """Return what is known of users from a row each: `item`, the id, `age`, `gender`, `occupation` and `zip`.

    ``zip_area`` is the first character of a zip code: of those of the United States, a part of the country.
    """
    refuse_repeated(people, ("item",), file)
    rows = people.select(
        "item",
        pl.col("age").alias("attribute age"),
        *(pl.col(name).alias(f"attribute {name}") for name in ("gender", "occupation")),
        pl.col("zip").str.slice(0, 1).str.to_uppercase().alias("attribute zip_area"),
    )
    return Profiles(rows, file, Described("users", "user", ("gender", "occupation", "zip_area"), ("age",), ()))


def _profiles(files: DataFiles) -> Profiles | None:
    """Return what is known of users, if the file is there."""
    if files.content(_USER_FILE) is None:
        return None
    table = files.rows(_USER_FILE, "|", _USER_COLUMNS)
    ids, ages = (parse_numbers(table, column, pl.Int64(), _USER_FILE) for column in ("item", "age"))
    return person_profiles(table.with_columns(ids, ages), _USER_FILE)


def _ratings(files: DataFiles, name: str) -> pl.DataFrame:
    table = files.rows(name, "\t", _RATING_COLUMNS)
    types = (pl.Int64(), pl.Int64(), pl.Float32(), pl.Int64())
    return pl.DataFrame(
        [parse_numbers(table, column, dtype, name) for column, dtype in zip(_RATING_COLUMNS, types, strict=True)]
    )


def _movies(files: DataFiles) -> pl.DataFrame:
    """Return a row a movie: `item`, `title`, `year` and the list of its `genres`."""
    flags = [_FLAG + genre for genre in _genres(files)]
    table = files.rows(_MOVIE_FILE, "|", (*_MOVIE_COLUMNS, *flags))
    for flag in flags:
        refuse_values(~table.get_column(flag).is_in(["0", "1"]), table, flag, _MOVIE_FILE, "neither 0 nor 1")
    title = pl.col("title").str.replace(YEAR_IN_TITLE, "")
    movies = table.select(
        parse_numbers(table, "item", pl.Int64(), _MOVIE_FILE),
        title=pl.when(pl.col("title") != _UNKNOWN).then(title),
        year=pl.coalesce(pl.col("title").str.extract(YEAR_IN_TITLE).cast(pl.Int32), _release_years(table)),
        genres=pl.concat_list(pl.when(pl.col(flag) == "1").then(pl.lit(flag.removeprefix(_FLAG))) for flag in flags),
    )
    refuse_repeated(movies, ("item",), _MOVIE_FILE)
    return movies


def _release_years(table: pl.DataFrame) -> pl.Series:
    """Return the year of each release date, such as 4-Feb-1971; null where there is none."""
    text = table.get_column("release date")
    # chrono, which polars parses with, would read 01-Jan-95 as a day of the first century.
    dates = text.set(~text.str.contains(r"-\d{4}$"), None).str.to_date("%d-%b-%Y", strict=False)
    bad = dates.is_null() & (text != "")
    refuse_values(bad, table, "release date", _MOVIE_FILE, "not a date like 01-Jan-1995")
    return dates.dt.year()


def _genres(files: DataFiles) -> list[str]:
    """Return the names of the genres in the order of their flags."""
    table = files.rows(_GENRE_FILE, "|", ("genre", "number"))
    genres = table.select("genre", parse_numbers(table, "number", pl.Int64(), _GENRE_FILE)).sort("number")
    refuse_repeated(genres, ("genre",), _GENRE_FILE)
    numbers = genres.get_column("number").to_list()
    if not numbers or numbers != list(range(len(numbers))):
        raise DataFormatError(
            f"{_GENRE_FILE} numbers its {len(numbers)} genres {', '.join(map(str, numbers)) or 'not at all'}. "
            f"The numbers must be 0, 1, 2, …: they are the places of the flags in {_MOVIE_FILE}."
        )
    return genres.get_column("genre").to_list()
