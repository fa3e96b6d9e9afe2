"""Labels of new items that are lists written as text."""

import ast
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError
from coldray.data.tables.labels import _is_list_text, label_lists, listed, refuse_list_text

labels = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=4)


@given(labels)
def test_a_list_written_as_json_or_python_is_the_list(values):
    assert listed(json.dumps(values)) == values
    assert listed(repr(values)) == ast.literal_eval(repr(values)) == values
    assert _is_list_text(json.dumps(values))


LISTS = ['["x", "y"]', "['x', 'z']", "x;y", "x|y", "x ; y", "[x, y]", "{x,y}", '["x","y"]']


@pytest.mark.parametrize("value", [*LISTS, ['["x","y"]']])
def test_a_label_that_is_a_list_is_refused(value):
    with pytest.raises(DataFormatError, match="is a list written as text"):
        refuse_list_text(value, {"x", "y"}, "genres")


def is_taken(value, known=()):
    try:
        refuse_list_text(value, known, "genres")
    except DataFormatError:
        return False
    return True


@pytest.mark.parametrize(
    "value", ["plain", "x, y", "(no genres listed)", ["x;y"], ["x", "y"], ["[sic]"], None, "", "a;", "?!;"]
)
def test_other_labels_and_lists_are_taken(value):
    assert is_taken(value)


@pytest.mark.parametrize("value", LISTS)
def test_a_known_label_is_taken_though_it_looks_like_a_list(value):
    assert is_taken(value, {value})
    assert not is_taken(value)


@pytest.mark.parametrize("cells", [["NA", "war", "nan", None], [["NA", "nan"], ["war"], [], None]])
def test_a_label_that_stands_for_no_value_elsewhere_is_told(cells):
    notes = []
    label_lists(pl.Series(cells), "|", "films", notes)
    assert notes == ["films: 2 values ('NA', 'nan') are taken as a label like others."]


def test_a_list_that_is_cut_off_is_told():
    notes = []
    label_lists(pl.Series(['["war", "dra', "crime"]), "|", "films", notes)
    assert '1 values (\'["war", "dra\') are taken whole, though a list seems to be cut off' in notes[0]


def test_a_number_that_is_not_there_is_no_label():
    assert label_lists(pl.Series([1990.0, float("nan")]), "|", "films", []).to_list() == [["1990.0"], None]
