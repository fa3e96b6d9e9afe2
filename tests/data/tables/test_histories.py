"""Histories in parquet: what is refused by the footers alone, and the spreading of users over partitions."""

import tempfile
import zlib
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError, OutputError
from coldray.data.tables import histories as module
from coldray.data.tables.histories import (
    _partition_of,
    find_histories,
    partition_file,
    partitions_complete,
    write_partitions,
)

NAMES = st.text("ab1é ", max_size=3)
ROWS = st.one_of(
    st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | NAMES), min_size=1, max_size=40),
    st.lists(st.tuples(st.none() | NAMES, st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=1, max_size=40),
)


def table(rows, **types):
    return pl.DataFrame(rows, schema=["user_id", "item_id"], orient="row", strict=False).cast(types)


def columns_of(rows):
    """Return the types of columns of which all values may be missing."""
    users, items = zip(*rows, strict=True)
    kinds = [pl.String if any(isinstance(value, str) for value in column) else pl.Int64 for column in (users, items)]
    return pl.DataFrame({"user_id": users, "item_id": items}, schema={"user_id": kinds[0], "item_id": kinds[1]})


def written(folder, *tables, **options):
    for number, one in enumerate(tables):
        one.write_parquet(folder / f"{number}.parquet", **options)
    return folder


def spread(histories, folder, n_partitions):
    write_partitions(histories, folder, n_partitions, lambda rows: None)
    return [pl.read_parquet(partition_file(folder, number)) for number in range(n_partitions)]


@settings(max_examples=40)
@given(ROWS, st.integers(1, 3), st.integers(1, 5), st.integers(1, 7))
def test_each_user_is_in_one_partition_and_no_row_is_lost(rows, n_files, n_partitions, batch_rows):
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BATCH_ROWS", batch_rows)
        folder, whole = Path(name), columns_of(rows)
        (folder / "in").mkdir()
        files = [whole[start::n_files] for start in range(n_files)]
        found = find_histories(written(folder / "in", *files, row_group_size=3))
        parts = spread(found, folder / "out", n_partitions)
    homes = [{user.strip() if isinstance(user, str) else user for user in part["user_id"]} for part in parts]
    assert sum(map(len, homes)) == len(set().union(*homes))
    assert pl.concat(parts).sort("user_id", "item_id").equals(whole.sort("user_id", "item_id"))
    assert found.rows == len(rows)


def test_the_partition_is_a_checksum_of_the_id_as_text():
    users = pl.Series(["ann", "é", None, "", " ann\u00a0"])
    ann = zlib.crc32(b"ann") % 7
    assert _partition_of(users, 7).to_list() == [ann, zlib.crc32("é".encode()) % 7, 0, 0, ann]
    assert _partition_of(pl.Series([12, -3]), 11).to_list() == [zlib.crc32(b"12") % 11, zlib.crc32(b"-3") % 11]


@pytest.mark.parametrize("ids", [range(20_000), [f"AE{number}XZQ" for number in range(20_000)]])
def test_partitions_are_about_equally_large(ids):
    sizes = _partition_of(pl.Series(list(ids)), 16).value_counts()["count"]
    assert len(sizes) == 16
    assert sizes.is_between(1100, 1400).all()


def test_ids_of_several_widths_and_encodings_are_of_one_kind(tmp_path):
    first = table([(1, "a"), (2, "b")], user_id=pl.Int16, item_id=pl.Categorical)
    second = table([(2**40, "a")]).select("item_id", pl.lit(0).alias("more"), "user_id")
    found = find_histories(written(tmp_path, first, second))
    (part,) = spread(found, tmp_path / "out", 1)
    assert part.schema == {"user_id": pl.Int64, "item_id": pl.String}
    assert part.rows() == [(1, "a"), (2, "b"), (2**40, "a")]


WHOLE = st.integers(0, 2**64 - 1) | st.integers(2**63 - 2, 2**63 + 1) | st.integers(0, 9)


