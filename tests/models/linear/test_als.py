"""ALS and its ridge regressions: a slow dense reference, the objective, folding in, and the contract of all models."""

import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError, NumericalError, SingularMatrixError
from coldray.data.signals import Reads
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.linalg import weighted_ridge as module
from coldray.models.linalg.sharded import row_shards
from coldray.models.linalg.weighted_ridge import RidgeParameters, WeightedRidge
from coldray.models.linear.als import _START_SCALE, ALS, ALSConfig
from contracts.problems import as_read, genre_groups, random_training_set
from contracts.recommender import ClickedItemContract, all_items
from models.learned import one_thread

__all__ = ["one_thread"]


class TestALS(ClickedItemContract):
    model = ALS
    config = ALSConfig(n_factors=3, regularization=0.5, alpha=4.0)  # as many factors as there are groups


class TestExactALS(ClickedItemContract):
    model = ALS
    config = ALSConfig(n_factors=3, regularization=0.2, alpha=1.0, iterations=6, cg_steps=0, seed=5)


class TestALSOfEvents(ClickedItemContract):
    model = ALS
    config = ALSConfig(n_factors=3, regularization=0.5, alpha=4.0, confidence="events")


def objective(clicks, users, items, alpha, regularization):
    """Return the objective over all cells, as the paper writes it."""
    total = regularization * (np.sum(users**2) + np.sum(items**2))
    for u in range(len(users)):
        for i in range(len(items)):
            confidence, preference = 1 + alpha * clicks[u, i], float(clicks[u, i] > 0)
            total += confidence * (preference - users[u] @ items[i]) ** 2
    return total


def side(clicks, fixed, alpha, regularization):
    """Return the best factors of the rows, each by a dense weighted ridge regression."""
    solved = np.zeros((len(clicks), fixed.shape[1]))
    for u, row in enumerate(clicks):
        confidence = np.diag(1 + alpha * row)
        left = fixed.T @ confidence @ fixed + regularization * np.eye(fixed.shape[1])
        solved[u] = np.linalg.solve(left, fixed.T @ confidence @ (row > 0))
    return solved


def reference(train, config):
    """Return the factors of users and items, and the objective after each iteration."""
    clicks = train.interactions.toarray().astype(float)
    items = np.zeros((clicks.shape[1], config.n_factors))
    start = np.random.default_rng(config.seed).normal(0, _START_SCALE, (len(train.warm_items), config.n_factors))
    items[train.warm_items] = start
    values = []
    for _ in range(config.iterations):
        users = side(clicks, items, config.alpha, config.regularization)
        items = side(clicks.T, users, config.alpha, config.regularization)
        values.append(objective(clicks, users, items, config.alpha, config.regularization))
    return users, items, values


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_factors=st.integers(1, 5),
    alpha=st.sampled_from([0.5, 3.0, 20.0]),
    regularization=st.sampled_from([0.3, 2.0]),
    confidence=st.sampled_from(["clicks", "events"]),
)
def test_the_fit_is_that_of_the_dense_reference(seed, **parameters):
    clicks = random_training_set(seed % 1000, n_users=14, n_warm=11, n_cold=3)
    given = as_read(clicks, Reads(events=True), seed % 5)  # weights from 1 to 5
    config = ALSConfig(iterations=3, cg_steps=0, seed=seed % 7, **parameters)
    model = ALS(config).fit(given)
    train = given if config.confidence == "events" else clicks
    users, items, values = reference(train, config)
    np.testing.assert_allclose(model.state()["factors"] @ model.state()["factors"].T, items @ items.T, atol=2e-3)
    np.testing.assert_allclose(model.state()["factors"], items, atol=2e-3)
    np.testing.assert_allclose(model.objective, values, rtol=1e-4)
    folded = side(train.interactions.toarray().astype(float), items, config.alpha, config.regularization)
    scores = model.score(given.interactions, all_items(model))
    np.testing.assert_allclose(scores, folded @ items.T, atol=2e-3)
    assert users.shape == folded.shape


def test_what_weighs_more_is_followed_more():
    """Of two groups of items that a user has clicked alike, those that weigh more lead."""
    train, genres = genre_groups(n_groups=2)
    model = ALS(ALSConfig(n_factors=2, regularization=1.0, confidence="events"))
    model.fit(as_read(train, Reads(events=True)))
    items = np.concatenate([np.flatnonzero(genres == genre)[:4] for genre in (0, 1)])
    histories = sp.csr_array((np.repeat([[9, 1], [1, 9]], 4), np.tile(items, 2), [0, 8, 16]), shape=(2, len(genres)))
    scores = model.score(sp.csr_array(histories, dtype=np.float32), np.arange(len(genres)))
    lead = scores[:, genres == 0].mean(axis=1) - scores[:, genres == 1].mean(axis=1)
    assert lead[0] > 0 > lead[1]


