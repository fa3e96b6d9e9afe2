"""Labels of new items that are lists written as text."""

import ast
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError
from coldray.data.tables.labels import is_list_text, listed, refuse_list_text

labels = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), min_size=1, max_size=4)


@given(labels)
def test_a_list_written_as_json_or_python_is_the_list(values):
    assert listed(json.dumps(values)) == values
    assert listed(repr(values)) == ast.literal_eval(repr(values)) == values
    assert is_list_text(json.dumps(values))


@pytest.mark.parametrize("value", ['["x", "y"]', "['x', 'z']", "x;y", "x|y", "x ; y", "[x, y]", "{x,y}", ['["x","y"]']])
def test_a_label_that_is_a_list_is_refused(value):
    with pytest.raises(DataFormatError, match="is a list written as text"):
        refuse_list_text(value, {"x", "y"}, "genres")


@pytest.mark.parametrize(
    "value", ["plain", "x, y", "(no genres listed)", "AC;DC", ["x;y"], ["x", "y"], ["[sic]"], None, "", "a;", "?!;"]
)
def test_other_labels_known_ones_and_lists_are_taken(value):
    refuse_list_text(value, {"AC;DC"}, "genres")
