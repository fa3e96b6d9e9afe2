"""Text files to typed columns, and what is said of a line that is wrong."""

import gzip
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.tables.streaming import collect_typed, scan_delimited, with_seconds

TYPES = {"id": pl.String(), "value": pl.Float32(), "count": pl.Int64()}


def read(path, text, *, header=False, quoted=False, categorical=(), notes=None):
    path.write_text(text)
    file, scan = scan_delimited(path, ",", None if header else tuple(TYPES), quoted=quoted)
    table = collect_typed(scan, TYPES, path, [] if notes is None else notes, categorical=categorical)
    if notes is not None:
        notes += file.notes_of(table.height)
    return table


@pytest.mark.parametrize(("quoted", "mark"), [(False, ""), (False, '"'), (True, ""), (True, '"')])
def test_columns_have_their_types_and_lines_without_a_value_are_left_out_and_counted(tmp_path, quoted, mark):
    notes = []
    text = f" 007 ,1.5,3\n\n,,\n{mark}b{mark}, 2 , 4\n,,\n"
    table = read(tmp_path / "a.csv", text, quoted=quoted, notes=notes)
    assert table.rows() == [("007", 1.5, 3), ("b" if quoted else f"{mark}b{mark}", 2.0, 4)]
    assert table.schema == TYPES
    assert notes == [
        "a.csv, column 'id': blanks around 1 ids are left out.",
        "a.csv: 1 blank lines are passed over.",
        "a.csv: 2 rows have no value at all, and are passed over.",
    ]


def test_blanks_around_ids_are_left_out_and_told_when_two_become_one(tmp_path):
    notes = []
    table = read(tmp_path / "a.csv", "a,1,1\n a,2,1\na\u200b,3,1\nb,4,1\n", notes=notes, categorical=("id",))
    assert table["id"].cast(pl.String).to_list() == ["a", "a", "a", "b"]
    assert notes == ["a.csv, column 'id': blanks around 2 ids are left out; 2 ids become one with another."]


def test_a_header_names_the_columns_in_any_order(tmp_path):
    assert read(tmp_path / "a.csv", "count,more,id,value\n3,x,a,1\n", header=True).rows() == [("a", 1.0, 3)]


def test_quotes_are_part_of_a_text_unless_they_enclose_fields(tmp_path):
    assert read(tmp_path / "a.csv", '7" single,1,2\n').item(0, 0) == '7" single'
    assert read(tmp_path / "b.csv", '"a, b",1,2\n', quoted=True).item(0, 0) == "a, b"


def test_a_categorical_column_has_the_same_values(tmp_path):
    table = read(tmp_path / "a.csv", "b,1,1\na,1,1\nb,1,1\n", categorical=("id",))
    assert table.schema["id"] == pl.Categorical
    assert table["id"].cast(pl.String).to_list() == ["b", "a", "b"]


def test_a_gzipped_file_reads_like_a_plain_one(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,1,2\n"))
    _, scan = scan_delimited(path, ",", tuple(TYPES))
    assert collect_typed(scan, TYPES, path, []).rows() == [("a", 1.0, 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,1,2\nb,x,2\nc,y,2\n", r"a\.csv, line 2: value is 'x', not a number \(2 such"),
        ("a,inf,2\n", r"line 1: value is 'inf', not a number"),
        ("a,nan,2\n", r"line 1: value is 'nan', not a number"),
        ("a,1,2\nb,1,2.5\n", r"line 2: count is '2\.5'"),
        ("a,1\n", r"line 1: count is None"),
        ("a,1,2\n  ,1,2\n", r"line 2: id is blank \(1 such"),
        ("a,1,2,3\n", r"a\.csv in .* is malformed"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, text, message):
    with pytest.raises(DataFormatError, match=message):
        read(tmp_path / "a.csv", text)


def test_with_a_header_the_first_row_is_line_2(tmp_path):
    with pytest.raises(DataFormatError, match="line 3: value is 'x'"):
        read(tmp_path / "a.csv", "id,value,count\na,1,1\nb,x,1\n", header=True)


def test_an_absent_file_is_a_file_error(tmp_path):
    with pytest.raises(DataFileError, match=r"none\.csv cannot be read"):
        scan_delimited(tmp_path / "none.csv", ",", tuple(TYPES))


@given(st.integers(0, 4_000_000_000), st.integers(0, 999))
def test_times_in_milliseconds_become_seconds(second, millisecond):
    notes = []
    late = pl.DataFrame({"timestamp": [0, (second + 10**9) * 1000 + millisecond]})
    assert with_seconds(late, Path("a.json"), notes)["timestamp"].to_list() == [0, second + 10**9]
    assert "a.json, column 'timestamp': times are milliseconds" in notes[0]
    assert with_seconds(late // 1000, Path("a.json"), notes)["timestamp"].to_list() == [0, second + 10**9]
    assert len(notes) == 1
