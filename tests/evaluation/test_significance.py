"""Bootstrap intervals: against a plain loop, and against the normal limit they must approach.

Tests of two models: against the formula, and against how often they may be wrong; Holm against its step-down procedure.
"""

import math
import statistics

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coldray.core.errors import ConfigError, EmptyDatasetError, NumericalError
from coldray.evaluation.significance import adjust_p_values, bootstrap_interval, paired_interval, paired_p_value

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


def slow_p_value(differences):
    """Student's t from its definition, its tail by integrating the density."""
    m = len(differences)
    t = statistics.fmean(differences) / (statistics.stdev(differences) / math.sqrt(m))
    scale = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt((m - 1) * math.pi)
    inside, _ = scipy.integrate.quad(lambda x: scale * (1 + x * x / (m - 1)) ** (-m / 2), 0, abs(t))
    return 1 - 2 * inside


@pytest.mark.parametrize("m", [2, 3, 10, 200])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.3])
def test_p_value_equals_the_integral_of_the_density_of_t(m, shift):
    a, b = np.random.default_rng(m).random((2, m))
    a += shift
    expected = slow_p_value((a - b).tolist())
    assert paired_p_value(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert paired_p_value(b, a) == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_p_value_of_the_sleep_data_of_student():
    """Student, *The Probable Error of a Mean*, Biometrika 1908: hours of sleep gained by ten patients on two drugs."""
    one = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    two = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    assert paired_p_value(one, two) == pytest.approx(0.002833, abs=5e-7)


def ndcg_like(generator, m, zeros=0.6):
    """Values with the many zeros of users without a hit."""
    return np.where(generator.random(m) < zeros, 0, generator.random(m))


def test_p_values_are_uniform_where_there_is_no_difference():
    generator = np.random.default_rng(0)
    found = [paired_p_value(ndcg_like(generator, 300), ndcg_like(generator, 300)) for _ in range(2000)]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.01
    assert 76 <= sum(p < 0.05 for p in found) <= 124  # 100 expected, standard deviation 9.7


def test_many_small_gains_that_few_large_losses_undo_are_no_difference():
    """The mean is 0 though most differences are above 0: Wilcoxon's test, which asks something else, finds them."""
    generator = np.random.default_rng(1)

    def differences(m=400):
        return np.where(generator.random(m) < 0.8, 0.02, -0.08) * generator.random(m)

    samples = [differences() for _ in range(500)]
    zero = np.zeros(400)
    assert 10 <= sum(paired_p_value(sample, zero) < 0.05 for sample in samples) <= 42  # 25 expected, deviation 4.9
    assert sum(scipy.stats.wilcoxon(sample).pvalue < 0.05 for sample in samples) > 450


def test_a_planted_shift_is_found_and_far_more_surely_by_pairs():
    generator = np.random.default_rng(2)
    users = ndcg_like(generator, 1000)
    better = np.where(users > 0, users + 0.02 + 0.05 * generator.standard_normal(1000), 0)
    assert paired_p_value(better, users) < 1e-6
    assert paired_p_value(generator.permutation(better), users) > 0.05


@given(values=VALUES)
def test_equal_models_do_not_differ(values):
    assert paired_p_value(values, values) == 1.0


@pytest.mark.parametrize(("m", "expected"), [(1, 1.0), (2, 0.5), (5, 1 / 16), (2000, 0.0)])
@pytest.mark.parametrize("shift", [0.1, -3.0])
def test_the_same_difference_for_all_is_judged_by_its_signs(m, expected, shift):
    values = np.random.default_rng(0).random(m)  # adding and subtracting the shift rounds: the differences vary
    assert paired_p_value(values + shift, values) == expected


def test_differences_that_vary_by_more_than_rounding_are_tested_by_t():
    assert paired_p_value(np.array([0.2, 0.2 + 1e-10, 0.2 - 1e-10]), np.zeros(3)) < 1e-15


@given(
    differences=hnp.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1, 1)),
    scale=st.sampled_from([-1.0, 2.0**-300, 2.0**300]),
)
def test_p_value_is_a_probability_that_neither_order_nor_sign_nor_unit_changes(differences, scale):
    zero = np.zeros(len(differences))
    found = paired_p_value(differences, zero)
    assert 0 <= found <= 1
    assert paired_p_value(differences[::-1], zero) == pytest.approx(found, rel=1e-6)
    # Subnormal numbers, which lose digits when scaled, are left out.
    if not differences.any() or np.abs(differences[differences != 0]).min() > 1e-200:
        assert paired_p_value(differences * scale, zero) == pytest.approx(found, rel=1e-6)


