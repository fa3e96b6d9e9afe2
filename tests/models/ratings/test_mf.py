"""Biased matrix factorisation: the objective it ends at, users folded in, and the contract of all models."""

import logging

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError, DivergedError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.ratings import base as rating_model
from coldray.models.ratings import mf as mf_training
from coldray.models.ratings.base import RatingScale
from coldray.models.ratings.mf import MF, MFConfig, Ratings, _fold_in, _learn_factors, _MFTask
from coldray.training.options import FitOptions
from contracts.problems import random_ratings, random_training_set, rated_genre_groups
from contracts.recommender import RatingContract, all_items
from models.learned import one_thread, step_at  # noqa: F401

QUICK = {"n_factors": 4, "batch_size": 32, "epochs": 25, "learning_rate": 0.05, "validation_share": 0.0}


class TestMF(RatingContract):
    model = MF
    config = MFConfig(**QUICK)


class TestMFThatStopsEarly(RatingContract):
    model = MF
    config = MFConfig(**{**QUICK, "n_factors": 2, "validation_share": 0.15, "patience": 3, "schedule": "constant"})


def training_set(ratings, key="ratings"):
    """Return ratings from a dense matrix in which 0 is none."""
    ratings = np.asarray(ratings, np.float32)
    return TrainingSet(sp.csr_array(ratings), FeatureSet({}, ratings.shape[1]), key)


def entries(matrix):
    """Return user, item and value of each stored entry, one by one."""
    return [
        (user, int(matrix.indices[place]), float(matrix.data[place]))
        for user in range(matrix.shape[0])
        for place in range(matrix.indptr[user], matrix.indptr[user + 1])
    ]


# ---- the objective


def objective(train, mean, users, items, config):
    """Add up the objective rating by rating; a row of users and items is the bias, then the factors."""
    total = 0.0
    for user, item, value in entries(train.interactions):
        (b_u, *p), (b_i, *q) = users[user], items[item]
        error = value - mean - b_u - b_i - np.dot(p, q)
        total += error**2 + config.weight_decay * (np.dot(p, p) + np.dot(q, q)) + config.bias_decay * (b_u**2 + b_i**2)
    return total


def ridge(known, targets, decays):
    """Return the weights of one user, or item, by the normal equations written as a least squares problem."""
    rows = np.vstack([known, np.diag(np.sqrt(len(known) * decays))])
    return np.linalg.lstsq(rows, np.append(targets, np.zeros(len(decays))), rcond=None)[0]


def alternate(train, mean, items, config, rounds):
    """Return users and items after alternating exact solutions: a minimum near where `items` were."""
    decays = np.array([config.bias_decay, *[config.weight_decay] * (items.shape[1] - 1)])
    ratings = train.interactions.toarray()
    users = np.zeros((len(ratings), items.shape[1]))
    for _ in range(rounds):
        for matrix, own, other in ((ratings, users, items), (ratings.T, items, users)):
            for row, values in enumerate(matrix):
                rated = np.flatnonzero(values)
                if len(rated):
                    known = np.column_stack([np.ones(len(rated)), other[rated, 1:]])
                    own[row] = ridge(known, values[rated] - mean - other[rated, 0], decays)
    return users, items


def test_it_ends_at_a_minimum_of_the_objective():
    train = random_ratings(2)
    config = MFConfig(**{**QUICK, "n_factors": 3, "epochs": 300, "weight_decay": 0.05, "bias_decay": 0.02})
    state = MF(config).fit(train).state()
    mean = float(state["mean"][0])
    assert mean == pytest.approx(train.interactions.data.mean())
    items = np.column_stack([state["biases"], state["factors"]]).astype(float)
    users, _ = alternate(train, mean, items.copy(), config, 1)
    found = objective(train, mean, users, items, config)
    best = objective(train, mean, *alternate(train, mean, items.copy(), config, 200), config)
    nothing = objective(train, mean, np.zeros_like(users), np.zeros_like(items), config)
    assert best <= found < best + 0.01 * (nothing - best)


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n_factors=st.integers(1, 6))
def test_a_user_is_folded_in_by_ridge_regression(seed, n_factors):
    rng = np.random.default_rng(seed)
    ratings = rng.integers(1, 6, (7, 9)) * (rng.random((7, 9)) < 0.5)
    config = MFConfig(weight_decay=rng.uniform(0.01, 1), bias_decay=rng.uniform(0.01, 1))
    factors, biases = rng.normal(size=(9, n_factors)).astype(np.float32), rng.normal(size=9)
    state = {"factors": factors, "biases": biases, "mean": np.array([3.1]), "scale": np.array([1.0, 5.0, 4.5])}
    model = MF.from_state(config, state, FeatureSet({}, 9))
    scores = model.score(training_set(ratings).interactions, np.arange(9))
    decays = np.array([config.bias_decay, *[config.weight_decay] * n_factors])
    for user, row in enumerate(ratings):
        rated = np.flatnonzero(row)
        known = np.column_stack([np.ones(9), factors])
        weights = ridge(known[rated], row[rated] - 3.1 - biases[rated], decays) if len(rated) else np.zeros(len(decays))
        np.testing.assert_allclose(scores[user], 3.1 + biases + known @ weights, rtol=1e-4, atol=1e-4)


