"""Ratings files of 2014 have the user first, those of 2018 the item."""

import gzip
import logging

import numpy as np
import pyarrow as pa
import pytest

from coldray.data.sources.amazon.core import FiveCoreConfig, write_five_core
from coldray.data.sources.amazon.raw import read_raw_ratings

rng = np.random.default_rng(0)
USERS = [f"A{''.join(rng.choice(list('0123456789QWERTZ'), 13))}" for _ in range(6)]
ITEMS = ["B000123ABC", "0132350882", "013235088X", "B00ZZZZZZZ"]
ROWS = [(user, item, 1 + (n + m) % 5, 10 * n + m) for n, user in enumerate(USERS) for m, item in enumerate(ITEMS)]


@pytest.mark.parametrize("item_first", [False, True])
@pytest.mark.parametrize("suffix", ["csv", "tsv", "csv.gz", "tsv.zst"])
def test_the_order_of_columns_is_told_by_the_ids(tmp_path, item_first, suffix):
    path = tmp_path / f"ratings.{suffix}"
    order = (1, 0, 2, 3) if item_first else (0, 1, 2, 3)
    separator = "\t" if suffix.startswith("tsv") else ","
    text = "".join(separator.join(str(row[place]) for place in order) + "\n" for row in ROWS).encode()
    packed = {"gz": gzip.compress, "zst": lambda content: pa.compress(content, "zstd", asbytes=True)}
    path.write_bytes(packed.get(suffix[4:], bytes)(text))
    notes = []
    table = read_raw_ratings(path, notes)
    assert table.select("user", "item").rows() == [row[:2] for row in ROWS]
    assert len(notes) == item_first
    report = write_five_core(path, tmp_path / "out", "Toys", FiveCoreConfig(core=3))
    assert (report.users, report.items) == (len(USERS), len(ITEMS))
    assert report.notes == tuple(notes)


def test_columns_that_look_swapped_by_their_numbers_are_told(tmp_path, caplog):
    path = tmp_path / "ratings.csv"
    path.write_text("".join(f"{n % 4},{n % 40},5,{n}\n" for n in range(160)))
    caplog.set_level(logging.WARNING)
    report = write_five_core(path, tmp_path / "out", "Toys", FiveCoreConfig(core=1, split="temporal"))
    assert report.notes == (
        "ratings.csv: 4 users, such as '0', have 40 items, such as '0': the columns of users and items look swapped.",
    )
    assert report.notes[0] in caplog.text