def test_a_history_of_clicks_that_are_worth_nothing_is_an_empty_one():
    train, _ = genre_groups(n_groups=2)
    model = ALS(ALSConfig(n_factors=2, confidence="events")).fit(as_read(train, Reads(events=True)))
    nothing = sp.csr_array(([0.0, -3.0], [0, 1], [0, 2, 2]), shape=(2, model.n_items), dtype=np.float32)
    np.testing.assert_array_equal(model.score(nothing, all_items(model)), 0)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0.1, 50),
    regularization=st.floats(0.05, 20),
    cg_steps=st.integers(0, 4),
)
def test_the_objective_falls_in_every_iteration(seed, alpha, regularization, cg_steps):
    train = random_training_set(seed % 1000)
    config = ALSConfig(n_factors=4, alpha=alpha, regularization=regularization, cg_steps=cg_steps, iterations=8)
    values = ALS(config).fit(train).objective
    assert len(values) == 8
    assert (np.diff(values) <= 1e-5 * values[:-1]).all()
    of_zeros = train.interactions.sum() * (1 + alpha)  # where a strong regularization ends
    assert values[-1] <= (1 + 1e-6) * of_zeros


def test_enough_steps_of_conjugate_gradients_are_a_solution_by_cholesky():
    train = random_training_set(1)
    few, many, exact = (
        ALS(ALSConfig(n_factors=5, regularization=1.0, cg_steps=steps, iterations=4)).fit(train).state()["factors"]
        for steps in (1, 12, 0)
    )
    np.testing.assert_allclose(many, exact, atol=1e-3)
    assert np.abs(few - exact).max() > 0.05


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), steps=st.sampled_from([0, 2, 30]), block=st.sampled_from([1, 200, 1 << 20]))
def test_ridge_solutions_and_their_objective_for_any_values(seed, steps, block):
    """Clicks here are weighted, of many lengths, and some rows have none."""
    generator = np.random.default_rng(seed)
    fixed = generator.normal(size=(9, 3)).astype(np.float32)
    clicks = generator.integers(1, 4, (7, 9)) * (generator.random((7, 9)) < generator.random((7, 1)))
    clicks[3] = 0
    start = np.where(clicks.any(axis=1)[:, None], generator.normal(size=(7, 3)), 0).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_FLOATS", block)
        ridge = WeightedRidge(fixed, RidgeParameters(2.0, 0.7, steps))
        found = ridge.solve(sp.csr_array(clicks.astype(np.float32)), start=start)
    assert found.rows.dtype == np.float32
    assert (found.rows[3] == 0).all()
    if steps != 2:
        np.testing.assert_allclose(found.rows, side(clicks.astype(float), fixed, 2.0, 0.7), atol=2e-4)
    expected = objective(clicks, found.rows.astype(float), fixed, 2.0, 0.7) - 0.7 * np.sum(fixed.astype(float) ** 2)
    assert found.objective == pytest.approx(expected, rel=1e-4, abs=1e-3)


@given(seed=st.integers(0, 2**32 - 1), workers=st.integers(1, 9), n_rows=st.integers(1, 30))
def test_shards_cover_the_rows_and_share_the_clicks(seed, workers, n_rows):
    generator = np.random.default_rng(seed)
    clicks = sp.csr_array((generator.random((n_rows, 20)) < generator.random((n_rows, 1))).astype(np.float32))
    shards = row_shards(clicks, workers)
    assert [row for shard in shards for row in range(n_rows)[shard]] == list(range(n_rows))
    assert len(shards) <= workers
    longest = np.diff(clicks.indptr).max()
    for shard in shards:
        assert clicks[shard].nnz <= clicks.nnz / workers + longest


def test_solutions_do_not_depend_on_the_number_of_threads(monkeypatch):
    train = random_training_set(8, n_users=50)
    fixed, start = (np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32) for n in (30, 50))
    ridge = WeightedRidge(fixed, RidgeParameters(3.0, 1.0, 2))
    alone = ridge.solve(train.interactions, start=start)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    together = ridge.solve(train.interactions, start=start)
    np.testing.assert_array_equal(together.rows, alone.rows)
    assert together.objective == pytest.approx(alone.objective, rel=1e-9)


def test_a_start_closer_to_the_solution_needs_fewer_steps():
    train = random_training_set(2)
    fixed = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    exact, step = (WeightedRidge(fixed, RidgeParameters(3.0, 1.0, steps)).solve for steps in (0, 1))
    solution = exact(train.interactions).rows
    cold = step(train.interactions).rows
    warm = step(train.interactions, start=solution + np.float32(1e-3)).rows
    assert np.abs(warm - solution).max() < 0.01 * np.abs(cold - solution).max()


