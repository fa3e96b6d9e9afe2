"""Reader of the HetRec 2011 MovieLens layout: a folder of ``.dat`` files, or the published archive of it.

The files are ISO-8859-1, tab-separated and unquoted: a bare ``"`` is part of a title. Of ``movies.dat`` only id, title
and year are read. Its Rotten Tomatoes columns are popularity signals that a new item would not have.

Source: Cantador, Brusilovsky and Kuflik, *2nd Workshop on Information Heterogeneity and Fusion in Recommender Systems
(HetRec 2011)*, RecSys 2011.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.catalogue import Catalogue, note_strays
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import (
    assemble,
    label_attribute,
    plain_attribute,
    refuse_repeated,
)
from coldray.data.sources.movielens_releases import user_profiles
from coldray.data.tables.archive import DataFiles, parse_numbers
from coldray.data.tables.delimited import look_at
from coldray.data.tables.files import require_columns
from coldray.data.tables.streaming import readable

RATING_FILES = ("user_ratedmovies-timestamps.dat", "user_ratedmovies.dat")
"""Either will do. The first is preferred: its times are unambiguous."""
MOVIE_FILE = "movies.dat"
_LOCATION_FILE = "movie_locations.dat"
_TAG_FILE = "movie_tags.dat"
_OVERVIEW_FILE = "movies_tmdb_overview.csv"
_LABEL_FILES = {
    "genres": ("movie_genres.dat", "genre"),
    "countries": ("movie_countries.dat", "country"),
    "directors": ("movie_directors.dat", "directorID"),
    "actors": ("movie_actors.dat", "actorID"),
}
"""Attribute → file and column of its labels. People are told apart by id: two may share a name."""
_LOCATIONS = ("location1", "location2", "location3", "location4")
_DATE_COLUMNS = ("date_year", "date_month", "date_day", "date_hour", "date_minute", "date_second")
_TIME_ZONE = "Europe/Madrid"
"""Zone of the date columns: they are one or two hours ahead of the millisecond timestamps, as Madrid is of UTC."""
_DEFAULT_ATTRIBUTES = (
    "genres", "countries", "directors", "actors", "location1", "location2", "location3", "locations", "year",
)  # fmt: skip
"""Known before release. Tags are left out: users write them, so a new item has none."""
_PUBLISHED_RATINGS = 855_598
"""Ratings in the published hetrec2011-movielens-2k-v2."""


def read_hetrec(path: Path, name: str = "hetrec", tags: Path | None = None, first_actors: int | None = None) -> Dataset:
    """Read a dataset in the HetRec 2011 layout.

    Items are the movies of ``movies.dat``, whether anybody rated them or not, and those that are rated; what
    ``movies.dat`` or an attribute file does not know of them stays missing.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.
    name
        Name of the dataset; ``hetrec`` also notes in the provenance whether all published ratings are there.
    tags
        A folder with ``movie_tags.dat`` and ``tags.dat``, or a ``.zip`` of them, in the place of those in `path`.
    first_actors
        How many actors of a film are read, by their ``ranking``, as the credits have them; all of them by default.

    Raises
    ------
    DataFileError
        If the ratings or ``movies.dat`` are missing, `tags` is named and has none, or a file cannot be read.
    DataFormatError
        If a column is missing, a value is not of its type, or a movie or a (user, item) pair is repeated; or the first
        actors are asked for and there is no ranking, without which their order says nothing.
    """
    files = DataFiles(path, "HetRec")
    rating_file = next((file for file in RATING_FILES if files.content(file) is not None), RATING_FILES[1])
    pairs = _ratings(files, rating_file)
    movies = _movies(files)
    tag_files = files if tags is None else DataFiles(tags, "HetRec", files.notes)
    provenance: dict[str, Any] = {"source": name, "ratings_file": rating_file, "ratings": pairs.height}
    provenance["later_attributes"] = ["tags"]  # users give them once a film is out: a new one has none
    if name == "hetrec":
        provenance["complete"] = pairs.height == _PUBLISHED_RATINGS
    return assemble(
        pairs,
        lambda item_ids: _attributes(files, tag_files, movies, item_ids, provenance, first_actors),
        name=name,
        file=rating_file,
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(movies["item"], MOVIE_FILE),
        profiles=user_profiles(files),
    )


def _ratings(files: DataFiles, name: str) -> pl.DataFrame:
    table = files.required_table(name, ("userID", "movieID", "rating"), ("timestamp", *_DATE_COLUMNS))
    columns = [
        parse_numbers(table, "userID", pl.Int64(), name).alias("user"),
        parse_numbers(table, "movieID", pl.Int64(), name).alias("item"),
        parse_numbers(table, "rating", pl.Float32(), name),
    ]
    if "timestamp" in table.columns:
        columns.append(parse_numbers(table, "timestamp", pl.Int64(), name) // 1000)
    elif set(_DATE_COLUMNS) <= set(table.columns):
        columns.append(_seconds(table, name))
    return pl.DataFrame(columns)


def _seconds(table: pl.DataFrame, name: str) -> pl.Series:
    """Return the date columns as seconds since 1970; of the hour that autumn has twice, the first is taken."""
    year, *rest = (pl.col(column) for column in _DATE_COLUMNS)
    text = pl.concat_str(year, *(part.str.zfill(2) for part in rest))
    local = text.str.to_datetime("%Y%m%d%H%M%S", strict=False, time_unit="us")
    seconds = local.dt.replace_time_zone(_TIME_ZONE, ambiguous="earliest", non_existent="null").dt.epoch("s")
    times = table.select(timestamp=seconds).to_series()
    if times.null_count():
        line = table.get_column("line")[times.is_null().arg_max() or 0]
        raise DataFormatError(
            f"{name}, line {line}: the date_* columns are no date ({times.null_count():,} such lines)."
        )
    return times


def _movies(files: DataFiles) -> pl.DataFrame:
    table = files.required_table(MOVIE_FILE, ("id", "title", "year"))
    movies = pl.DataFrame(
        [
            parse_numbers(table, "id", pl.Int64(), MOVIE_FILE).alias("item"),
            table.get_column("title"),
            parse_numbers(table, "year", pl.Int32(), MOVIE_FILE, optional=True),
        ]
    )
    refuse_repeated(movies, ("item",), MOVIE_FILE)
    return movies


def _attributes(
    files: DataFiles,
    tag_files: DataFiles,
    movies: pl.DataFrame,
    item_ids: Ids,
    provenance: dict[str, Any],
    first_actors: int | None,
) -> dict[str, Attribute]:
    built: dict[str, Attribute] = {}
    for name, (file, column) in _LABEL_FILES.items():
        first = first_actors if name == "actors" else None
        edges = _edges(files, file, (column,)) if first is None else _first_actors(files, first)
        if edges is not None:
            note_strays(provenance, file, edges["item"], item_ids)
            built[name] = label_attribute(edges.rename({column: "label"}), item_ids)
    locations = _edges(files, _LOCATION_FILE, (), _LOCATIONS)
    if locations is not None:
        note_strays(provenance, _LOCATION_FILE, locations["item"], item_ids)
        for name in _LOCATIONS[:3]:
            if name in locations.columns:
                built[name] = label_attribute(locations.select("item", label=name), item_ids)
        built["locations"] = plain_attribute(_location_texts(locations), "text", item_ids)
    built["year"] = plain_attribute(movies, "year", item_ids)
    built["title"] = plain_attribute(movies, "title", item_ids)
    tags = _tags(tag_files, required=tag_files is not files)
    if tags is not None:
        note_strays(provenance, _TAG_FILE, tags["item"], item_ids)
        built["tags"] = label_attribute(tags, item_ids)
    overviews = _overviews(files, movies)
    if overviews is not None:
        note_strays(provenance, _OVERVIEW_FILE, overviews["item"], item_ids)
        built["overview"] = plain_attribute(overviews, "overview", item_ids)
    provenance["notes"] = [*provenance.get("notes", ()), *files.notes]
    return built


def _edges(
    files: DataFiles, file: str, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> pl.DataFrame | None:
    table = files.table(file, ("movieID", *required), optional)
    if table is None:
        return None
    item = parse_numbers(table, "movieID", pl.Int64(), file).alias("item")
    return table.select(item, pl.exclude("line", "movieID"))


def _first_actors(files: DataFiles, most: int) -> pl.DataFrame:
    """Return the actors of each film that its credits name first, those without a rank last; others are counted."""
    file, column = _LABEL_FILES["actors"]
    table = files.required_table(file, ("movieID", column, "ranking"))
    item = parse_numbers(table, "movieID", pl.Int64(), file).alias("item")
    rank = parse_numbers(table, "ranking", pl.Int32(), file, optional=True)
    ordered = table.select(item, column, rank).sort("item", "ranking", nulls_last=True, maintain_order=True)
    ordered = ordered.unique(("item", column), keep="first", maintain_order=True)
    kept = ordered.filter(pl.int_range(pl.len()).over("item") < most)
    if left := ordered.height - kept.height:
        files.notes.append(f"{file}: {left:,} actors beyond the first {most} of a film, by ranking, are left out.")
    return kept.select("item", column)


def _location_texts(locations: pl.DataFrame) -> pl.DataFrame:
    """Return a row a movie with every location of its rows, in file order, joined by spaces."""
    parts = [pl.when(pl.col(name) != "").then(name) for name in _LOCATIONS if name in locations.columns]
    rows = locations.select("item", text=pl.concat_str(parts, separator=" ", ignore_nulls=True))
    rows = rows.filter(pl.col("text") != "")
    return rows.group_by("item", maintain_order=True).agg(pl.col("text").str.join(" "))


def _tags(files: DataFiles, *, required: bool) -> pl.DataFrame | None:
    if required:
        files.required_table(_TAG_FILE, ("movieID", "tagID"))
    edges = _edges(files, _TAG_FILE, ("tagID",))
    if edges is None:
        return None
    names = files.table("tags.dat", ("id", "value"))
    if names is not None:
        refuse_repeated(names, ("id",), "tags.dat")
        edges = edges.join(names.select(tagID="id", value="value"), on="tagID", how="left", maintain_order="left")
        edges = edges.with_columns(tagID=pl.coalesce("value", "tagID"))
    return edges.select("item", label="tagID")


def _overviews(files: DataFiles, movies: pl.DataFrame) -> pl.DataFrame | None:
    """Return one overview a movie: released in the title's year, else in the movie's year, else the best match."""
    if files.content(_OVERVIEW_FILE) is None:
        return None
    with files.unpacked(_OVERVIEW_FILE) as file, readable(file):
        looked = look_at(file, ",")
        require_columns(looked.columns, ("MovieID", "overview"), _OVERVIEW_FILE)
        table = looked.scan().collect()
        looked.check_rows(table.height)
    absent = [name for name in ("Title", "release_year", "match_score") if name not in table.columns]
    table = table.with_columns(pl.lit(None, pl.String).alias(name) for name in absent)
    item = parse_numbers(table, "MovieID", pl.Int64(), _OVERVIEW_FILE)
    released = pl.col("release_year").cast(pl.Float64, strict=False)
    in_title = pl.col("Title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Float64, strict=False)
    score = pl.col("match_score").cast(pl.Float64, strict=False)
    ranked = (
        table.with_columns(item.alias("item"))
        .filter(pl.col("overview").str.strip_chars() != "")
        .join(movies.select("item", "year"), on="item", how="left", maintain_order="left")
        .with_columns(
            misfit=pl.when(released == in_title).then(0).when(released == pl.col("year")).then(1).otherwise(2),
            score=score.fill_null(float("-inf")),
        )
        .sort("misfit", -pl.col("score"), maintain_order=True)
    )
    return ranked.unique("item", keep="first", maintain_order=True).select("item", "overview")