@pytest.mark.parametrize(
    ("error", "a", "b"),
    [
        (EmptyDatasetError, np.zeros(0), np.zeros(0)),
        (NumericalError, np.array([1, np.nan]), np.ones(2)),
        (NumericalError, np.ones(2), np.array([1, np.inf])),
        (ConfigError, np.ones(3), np.ones(4)),
        (ConfigError, np.ones((2, 2)), np.ones((2, 2))),
    ],
)
def test_what_has_no_p_value_is_refused(error, a, b):
    with pytest.raises(error):
        paired_p_value(a, b)


P_VALUES = hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(0, 1))


def holm_rejects(p_values, level):
    """Holm's procedure as he states it: from the smallest on, until one is not small enough."""
    rejected = [False] * len(p_values)
    left = len(p_values)
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[i] * left > level:
            break
        rejected[i] = True
        left -= 1
    return rejected


@given(p_values=P_VALUES, level=st.floats(0, 1, exclude_max=True))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    """At every level: those where a decision changes, which are the adjusted values themselves, among them."""
    adjusted = adjust_p_values(p_values)
    for threshold in (level, *(value for value in adjusted.tolist() if value < 1)):
        assert (adjusted <= threshold).tolist() == holm_rejects(p_values.tolist(), threshold)


@pytest.mark.parametrize(
    ("method", "raw", "expected"),
    [
        # The example of the article "Holm-Bonferroni method" in Wikipedia: at 5 % the first and the last are rejected.
        ("holm", [0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        # The examples in the documentation of padjust in stdlib.
        ("holm", [0.319, 0.201, 0.4, 0.374, 0.113], [0.957, 0.804, 0.957, 0.957, 0.565]),
        ("bh", [0.319, 0.201, 0.4, 0.374, 0.113], [0.4, 0.4, 0.4, 0.4, 0.4]),
        ("bh", [0.008, 0.03, 0.123, 0.6, 0.2], [0.04, 0.075, 0.205, 0.6, 0.25]),
        ("holm", [0.02], [0.02]),
        ("holm", [0.9, 0.0, 1.0], [1.0, 0.0, 1.0]),
    ],
)
def test_adjusted_p_values_are_those_published(method, raw, expected):
    np.testing.assert_allclose(adjust_p_values(np.array(raw), method), expected, rtol=1e-12)


@given(p_values=P_VALUES, method=st.sampled_from(["holm", "bh"]), data=st.data())
def test_adjusted_p_values_are_larger_in_the_same_order_and_belong_to_their_comparison(p_values, method, data):
    before = p_values.copy()
    adjusted = adjust_p_values(p_values, method)
    np.testing.assert_array_equal(p_values, before)
    assert (adjusted >= p_values).all()
    assert (adjusted <= 1).all()
    order = np.argsort(p_values)
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffled = np.array(data.draw(st.permutations(range(len(p_values)))))
    np.testing.assert_array_equal(adjust_p_values(p_values[shuffled], method), adjusted[shuffled])


@given(p_values=P_VALUES)
def test_holm_lies_between_the_false_discovery_rate_and_bonferroni(p_values):
    adjusted = adjust_p_values(p_values)
    assert (adjusted >= adjust_p_values(p_values, "bh") * (1 - 1e-12)).all()
    assert (adjusted <= np.minimum(p_values * len(p_values), 1)).all()


def test_holm_keeps_the_chance_of_any_false_finding():
    """Ten models that do not differ from one baseline, on the same users: dependent tests."""
    generator = np.random.default_rng(4)
    raw_findings = findings = 0
    for _ in range(400):
        baseline, models = ndcg_like(generator, 100), [ndcg_like(generator, 100) for _ in range(10)]
        p_values = np.array([paired_p_value(model, baseline) for model in models])
        raw_findings += p_values.min() <= 0.05
        findings += adjust_p_values(p_values).min() <= 0.05
    assert findings <= 33  # at most 20 expected, standard deviation 4.4
    assert raw_findings > 80


@pytest.mark.parametrize(
    ("error", "p_values", "options"),
    [
        (EmptyDatasetError, np.zeros(0), {}),
        (ConfigError, np.array([0.1, np.nan]), {}),
        (ConfigError, np.array([-0.1]), {}),
        (ConfigError, np.array([0.5, 1.01]), {}),
        (ConfigError, np.ones((2, 2)), {}),
        (ConfigError, np.ones(2), {"method": "bonferoni"}),
    ],
)
def test_what_are_no_p_values_is_refused(error, p_values, options):
    with pytest.raises(error):
        adjust_p_values(p_values, **options)