def test_users_are_folded_in_alike_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    residuals = sp.random_array((23, 11), density=0.4, format="csr", rng=rng)
    factors, penalties = rng.normal(size=(11, 3)), rng.uniform(0.1, 1, (23, 3))
    whole = _fold_in(residuals, factors, penalties)
    monkeypatch.setattr("coldray.models.ratings.mf._BLOCK_FLOATS", 18)
    np.testing.assert_allclose(_fold_in(residuals, factors, penalties), whole, rtol=1e-12)


@pytest.mark.parametrize("cells", [1, 50, 10**6])
def test_pairs_are_predicted_alike_in_blocks(monkeypatch, cells):
    train, rng = random_ratings(4), np.random.default_rng(0)
    model = MF(MFConfig(**QUICK)).fit(train)
    rows, items = rng.integers(0, 30, 90), rng.integers(0, 30, 90)
    monkeypatch.setattr(rating_model, "_BLOCK_CELLS", cells)
    expected = np.clip(model.score(train.interactions, all_items(model)), 1, 5)[rows, items]
    np.testing.assert_allclose(model.predict_ratings(train.interactions, rows, items), expected, rtol=1e-5)


def test_what_nobody_rated_is_predicted_by_what_is_left():
    train = random_ratings(5)
    model = MF(MFConfig(**QUICK)).fit(train)
    state = model.state()
    assert (state["factors"][train.cold_items] == 0).all()
    assert (state["biases"][train.cold_items] == 0).all()
    scores = model.score(train.interactions, train.cold_items)
    assert (np.ptp(scores, axis=1) == 0).all()
    assert np.ptp(scores[:, 0]) > 0  # users differ in how they rate
    nobody = sp.csr_array((1, model.n_items), dtype=np.float32)
    np.testing.assert_allclose(model.score(nobody, all_items(model))[0], state["mean"] + state["biases"], rtol=1e-6)


def test_a_rating_of_0_is_a_rating():
    train = random_ratings(6)
    shifted = TrainingSet(train.interactions.copy(), train.features, "from 0 to 4")
    shifted.interactions.data -= 1
    assert (shifted.interactions.data == 0).any()
    first, second = (MF(MFConfig(**QUICK)).fit(one) for one in (train, shifted))
    rows, items = np.arange(20), np.arange(20) + 3
    expected = first.predict_ratings(train.interactions, rows, items) - 1
    np.testing.assert_allclose(second.predict_ratings(shifted.interactions, rows, items), expected, atol=2e-3)


# ---- the training


def task(n_held=5, seed=0):
    rng = np.random.default_rng(seed)

    def draw(n):
        return Ratings(*map(torch.from_numpy, (rng.integers(0, 6, n), rng.integers(0, 7, n), rng.random(n, "f4"))))

    return _MFTask(MFConfig(weight_decay=0.3, bias_decay=0.7), 3, 0.5, (6, 7), draw(20), draw(n_held))


