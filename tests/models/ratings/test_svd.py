"""RatingSVD: against a dense decomposition, planted structure, and the contract of all models."""

import logging

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.models.ratings.baseline import RatingBaseline
from coldray.models.ratings.svd import RatingSVD, RatingSVDConfig
from contracts.problems import random_ratings, random_training_set
from contracts.recommender import RatingContract, all_items
from models.learned import CountingComputations


class TestRatingSVD(RatingContract):
    model = RatingSVD
    config = RatingSVDConfig(n_factors=4)


@settings(max_examples=20)
@given(seed=st.integers(0, 1000), n_factors=st.integers(1, 8))
def test_what_is_added_to_the_baseline_is_the_projection_of_what_it_leaves(seed, n_factors):
    train = random_ratings(seed)
    model = RatingSVD(RatingSVDConfig(n_factors=n_factors, item_damping=2.0, user_damping=1.0)).fit(train)
    baseline = RatingBaseline.of(train, model.config)
    rest = baseline.residuals(train.interactions).toarray()
    left, values, right = np.linalg.svd(rest, full_matrices=False)
    assume(values[n_factors - 1] > 1.01 * values[n_factors])  # else the vectors are not determined
    expected = baseline.mean + baseline.users(train.interactions)[:, None] + baseline.items
    expected += left[:, :n_factors] * values[:n_factors] @ right[:n_factors]
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), expected, atol=1e-3)
    np.testing.assert_allclose(model.state()["values"], values[:n_factors], rtol=1e-4)


def test_configurations_share_one_decomposition_and_one_alone_finds_the_same():
    train, shared = random_ratings(1), CountingComputations()
    for n_factors in (2, 5):
        model = RatingSVD(RatingSVDConfig(n_factors=n_factors, max_factors=8)).fit(train, shared)
        alone = RatingSVD(RatingSVDConfig(n_factors=n_factors)).fit(train)
        np.testing.assert_allclose(model.state()["vectors"], alone.state()["vectors"], atol=1e-5)
        assert model.n_factors == n_factors
    assert [entry["n_factors"] for entry in shared.computed["residual_vectors"]] == [8]


def test_too_many_factors_are_reduced_told_of_and_recorded(caplog):
    train = random_ratings(6, n_users=9, n_warm=14)
    with caplog.at_level(logging.WARNING):
        model = RatingSVD(RatingSVDConfig(n_factors=40)).fit(train)
    assert "rating_svd: n_factors is 40" in caplog.text
    assert model.n_factors == model.state()["vectors"].shape[1] <= 9


def test_what_cannot_be_decomposed_is_refused():
    with pytest.raises(DataError, match="Are they clicks"):
        RatingSVD().fit(random_training_set(0))
    with pytest.raises(CatalogTooLargeError, match="10 singular vectors of 10,000,000,000 users"):
        RatingSVD().check_size(10**10, 10**7)
