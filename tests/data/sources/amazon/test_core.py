"""Raw Amazon ratings to the 5-core layout: every format, the core, the splits, and files that are whole or absent."""

import gzip
import json
import logging
from collections import Counter

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.sources.amazon.core import FiveCoreConfig, write_five_core
from coldray.data.sources.amazon.layout import read_amazon
from coldray.data.sources.amazon.raw import read_raw_ratings

RATINGS = [("A1", "0001", 5.0, 1_400_000_000), ("A2", "B0", 3.5, 1_400_000_001)]


def json_lines(names, factor=1):
    extra = {"reviewText": "words, words", "style": {"Size:": "9"}, "verified": True}
    lines = [json.dumps({**extra, **dict(zip(names, (u, i, r, t * factor), strict=True))}) for u, i, r, t in RATINGS]
    return "\n".join(lines) + "\n"


def delimited(separator, header=None):
    lines = [] if header is None else [separator.join(header)]
    return "\n".join([*lines, *(separator.join(map(str, row)) for row in RATINGS)]) + "\n"


FORMATS = {
    "ratings.dat": delimited("\t"),
    "ratings.tsv": delimited("\t", ("user_id", "item_id", "rating", "timestamp")),
    "ratings.csv": delimited(","),
    "named.csv": delimited(",", ("user", "item", "rating", "timestamp")),
    "2023.csv": delimited(",", ("user_id", "parent_asin", "rating", "timestamp")),
    "2018.json": json_lines(("reviewerID", "asin", "overall", "unixReviewTime")),
    "2023.jsonl": json_lines(("user_id", "parent_asin", "rating", "timestamp"), 1000),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_gives_the_same_ratings(tmp_path, name, packed):
    path = tmp_path / (f"{name}.gz" if packed else name)
    path.write_bytes(gzip.compress(FORMATS[name].encode()) if packed else FORMATS[name].encode())
    table = read_raw_ratings(path)
    assert table.with_columns(pl.col("user", "item").cast(pl.String)).rows() == RATINGS
    assert table.schema["user"] == table.schema["item"] == pl.Categorical


def test_of_the_two_items_of_2023_the_parent_is_taken(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"user_id": "u", "asin": "child", "parent_asin": "parent", "rating": 5.0, "timestamp": 1}\n'
    )
    (tmp_path / "a.csv").write_text("asin,parent_asin,user_id,rating,timestamp\nchild,parent,u,5,1\n")
    for name in ("a.jsonl", "a.csv"):
        assert read_raw_ratings(tmp_path / name)["item"].cast(pl.String).to_list() == ["parent"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "u,i,5,now\n", r"a\.csv, line 1: timestamp is 'now', not a number"),
        ("a.dat", "u\ti\t5\t1\nu\ti\n", r"a\.dat, line 2: rating is None"),
        ("a.csv", "user,item,rating\nu,i,5\n", r"no column of the timestamp \(timestamp, unixReviewTime\)"),
        ("a.json", '{"reviewerID": "u", "overall": 5, "unixReviewTime": 1}\n', r"line 1: item is blank"),
        ("a.json", "{no json}\n", r"a\.json in .* is malformed"),
        ("a.xml", "<a/>", r"format of '\.xml' is unknown\. Known are \.csv"),
    ],
)
def test_malformed_raw_ratings_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(DataFormatError, match=message):
        read_raw_ratings(tmp_path / name)


def test_an_empty_file_is_an_error_of_its_own(tmp_path):
    for name in ("a.csv", "a.dat"):
        (tmp_path / name).write_text("")
        with pytest.raises(EmptyDatasetError, match=rf"{name} in .* is empty"):
            read_raw_ratings(tmp_path / name)


def test_absent_raw_ratings_are_a_file_error(tmp_path):
    for name in ("none.csv", "none.json.gz"):
        with pytest.raises(DataFileError, match="cannot be read"):
            read_raw_ratings(tmp_path / name)


def write_raw(folder, rows):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "raw.dat").write_text("".join(f"{u}\t{i}\t{r}\t{t}\n" for u, i, r, t in rows))
    return folder / "raw.dat"


def parts_of(report):
    return {part: pl.read_parquet(path).rows() for part, path in report.files.items()}


def block(n_users=5, n_items=5):
    """Every user rates every item, each at a time of its own; item order in time differs from user to user."""
    return [
        (f"u{u}", f"i{i}", 3.0, 1000 + 100 * ((i * (u + 1)) % 7) + 10 * i + u)
        for u in range(n_users)
        for i in range(n_items)
    ]