def test_a_planted_rank_is_recovered():
    """Three groups and three factors: all cells are explained, a held-out cell too."""
    train, genres = genre_groups()
    model = ALS(ALSConfig(n_factors=3, regularization=1.0, alpha=10.0)).fit(train)
    scores = model.score(train.interactions, train.warm_items)
    own = genres[train.warm_items] == (np.arange(36) // 12)[:, None]
    assert scores[own].min() > 0.5
    assert scores[~own].max() < 0.2


def test_confidence_and_regularization_pull_scores_apart():
    train = random_training_set(3)
    clicked = train.interactions.toarray() > 0

    def mean_score(**parameters):
        model = ALS(ALSConfig(n_factors=4, **parameters)).fit(train)
        return model.score(train.interactions, all_items(model))[clicked].mean()

    plain = mean_score(alpha=1.0, regularization=1.0)
    assert mean_score(alpha=20.0, regularization=1.0) > plain + 0.1
    assert mean_score(alpha=1.0, regularization=4.0) < plain - 0.05


def test_a_regularization_that_leaves_no_factors_is_told_of(caplog):
    train = random_training_set(3)
    with caplog.at_level(logging.WARNING):
        ALS(ALSConfig(n_factors=4, regularization=1.0)).fit(train)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        model = ALS(ALSConfig(n_factors=4, regularization=1000.0)).fit(train)
    assert "regularization 1000" in caplog.text
    assert np.abs(model.score(train.interactions, all_items(model))).max() < 1e-3


@pytest.mark.parametrize("cg_steps", [0, 2])
def test_clicks_that_cannot_be_written_to_are_read(cg_steps):
    """Those that Ray hands out are of this kind, and torch warns of an array like that."""
    train, config = random_training_set(4), ALSConfig(n_factors=3, regularization=1.0, cg_steps=cg_steps)
    expected = ALS(config).fit(train).state()["factors"]
    for part in (train.interactions.data, train.interactions.indices, train.interactions.indptr):
        part.flags.writeable = False
    np.testing.assert_array_equal(ALS(config).fit(train).state()["factors"], expected)


def test_the_seed_is_the_start_and_nothing_else_draws():
    train = random_training_set(4)
    config = ALSConfig(n_factors=3, regularization=1.0, iterations=2)
    first, again, other = (
        ALS(config.model_copy(update={"seed": seed})).fit(train).state()["factors"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_items_and_users_without_clicks_have_no_factors():
    train = random_training_set(5)
    clicks = train.interactions.toarray()
    clicks[4] = 0
    train = TrainingSet(sp.csr_array(clicks), train.features, "one user without clicks")
    for steps in (0, 3):
        model = ALS(ALSConfig(n_factors=3, regularization=0.5, cg_steps=steps)).fit(train)
        assert (model.state()["factors"][train.cold_items] == 0).all()
        scores = model.score(train.interactions, all_items(model))
        assert (scores[:, train.cold_items] == 0).all()
        assert (scores[4] == 0).all()


def test_too_many_factors_are_reduced_told_of_and_recorded(caplog):
    train = random_training_set(6, n_users=9, n_warm=14)
    assert np.count_nonzero(train.interactions.sum(axis=1)) == 8
    with caplog.at_level(logging.WARNING):
        ALS(ALSConfig(n_factors=8, regularization=1.0)).fit(train)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        model = ALS(ALSConfig(n_factors=40, regularization=1.0)).fit(train)
    assert "n_factors is 40" in caplog.text
    assert "8 are used" in caplog.text
    assert model.n_factors == model.state()["n_factors"][0] == model.state()["factors"].shape[1] == 8


def test_a_matrix_too_small_and_one_too_large_are_refused():
    alone = TrainingSet(sp.csr_array(np.ones((1, 5), np.float32)), FeatureSet({}, 5), "one user")
    with pytest.raises(DataError, match="at least 2 of each"):
        ALS().fit(alone)
    with pytest.raises(CatalogTooLargeError, match="64 factors of 1,000,000,000 users and 10,000,000 items"):
        ALS().check_size(10**9, 10**7)


def test_numbers_beyond_single_precision_are_named():
    train = random_training_set(7)
    with pytest.raises((NumericalError, SingularMatrixError), match="regularization"):
        ALS(ALSConfig(n_factors=4, alpha=1e38, regularization=1e-30)).fit(train)
    flat = WeightedRidge(np.zeros((30, 2), np.float32), RidgeParameters(1.0, 0.0))
    with pytest.raises(SingularMatrixError, match="Raise regularization"):
        flat.solve(train.interactions)
