"""How interactions spread: planted concentrations, dense corners and calendar days."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.quality.activity import heat_map, item_activity, timeline, user_activity


def clicks(cells, shape):
    rows, columns = np.array(sorted(cells)).T
    return sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)


def moment(*date):
    return int(datetime(*date, tzinfo=UTC).timestamp())


def test_those_without_interactions_are_left_out():
    matrix = clicks({(0, 1), (0, 2), (0, 3), (2, 1)}, (4, 5))
    users, items = user_activity(matrix), item_activity(matrix)
    assert users.counts.tolist() == [3, 1]
    assert items.counts.tolist() == [2, 1, 1]
    assert (users.median, users.mean, users.least, users.most, users.singles) == (2.0, 2.0, 1, 3, 1)
    assert items.singles == 2


def test_the_share_of_the_most_active_and_gini():
    even = user_activity(clicks({(row, column) for row in range(5) for column in range(4)}, (5, 4)))
    assert even.gini == pytest.approx(0)
    assert even.top_share == pytest.approx(1 / 5)
    wide = [(row, 0) for row in range(199)] + [(199, column) for column in range(100)]
    found = user_activity(clicks(set(wide), (200, 100)))
    # 1 % of 200 are two users: the one with 100 and one with 1.
    assert found.top_share == pytest.approx(101 / 299)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_gini_is_half_the_mean_difference_over_the_mean(counts):
    cells = {(row, column) for row, count in enumerate(counts) for column in range(count)}
    values = np.array(counts)
    expected = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert user_activity(clicks(cells, (len(counts), 30))).gini == pytest.approx(expected, abs=1e-12)


def test_the_most_active_are_in_the_first_groups_and_densities_are_shares_of_cells():
    # Users 0 to 9 clicked nothing, 10 and 11 everything, 12 to 15 the last item alone.
    cells = {(user, item) for user in (10, 11) for item in range(6)} | {(user, 5) for user in range(12, 16)}
    found = heat_map(clicks(cells, (16, 6)), bins=3, members=1)
    assert (found.n_users, found.n_items) == (6, 6)
    assert found.density.tolist() == [[1, 1, 1], [0.5, 0, 0], [0.5, 0, 0]]


@given(st.sets(st.tuples(st.integers(0, 20), st.integers(0, 15)), min_size=1), st.integers(1, 8), st.integers(1, 4))
def test_the_groups_hold_every_interaction_once(cells, bins, members):
    matrix = clicks(cells, (21, 16))
    found = heat_map(matrix, bins, members)
    sizes = []
    for present, n_groups in zip((found.n_users, found.n_items), found.density.shape, strict=True):
        assert n_groups == min(bins, max(1, present // members))
        groups = np.bincount(np.arange(present) * n_groups // present)
        assert groups.max() - groups.min() <= 1
        sizes.append(groups)
    assert (found.density * np.outer(*sizes)).sum() == pytest.approx(len(cells))
    totals = (found.density * np.outer(*sizes)).sum(axis=1) / sizes[0]
    assert (np.diff(totals) <= 1e-9).all()


@pytest.mark.parametrize(
    ("dates", "period", "first", "counts"),
    [
        ([(2020, 3, 1), (2020, 3, 1, 23, 59, 59), (2020, 3, 3)], "day", "2020-03-01", [2, 0, 1]),
        # 2020-03-01 was a Sunday, the last day of its week.
        ([(2020, 3, 1), (2020, 3, 2), (2020, 6, 30)], "week", "2020-02-24", [1, 1, *[0] * 16, 1]),
        ([(2015, 12, 31, 23, 59, 59), (2016, 1, 1), (2018, 2, 28)], "month", "2015-12-01", [1, 1, *[0] * 24, 1]),
        ([(1969, 12, 31), (1970, 1, 1), (2000, 1, 1)], "year", "1969-01-01", [1, 1, *[0] * 29, 1]),
    ],
)
def test_periods_are_those_of_the_calendar(dates, period, first, counts):
    found = timeline(np.array([moment(*date) for date in dates]), np.zeros(len(dates), np.uint8))
    assert (found.period, str(found.edges[0])) == (period, first)
    assert found.counts[0].tolist() == counts
    assert len(found.edges) == len(counts) + 1
    assert found.counts[1:].sum() == 0


@given(
    st.lists(st.tuples(st.datetimes(datetime(1971, 1, 1), datetime(2030, 1, 1)), st.integers(0, 4)), min_size=1),
    st.sampled_from([1, 1 / 20, 1 / 1000]),
)
def test_every_interaction_is_in_the_period_it_fell_into(moments, squeezed):
    start = min(when for when, _ in moments)
    moments = [
        (start + timedelta(seconds=int((when - start).total_seconds() * squeezed)), part) for when, part in moments
    ]
    seconds = np.array([int(when.replace(tzinfo=UTC).timestamp()) for when, _ in moments])
    parts = np.array([part for _, part in moments], np.uint8)
    found = timeline(seconds, parts)
    edges = found.edges.astype("datetime64[s]").astype(np.int64)
    assert (np.diff(edges) > 0).all()
    for part in range(5):
        assert found.counts[part].tolist() == np.histogram(seconds[parts == part], edges)[0].tolist()


def test_times_in_milliseconds_have_no_timeline():
    parts = np.zeros(2, np.uint8)
    assert timeline(np.array([1_600_000_000_000, 1_600_000_000_001]), parts) is None
    assert timeline(np.array([0, 400 * 366 * 86_400]), parts) is None
    assert timeline(np.array([0, 1_600_000_000]), parts) is not None