def test_the_core_is_taken_until_nothing_more_falls(tmp_path):
    # i5 has five ratings, but one by a user with too few; then i5 has four and falls, and with it u4's fifth rating.
    rows = [row for row in block(6, 5) if row[:2] != ("u5", "i4")]
    rows += [(f"u{u}", "i9", 4.0, 5000 + u) for u in (0, 1, 2, 5)] + [("stray", "i9", 1.0, 1)]
    report = write_five_core(write_raw(tmp_path, rows), tmp_path, "X")
    kept = [row for rows in parts_of(report).values() for row in rows]
    assert {row[1] for row in kept} == {f"i{i}" for i in range(5)}
    assert {row[0] for row in kept} == {f"u{u}" for u in range(5)}
    assert (report.users, report.items, report.ratings_outside_core) == (5, 5, len(rows) - 25)


def test_leave_last_holds_out_the_last_and_the_one_before_it(tmp_path):
    rows = block()
    parts = parts_of(write_five_core(write_raw(tmp_path, rows[::-1]), tmp_path, "X"))
    for user in {row[0] for row in rows}:
        ordered = sorted((row[3], row[1]) for row in rows if row[0] == user)
        assert [(row[3], row[1]) for row in parts["test"] if row[0] == user] == ordered[-1:]
        assert [(row[3], row[1]) for row in parts["validation"] if row[0] == user] == ordered[-2:-1]
        assert [(row[3], row[1]) for row in parts["train"] if row[0] == user] == ordered[:-2]


def test_interactions_of_one_time_are_ordered_by_item(tmp_path):
    rows = [(user, item, rating, 7) for user, item, rating, _ in block()]
    parts = parts_of(write_five_core(write_raw(tmp_path, rows[::-1]), tmp_path, "X"))
    assert {row[1] for row in parts["test"]} == {"i4"}
    assert {row[1] for row in parts["validation"]} == {"i3"}


def test_temporal_cuts_all_users_at_the_same_times(tmp_path):
    config = FiveCoreConfig(split="temporal", validation_share=0.2, test_share=0.3)
    rows = [(*row[:3], 7 * (n * 37 % 100)) for n, row in enumerate(block(10, 10))]
    parts = parts_of(write_five_core(write_raw(tmp_path, rows), tmp_path, "X", config))
    times = {part: [row[3] for row in rows] for part, rows in parts.items()}
    assert max(times["train"]) < min(times["validation"])
    assert max(times["validation"]) < min(times["test"])
    assert [len(times[part]) for part in ("train", "validation", "test")] == [50, 20, 30]


def test_the_temporal_split_that_is_read_back_has_no_time_leak(tmp_path):
    write_five_core(write_raw(tmp_path, block(10, 10)), tmp_path, "X", FiveCoreConfig(split="temporal"))
    leaks = read_amazon(tmp_path, "X").time_leaks()
    assert (leaks.within_user, leaks.across_users) == (0, 0)


def test_of_repeated_ratings_the_latest_is_kept_and_the_rest_counted(tmp_path):
    rows = block()
    again = [("u0", "i0", 1.0, 1), ("u0", "i1", 5.0, 10**6), ("u0", "i1", 2.0, 10**6)]
    report = write_five_core(write_raw(tmp_path, again + rows), tmp_path, "X")
    kept = {row[:2]: row[2:] for rows in parts_of(report).values() for row in rows}
    first = next(row for row in rows if row[:2] == ("u0", "i0"))
    assert kept["u0", "i0"] == first[2:]
    assert kept["u0", "i1"] == (5.0, 10**6)
    assert report.ratings_repeated == 3
    assert len(kept) == 25


def test_ratings_beyond_one_to_five_are_clipped_and_counted_or_refused(tmp_path, caplog):
    rows = [("u0", "i0", 9.0, 5), *block()[1:]]
    with caplog.at_level(logging.WARNING):
        report = write_five_core(write_raw(tmp_path, rows), tmp_path, "X")
    assert report.ratings_clipped == 1
    assert max(row[2] for rows in parts_of(report).values() for row in rows) == 5.0
    with pytest.raises(DataFormatError, match=r"raw\.dat: 1 ratings are beyond 1 to 5; the first is 9"):
        write_five_core(tmp_path / "raw.dat", tmp_path, "X", FiveCoreConfig(strict=True))


def test_what_is_written_is_what_the_reader_reads(tmp_path):
    report = write_five_core(write_raw(tmp_path, block()), tmp_path / "new" / "folder", "Health/Care", size="1k")
    assert report.files["train"].name == "Health-Care.5core.train.1k.parquet"
    split = read_amazon(tmp_path / "new" / "folder", "Health/Care", size="1k")
    assert {f"{part}_interactions": count for part, count in report.parts.items()}.items() <= split.counts().items()
    assert pl.read_parquet_schema(report.files["test"]) == {
        "user_id": pl.String, "parent_asin": pl.String, "rating": pl.Float32, "timestamp": pl.Int64,
    }  # fmt: skip


