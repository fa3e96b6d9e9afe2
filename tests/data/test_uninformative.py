"""Ratings, times and attributes that say nothing are told where data are read, and found by the check of data."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute, binary_matrix
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.sources.tabular import TabularConfig
from coldray.data.splits.assignment import drawn_parts
from coldray.data.uninformative import uninformative_attributes, with_oddities_noted
from coldray.experiments.data_check import check_split

CELLS = {
    "a column of zeros": ("0", "0", "it is 0 of every one whose number is known"),
    "zeros and unknown numbers": ("0.0", "NA", "it is 0 of every one whose number is known"),
    "no number": ("", "null", "the number of none is known"),
}


def loaded(folder, cells, **columns):
    folder.joinpath("clicks.csv").write_text("user_id,item_id,stars,at\nu,a,0,7\nu,b,0,7\nv,a,0,7\nv,c,0,7\n")
    rows = "".join(f"{item},{cell}\n" for item, cell in zip("abc", cells, strict=True))
    folder.joinpath("items.csv").write_text(f"item_id,x\n{rows}")
    config = TabularConfig(interactions=folder / "clicks.csv", items=folder / "items.csv", **columns)
    return load_dataset(SourceConfig(name="csv", tabular=config))


@pytest.mark.parametrize(("cell", "other", "why"), CELLS.values(), ids=CELLS)
def test_a_column_that_says_nothing_is_told_when_read_and_by_the_check(tmp_path, cell, other, why):
    dataset = loaded(tmp_path, [cell, other, cell], number_columns=("x",))
    note = f"Attribute 'x' tells no items apart: {why}."
    assert note in dataset.notes
    check = check_split(drawn_parts(dataset, "holdout", 0), n_factors=1)
    assert [finding.level for finding in check.findings if finding.text == note] == ["warning"]


def test_ratings_and_times_that_are_all_equal_are_told_when_read_and_once_by_the_check(tmp_path):
    dataset = loaded(tmp_path, ["1", "2", "3"], number_columns=("x",), rating_column="stars", timestamp_column="at")
    told = ("All ratings are 0.", "All timestamps are equal.")
    assert dataset.notes[-2:] == told
    found = [finding.text for finding in check_split(drawn_parts(dataset, "holdout", 0), n_factors=1).findings]
    assert [found.count(text) for text in told] == [1, 1]


@pytest.mark.parametrize("column", ["label_columns", "text_columns"])
def test_labels_and_texts_that_are_all_alike_are_told(tmp_path, column):
    for cells, what in ((["same"] * 3, "all have the same"), ([""] * 3, "none has a ")):
        assert f"Attribute 'x' tells no items apart: {what}" in loaded(tmp_path, cells, **{column: ("x",)}).notes[-1]


def attributes(values):
    """Return what three kinds of attributes make of one value an item."""
    labels, columns = np.unique(values, return_inverse=True)
    return {
        "label": LabelAttribute(binary_matrix(np.arange(len(values)), columns, (len(values), len(labels))), labels),
        "number": NumberAttribute(np.asarray(values, float)),
        "text": TextAttribute(tuple(map(str, values))),
    }


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5))
def test_what_tells_two_items_apart_is_left_alone(values):
    assume(len(set(values)) > 1)
    clicks = binary_matrix(np.zeros(len(values), int), np.arange(len(values)), (1, len(values)))
    dataset = Dataset("d", np.array(["u"]), np.arange(len(values)), clicks, attributes(values))
    assert list(uninformative_attributes(dataset)) == []
    assert with_oddities_noted(dataset) is dataset
    alike = replace(dataset, attributes=attributes([1] * len(values)))
    assert len(list(uninformative_attributes(alike))) == 3


def test_the_sample_says_something_by_all_it_has():
    assert load_dataset(SourceConfig(name="sample")).notes == ()
