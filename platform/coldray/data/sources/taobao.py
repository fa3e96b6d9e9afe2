"""Reader of carts and purchases on Taobao, as published with EHCF: each user's last purchase is the test.

``cart.csv``, ``buy.train.txt`` and ``buy.test.txt`` have a line an event, tab-separated with a header: `uid`, the user,
and `sid`, the item. Views of pages and times are not published.

Source: Chen et al., *Efficient Heterogeneous Collaborative Filtering without Negative Sampling for Recommendation*,
AAAI 2020.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from coldray.core.errors import LeakageError
from coldray.data.events import with_strongest
from coldray.data.sources.assembly import refuse_repeated
from coldray.data.splits.published import PredefinedSplit, assemble_split
from coldray.data.tables.archive import DataFiles, parse_numbers

NAME = "taobao-cart-buy"
TEST_FILE = "buy.test.txt"
_TRAIN_FILE = "buy.train.txt"
_CART_FILE = "cart.csv"
_WEIGHTS = {"buy": 5.0, "cart": 1.0}
"""What an event is worth; the source does not say."""


def read_taobao(path: Path) -> PredefinedSplit:
    """Read carts and purchases, and which of them are the published test.

    A pair of user and item is in one part: a cart with an item that its user buys in the test is of the test, so that
    nothing of what is to be found is known, and is counted.

    Parameters
    ----------
    path
        A folder with the files, or a ``.zip`` of them.

    Raises
    ------
    DataFileError
        If a file is missing or cannot be read.
    DataFormatError
        If a column is missing, an id is no whole number, or a file has a pair twice.
    LeakageError
        If a purchase is in both parts.
    EmptyDatasetError
        If a file of purchases has none.
    """
    files = DataFiles(path, "Taobao cart and buy")
    carts, train, test = (_events(files, name) for name in (_CART_FILE, _TRAIN_FILE, TEST_FILE))
    pair = ["user", "item"]
    if both := train.join(test, on=pair, how="semi").height:
        raise LeakageError(f"{both:,} purchases are in {_TRAIN_FILE} and in {TEST_FILE}. Keep each in one.")
    events = pl.concat(
        [frame.with_columns(event=pl.lit(kind)) for frame, kind in ((carts, "cart"), (train, "buy"), (test, "buy"))]
    )
    provenance: dict[str, Any] = {"source": NAME, "interactions": ", ".join((_CART_FILE, _TRAIN_FILE, TEST_FILE))}
    pairs = with_strongest(events, _WEIGHTS, NAME, provenance)
    before = carts.join(test, on=pair, how="semi").height
    provenance["carts_of_test"] = before
    provenance["notes"] = [
        *provenance["notes"],
        f"{before:,} of {test.height:,} test purchases were in their user's cart; that is not known before the test.",
        *files.notes,
    ]
    return assemble_split(
        {"train": pairs.join(test, on=pair, how="anti"), "test": pairs.join(test, on=pair, how="semi")},
        lambda _: {},
        name=NAME,
        split="published",
        file=NAME,
        default_attributes=(),
        provenance=provenance,
    )


def _events(files: DataFiles, name: str) -> pl.DataFrame:
    table = files.required_table(name, ("uid", "sid"))
    user, item = (parse_numbers(table, column, pl.Int64(), name) for column in ("uid", "sid"))
    events = table.select(user.alias("user"), item.alias("item"))
    refuse_repeated(events, ("user", "item"), name)
    return events
