"""Bootstrap intervals: against a plain loop, and against the normal limit they must approach."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coldray.errors import ConfigError, EmptyDatasetError, NumericalError
from coldray.evaluation.significance import bootstrap_interval, paired_interval

VALUES = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(0, 1, width=32))


def slow_interval(values, draws, share, level, generator):
    size = max(1, round(share * len(values)))
    means = sorted(
        statistics.fmean(float(values[i]) for i in generator.integers(len(values), size=size).tolist())
        for _ in range(draws)
    )

    def quantile(q):
        place = q * (draws - 1)
        low = math.floor(place)
        high = min(low + 1, draws - 1)
        return means[low] + (place - low) * (means[high] - means[low])

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


@given(
    values=VALUES,
    draws=st.integers(1, 40),
    share=st.sampled_from([0.01, 0.2, 1.0]),
    level=st.sampled_from([0.5, 0.95]),
    seed=st.integers(0, 99),
)
def test_equals_the_slow_bootstrap(values, draws, share, level, seed):
    found = bootstrap_interval(values, draws=draws, share=share, level=level, generator=np.random.default_rng(seed))
    expected = slow_interval(values, draws, share, level, np.random.default_rng(seed))
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@given(values=VALUES, seed=st.integers(0, 99))
def test_is_ordered_and_within_the_values(values, seed):
    low, high = bootstrap_interval(values, draws=30, generator=np.random.default_rng(seed))
    assert values.min() - 1e-6 <= low <= high <= values.max() + 1e-6


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_width_is_that_of_a_mean_over_the_share_of_the_users(share):
    values = np.random.default_rng(0).random(2000)
    low, high = bootstrap_interval(values, draws=4000, share=share, generator=np.random.default_rng(1))
    half_width = 1.96 * values.std() / math.sqrt(share * len(values))
    assert (low, high) == pytest.approx((values.mean() - half_width, values.mean() + half_width), abs=0.1 * half_width)


def test_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        low, high = bootstrap_interval(generator.random(150), draws=200, share=1.0, level=0.9, generator=generator)
        covered += low <= 0.5 <= high
    assert 165 <= covered <= 193  # 180 expected, standard deviation 4.2


def test_the_same_generator_state_gives_the_same_interval_and_another_does_not():
    values = np.random.default_rng(0).random(300)
    one, same, other = (bootstrap_interval(values, generator=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one == same
    assert one != other


def test_global_random_state_is_not_touched():
    np.random.seed(5)  # noqa: NPY002 - the global state is what is tested
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap_interval(np.ones(9), generator=np.random.default_rng(0))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_a_constant_has_no_spread():
    assert bootstrap_interval(np.full(7, 0.25), generator=np.random.default_rng(0)) == (0.25, 0.25)


def test_pairing_sees_a_difference_far_smaller_than_the_spread_of_users():
    generator = np.random.default_rng(0)
    users = generator.random(1000)
    better = users + 0.01 + 0.01 * generator.standard_normal(1000)
    low, high = paired_interval(better, users, generator=np.random.default_rng(1))
    assert 0 < low < 0.01 < high < 0.02
    separate = [bootstrap_interval(one, generator=np.random.default_rng(1)) for one in (better, users)]
    assert separate[0][0] < separate[1][1]


def test_swapping_the_sides_changes_the_sign():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 80))
    low, high = paired_interval(a, b, generator=np.random.default_rng(1))
    assert paired_interval(b, a, generator=np.random.default_rng(1)) == pytest.approx((-high, -low))


@pytest.mark.parametrize(
    ("error", "values", "options"),
    [
        (EmptyDatasetError, np.zeros(0), {}),
        (NumericalError, np.array([1, np.nan]), {}),
        (NumericalError, np.array([np.inf, 1]), {}),
        (ConfigError, np.ones((2, 2)), {}),
        (ConfigError, np.ones(3), {"draws": 0}),
        (ConfigError, np.ones(3), {"share": 0.0}),
        (ConfigError, np.ones(3), {"share": 1.5}),
        (ConfigError, np.ones(3), {"share": math.nan}),
        (ConfigError, np.ones(3), {"level": 1.0}),
        (ConfigError, np.ones(3), {"level": 95}),
    ],
)
def test_what_has_no_interval_is_refused(error, values, options):
    with pytest.raises(error):
        bootstrap_interval(values, generator=np.random.default_rng(0), **options)


def test_values_of_different_users_are_not_paired():
    with pytest.raises(ConfigError, match="same users"):
        paired_interval(np.ones(3), np.ones(4), generator=np.random.default_rng(0))