def test_a_write_that_fails_leaves_the_earlier_files_and_nothing_else(tmp_path, monkeypatch):
    raw = write_raw(tmp_path / "raw", block())
    folder = tmp_path / "out"
    before = {path: path.read_bytes() for path in write_five_core(raw, folder, "X").files.values()}
    calls = []
    sink = pl.LazyFrame.sink_parquet

    def fail_at_the_third(frame, target):
        calls.append(target)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        sink(frame, target)

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", fail_at_the_third)
    with pytest.raises(Exception, match="No space left"):
        write_five_core(write_raw(tmp_path / "raw", block(6, 6)), folder, "X")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_an_empty_core_an_empty_part_and_no_rating_are_errors(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"have no 6-core.*smaller core"):
        write_five_core(write_raw(tmp_path, block()), tmp_path, "X", FiveCoreConfig(core=6))
    same_time = [(*row[:3], 5) for row in block()]
    with pytest.raises(EmptyDatasetError, match="temporal split of 25 interactions leaves the train part empty"):
        write_five_core(write_raw(tmp_path, same_time), tmp_path, "X", FiveCoreConfig(split="temporal"))
    (tmp_path / "none.csv").write_text("user,item,rating,timestamp\n")
    with pytest.raises(EmptyDatasetError, match=r"none\.csv has no ratings"):
        write_five_core(tmp_path / "none.csv", tmp_path, "X")
    assert not list(tmp_path.glob("*.parquet"))


def test_a_configuration_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ConfigError, match="leave nothing to train on"):
        FiveCoreConfig(validation_share=0.5, test_share=0.5)
    with pytest.raises(ConfigError, match=r"core=2 .*Set it to 3"):
        FiveCoreConfig(core=2)
    assert FiveCoreConfig(core=2, split="temporal").core == 2
    with pytest.raises(ValidationError):
        FiveCoreConfig(split="random")


def slow_core(rows, least):
    while True:
        users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        kept = [row for row in rows if users[row[0]] >= least and items[row[1]] >= least]
        if len(kept) == len(rows):
            return kept
        rows = kept


PAIRS = st.dictionaries(st.tuples(st.integers(0, 7), st.integers(0, 7)), st.integers(0, 5), max_size=64)


@settings(max_examples=40)
@given(PAIRS, st.integers(3, 4), st.randoms(use_true_random=False))
def test_core_and_split_are_those_of_a_plain_loop_whatever_the_order(tmp_path_factory, times, core, random):
    block = {(u, i): u * i % 5 for u in range(core) for i in range(core)}  # a core of its own
    rows = [(f"u{u}", f"i{i}", 4.0, time) for (u, i), time in (block | times).items()]
    random.shuffle(rows)
    folder = tmp_path_factory.mktemp("core")
    raw = write_raw(folder, rows)
    expected = {"train": [], "validation": [], "test": []}
    for user in sorted({row[0] for row in slow_core(rows, core)}):
        mine = sorted((row for row in slow_core(rows, core) if row[0] == user), key=lambda row: (row[3], row[1]))
        expected["train"] += mine[:-2]
        expected["validation"].append(mine[-2])
        expected["test"].append(mine[-1])
    report = write_five_core(raw, folder, "X", FiveCoreConfig(core=core))
    assert parts_of(report) == expected


@settings(max_examples=40)
@given(st.dictionaries(st.tuples(st.integers(0, 20), st.integers(0, 1)), st.integers(0, 5), min_size=1))
def test_ratings_without_a_core_are_refused(tmp_path_factory, times):
    folder = tmp_path_factory.mktemp("core")
    raw = write_raw(folder, [(f"u{u}", f"i{i}", 4.0, time) for (u, i), time in times.items()])
    with pytest.raises(EmptyDatasetError, match="have no 3-core"):  # nobody has rated three items
        write_five_core(raw, folder, "X", FiveCoreConfig(core=3))


def test_the_real_ratings_make_a_five_core_without_time_leaks(real_data, tmp_path):
    raw = real_data("amazon-hin") / "user_item.dat"
    report = write_five_core(raw, tmp_path, "Real")
    assert report.ratings_read == 195_791
    assert report.ratings_read == sum(report.parts.values()) + report.ratings_repeated + report.ratings_outside_core
    split = read_amazon(tmp_path, "Real")
    assert split.dataset.n_users == report.users == report.parts["test"] == report.parts["validation"]
    interactions = split.dataset.interactions
    assert np.diff(interactions.indptr).min() >= 5
    assert np.bincount(interactions.indices).min() >= 5
    assert split.time_leaks().within_user == 0
