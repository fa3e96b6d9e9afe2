"""Popularity: known and predicted log clicks in one unit, and the contract of all models."""

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.models.base import TrainingSet
from coldray.models.popularity.model import Popularity, PopularityConfig
from contracts.problems import random_features, random_training_set
from contracts.recommender import ColdItemContract
from models.learned import CountingComputations


class TestPopularity(ColdItemContract):
    model = Popularity
    config = PopularityConfig(trees=30, min_leaf=1, folds=5, shrinkage=1.0)
    # Its lists are the same for everybody.
    test_a_user_of_a_group_is_given_the_item_withheld = None
    test_a_cold_item_is_ranked_first_for_the_group_of_its_genre = None

    def test_users_of_every_group_are_given_the_same_scores(self):
        train, _, _ = self.groups()
        scores = self.fit_once(train).score(train.interactions, np.arange(train.interactions.shape[1]))
        self.assert_personal(scores)


def test_warm_items_score_their_log_clicks_and_cold_ones_stay_among_them():
    train = random_training_set(1, n_users=80, n_warm=60, n_cold=20)
    model = Popularity(PopularityConfig(trees=40)).fit(train)
    scores = model.score(train.interactions[:3], np.arange(80))
    warm, cold = train.warm_items, train.cold_items
    np.testing.assert_allclose(scores[0, warm], np.log(train.clicks[warm] + 1.0), rtol=1e-6)
    assert scores[0, cold].min() > scores[0, warm].min()
    assert scores[0, cold].max() < scores[0, warm].max()
    assert abs(scores[0, cold].mean() - scores[0, warm].mean()) < scores[0, warm].std()


def test_an_added_item_scores_like_a_cold_one_with_its_attributes():
    train = random_training_set(2, n_users=60, n_warm=50, n_cold=10)
    model = Popularity(PopularityConfig(trees=40)).fit(train)
    extended = model.add_items(train.features.take(train.cold_items))
    nobody = sp.csr_array((1, 70), dtype=np.float32)
    scores = extended.score(nobody, np.arange(70))[0]
    np.testing.assert_array_equal(scores[60:], scores[train.cold_items])


def test_every_parameter_reaches_what_is_learned():
    train, shared = random_training_set(3), CountingComputations()
    config = PopularityConfig(trees=3, seed=7, min_leaf=2, folds=4, shrinkage=3.0, ridge=0.5)
    for _ in range(2):
        Popularity(config).fit(train, shared)
    expected = {"trees": 3, "seed": 7, "min_leaf": 2, "folds": 4, "shrinkage": 3.0, "ridge": 0.5}
    assert shared.computed["learn_popularity"] == [expected]


def test_clicks_are_needed():
    items = random_features(np.random.default_rng(0), 5)
    with pytest.raises(DataError, match="No item has a click"):
        Popularity().fit(TrainingSet(sp.csr_array((3, 5), dtype=np.float32), items, "no click"))


def test_a_catalogue_that_is_too_large_is_refused():
    with pytest.raises(CatalogTooLargeError, match="200 trees on 1,000,000,000 items"):
        Popularity().check_size(10, 10**9)
