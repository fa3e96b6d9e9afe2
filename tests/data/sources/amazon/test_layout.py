"""The 5-core layout of Amazon, on small parquet files written here."""

import logging

import numpy as np
import polars as pl
import pytest

from coldray.core.errors import DataFileError, DataFormatError, LeakageError
from coldray.data.sources.amazon.layout import amazon_categories, read_amazon

ROWS = {
    "train": [
        ("u2", "0007", 5.0, 1_600_000_001),
        ("u1", "B01", 3.0, 1_600_000_002),
        ("u1", "0007", 4.0, 1_600_000_003),
    ],
    "valid": [("u2", "B01", 1.0, 1_600_000_004)],
    "test": [("u1", "B02", 2.0, 1_600_000_005)],
}
COLUMNS = ("user_id", "parent_asin", "rating", "timestamp")


def write(folder, category="All_Beauty", suffix="", columns=COLUMNS, **changes):
    """Write the three files, some of them changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in (ROWS | changes).items():
        if rows is not None:
            types = (pl.String, pl.String, pl.Float64, pl.Int64)
            table = pl.DataFrame(rows, schema=dict(zip(columns, types, strict=True)), orient="row")
            table.write_parquet(folder / f"{category}.5core.{part}{suffix}.parquet")
    return folder


def test_a_category_is_read_with_ratings_times_and_parts(tmp_path):
    split = read_amazon(write(tmp_path), "All_Beauty")
    dataset = split.dataset
    assert (dataset.name, split.name) == ("amazon All_Beauty", "All_Beauty")
    assert dataset.user_ids.tolist() == ["u1", "u2"]
    assert dataset.item_ids.tolist() == ["0007", "B01", "B02"]
    assert dataset.ratings.toarray().tolist() == [[4, 3, 2], [5, 1, 0]]
    assert dataset.timestamps.toarray()[1].tolist() == [1_600_000_001, 1_600_000_004, 0]
    assert split.train.toarray().tolist() == [[1, 1, 0], [1, 0, 0]]
    assert split.validation.toarray().tolist() == [[0, 0, 0], [0, 1, 0]]
    assert split.test.toarray().tolist() == [[0, 0, 1], [0, 0, 0]]
    assert dataset.provenance["ratings"] == 5
    assert dataset.provenance["ratings_clipped"] == 0
    assert dataset.provenance["split"]["items_without_train"] == 1


def test_times_in_milliseconds_or_as_dates_are_those_in_seconds(tmp_path):
    expected = read_amazon(write(tmp_path / "s"), "All_Beauty").dataset.fingerprint
    late = {part: [(*row[:3], row[3] * 1000 + 7) for row in rows] for part, rows in ROWS.items()}
    in_milliseconds = read_amazon(write(tmp_path / "ms", **late), "All_Beauty").dataset
    assert in_milliseconds.fingerprint == expected
    assert sum("times are milliseconds" in note for note in in_milliseconds.notes) == 3
    write(tmp_path / "dates")
    for path in (tmp_path / "dates").iterdir():
        moments = pl.read_parquet(path).with_columns(pl.from_epoch("timestamp", time_unit="s"))
        moments.write_parquet(path)
    assert read_amazon(tmp_path / "dates", "All_Beauty").dataset.fingerprint == expected


def test_a_slash_in_a_category_is_a_dash_in_its_files(tmp_path):
    write(tmp_path, "Health-Care")
    assert read_amazon(tmp_path, "Health/Care").dataset.n_users == 2


def test_a_size_is_part_of_the_name(tmp_path):
    write(tmp_path, suffix=".10k")
    assert read_amazon(tmp_path, "All_Beauty", size="10k").train.nnz == 3
    assert amazon_categories(tmp_path, "10k") == ("All_Beauty",)
    assert amazon_categories(tmp_path) == ()
    with pytest.raises(DataFileError, match=r"no All_Beauty\.5core\.train\.parquet.*files are of size 10k"):
        read_amazon(tmp_path, "All_Beauty")


def test_a_file_that_is_being_written_is_no_category(tmp_path):
    write(tmp_path)
    (tmp_path / ".Games.5core.train.parquet.x1y2.parquet").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert amazon_categories(tmp_path) == ("All_Beauty",)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_an_absent_part_is_an_error_that_names_it(tmp_path, part):
    write(tmp_path, **{part: None})
    with pytest.raises(DataFileError, match=rf"no All_Beauty\.5core\.{part}\.parquet: .*lacks a part"):
        read_amazon(tmp_path, "All_Beauty")


def test_a_misspelt_category_gets_the_nearest_name(tmp_path):
    with pytest.raises(DataFileError, match="Did you mean 'All_Beauty'"):
        read_amazon(write(tmp_path), "All_Beaty")


def test_ratings_beyond_one_to_five_are_clipped_and_counted(tmp_path, caplog):
    write(tmp_path, train=[("u1", "a", 0.0, 1), ("u2", "a", 5.5, 2), ("u2", "b", 4.5, 3)], valid=[("u1", "b", -3.0, 4)])
    with caplog.at_level(logging.WARNING):
        dataset = read_amazon(tmp_path, "All_Beauty").dataset
    assert sorted(dataset.ratings.data.tolist()) == [1.0, 1.0, 2.0, 4.5, 5.0]
    assert dataset.provenance["ratings_clipped"] == 3
    assert any("train.parquet: 2 ratings are beyond 1 to 5; the first is 0" in text for text in caplog.messages)


def test_strict_refuses_ratings_beyond_one_to_five(tmp_path):
    write(tmp_path, test=[("u1", "B02", 5.5, 9)])
    with pytest.raises(DataFormatError, match=r"test\.parquet: 1 ratings are beyond 1 to 5; the first is 5\.5.*strict"):
        read_amazon(tmp_path, "All_Beauty", strict=True)
    assert read_amazon(write(tmp_path), "All_Beauty", strict=True).dataset.ratings.data.max() == 5


def test_users_only_in_test_are_kept_counted_and_warned_of(tmp_path, caplog):
    write(tmp_path, test=[("new", "B01", 2.0, 1_700_000_000)])
    with caplog.at_level(logging.WARNING):
        split = read_amazon(tmp_path, "All_Beauty")
    assert split.dataset.user_ids.tolist() == ["new", "u1", "u2"]
    assert split.dataset.provenance["split"]["users_without_train"] == 1
    assert any("1 users have no train interaction" in text for text in caplog.messages)


def test_a_pair_in_train_and_test_is_refused(tmp_path):
    with pytest.raises(LeakageError, match=r"All_Beauty\.5core: 1 .*'u2' and item '0007', is in train and test"):
        read_amazon(write(tmp_path, test=[("u2", "0007", 5.0, 1)]), "All_Beauty")


def test_other_columns_are_an_error_that_names_the_nearest(tmp_path):
    write(tmp_path, columns=("user_id", "asin", "rating", "timestamp"))
    with pytest.raises(DataFormatError, match=r"train\.parquet has no column 'parent_asin'\. .*It has: asin, rating"):
        read_amazon(tmp_path, "All_Beauty")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((None, "B01", 3.0, 1), r"train\.parquet, line 2: user_id is blank \(1 such"),
        (("u3", " ", 3.0, 1), "line 2: parent_asin is blank"),
        (("u3", "B01", None, 1), "line 2: rating is None, not a number"),
        (("u3", "B01", float("nan"), 1), "line 2: rating is nan, not a number"),
        (("u3", "B01", 3.0, None), "line 2: timestamp is None"),
    ],
)
def test_a_blank_value_is_named_with_its_row(tmp_path, row, message):
    with pytest.raises(DataFormatError, match=message):
        read_amazon(write(tmp_path, train=[ROWS["train"][0], row]), "All_Beauty")


def test_a_rating_column_of_another_type_and_a_file_that_is_no_parquet_are_errors(tmp_path):
    write(tmp_path)
    path = tmp_path / "All_Beauty.5core.train.parquet"
    pl.read_parquet(path).with_columns(rating=[[1]]).write_parquet(path)
    with pytest.raises(DataFormatError, match=r"column 'rating' holds List.*must hold numbers"):
        read_amazon(tmp_path, "All_Beauty")
    path.write_text("user_id,parent_asin\n")
    with pytest.raises((DataFormatError, DataFileError), match=r"train\.parquet"):
        read_amazon(tmp_path, "All_Beauty")


def test_many_rows_keep_their_parts(tmp_path):
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, 40, (900, 2)), axis=0)
    rng.shuffle(pairs)
    rows = [(f"u{u}", f"i{i}", float(1 + (u + i) % 5), 10 + n) for n, (u, i) in enumerate(pairs.tolist())]
    third = len(rows) // 3
    cut = {"train": rows[:third], "valid": rows[third : 2 * third], "test": rows[2 * third :]}
    split = read_amazon(write(tmp_path, **cut), "All_Beauty")
    for part, written in (("train", "train"), ("validation", "valid"), ("test", "test")):
        times = split.timestamps(part).tocoo()
        users, items = split.dataset.user_ids[times.coords[0]], split.dataset.item_ids[times.coords[1]]
        found = set(zip(users.tolist(), items.tolist(), times.data.tolist(), strict=True))
        assert found == {(user, item, time) for user, item, _, time in cut[written]}
