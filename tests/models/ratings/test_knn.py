"""RatingKNN and its baseline: against loops over pairs, planted structure, and the contract of all models."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.ratings import knn as rating_similarity
from coldray.models.ratings.baseline import BaselineConfig, RatingBaseline
from coldray.models.ratings.knn import RatingKNN, RatingKNNConfig
from contracts.problems import random_ratings
from contracts.recommender import RatingContract, all_items
from models.learned import CountingComputations

MEASURES = ["cosine", "pearson", "adjusted_cosine"]
each_side = pytest.mark.parametrize("by", ["items", "users"])


class TestRatingKNN(RatingContract):
    model = RatingKNN
    config = RatingKNNConfig(k=12)


class TestRatingKNNByUsers(RatingContract):
    model = RatingKNN
    config = RatingKNNConfig(by="users", k=12, measure="pearson")


def training_set(ratings, key="ratings"):
    """Return ratings from a dense matrix in which NaN is none."""
    given = ~np.isnan(ratings)
    rows, columns = np.nonzero(given)
    starts = np.concatenate([[0], np.cumsum(given.sum(axis=1))])
    values = ratings[rows, columns].astype(np.float32)
    matrix = sp.csr_array((values, columns.astype(np.int32), starts), shape=ratings.shape)
    return TrainingSet(matrix, FeatureSet({}, ratings.shape[1]), key)


def draw(seed, n_users=9, n_items=11, share=0.6):
    """Return ratings from 0 to 4, dense, NaN where there is none; the first user and item have none."""
    rng = np.random.default_rng(seed)
    ratings = rng.integers(0, 5, (n_users, n_items)).astype(float)
    ratings[rng.random(ratings.shape) > share] = np.nan
    ratings[0], ratings[:, 0] = np.nan, np.nan
    ratings[1, 1:3], ratings[2, 1:3] = [0, 4], [3, 1]
    return ratings


def mean_of(values):
    return float(np.mean(values)) if len(values) else 0.0


# ---- the baseline


def slow_baseline(ratings, item_damping, user_damping):
    """Return b_ui of all cells, by loops."""
    mean = mean_of(ratings[~np.isnan(ratings)])
    items = np.zeros(ratings.shape[1])
    for i, column in enumerate(ratings.T):
        rated = [value for value in column if not np.isnan(value)]
        items[i] = sum(value - mean for value in rated) / (len(rated) + item_damping) if rated else 0.0
    expected = np.zeros(ratings.shape)
    for u, row in enumerate(ratings):
        rated = np.flatnonzero(~np.isnan(row))
        own = sum(row[i] - mean - items[i] for i in rated) / (len(rated) + user_damping) if len(rated) else 0.0
        expected[u] = mean + own + items
    return expected


@given(seed=st.integers(0, 2**32 - 1), dampings=st.sampled_from([(0.0, 0.0), (5.0, 2.0), (0.5, 30.0)]))
def test_the_baseline_is_of_damped_means(seed, dampings):
    ratings = draw(seed)
    train = training_set(ratings)
    baseline = RatingBaseline.of(train, BaselineConfig(item_damping=dampings[0], user_damping=dampings[1]))
    expected = slow_baseline(ratings, *dampings)
    found = baseline.mean + baseline.users(train.interactions)[:, None] + baseline.items
    np.testing.assert_allclose(found, expected, atol=1e-6)
    rest = baseline.residuals(train.interactions)
    assert rest.nnz == train.interactions.nnz
    np.testing.assert_allclose(rest.toarray(), np.nan_to_num(ratings - expected) * ~np.isnan(ratings), atol=1e-6)


# ---- neighbours


def slow_similarities(ratings, measure, shrinkage):
    """Return how alike the rows of a dense matrix are, pair by pair; 0 where that is not above 0."""
    n_rows = len(ratings)
    given = ~np.isnan(ratings)
    vectors = np.zeros(ratings.shape)
    for r in range(n_rows):
        for c in np.flatnonzero(given[r]):
            less = 0.0
            if measure == "pearson":
                less = mean_of(ratings[r, given[r]])
            elif measure == "adjusted_cosine":
                less = mean_of(ratings[given[:, c], c])
            vectors[r, c] = ratings[r, c] - less
    found = np.zeros((n_rows, n_rows))
    for a in range(n_rows):
        for b in range(n_rows):
            norms = np.linalg.norm(vectors[a]) * np.linalg.norm(vectors[b])
            common = int(np.sum(given[a] & given[b]))
            if norms > 1e-9 and common:
                found[a, b] = max(vectors[a] @ vectors[b] / norms, 0) * common / (common + shrinkage)
    return found


def kept_of(similar, k, *, itself):
    """Return the k largest of each row."""
    kept = similar.copy()
    if not itself:
        np.fill_diagonal(kept, 0)
    for row in kept:
        row[np.argsort(-row, kind="stable")[k:]] = 0
    return kept


def slow_predictions(ratings, config):
    """Return r̂ of all cells, by loops."""
    expected = slow_baseline(ratings, config.item_damping, config.user_damping)
    rest, given = ratings - expected, ~np.isnan(ratings)
    by_items = config.by == "items"
    similar = slow_similarities(ratings.T if by_items else ratings, config.measure, config.shrinkage)
    near = kept_of(similar, config.k, itself=not by_items)
    predicted = expected.copy()
    for u, i in np.ndindex(*ratings.shape):
        if by_items:
            terms = [(near[i, j], rest[u, j]) for j in range(ratings.shape[1]) if given[u, j]]
        else:
            terms = [(near[u, v], rest[v, i]) for v in range(len(ratings)) if given[v, i]]
        below = config.damping + sum(weight for weight, _ in terms)
        if below > 0:
            predicted[u, i] += sum(weight * value for weight, value in terms) / below
    return predicted


@each_side
@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    measure=st.sampled_from(MEASURES),
    k=st.sampled_from([1, 4, 50]),
    shrinkage=st.sampled_from([0.0, 3.0]),
    damping=st.sampled_from([0.0, 0.5]),
)
def test_predictions_are_those_of_loops(by, seed, measure, k, shrinkage, damping):
    # Numbers that hardly ever tie: of equally similar neighbours any may be kept.
    ratings = draw(seed) + np.random.default_rng(seed + 1).random((9, 11)) * 0.1
    config = RatingKNNConfig(by=by, measure=measure, k=k, shrinkage=shrinkage, damping=damping)
    train = training_set(ratings, f"{seed}")
    found = RatingKNN(config).fit(train).score(train.interactions, np.arange(11))
    np.testing.assert_allclose(found, slow_predictions(ratings, config), atol=2e-3)


def test_who_rates_all_alike_is_like_nobody():
    """The mean of equal numbers differs from them by rounding, which must not be blown up to a length of 1."""
    ratings = sp.csr_array(np.array([[4.1, 4.1, 4.1, 0, 4.1, 4.1, 4.1], [1, 2, 3, 4, 0, 0, 0]], np.float32))
    vectors = rating_similarity._unit_rows(ratings, "pearson", np.zeros(7))
    assert (vectors.toarray()[0] == 0).all()
    assert np.linalg.norm(vectors.toarray()[1]) == pytest.approx(1)
    alike = sp.csr_array(np.array([[0.1, 0.1, 0.1]]))
    assert rating_similarity._row_means(alike)[0] != 0.1
    assert (rating_similarity._unit_rows(alike, "pearson", np.zeros(3)).data == 0).all()


@each_side
def test_a_rating_of_0_is_a_rating(by):
    ratings = draw(3)
    assert (ratings == 0).any()
    found = [
        RatingKNN(RatingKNNConfig(by=by, measure="pearson")).fit(train).score(train.interactions, np.arange(11))
        for train in (training_set(ratings), training_set(ratings + 1))
    ]
    np.testing.assert_allclose(found[0] + 1, found[1], atol=1e-5)


@pytest.mark.parametrize("measure", MEASURES)
def test_twins_predict_each_other(measure):
    """Items 0 and 1 are rated alike, and so are 2 and 3, by users who disagree; item 1 lacks a rating of each half."""
    likes = np.repeat([5.0, 1.0], 6)
    rng = np.random.default_rng(0)
    ratings = np.column_stack([likes, likes, 6 - likes, 6 - likes]) + rng.uniform(-0.1, 0.1, (12, 4))
    ratings[[0, 11], 1] = np.nan
    config = RatingKNNConfig(k=1, measure=measure, shrinkage=0, damping=0)
    train = training_set(ratings)
    model = RatingKNN(config).fit(train)
    if measure != "cosine":
        assert model.state()["neighbours"][:, 0].tolist() == [1, 0, 3, 2]
        predicted = model.predict_ratings(train.interactions, np.array([0, 11]), np.array([1, 1]))
        assert predicted[0] - predicted[1] > 3
    flat = RatingKNN(config.model_copy(update={"damping": 1e9})).fit(train)
    base = flat.predict_ratings(train.interactions, np.array([0, 11]), np.array([1, 1]))
    assert abs(base[0] - base[1]) < 1  # the baseline alone does not know


@each_side
@pytest.mark.parametrize("block", [1, 7])
def test_neighbours_are_found_alike_in_blocks(monkeypatch, by, block):
    train = random_ratings(3)
    config = RatingKNNConfig(by=by, k=9)
    model = RatingKNN(config).fit(train)
    whole = model.score(train.interactions, all_items(model))
    monkeypatch.setattr(rating_similarity, "_BLOCK_ROWS", block)
    model = RatingKNN(config).fit(train)
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), whole, atol=1e-5)


def test_what_nobody_rated_is_predicted_by_the_baseline():
    train = random_ratings(4)
    model = RatingKNN().fit(train)
    baseline = RatingBaseline.of(train, model.config)
    scores = model.score(train.interactions, train.cold_items)
    expected = baseline.mean + baseline.users(train.interactions)
    np.testing.assert_allclose(scores, np.tile(expected[:, None], len(train.cold_items)), rtol=1e-6)
    nobody = sp.csr_array((1, model.n_items), dtype=np.float32)
    np.testing.assert_allclose(model.score(nobody, all_items(model))[0], baseline.mean + baseline.items, rtol=1e-6)


def test_trials_that_ask_for_the_same_neighbours_share_them():
    train, shared = random_ratings(5), CountingComputations()
    for damping in (0.1, 1.0):
        RatingKNN(RatingKNNConfig(k=7, measure="pearson", damping=damping)).fit(train, shared)
    assert shared.computed == {"similarly_rated": [{"k": 7, "measure": "pearson", "shrinkage": 10.0}]}


def test_nothing_to_learn_from_and_too_much_of_it():
    with pytest.raises(DataError, match="no rating"):
        RatingKNN().fit(training_set(np.full((3, 5), np.nan)))
    with pytest.raises(DataError, match="at least 2 of each"):
        RatingKNN().fit(training_set(np.array([[1.0, 2.0, 3.0]])))
    with pytest.raises(CatalogTooLargeError, match="neighbours of 1,000,000,000 items"):
        RatingKNN().check_size(10, 10**9)
    with pytest.raises(CatalogTooLargeError, match="neighbours of 100,000,000,000 users"):
        RatingKNN(RatingKNNConfig(by="users")).check_size(10**11, 10)
