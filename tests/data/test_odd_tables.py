"""Odd tables are read as an independent reader has them, row for row, or refused by an error of the project."""

import csv
import gzip
import io
import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, example, given, settings

from coldray.data.dataset import LabelAttribute, NumberAttribute
from coldray.data.sources.tabular import TabularConfig, read_tabular
from coldray.data.tables.files import read_columns
from coldray.data.tables.histories import find_histories
from coldray.data.texts import with_texts
from data.odd_tables import COLUMNS, HEADER, OddText, attempt, odd_texts, write_typed

NAMES = {name: name for name in HEADER}
SHARED = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def by_csv(table):
    """Return the rows as Python's csv has them, None if it finds the file malformed."""
    text = table.content if not table.name.endswith(".gz") else gzip.decompress(table.content)
    try:
        lines = io.StringIO(text.decode("utf-8-sig"), newline="")
        header, *rows = [tuple(row) for row in csv.reader(lines, delimiter=table.separator, strict=True) if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    return rows if all(len(row) == len(header) for row in rows) else None


def with_values(rows):
    """Return the rows that are more than separators alone."""
    return None if rows is None else [row for row in rows if any(value.strip() for value in row)]


@SHARED
@given(odd_texts())
def test_delimited_text_that_is_written_well_is_read(tmp_path, table):
    assume(table.clean)
    path = tmp_path / table.name
    path.write_bytes(table.content)
    read, refusal = attempt(read_columns, path, NAMES, "csv")
    assert read is not None or "rows of their own" in refusal, refusal


@SHARED
@given(odd_texts())
@example(OddText("odd.tsv", b"user_id\titem_id\tnote\n\t\t\n", [("", "", "")], "\t", True))
@example(OddText("odd.csv", b"user_id,item_id,note\na,b,c\n , ,\n", [("a", "b", "c"), (" ", " ", "")], ",", True))
def test_delimited_text_that_is_read_is_read_whole(tmp_path, table):
    path = tmp_path / table.name
    path.write_bytes(table.content)
    read, _ = attempt(read_columns, path, NAMES, "csv")
    assume(read is not None)
    rows = [tuple(value or "" for value in row) for row in read.rows.rows()]
    passed_over = len(table.rows) - len(with_values(table.rows))
    told = [f"{table.name}: {passed_over} rows have no value at all, and are passed over."] if passed_over else []
    assert [note for note in read.notes if "have no value at all" in note] == told
    assert len(rows) == len(table.rows) - passed_over
    assert rows in (with_values(table.rows), with_values(by_csv(table)))


@SHARED
@given(odd_texts())
@example(OddText("odd.csv", b"user_id,item_id,note\na,b,c\n,,\n", [("a", "b", "c"), ("", "", "")], ",", True))
def test_every_interaction_of_odd_text_is_in_the_dataset_or_the_file_is_refused(tmp_path, table):
    path = tmp_path / table.name
    path.write_bytes(table.content)
    dataset, _ = attempt(read_tabular, TabularConfig(interactions=path), "csv")
    assert dataset is None or dataset.interactions.nnz == len(with_values(table.rows))


READABLE = {
    "rating": {"int64", "whole floats", "half", "large text", "categories", "boolean", "uint64"},
    "number": {
        "int8", "uint64", "int64", "halves", "whole floats", "half", "large text", "categories", "decimal",
        "boolean", "days", "moments", "nothing",
    },
    "text": {
        "int8", "uint64", "int64", "halves", "huge", "whole floats", "half", "text", "large text", "categories",
        "decimal", "boolean", "days", "moments", "nothing", "list texts", "divided",
    },
}  # fmt: skip
READABLE["labels"] = READABLE["text"] | {"lists", "number lists"}
OPTIONS = {
    "rating": {"rating_column": "x"}, "number": {"number_columns": ("x",)}, "text": {"text_columns": ("x",)},
    "labels": {"label_columns": ("x",)},
}  # fmt: skip


@pytest.mark.parametrize("role", OPTIONS)
def test_a_column_of_any_parquet_type_is_read_or_refused_by_name_and_type(tmp_path, role):
    clicks = write_typed(tmp_path / "clicks.parquet")
    for kind in COLUMNS:
        items = write_typed(tmp_path / "odd.parquet", x=kind)
        place = {"interactions": items} if role == "rating" else {"interactions": clicks, "items": items}
        dataset, refusal = attempt(read_tabular, TabularConfig(**place, **OPTIONS[role]), "parquet")
        assert (refusal is None) == (kind in READABLE[role]), (kind, refusal)
        if dataset is None:
            assert "'x'" in refusal, (kind, refusal)
            assert "must be" in refusal or "values are" in refusal, (kind, refusal)
        else:
            expect_same(dataset, role, pq.read_table(items)["x"].to_pylist())


def expect_same(dataset, role, cells):
    if role == "rating":
        assert dataset.ratings.data.tolist() == [np.float32(float(cell)) for cell in cells]
    elif role == "number":
        found = dataset.attributes["x"]
        assert isinstance(found, NumberAttribute)
        if cells[0] is None or not hasattr(cells[0], "year"):
            expected = [np.nan if cell is None else float(cell) for cell in cells]
            np.testing.assert_array_equal(found.values, expected)
    elif role == "text":
        assert [bool(text) for text in dataset.attributes["x"].texts] == [cell is not None for cell in cells]
    else:
        found = dataset.attributes["x"]
        assert isinstance(found, LabelAttribute)
        if isinstance(cells[0], list):
            sets = [{str(label) for label in cell or ()} for cell in cells]
            assert [set(found.labels[row.indices]) for row in map(found.matrix.__getitem__, [[0], [1], [2]])] == sets


@pytest.mark.parametrize("column", ["user_id", "item_id"])
def test_ids_of_any_parquet_type_are_read_or_refused(tmp_path, column):
    for kind in COLUMNS:
        path = write_typed(tmp_path / "odd.parquet", **{column: kind})
        dataset, refusal = attempt(read_tabular, TabularConfig(interactions=path), "parquet")
        if dataset is None:
            assert f"{column!r}" in refusal, (kind, refusal)
        else:
            assert dataset.interactions.nnz == 3, kind


def test_texts_of_any_parquet_type_are_read_or_refused(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    dataset = read_tabular(TabularConfig(interactions=write_typed(tmp_path / "clicks.parquet")), "parquet")
    for kind in COLUMNS:
        path = write_typed(tmp_path / "texts.parquet", about=kind)
        found, refusal = attempt(with_texts, dataset, path)
        assert (refusal is None) == (kind in READABLE["text"]), (kind, refusal)
        if found is None:
            assert "'about'" in refusal, (kind, refusal)
        else:
            there = [cell is not None for cell in COLUMNS[kind].to_pylist()]
            assert [bool(text) for text in found.attributes["about"].texts] == there, kind


HISTORY_ROLES = {
    "user": {"int8", "int64", "uint64", "text", "large text", "categories", "list texts", "divided"},
    "rating": {"int8", "int64", "uint64", "halves", "huge", "whole floats", "half", "decimal", "wide decimal"},
    "timestamp": {"int8", "int64", "days", "moments"},
}


@pytest.mark.parametrize("role", HISTORY_ROLES)
def test_histories_of_any_parquet_type_are_read_or_refused(tmp_path, role):
    for kind in COLUMNS:
        path = write_typed(tmp_path / "histories.parquet", x=kind)

        def rows(path=path):
            return sum(batch.height for batch in find_histories(path, **{role: "x"}).batches())

        read, refusal = attempt(rows)
        assert read == 3 or "x" in refusal or "histories.parquet" in refusal, (kind, refusal)
        assert read is None or kind in HISTORY_ROLES[role], kind