def randomised(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_the_loss_and_the_validation_are_those_of_single_ratings():
    one = task()
    module = randomised(one.build())
    batch = one.batch(torch.tensor([3, 11]), torch.Generator())
    with torch.no_grad():
        found = one.loss(module, batch, step_at())
        values = one.validate(module, slice(1, 4))[_MFTask.metric]
    weights = {name: value.detach().numpy().astype(float) for name, value in module.named_parameters()}

    def error(ratings, place):
        user, item = int(ratings.users[place]), int(ratings.items[place])
        p, q = weights["users.weight"][user], weights["items.weight"][item]
        b_u, b_i = weights["user_biases.weight"][user, 0], weights["item_biases.weight"][item, 0]
        penalty = 0.3 * (p @ p + q @ q) + 0.7 * (b_u**2 + b_i**2)
        return (float(ratings.values[place]) - 0.5 - b_u - b_i - p @ q) ** 2, penalty

    for row, place in enumerate((3, 11)):
        squared, penalty = error(one.ratings, place)
        assert float(found.per_example[row]) == pytest.approx(squared + penalty, rel=1e-5)
        assert float(found.parts["mse"][row]) == pytest.approx(squared, rel=1e-5)
    assert values == pytest.approx([-error(one.held_out, place)[0] for place in (1, 2, 3)], rel=1e-5)


@pytest.fixture
def trainings(monkeypatch):
    """Return what is trained: task, configuration and result of each training."""
    seen, real = [], mf_training.run_training

    def spy(task, config, options, **refit):
        seen.append((task, config, real(task, config, options, **refit)))
        return seen[-1][2]

    monkeypatch.setattr(mf_training, "run_training", spy)
    return seen


STOPPING = MFConfig(**{**QUICK, "validation_share": 0.2, "epochs": 12, "seed": 3})


def triples(ratings):
    return set(zip(ratings.users.tolist(), ratings.items.tolist(), ratings.values.tolist(), strict=True))


def test_held_out_ratings_are_of_the_train_part_and_trained_on_in_the_refit_alone(trainings):
    train = random_ratings(7)
    learned = _learn_factors(train, n_factors=2, config=STOPPING, options=FitOptions())
    (first, _, _), (second, again, last) = trainings
    n = train.interactions.nnz
    assert (len(first.held_out), len(first.ratings), len(second.ratings)) == (round(0.2 * n), n - round(0.2 * n), n)
    assert second.held_out is None
    assert not triples(first.held_out) & triples(first.ratings)
    assert triples(first.held_out) | triples(first.ratings) == triples(second.ratings)
    rows, columns = (np.unique(index, return_inverse=True)[1] for index in train.interactions.nonzero())
    values = train.interactions.data.tolist()
    assert triples(second.ratings) == set(zip(rows.tolist(), columns.tolist(), values, strict=True))
    assert again.epochs == int(np.nanargmin(learned["history.validation_mse"])) + 1
    assert {config.weight_decay for _, config, _ in trainings} == {0.0}  # it is in the loss
    np.testing.assert_array_equal(learned["factors"], last.weights["items.weight"].numpy())
    _learn_factors(
        train, n_factors=2, config=STOPPING.model_copy(update={"seed": 4, "epochs": 1}), options=FitOptions()
    )
    assert triples(trainings[2][0].held_out) != triples(first.held_out)


def test_without_a_refit_the_best_weights_by_the_held_out_ratings_are_kept(trainings):
    learned = _learn_factors(
        random_ratings(7), n_factors=2, config=STOPPING.model_copy(update={"refit": False}), options=FitOptions()
    )
    ((_, _, result),) = trainings
    np.testing.assert_array_equal(learned["factors"], result.weights["items.weight"].numpy())
    assert result.best_metric == pytest.approx(-np.nanmin(learned["history.validation_mse"]))


def test_the_same_seed_gives_the_same_factors():
    train = random_ratings(8)
    first, again, other = (
        MF(MFConfig(**{**QUICK, "epochs": 3, "seed": seed})).fit(train).state()["factors"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.usefixtures("ray_cluster")
def test_two_workers_learn_what_one_does():
    train = random_ratings(9)
    config = MFConfig(**{**QUICK, "epochs": 2})
    ways = (FitOptions(workers=workers) for workers in (1, 2))
    one, two = (MF(config).fit(train, options=way).state()["factors"] for way in ways)
    np.testing.assert_allclose(one, two, atol=1e-4)


# ---- what cannot be


def test_too_many_factors_are_reduced_told_of_and_recorded(caplog):
    train = random_ratings(6, n_users=9, n_warm=14)
    most = np.count_nonzero(np.diff(train.interactions.indptr))
    with caplog.at_level(logging.WARNING):
        MF(MFConfig(**{**QUICK, "n_factors": most, "epochs": 1, "batch_size": 8})).fit(train)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        model = MF(MFConfig(**{**QUICK, "n_factors": 40, "epochs": 1, "batch_size": 8})).fit(train)
    assert "mf: n_factors is 40" in caplog.text
    assert model.n_factors == model.state()["factors"].shape[1] == most


def test_what_cannot_be_learnt_from_is_refused():
    with pytest.raises(DataError, match="All 3 ratings of ratings are 4"):
        MF().fit(training_set([[4, 4], [0, 4]]))
    with pytest.raises(DataError, match=r"are 1.*Are they clicks"):
        MF().fit(random_training_set(0))
    with pytest.raises(DataError, match="no rating"):
        MF().fit(training_set(np.zeros((2, 3))))
    with pytest.raises(DataError, match="at least 2 of each"):
        MF().fit(training_set([[4, 5, 1]]))
    with pytest.raises(CatalogTooLargeError, match="64 factors of 1,000,000,000 users"):
        MF().check_size(10**9, 10**7)
    with pytest.raises(DivergedError, match="learning_rate"):
        MF(MFConfig(**{**QUICK, "learning_rate": 1e12})).fit(random_ratings(1))


def test_a_click_is_taken_for_a_rating_of_those_who_like_it():
    ratings = [[1, 2, 3, 0], [5, 4, 0, 3]]  # the mean is 3
    assert RatingScale.of(training_set(ratings)) == RatingScale(1.0, 5.0, pytest.approx((3 + 5 + 4 + 3) / 4))


def test_fewer_ratings_than_a_batch_are_one_batch():
    train = training_set([[4, 5, 1], [1, 2, 3]])
    config = MFConfig(n_factors=1, validation_share=0.0, epochs=3)
    whole, exact = (
        MF(config.model_copy(update={"batch_size": size})).fit(train).state()["factors"] for size in (10**6, 6)
    )
    np.testing.assert_array_equal(whole, exact)


def test_groups_are_told_apart_by_what_they_rate():
    train, genres = rated_genre_groups()
    model = MF(MFConfig(**{**QUICK, "epochs": 60})).fit(train)
    users, items = np.nonzero(train.interactions.toarray()[:, train.warm_items] == 0)
    predicted = model.predict_ratings(train.interactions, users, train.warm_items[items])
    own = users // 12 == genres[train.warm_items][items]
    assert predicted[own].mean() > 4
    assert predicted[~own].mean() < 2
