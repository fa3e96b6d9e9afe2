import math
from statistics import mean, pvariance

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coldray.features.item_moments import ITEM_WORDS, ItemMoments
from contracts.pasts import DAY, N_ITEMS, TIMES, before, clicks, known

ASKED = st.lists(st.tuples(st.integers(0, N_ITEMS), TIMES), min_size=1, max_size=6)


def one_by_one(rows, item, time):
    """Compute the features from clicks looked at one after the other."""
    stamps = [row[2] for row in rows if not math.isnan(row[2])]
    past = [row for row in rows if row[1] == item and before(row, time)]
    ratings = [row[3] for row in past if not math.isnan(row[3])]
    found = {
        "item_degree": math.log1p(len(past)),
        "item_rating_mean": mean(ratings) if ratings else math.nan,
        "item_rating_variance": pvariance(ratings) if len(ratings) > 1 else math.nan,
    }
    now = max(stamps, default=math.nan) if math.isnan(time) else time
    times = [row[2] for row in past if not math.isnan(row[2])]
    counts = {days: sum(stamp >= now - days * DAY for stamp in times) for days in (7, 30, 365)}
    for days, count in counts.items():
        found[f"item_popularity:{days}"] = math.nan if math.isnan(now) else math.log1p(count)
    trend = math.log1p(counts[30]) - math.log1p(counts[365] * 30 / 365)
    found["item_trend"] = trend if counts[365] else math.nan
    found["item_recency"] = math.log1p(now - max(times)) if times else math.nan
    found["item_age"] = math.log1p(now - min(times)) if times else math.nan
    return found


@given(clicks(), ASKED)
def test_features_are_those_of_clicks_looked_at_one_by_one(rows, asked):
    made = ItemMoments.of(known(rows), N_ITEMS, ITEM_WORDS)
    items, times = np.array([item for item, _ in asked]), np.array([time for _, time in asked])
    slow = [[one_by_one(rows, *pair)[name] for name in made.names] for pair in asked]
    np.testing.assert_allclose(made.values(items, times), slow, rtol=1e-5, atol=1e-6)


@given(clicks(), clicks(), ASKED, TIMES.filter(np.isfinite))
def test_what_comes_at_a_moment_or_later_changes_nothing(rows, others, asked, now):
    items, times = np.array([item for item, _ in asked]), np.fmin([time for _, time in asked], now)
    changed = [row for row in rows if row[2] < now] + [row for row in others if not row[2] < now]
    found, same = (ItemMoments.of(known(some), N_ITEMS, ITEM_WORDS).values(items, times) for some in (rows, changed))
    np.testing.assert_allclose(same, found, rtol=1e-5, atol=1e-6)


@given(clicks(), ASKED)
def test_its_arrays_keep_it(rows, asked):
    made = ItemMoments.of(known(rows), N_ITEMS, ["item_trend", "item_popularity", "item_rating_variance"])
    again = ItemMoments.from_state(made.state())
    items, times = np.array([item for item, _ in asked]), np.array([time for _, time in asked])
    assert (
        again.names
        == made.names
        == (
            "item_trend",
            *(f"item_popularity:{days}" for days in (7, 30, 365)),
            "item_rating_variance",
        )
    )
    np.testing.assert_array_equal(again.values(items, times), made.values(items, times))


def test_users_by_items_are_as_each_pair_alone():
    made = ItemMoments.of(known([(0, 1, DAY, 4.0), (1, 1, 3 * DAY, 2.0), (1, 0, 5 * DAY, 3.0)]), 2, ITEM_WORDS)
    items, times = np.array([0, 1]), np.array([[2 * DAY], [4 * DAY], [np.nan]])
    both = made.values(items, times)
    assert both.shape == (3, 2, len(made.names))
    for user, item in np.ndindex(3, 2):
        np.testing.assert_array_equal(both[user, item], made.values(items[[item]], times[user])[0])


def test_of_no_words_there_are_no_features():
    nothing = ItemMoments.of(known([(0, 1, DAY, 4.0)]), 2, ())
    assert nothing.values(np.array([0, 1]), np.array([DAY, DAY])).shape == (2, 0)
