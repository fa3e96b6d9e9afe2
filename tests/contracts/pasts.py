"""Clicks of few users on few items at few times, for features as of a moment."""

import numpy as np
from hypothesis import strategies as st

from coldray.data.moments import Moments
from coldray.features.known_clicks import KnownClicks

DAY = 86_400.0
N_USERS, N_ITEMS = 3, 4
TIMES = st.sampled_from([np.nan, *(DAY * np.array([0.3, 1.5, 2.9, 9, 9.2, 40, 41, 300, 400, 800]))])
"""Few, so that some are equal; windows of a week, a month and a year part them."""


def clicks(times=TIMES):
    """Return a strategy for ``(user, item, time, rating)``."""
    ratings = st.sampled_from([np.nan, 0.5, 3.0, 3.5, 5.0])
    users, items = st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1)
    return st.lists(st.tuples(users, items, times, ratings), max_size=14)


def known(rows):
    users, items, times, ratings = np.array(rows, float).reshape(-1, 4).T
    return KnownClicks(users.astype(np.intp), items.astype(np.intp), times, ratings)


def moments(users, times, **context):
    return Moments(np.array(users, np.intp), np.array(times, float), context)


def before(row, time):
    """Tell whether a click is before a moment: strictly, one of unknown time before none that has one."""
    return np.isnan(time) or row[2] < time
