"""Reader of the Yelp Open Dataset: a folder with its JSON files, a review or a business a line.

The reviews are some gigabytes, nearly all of it text: they are streamed, and only who, what, stars and date are kept.

Source: Yelp Open Dataset, business.yelp.com/data/resources/open-dataset.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFileError
from coldray.data.catalogue import Catalogue
from coldray.data.dataset import Attribute, Dataset, Ids
from coldray.data.sources.tabular import assemble, label_attribute, plain_attribute, refuse_repeated
from coldray.data.tables.streaming import collect_typed, named_json_line, readable, scan_json_lines

NAME = "yelp"
_REVIEW_FILE = "yelp_academic_dataset_review.json"
_BUSINESS_FILE = "yelp_academic_dataset_business.json"
_REVIEW_COLUMNS = {"user_id": "user", "business_id": "item", "stars": "rating"}
_BUSINESS_COLUMNS = ("business_id", "name", "city", "state", "categories")
_DEFAULT_ATTRIBUTES = ("categories", "city")
"""Known when a business opens. Its stars and its number of reviews are popularity signals and are not read."""
_TYPES = {"user": pl.String(), "item": pl.String(), "rating": pl.Float32(), "date": pl.Int64()}


def read_yelp(path: Path) -> Dataset:
    """Read the reviews and businesses of Yelp.

    Items are the businesses, whether anybody reviewed them or not. Ratings (stars) and times (seconds since 1970, the
    dates taken as UTC) are kept.
    Of a user's reviews of one business the latest counts; the others are counted in
    ``provenance["reviews_repeated"]``.

    Parameters
    ----------
    path
        A folder with the files.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a line is not JSON, a field is missing or not of its type, or a business is repeated.
    EmptyDatasetError
        If there is no review.
    """
    notes: list[str] = []
    businesses = _businesses(_existing(path, _BUSINESS_FILE), notes)
    reviews = _reviews(_existing(path, _REVIEW_FILE), notes)
    pairs = reviews.sort("timestamp", "rating").unique(("user", "item"), keep="last", maintain_order=True)
    provenance: dict[str, Any] = {
        "source": NAME,
        "ratings_file": _REVIEW_FILE,
        "ratings": pairs.height,
        "reviews_repeated": reviews.height - pairs.height,
        "notes": notes,
    }
    del reviews

    def attributes(item_ids: Ids) -> dict[str, Attribute]:
        categories = businesses.select("item", label=pl.col("categories").str.split(",")).explode("label")
        return {
            "categories": label_attribute(categories.drop_nulls(), item_ids),
            "city": label_attribute(businesses.select("item", label="city").drop_nulls(), item_ids),
            "state": label_attribute(businesses.select("item", label="state").drop_nulls(), item_ids),
            "name": plain_attribute(businesses, "name", item_ids),
        }

    return assemble(
        pairs,
        attributes,
        name=NAME,
        file=_REVIEW_FILE,
        default_attributes=_DEFAULT_ATTRIBUTES,
        provenance=provenance,
        catalogue=Catalogue(businesses["item"], _BUSINESS_FILE),
    )


def _existing(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise DataFileError(f"{folder} has no {name}. Name the folder that holds the Yelp JSON files by --data-dir.")
    return folder / name


def _reviews(path: Path, notes: list[str]) -> pl.DataFrame:
    scan = scan_json_lines(path, (*_REVIEW_COLUMNS, "date"))
    text = pl.col("date").str.strip_chars()
    moment = pl.coalesce(
        text.str.to_datetime("%Y-%m-%d %H:%M:%S", strict=False), text.str.to_datetime("%Y-%m-%d", strict=False)
    )
    # What is no date keeps its text: it is refused as such, with its line.
    date = pl.coalesce(moment.dt.epoch("s").cast(pl.String), text)
    scan = scan.rename(_REVIEW_COLUMNS).with_columns(date.alias("date"))
    with named_json_line(path):
        return collect_typed(scan, _TYPES, path, notes).rename({"date": "timestamp"})


def _businesses(path: Path, notes: list[str]) -> pl.DataFrame:
    scan = scan_json_lines(path, _BUSINESS_COLUMNS).rename({"business_id": "item"})
    with named_json_line(path):
        ids = collect_typed(scan, {"item": pl.String()}, path, notes)
    with readable(path):
        businesses = scan.with_columns(pl.col("name").fill_null("")).collect().with_columns(ids["item"])
    refuse_repeated(businesses, ("item",), path.name)
    return businesses
