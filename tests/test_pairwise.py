"""The combinations that tests walk in place of all."""

from itertools import combinations, product
from math import prod

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.pairwise import pairwise


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4))
def test_any_two_values_of_different_parameters_meet_and_no_combination_comes_twice(sizes):
    values = {name: [f"{name}{value}" for value in range(size)] for name, size in zip("abcd", sizes, strict=False)}
    names, rows = pairwise(**values)
    assert names.split(",") == list(values)
    assert len(rows) == len(set(rows)) <= prod(sizes)
    assert all(value in of_name for row in rows for value, of_name in zip(row, values.values(), strict=True))
    met = {pair for row in rows for pair in combinations(row, 2)}
    assert met == {pair for one, other in combinations(values.values(), 2) for pair in product(one, other)}


@pytest.mark.parametrize("sizes", [(3, 2, 2, 4), (2, 2, 2, 3), (3, 2, 2), (3, 3, 2), (5, 4, 2, 2, 2)])
def test_they_are_few(sizes):
    _, rows = pairwise(**{f"p{number}": range(size) for number, size in enumerate(sizes)})
    *_, second, largest = sorted(sizes)
    assert second * largest <= len(rows) <= second * largest + 1