@settings(max_examples=40)
@given(st.lists(st.tuples(WHOLE, WHOLE), min_size=1, max_size=8), st.booleans())
def test_whole_numbers_without_a_sign_are_read_whole(rows, statistics):
    """As numbers if all of a column fit into 64 bits with a sign, else as text; whatever the footer says."""
    whole = pl.DataFrame(rows, schema={"user_id": pl.UInt64, "item_id": pl.UInt64}, orient="row")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        halves = [half for half in (whole[: len(rows) // 2], whole[len(rows) // 2 :]) if len(half)]
        found = find_histories(written(folder / "in", *halves, statistics=statistics))
        (part,) = spread(found, folder / "out", 1)
    for column in whole.columns:
        fits = whole[column].max() < 2**63
        assert part.schema[column] == (pl.Int64 if fits else pl.String)
        assert sorted(map(int, part[column])) == sorted(whole[column].to_list())


def test_other_names_and_ratings(tmp_path):
    rows = pl.DataFrame({"who": ["x", "y"], "stars": [3, None], "what": [7, 8]})
    found = find_histories(written(tmp_path, rows), user="who", item="what", rating="stars")
    (part,) = spread(found, tmp_path / "out", 1)
    assert part.rows(named=True) == [
        {"user_id": "x", "item_id": 7, "rating": 3.0},
        {"user_id": "y", "item_id": 8, "rating": None},
    ]
    assert part.schema["rating"] == pl.Float32


@pytest.mark.parametrize(
    ("when", "kind"),
    [
        ([5, 3], pl.Int64),
        (["2024-05-01", "2024-04-01"], pl.Date),
        (["2024-05-01", "2024-04-01"], pl.Datetime("us")),
        (["2024-05-01", "2024-04-01"], pl.Datetime("ns", "UTC")),
    ],
)
def test_times_are_integers_or_dates(tmp_path, when, kind):
    times = pl.Series(when, dtype=pl.Int32) if kind == pl.Int64 else pl.Series(when).str.to_date().cast(kind)
    rows = pl.DataFrame({"user_id": ["x", "x"], "item_id": [7, 8], "stars": [3, 4], "at": times})
    found = find_histories(written(tmp_path, rows), rating="stars", timestamp="at")
    assert found.columns == ("user_id", "item_id", "stars", "at")
    assert found.labels == ("user_id", "item_id", "stars", "timestamp=at")
    (part,) = spread(found, tmp_path / "out", 1)
    assert part.schema["timestamp"] == kind
    assert part.sort("timestamp")["item_id"].to_list() == [8, 7]
    assert "timestamp" not in find_histories(tmp_path / "0.parquet").schema.names


def test_a_folder_is_read_with_its_folders_and_without_hidden_files(tmp_path):
    for place, user in (("day=1/a.parquet", 1), ("day=2/a.parquet", 2), ("_tmp/a.parquet", 3), (".b.parquet", 4)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        table([(user, 1)]).write_parquet(tmp_path / place)
    found = find_histories(tmp_path)
    assert sorted(found.fingerprint()) == ["day=1/a.parquet", "day=2/a.parquet"]
    assert pl.concat(found.batches())["user_id"].to_list() == [1, 2]
    assert find_histories(tmp_path / "day=2" / "a.parquet").rows == 1


def test_the_fingerprint_is_of_the_content(tmp_path):
    before = find_histories(written(tmp_path, table([(1, 2)]))).fingerprint()
    assert find_histories(written(tmp_path, table([(1, 2)]))).fingerprint() == before
    assert find_histories(written(tmp_path, table([(1, 3)]))).fingerprint() != before


@pytest.mark.parametrize(
    ("tables", "options", "error", "message"),
    [
        ([], {}, DataFileError, r"holds no \*\.parquet file"),
        ([table([], user_id=pl.Int64, item_id=pl.Int64)], {}, EmptyDatasetError, "has no row"),
        ([table([(1, 2)])], {"item": "movie"}, DataFormatError, "has no column 'movie'; it has 'user_id', 'item_id'"),
        ([table([(1.5, 2)])], {}, DataFormatError, "user_id of .*0.parquet is double; ids are integers or strings"),
        ([table([(1, 2)]), table([(1, "2")])], {}, DataFormatError, "item_id is large_string in .*1.parquet and int64"),
        ([table([(1, "2")])], {"rating": "item_id"}, DataFormatError, "ratings are numbers"),
        ([table([(1, "2")])], {"timestamp": "item_id"}, DataFormatError, "times are integers, .* or dates"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path, tables, options, error, message):
    with pytest.raises(error, match=message):
        find_histories(written(tmp_path, *tables), **options)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataFileError, match="There is no file or folder"):
        find_histories(tmp_path / "nowhere")
    (tmp_path / "a.parquet").write_bytes(b"user_id,item_id\n1,2\n")
    with pytest.raises(DataFormatError, match="is no parquet file"):
        find_histories(tmp_path)


def test_the_number_of_partitions_follows_the_rows(tmp_path, monkeypatch):
    found = find_histories(written(tmp_path, table([(1, 2)] * 10)))
    assert found.default_partitions == 1
    monkeypatch.setattr(module, "_ROWS_PER_PARTITION", 3)
    assert found.default_partitions == 4
    monkeypatch.setattr(module, "_MOST_PARTITIONS", 2)
    assert found.default_partitions == 2


def test_partitions_are_all_there_or_none(tmp_path):
    found = find_histories(written(tmp_path, table([(1, 2), (3, 4)])))
    (tmp_path / "0.parquet").write_bytes(b"gone")
    out = tmp_path / "out"
    with pytest.raises(DataFormatError):
        write_partitions(found, out, 2, lambda rows: None)
    assert not out.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["0.parquet"]
    assert not partitions_complete(out, 2, 2)


def test_complete_partitions_are_told_by_their_footers(tmp_path):
    found = find_histories(written(tmp_path, table([(1, 2), (3, 4)])))
    told = []
    write_partitions(found, tmp_path / "out", 2, told.append)
    assert told == [2]
    assert partitions_complete(tmp_path / "out", 2, 2)
    assert not partitions_complete(tmp_path / "out", 2, 3)
    assert not partitions_complete(tmp_path / "out", 3, 2)
    partition_file(tmp_path / "out", 1).write_bytes(b"PAR1")
    assert not partitions_complete(tmp_path / "out", 2, 2)


def test_a_full_disk_is_an_error_of_the_output(tmp_path, monkeypatch):
    found = find_histories(written(tmp_path, table([(1, 2)])))

    def full(self, table):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_partitions(found, tmp_path / "out", 1, lambda rows: None)
    assert not (tmp_path / "out").exists()
