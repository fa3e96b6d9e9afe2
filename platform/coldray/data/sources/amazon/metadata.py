"""Metadata of Amazon's products: a line a product, plain or packed by gzip or zstd.

Three generations are read, field by field: 2023 (`parent_asin`, `title`, `store`, `categories`, `price`, `description`,
`features`, `details`), 2018 (`asin`, `brand`, `category`, a price such as ``$1,299.00``, `feature`), and 2014 (`asin`,
`brand`, `categories` as lists of lists), whose lines are Python and no JSON. The mean rating, the number of ratings and
the sales rank are signals of popularity that a new product lacks, and what others bought with it comes from them: these
are not read.
"""

from __future__ import annotations

import ast
import html
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import DataFileError, DataFormatError
from coldray.core.spelling import choices
from coldray.data.dataset import Attribute, Ids
from coldray.data.sources.assembly import label_attribute, plain_attribute
from coldray.data.tables.lines import opened

ATTRIBUTES = ("categories", "brand", "price", "title", "description")
_SUFFIXES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".json") for packed in ("", ".gz", ".zst"))
_IDS = ("parent_asin", "asin")
_BRANDS = ("brand", "store")
_SCHEMA: dict[str, Any] = {
    "item": pl.String,
    "title": pl.String,
    "brand": pl.String,
    "price": pl.Float64,
    "description": pl.String,
    "categories": pl.List(pl.String),
}
_PRICE = re.compile(r"\$?\s*(\d[\d,]*(?:\.\d+)?|\.\d+)")
_NO_PRICE = ("", "none", "nan", "—", "-")


@dataclass(frozen=True)
class Metadata:
    """What is known of some products."""

    table: pl.DataFrame
    """A row a product: `item`, `title`, `brand`, `price` (null if unknown), `description`, `categories`."""
    ids: pl.Series
    """Ids of all products of the file, each once."""
    notes: tuple[str, ...]
    """What was left out or not understood, a sentence each."""

    def attributes(self, item_ids: Ids) -> dict[str, Attribute]:
        """Return the attributes of items, empty or unknown of those without a line."""
        labels = self.table.select("item", label="categories").explode("label").drop_nulls()
        return {
            "categories": label_attribute(labels, item_ids),
            "brand": label_attribute(self.table.select("item", label="brand"), item_ids),
            "price": plain_attribute(self.table, "price", item_ids),
            "title": plain_attribute(self.table, "title", item_ids),
            "description": plain_attribute(self.table, "description", item_ids),
        }


def metadata_path(folder: Path, stem: str) -> Path | None:
    """Return the file of metadata of a category, ``meta_<CATEGORY>.jsonl`` or the like; None if there is none.

    Raises
    ------
    DataFileError
        If there are several.
    """
    found = [path for suffix in _SUFFIXES if (path := folder / f"meta_{stem}{suffix}").is_file()]
    if len(found) > 1:
        names = choices([path.name for path in found])
        raise DataFileError(f"{folder} has several files of the metadata of {stem}: {names}. Leave one of them there.")
    return found[0] if found else None


def read_metadata(path: Path, wanted: Collection[str]) -> Metadata:
    """Read what is known of some products.

    Parameters
    ----------
    wanted
        Their ids; of others the ids alone are kept.

    Raises
    ------
    DataFileError
        If the file cannot be read.
    DataFormatError
        If a line is no object, or has no id.
    """
    ids: dict[str, None] = {}
    rows, repeated, prices = [], 0, 0
    for number, product in _products(path):
        item = next((str(product[name]).strip() for name in _IDS if product.get(name) is not None), "")
        if not item:
            raise DataFormatError(f"{path.name}, line {number:,}: no {' and no '.join(_IDS)}, so nobody knows of what.")
        if item in ids:
            repeated += 1
            continue
        ids[item] = None
        if item in wanted:
            price, understood = _price(product.get("price"))
            prices += not understood
            rows.append((item, _text(product.get("title")), _brand(product), price, *_described(product)))
    notes = []
    if repeated:
        notes.append(f"{path.name}: {repeated:,} lines are of products that an earlier line is of, which holds.")
    if prices:
        notes.append(f"{path.name}: the price of {prices:,} products is a range or a text, and unknown.")
    table = pl.DataFrame(rows, schema=_SCHEMA, orient="row")
    return Metadata(table, pl.Series(list(ids), dtype=pl.String), tuple(notes))


def _products(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise DataFormatError(f"{path.name}, line {number:,}: {error.reason}; it must be UTF-8.") from error
            product = _parsed(text)
            if not isinstance(product, dict):
                raise DataFormatError(
                    f"{path.name}, line {number:,} is no object of JSON, nor of Python as in the files of 2014: "
                    f"{text[:40]!r}."
                )
            yield number, product


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None


def _strings(value: Any) -> Iterator[str]:
    """Yield the texts of a value, of lists within lists too."""
    if isinstance(value, list | tuple):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str) and (text := html.unescape(value).strip()):
        yield text


def _text(value: Any) -> str:
    return " ".join(_strings(value))


def _brand(product: Mapping[str, Any]) -> str:
    details = product.get("details")
    told = [product.get(name) for name in _BRANDS]
    if isinstance(details, dict):
        told.insert(1, details.get("Brand"))
    return next((text for value in told if (text := _text(value))), "")


def _described(product: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the description, with what is listed of a product, and its categories, each once."""
    names = "description", "features", "feature"
    categories = [*_strings(product.get("categories")), *_strings(product.get("category"))]
    return " ".join(text for name in names if (text := _text(product.get(name)))), list(dict.fromkeys(categories))


def _price(value: Any) -> tuple[float | None, bool]:
    """Return a price, None if it is unknown, and whether the value was understood."""
    if value is None or (isinstance(value, str) and value.strip().lower() in _NO_PRICE):
        return None, True
    if isinstance(value, int | float) and not isinstance(value, bool):
        known = math.isfinite(value) and value >= 0
        return (float(value) if known else None), known or math.isnan(value)
    found = _PRICE.fullmatch(value.strip()) if isinstance(value, str) else None
    return (float(found[1].replace(",", "")), True) if found else (None, False)
