"""Reader of the Yelp Open Dataset: a folder with its JSON files, a review, a business or a user a line.

The reviews are some gigabytes, nearly all of it text: they are streamed, and only who, what, stars and date are kept,
and as many texts of a business as are asked for.

Source: Yelp Open Dataset, business.yelp.com/data/resources/open-dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFileError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.assembly import (
    Described,
    Profiles,
    assemble,
    ids_table,
    label_attribute,
    plain_attribute,
    refuse_repeated,
)
from coldray.data.sources.friends import friend_lists
from coldray.data.tables.streaming import collect_typed, named_json_line, readable, scan_json_lines
from coldray.data.texts import numbered_texts

NAME = "yelp"
_REVIEW_FILE = "yelp_academic_dataset_review.json"
_BUSINESS_FILE = "yelp_academic_dataset_business.json"
_USER_FILE = "yelp_academic_dataset_user.json"
_REVIEW_COLUMNS = {"user_id": "user", "business_id": "item", "stars": "rating"}
_BUSINESS_COLUMNS = ("business_id", "name", "city", "state", "categories")
_DEFAULT_ATTRIBUTES = ("categories", "city")
"""Known when a business opens. Its stars and its number of reviews are popularity signals and are not read."""
_LATER_OF_USERS = ("review_count", "average_stars", "fans")
"""They come of the reviews of a user, those that a split holds out among them."""
_FRIEND = r"[\w-]+"
"""Id of a friend in a list that is written as JSON, or as ``a, b``; ``None`` is nobody."""
_TYPES: dict[str, pl.DataType] = {
    "user": pl.String(),
    "item": pl.String(),
    "rating": pl.Float32(),
    "date": pl.Int64(),
    "line": pl.Int64(),
}


def read_yelp(path: Path, reviews: int = 0) -> Dataset:
    """Read the reviews and businesses of Yelp, and what is known of its users.

    Items are the businesses, whether anybody reviewed them or not. Ratings (stars) and times (seconds since 1970, the
    dates taken as UTC) are kept.
    Of a user's reviews of one business the latest counts; the others are counted in
    ``provenance["reviews_repeated"]``.

    Users have, if the file of users is there, ``yelping_since`` (a year with its fraction) and ``friends``, as
    :func:`~coldray.data.sources.friends.friend_lists` makes labels of them; of friends, those with a review. Their
    ``review_count``, ``average_stars`` and ``fans`` come of their reviews: they are later attributes, which are read
    only where they are named, and so are the texts of reviews.

    Parameters
    ----------
    path
        A folder with the files.
    reviews
        How many reviews of a business are texts of it, ``review_1``, ``review_2``, …: the first by their dates.

    Raises
    ------
    DataFileError
        If the file of reviews or of businesses is missing, or one cannot be read.
    DataFormatError
        If a line is not JSON, a field is missing or not of its type, or a business or a user is repeated. What is
        missing of a user is unknown, and counted.
    EmptyDatasetError
        If there is no review.
    UnmatchedUsersError
        If no review is by a user of the file of users.
    """
    notes: list[str] = []
    businesses = _businesses(_existing(path, _BUSINESS_FILE), notes)
    table = _reviews(_existing(path, _REVIEW_FILE), notes)
    texts = _first_texts(path / _REVIEW_FILE, table, reviews) if reviews else None
    pairs = table.sort("timestamp", "rating").unique(("user", "item"), keep="last", maintain_order=True).drop("line")
    provenance: dict[str, Any] = {
        "source": NAME,
        "ratings_file": _REVIEW_FILE,
        "ratings": pairs.height,
        "reviews_repeated": table.height - pairs.height,
        "later_attributes": [],
        "later_user_attributes": list(_LATER_OF_USERS),
        "notes": notes,
    }
    n_reviews = table.height
    del table

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        categories = businesses.select("item", label=pl.col("categories").str.split(",")).explode("label")
        known: dict[str, Attribute] = {
            "categories": label_attribute(categories.drop_nulls(), item_ids),
            "city": label_attribute(businesses.select("item", label="city").drop_nulls(), item_ids),
            "state": label_attribute(businesses.select("item", label="state").drop_nulls(), item_ids),
            "name": plain_attribute(businesses, "name", item_ids),
        }
        if texts is None:
            return known
        found, _ = numbered_texts(texts, "review", ids_table(item_ids, pl.String()))
        without = len(item_ids) - texts.filter(pl.col("text") != "")["item"].n_unique()
        text = (
            f"{_REVIEW_FILE}: the texts of the first reviews of a business, {reviews} at most, are its texts; "
            f"{n_reviews - texts.height:,} of {n_reviews:,} reviews are beyond, and {without:,} of {len(item_ids):,} "
            "businesses have no text."
        )
        provenance["notes"] = [*provenance["notes"], text]
        provenance["later_attributes"] = list(found)
        return {**known, **found}

    return assemble(
        pairs,
        attributes,
        name=NAME,
        file=_REVIEW_FILE,
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(businesses["item"], _BUSINESS_FILE),
        profiles=_profiles(path / _USER_FILE, pairs["user"].unique(), notes),
    )


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DataFileError(f"{folder} has no {name}. Name the folder that holds the Yelp JSON files by --data-dir.")
    return folder / name


def _reviews(path: Path, notes: list[str]) -> pl.DataFrame:
    """Return a row a review, in the order of the lines: `user`, `item`, `rating`, `timestamp` and `line`."""
    scan = scan_json_lines(path, (*_REVIEW_COLUMNS, "date")).rename(_REVIEW_COLUMNS)
    # What is no date keeps its text: it is refused as such, with its line.
    date = pl.coalesce(_moment("date").dt.epoch("s").cast(pl.String), pl.col("date").str.strip_chars())
    with named_json_line(path):
        return collect_typed(scan.with_columns(date), _TYPES, path, notes).rename({"date": "timestamp"})


def _moment(column: str) -> pl.Expr:
    """Return a text as the moment it names, which may be the beginning of a day; null if it names none."""
    text = pl.col(column).str.strip_chars()
    forms = ("%Y-%m-%d %H:%M:%S", "%Y-%m-%d")
    return pl.coalesce(*(text.str.to_datetime(form, strict=False) for form in forms)).alias(column)


def _first_texts(path: Path, reviews: pl.DataFrame, most: int) -> pl.DataFrame:
    """Return a row a text, `item` and `text`: of the first `most` reviews of each business, by their dates."""
    first = reviews.sort("timestamp", "line").group_by("item", maintain_order=True).head(most)
    first = first.select("item", "timestamp", "line")
    scan = scan_json_lines(path, ("text",)).with_columns(pl.col("line").cast(pl.Int64))
    with readable(path):
        texts = scan.join(first.lazy(), on="line").collect(engine="streaming")
    text = pl.col("text").fill_null("").str.strip_chars()
    return texts.sort("timestamp", "line").select("item", text)


def _profiles(path: Path, users: pl.Series, notes: list[str]) -> Profiles | None:
    """Return what is known of users, if the file is there; of friends those of `users`, who have a review, alone."""
    if not path.is_file():
        return None
    numbers = ("yelping_since", *_LATER_OF_USERS)
    scan = scan_json_lines(path, ("user_id", "friends", *numbers)).rename({"user_id": "item"})
    friends = pl.col("friends").str.extract_all(_FRIEND).list.unique().list.set_difference(["None"])
    with named_json_line(path):
        ids = collect_typed(scan, {"item": pl.String()}, path, notes)["item"]
    with readable(path):
        told = scan.select("line", _year("yelping_since"), *_LATER_OF_USERS, friends=friends.list.len()).collect()
        rows = told.with_columns(ids)
        refuse_repeated(rows, ("item",), path.name)
        ours = rows.join(users.alias("item").to_frame(), on="item", how="semi")
        named = scan.select("line", friend=friends).explode("friend")
        named = named.join(ours.lazy().select("line", user="item"), on="line")
        both = named.join(users.alias("friend").to_frame().lazy(), on="friend", how="semi")
        edges = both.select("user", "friend").collect(engine="streaming")
    labels = friend_lists(edges)
    n_named, alone = int(ours["friends"].sum()), ours.join(labels, on="item", how="anti").height
    notes += _unknown(ours, numbers, path.name)
    notes.append(
        f"{path.name}: {edges.height:,} of the {n_named:,} friends of users with reviews have reviews, too, and are "
        f"labels; the others are left out, and {alone:,} of {ours.height:,} users have no friend."
    )
    renamed = rows.select("item", **{f"attribute {name}": name for name in numbers})
    table = renamed.join(labels, on="item", how="left", maintain_order="left")
    return Profiles(table, path.name, Described("users", "user_id", ("friends",), numbers, ()))


def _year(column: str) -> pl.Expr:
    """Return a moment as its year and what had passed of it, as text; a text that is no moment as it is."""
    moment = _moment(column)
    days = pl.when(moment.dt.is_leap_year()).then(366).otherwise(365)
    year = moment.dt.year() + (moment.dt.ordinal_day() - 1) / days
    # What is no date keeps its text: it is refused as such.
    return pl.coalesce(year.cast(pl.String), pl.col(column)).alias(column)


def _unknown(users: pl.DataFrame, numbers: Sequence[str], file: str) -> list[str]:
    """Return of how many users a number is not known, in words."""
    missing = {name: int((users[name].fill_null("").str.strip_chars() == "").sum()) for name in numbers}
    told = ", ".join(f"{name} of {count:,}" for name, count in missing.items() if count)
    return [f"{file}: unknown is, of {users.height:,} users with reviews, {told}."] if told else []


def _businesses(path: Path, notes: list[str]) -> pl.DataFrame:
    scan = scan_json_lines(path, _BUSINESS_COLUMNS).rename({"business_id": "item"})
    with named_json_line(path):
        ids = collect_typed(scan, {"item": pl.String()}, path, notes)
    with readable(path):
        businesses = scan.with_columns(pl.col("name").fill_null("")).collect().with_columns(ids["item"])
    refuse_repeated(businesses, ("item",), path.name)
    return businesses
