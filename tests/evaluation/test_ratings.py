"""Errors of predicted ratings against loops over single ones, and what is left out of them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, EmptyDatasetError, NumericalError
from coldray.evaluation.ratings import RATING_METRICS, RatingMetrics, is_error, ones_where_stored, rating_metrics


def ratings_of(seed, share=0.4, shape=(8, 9)):
    """Return ratings from 0 to 4, those of 0 stored."""
    rng = np.random.default_rng(seed)
    rows, columns = np.nonzero(rng.random(shape) < share)
    starts = np.searchsorted(rows, np.arange(shape[0] + 1))
    return sp.csr_array((rng.integers(0, 5, len(rows)).astype(np.float32), columns, starts), shape=shape)


def table(seed, shape=(8, 9)):
    """Return a prediction of every cell; some are exactly half a star off."""
    return (np.random.default_rng(seed).integers(0, 9, shape) / 2).astype(np.float32)


def from_table(values):
    return lambda histories, rows, items: values[rows, items]


def measured(seed):
    train, held_out, values = ratings_of(seed, 0.15), ratings_of(seed + 1), table(seed)
    return rating_metrics(from_table(values), train=train, histories=train, held_out=held_out)


@given(st.integers(0, 10**6))
def test_errors_are_over_the_single_ratings_of_known_items(seed):
    train, held_out, values = ratings_of(seed, 0.15), ratings_of(seed + 1), table(seed)
    errors, unknown_items, unknown_users = [], 0, 0
    for user in range(8):
        for place in range(held_out.indptr[user], held_out.indptr[user + 1]):
            item = int(held_out.indices[place])
            if item not in train.indices:
                unknown_items += 1
                continue
            unknown_users += train.indptr[user] == train.indptr[user + 1]
            errors.append(abs(float(values[user, item]) - float(held_out.data[place])))
    assume(errors)
    found = measured(seed)
    assert found.means() == pytest.approx(
        {
            "rmse": np.sqrt(np.mean(np.square(errors))),
            "mae": np.mean(errors),
            "accuracy": np.mean([error <= 0.5 for error in errors]),
        }
    )
    assert (found.n_unknown_items, found.n_unknown_users) == (unknown_items, unknown_users)
    assert found.counts.sum() == len(errors)
    assert (found.counts > 0).all()


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_ratings_of_unknown_items_alone_are_refused(seed, n_known):
    train, held_out = ratings_of(seed), ratings_of(seed + 1)
    train, held_out = train[:, np.arange(9) % 9 < n_known], held_out[:, np.arange(9) % 9 >= n_known]
    train, held_out = (
        sp.hstack([part, sp.csr_array((8, 9 - n_known))]).tocsr()
        if part is train
        else sp.hstack([sp.csr_array((8, n_known)), part]).tocsr()
        for part in (train, held_out)
    )
    with pytest.raises(EmptyDatasetError, match="held-out ratings is of an item that was rated in train"):
        rating_metrics(from_table(table(seed)), train=train, histories=train, held_out=held_out)


def test_the_edge_of_half_a_star_is_accurate():
    held_out = sp.csr_array(np.array([[3.0, 3.0, 3.0, 3.0]], np.float32))
    values = np.array([[3.5, 2.5, 3.51, 3.0]], np.float32)
    found = rating_metrics(from_table(values), train=held_out, histories=held_out, held_out=held_out)
    assert found.means()["accuracy"] == 0.75


def test_a_prediction_that_is_no_number_is_named():
    train = ratings_of(0)
    with pytest.raises(NumericalError, match="not finite"):
        rating_metrics(from_table(np.full((8, 9), np.nan)), train=train, histories=train, held_out=train)


def metrics_of(*users):
    """Return metrics of users given by their errors."""
    errors = [np.asarray(user, float) for user in users]
    sums = [[float(part(e).sum()) for e in errors] for part in (np.square, np.abs, lambda e: np.abs(e) <= 0.5)]
    return RatingMetrics(*map(np.array, sums), np.array([float(len(e)) for e in errors]), np.arange(len(errors)), 2, 1)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-4, 4)), min_size=1, max_size=20), st.integers(1, 20))
def test_a_user_of_several_folds_is_one_and_all_ratings_count_alike(rated, cut):
    folds = []
    for part in (rated[:cut], rated[cut:]):
        users = sorted({user for user, _ in part})
        if users:
            of_users = [[error for user, error in part if user == one] for one in users]
            folds.append(replace(metrics_of(*of_users), users=np.array(users)))
    found = RatingMetrics.of_all(folds).by_user()
    assert found.users.tolist() == sorted({user for user, _ in rated})
    assert found.counts.sum() == len(rated)
    errors = np.array([error for _, error in rated])
    assert found.means()["rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)))
    assert found.means()["mae"] == pytest.approx(np.mean(np.abs(errors)))
    for metric, of_error in {"rmse": np.square, "mae": np.abs}.items():
        sums = [sum(float(of_error(error)) for user, error in rated if user == one) for one in found.users]
        np.testing.assert_allclose(found.sums(metric), sums, rtol=1e-9, atol=1e-300)


def test_folds_add_up():
    first, second = metrics_of([1.0, 0.0], [2.0]), metrics_of([0.25])
    both = RatingMetrics.of_all([first, second])
    assert both.means() == pytest.approx(metrics_of([1.0, 0.0], [2.0], [0.25]).means())
    assert both.means()["rmse"] == pytest.approx(np.sqrt((1 + 4 + 0.0625) / 4))
    assert (both.n_unknown_items, both.n_unknown_users) == (4, 2)


def test_intervals_are_of_users_and_hold_the_means():
    rng = np.random.default_rng(0)
    metrics = metrics_of(*(rng.normal(0, rng.uniform(0.5, 1.5), rng.integers(1, 40)) for _ in range(300)))
    found = metrics.intervals(np.random.default_rng(1), share=1.0)
    assert found == metrics.intervals(np.random.default_rng(1), share=1.0)
    assert set(found) == set(RATING_METRICS)
    narrow, wide = {}, metrics.intervals(np.random.default_rng(1), share=0.2)
    for name, mean in metrics.means().items():
        low, high = found[name]
        assert low < mean < high
        narrow[name] = high - low
        assert wide[name][1] - wide[name][0] > 1.6 * narrow[name]
    # A user's ratings are drawn together: of ratings drawn one by one the interval would be a third as wide.
    together = metrics_of(*([0.0] * 20 if user % 2 else [2.0] * 20 for user in range(50)))
    low, high = together.intervals(np.random.default_rng(2), share=1.0)["mae"]
    assert high - low == pytest.approx(4 / np.sqrt(50), rel=0.25)


def draws_of(metrics, seed, *, draws, size):
    """Return the means of each bootstrap, from lists of the users drawn."""
    generator, n_users = np.random.default_rng(seed), len(metrics.counts)
    found = []
    for _ in range(draws):
        users = generator.integers(n_users, size=size).tolist()
        total = sum(metrics.counts[user] for user in users)
        sums = [sum(part[user] for user in users) for part in (metrics.squared, metrics.absolute, metrics.accurate)]
        found.append({"rmse": np.sqrt(sums[0] / total), "mae": sums[1] / total, "accuracy": sums[2] / total})
    return found


@given(st.integers(0, 10**6), st.sampled_from([0.5, 0.9]), st.sampled_from([0.01, 0.4, 1.0]))
def test_intervals_are_quantiles_of_the_means_of_users_drawn(seed, level, share):
    rng = np.random.default_rng(seed)
    one, other = (metrics_of(*(rng.normal(0, 1, count) for count in (1, 4, 2, 7, 3))) for _ in range(2))
    drawn = draws_of(one, seed, draws=20, size=max(1, round(5 * share)))
    found = one.intervals(np.random.default_rng(seed), draws=20, share=share, level=level)
    for name in RATING_METRICS:
        ends = np.quantile([means[name] for means in drawn], [0.5 - level / 2, 0.5 + level / 2])
        assert found[name] == pytest.approx(tuple(ends))
    pairs = zip(*(draws_of(side, seed, draws=20, size=5) for side in (one, other)), strict=True)
    ends = np.quantile([a["rmse"] - b["rmse"] for a, b in pairs], [0.5 - level / 2, 0.5 + level / 2])
    paired = one.paired_interval(other, "rmse", np.random.default_rng(seed), draws=20, level=level)
    assert paired == pytest.approx(tuple(ends))


def test_errors_of_other_ratings_are_not_paired():
    with pytest.raises(ConfigError, match="both must predict the same ones"):
        metrics_of([1.0], [2.0]).paired_interval(metrics_of([1.0, 2.0]), "mae", np.random.default_rng(0))


def test_less_is_better_of_errors_alone():
    assert {name: is_error(name) for name in (*RATING_METRICS, "ndcg@10")} == {
        "rmse": True, "mae": True, "accuracy": False, "ndcg@10": False,
    }  # fmt: skip


def test_a_rating_of_0_is_stored():
    ratings = ratings_of(3)
    ones = ones_where_stored(ratings)
    assert (ratings.data == 0).any()
    assert ones.dtype == np.float32
    assert ones.toarray().sum() == ratings.nnz
    assert (ones.data == 1).all()
