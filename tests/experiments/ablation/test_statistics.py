"""From folds to means, intervals and tests: against loops over users, and against direct calls."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.evaluation.significance import adjust_p_values, bootstrap_interval, paired_interval, paired_p_value
from coldray.experiments.ablation.statistics import CORRECTION, mean_by_user, mode_results
from coldray.experiments.results import FoldMetrics

MODES = ("MARec", "+CA", "+CA+UA", "+CA+UA+GE")
METRICS = ("hr@10", "ndcg@10", "ndcg@5")
COMPARED = ("hr@10", "ndcg@10")
SEED = 7


def slow_mean_by_user(folds):
    collected = {}
    for users, values in folds:
        for user, value in zip(users.tolist(), values.tolist(), strict=True):
            collected.setdefault(user, []).append(value)
    return [sum(collected[user]) / len(collected[user]) for user in sorted(collected)]


def test_a_users_mean_is_over_the_folds_that_tested_it():
    folds = [(np.array([2, 5, 9]), np.array([1.0, 0.5, 0.0])), (np.array([9, 2]), np.array([1.0, 0.5]))]
    assert mean_by_user(folds).tolist() == [0.75, 0.5, 0.5]


fold_lists = st.lists(
    st.dictionaries(st.integers(0, 12), st.floats(0, 1, width=32), min_size=1, max_size=10), min_size=1, max_size=5
)


@given(fold_lists)
def test_means_by_user_are_those_of_a_loop(drawn):
    folds = [(np.array(list(d), np.int32), np.array(list(d.values()), np.float32)) for d in drawn]
    means = mean_by_user(folds)
    assert means.dtype == np.float64
    np.testing.assert_allclose(means, slow_mean_by_user(folds), rtol=1e-12)


@pytest.fixture(scope="module")
def per_user():
    rng = np.random.default_rng(3)
    base = {metric: rng.random(80) for metric in METRICS}
    gains = {"MARec": 0.0, "+CA": 0.03, "+CA+UA": 0.0, "+CA+UA+GE": 0.3}
    return {
        mode: {
            metric: base[metric] + (rng.normal(gain, 0.1, 80) if gain else 0.0)  # +CA+UA is as the baseline
            for metric in METRICS
        }
        for mode, gain in gains.items()
    }


@pytest.fixture(scope="module")
def results(per_user):
    configs = {mode: {"lambda_1": 1.0, "number": i} for i, mode in enumerate(MODES)}
    folds = {mode: (FoldMetrics(42, 0, {"ndcg@10": 0.1 * i}),) for i, mode in enumerate(MODES)}
    return mode_results(configs, folds, per_user, COMPARED, SEED)


def test_modes_come_in_order_with_what_is_theirs(results, per_user):
    assert [mode.name for mode in results] == list(MODES)
    for i, mode in enumerate(results):
        assert mode.config["number"] == i
        assert mode.folds[0].metrics["ndcg@10"] == 0.1 * i
        assert mode.per_user is per_user[mode.name]
        assert set(mode.lifts) == (set(COMPARED) if i else set())
        assert set(mode.intervals) == set(METRICS)


def test_intervals_and_lifts_are_those_of_direct_calls(results, per_user):
    for mode in results:
        for metric, values in per_user[mode.name].items():
            assert mode.intervals[metric] == bootstrap_interval(values, generator=np.random.default_rng(SEED))
        for metric, lift in mode.lifts.items():
            ours, theirs = per_user[mode.name][metric], per_user["MARec"][metric]
            assert lift.difference == pytest.approx(np.mean(ours) - np.mean(theirs), abs=1e-12)
            assert lift.relative == pytest.approx(np.mean(ours) / np.mean(theirs) - 1, abs=1e-12)
            interval = paired_interval(ours, theirs, share=1.0, generator=np.random.default_rng(SEED))
            assert (lift.low, lift.high) == interval
            assert lift.p_value == paired_p_value(ours, theirs)


def test_the_correction_is_for_all_modes_and_metrics_together(results):
    lifts = [mode.lifts[metric] for mode in results[1:] for metric in COMPARED]
    assert len(lifts) == 6
    adjusted = adjust_p_values(np.array([lift.p_value for lift in lifts]), "holm")
    assert CORRECTION == "Holm"
    assert [lift.p_adjusted for lift in lifts] == adjusted.tolist()
    smallest = min(lifts, key=lambda lift: lift.p_value)
    assert smallest.p_adjusted == pytest.approx(6 * smallest.p_value)


def compared_to_baseline(per_user, metric):
    configs, folds = {mode: {} for mode in per_user}, dict.fromkeys(per_user, ())
    return mode_results(configs, folds, per_user, [metric], 0)[1].lifts[metric]


def test_an_interval_of_a_lift_agrees_with_its_p_value():
    """Both are of the mean over all users: with 400 of them and 2.6 standard errors, both say it is no chance."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 400)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    gained = 0.5 + 0.1 * (noise + 2.6 / 20)
    per_user = {"MARec": {"ndcg@10": np.full(400, 0.5)}, "+CA": {"ndcg@10": gained}}
    lift = compared_to_baseline(per_user, "ndcg@10")
    assert lift.p_value == lift.p_adjusted < 0.05
    assert 0 < lift.low < lift.difference < lift.high


def test_a_mode_that_changes_nothing_has_no_lift_and_no_doubt(results):
    for lift in results[2].lifts.values():
        assert (lift.difference, lift.low, lift.high, lift.relative) == (0, 0, 0, 0)
        assert (lift.p_value, lift.p_adjusted) == (1, 1)


def test_a_share_of_a_baseline_of_nothing_is_not_a_number():
    per_user = {"MARec": {"hr@10": np.zeros(3)}, "+CA": {"hr@10": np.array([0.0, 1.0, 0.5])}}
    lift = compared_to_baseline(per_user, "hr@10")
    assert lift.difference == 0.5
    assert np.isnan(lift.relative)


def test_a_baseline_alone_is_compared_with_nothing():
    (mode,) = mode_results({"MARec": {}}, {"MARec": ()}, {"MARec": {"hr@10": np.ones(3)}}, ["hr@10"], 0)
    assert mode.lifts == {}
    assert mode.intervals == {"hr@10": (1.0, 1.0)}
