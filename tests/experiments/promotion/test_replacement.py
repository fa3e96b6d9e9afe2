"""Who is not worse than the champion: planted differences, errors of ratings, and what cannot be paired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, StudyError
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.ratings import RatingMetrics
from coldray.experiments.promotion.replacement import _NEGLIGIBLE, Difference, held_against

USERS = 400


def fold(values, users=None, ratings=None, coverage=0.5):
    values = np.asarray(values, np.float32)
    users = np.arange(len(values), dtype=np.int32) if users is None else np.asarray(users, np.int32)
    return RankingMetrics(users, {"ndcg@10": values}, {"coverage@10": coverage}, ratings)


def judged(ours, theirs, metric="ndcg@10"):
    return held_against(metric, [fold(values) for values in ours], [fold(values) for values in theirs], 0)


@pytest.fixture(scope="module")
def values():
    generator = np.random.default_rng(3)
    return [generator.uniform(0, 1, USERS) for _ in range(2)]


@pytest.mark.parametrize(
    ("gain", "noise", "not_worse"),
    [(0.0, 0.0, True), (0.05, 0.1, True), (-0.05, 0.1, False), (-0.003, 0.001, True), (-0.02, 0.001, False)],
)
def test_a_loss_is_borne_only_if_more_than_one_per_cent_is_ruled_out(values, gain, noise, not_worse):
    generator = np.random.default_rng(4)
    ours = [one + gain + noise * (draw := generator.normal(size=USERS)) - noise * draw.mean() for one in values]
    found = judged(ours, values)
    assert found.ours - found.theirs == pytest.approx(gain, abs=1e-6)
    assert found.low - 1e-6 <= gain <= found.high + 1e-6
    assert found.not_worse is not_worse
    assert f"{gain:+.4f} (95 % interval" in found.words


def test_a_worse_one_that_might_be_as_good_is_not_promoted(values):
    """The mean says worse, and there are too few users to rule out that it is."""
    generator = np.random.default_rng(5)
    noise = generator.normal(size=USERS)
    found = judged([values[0] - 0.01 + 0.5 * (noise - noise.mean())], values[:1])
    assert found.low < -_NEGLIGIBLE * found.theirs < 0 < found.high
    assert not found.not_worse


def test_the_users_of_several_folds_are_one_observation_each(values):
    found = judged(values, values)
    assert found.n_users == USERS
    assert (found.low, found.high) == (0.0, 0.0)


@given(st.lists(st.floats(0, 1, width=32), min_size=2, max_size=30), st.data())
def test_who_is_better_for_every_user_is_never_worse_and_the_reverse_holds(theirs, data):
    gains = data.draw(st.lists(st.floats(0.125, 1, width=32), min_size=len(theirs), max_size=len(theirs)))
    ours = np.add(theirs, gains)
    assert judged([ours], [theirs]).not_worse
    assert not judged([theirs], [ours]).not_worse
    assert judged([theirs], [theirs]).not_worse


def test_other_users_are_not_paired(values):
    theirs = [fold(values[0], users=np.arange(USERS) + 1)]
    with pytest.raises(StudyError, match="same users"):
        held_against("ndcg@10", [fold(values[0])], theirs, 0)
    with pytest.raises(StudyError, match="same users"):
        held_against("ndcg@10", [fold(values[0])], [fold(values[0])] * 2, 0)


def rated(error, generator, counts):
    squared = counts * error**2 * generator.uniform(0.9, 1.1, len(counts))
    return RatingMetrics(squared, np.sqrt(squared), np.zeros(len(counts)), counts.astype(float), np.arange(len(counts)))


@pytest.mark.parametrize(("ours", "theirs", "not_worse"), [(0.9, 1.0, True), (1.0, 0.9, False)])
@pytest.mark.parametrize("metric", ["rmse", "mae"])
def test_of_errors_less_is_better(ours, theirs, not_worse, metric):
    generator = np.random.default_rng(6)
    counts = generator.integers(1, 9, USERS)
    one, other = (fold(np.zeros(USERS), ratings=rated(error, generator, counts)) for error in (ours, theirs))
    found = held_against(metric, [one], [other], 0)
    assert found.not_worse is not_worse
    assert found.ours == pytest.approx(one.means()[metric])
    assert (found.ours - found.theirs > 0) is not not_worse
    assert found.low < found.ours - found.theirs < found.high


def test_errors_of_other_ratings_are_not_paired():
    generator = np.random.default_rng(6)
    one, other = (rated(1.0, generator, generator.integers(1, 9, USERS)) for _ in range(2))
    with pytest.raises(ConfigError, match="cannot be paired"):
        one.paired_interval(other, "rmse", generator)


def test_a_metric_of_all_users_together_has_no_interval(values):
    ours, theirs = fold(values[0], coverage=0.4), fold(values[0], coverage=0.5)
    found = held_against("coverage@10", [ours], [theirs], 0)
    assert (found.low, found.not_worse) == (None, False)
    assert "no interval" in found.words
    assert held_against("coverage@10", [theirs], [ours], 0).not_worse
    assert not Difference("coverage@10", 0.499, 0.5, None, None, 9).not_worse
