"""Numbers that can hardly be are told where data are read, and found by the check of data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.dataset import Dataset, NumberAttribute, binary_matrix
from coldray.data.implausible import implausible_numbers
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.sources.tabular import TabularConfig
from coldray.data.splits.assignment import drawn_parts
from coldray.experiments.data_check import check_split


def told(values, name="age", *, users=True):
    """Return what is told of a number of users, or of items."""
    count = np.arange(len(values))
    numbers = {name: NumberAttribute(np.asarray(values, float))}
    side = {"user_attributes": numbers} if users else {"attributes": numbers}
    clicks = binary_matrix(count, count, (len(count), len(count)))
    return list(implausible_numbers(Dataset("d", count, count, clicks, **({"attributes": {}} | side))))


def test_ages_that_nobody_has_are_told_when_read_and_once_by_the_check(tmp_path):
    (tmp_path / "clicks.csv").write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(4) for i in "abc"))
    (tmp_path / "people.csv").write_text("user_id,age\n0,-1\n1,1900\n2,33\n3,\n")
    tables = TabularConfig(
        interactions=tmp_path / "clicks.csv", users=tmp_path / "people.csv", user_number_columns=("age",)
    )
    dataset = load_dataset(SourceConfig(name="csv", tabular=tables))
    note = "Attribute 'age': 2 of 3 users have one beyond 0 to 120 (-1, 1900)."
    assert dataset.notes[-1] == note
    assert dataset.user_attributes["age"].values[:3].tolist() == [-1, 1900, 33], "nothing is changed"
    found = [one for one in check_split(drawn_parts(dataset, "holdout", 0), n_factors=1).findings if one.text == note]
    assert [one.level for one in found] == ["warning"]


@pytest.mark.parametrize("name", ["age", "Age", "user_age", "age in years", "AGES"])
def test_an_age_goes_by_its_name(name):
    assert told([20, 30, 121], name) == [f"Attribute {name!r}: 1 of 3 users have one beyond 0 to 120 (121)."]
    assert told([0, 30, 120, np.nan], name) == []
    assert told([20, 30, 1900], name, users=False) == [], "a whisky may be older"


@pytest.mark.parametrize("name", ["pages", "stage", "average", "wage"])
def test_other_names_are_of_no_age(name):
    assert told([20, 30, 1900], name) == []


@pytest.mark.parametrize("name", ["birth_year", "year_of_birth", "born", "yob", "birthyear"])
def test_a_year_of_birth_goes_by_its_name(name):
    assert told([1880, 1990, 2100], name) == []
    assert told([19, 1990, 9999], name) == [
        f"Attribute {name!r}: 2 of 3 users have one beyond 1880 to 2100 (19, 9999)."
    ]


@given(st.lists(st.integers(0, 100), min_size=30, max_size=60), st.sampled_from([-1e6, 2000.0, 1e9]))
def test_a_value_far_beyond_all_others_is_told_of_any_number(values, far):
    width = np.ptp(np.sort(values)[1:-1])
    assert told(values, "height", users=False) == [] or np.ptp(values) > 10 * width
    found = told([*values, far], "height", users=False)
    assert len(found) == (np.ptp(np.sort([*values, far])[1:-1]) > 0)
    assert all(f"{far:g}" in one and "are far from the others" in one for one in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=19))
def test_of_few_values_none_is_called_far(values):
    assert told(values, "height") == []


def test_numbers_that_spread_evenly_or_by_a_bell_are_fine():
    generator = np.random.default_rng(0)
    for values in (generator.normal(170, 10, 5000), generator.uniform(0, 1, 5000), generator.integers(18, 90, 5000)):
        assert told(values, "x") == []
    assert told([0] * 50 + [1], "x") == [], "a column of two values is no range"
