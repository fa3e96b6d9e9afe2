"""Distributions of ratings at their values and in bins."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.quality.levels import _BINS, _MOST_VALUES, rating_facts, rating_levels


def test_few_values_are_levels_and_many_are_binned():
    halves = np.arange(_MOST_VALUES, dtype=np.float32) / 2
    assert rating_levels(halves).edges is None
    assert rating_levels(halves).values.tolist() == halves.tolist()
    many = rating_levels(np.linspace(0, 10, 200, dtype=np.float32))
    assert many.edges == pytest.approx(np.linspace(0, 10, _BINS + 1))
    # A bin has its lower end, and the last one both.
    assert many.counts(many.edges).tolist() == [*[1] * (_BINS - 1), 2]


def test_counts_of_plays_get_bins_of_equal_ratio():
    plays = np.arange(1, 2000, dtype=np.float32) ** 2
    edges = rating_levels(plays).edges
    assert edges[1:] / edges[:-1] == pytest.approx(np.full(_BINS, (1999**2) ** (1 / _BINS)))
    # Beside a 0 there is no ratio.
    assert np.diff(rating_levels(np.append(plays, 0)).edges) == pytest.approx(np.full(_BINS, 1999**2 / _BINS))


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=60)
    | st.lists(st.floats(2**-10, 2**20, width=32), min_size=1, max_size=60)
)
def test_every_rating_is_at_one_level(values):
    ratings = np.array(values, np.float32)
    levels = rating_levels(ratings)
    facts = rating_facts(ratings, levels)
    assert sum(facts.counts) == len(values)
    assert len(facts.counts) == len(levels.values)
    assert facts.mean == pytest.approx(np.mean(ratings, dtype=np.float64))
    for value in ratings:
        (place,) = np.flatnonzero(levels.counts(np.array([value])))
        if levels.edges is None:
            assert levels.values[place] == value
        else:
            assert levels.edges[place] <= value <= levels.edges[place + 1]
