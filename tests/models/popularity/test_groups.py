"""PopularityByGroup: scores against loops over users, planted structure, and the contract of all models."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, ConfigError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.popularity.groups import PopularityByGroup, PopularityByGroupConfig
from contracts.problems import clicks_alone, random_features, random_training_set, scalar_feature, vector_feature
from contracts.recommender import ProfileContract, all_items


class TestPopularityByGroup(ProfileContract):
    model = PopularityByGroup
    config = PopularityByGroupConfig(prior_users=3.0, number_groups=3)
    test_a_user_of_a_group_is_given_the_item_withheld = None  # who is known by clicks alone is given the list of all


def nobody(n_users, n_items):
    """Return empty histories."""
    return sp.csr_array((n_users, n_items), dtype=np.float32)


def reference(clicks, labels, ages, kappa, edges):
    """Return shares of items, by loops over the groups of users as people would count them."""
    active = clicks.sum(axis=1) > 0
    everybody = clicks.sum(axis=0) / active.sum()
    scores = np.zeros(clicks.shape)
    for user in range(len(clicks)):
        members = [labels[:, one] > 0 for one in np.flatnonzero(labels[user])]
        if np.isfinite(ages[user]):
            places = np.searchsorted(edges, ages, side="right")
            members.append(np.isfinite(ages) & (places == places[user]))
        scores[user] = everybody
        for group in members:
            inside = group & active
            share = (clicks[inside].sum(axis=0) + kappa * everybody) / (inside.sum() + kappa)
            scores[user] += share - everybody
    return scores


@given(seed=st.integers(0, 2**32 - 1), kappa=st.floats(0.5, 200))
def test_scores_are_smoothed_shares(seed, kappa):
    generator = np.random.default_rng(seed)
    clicks = (generator.random((25, 12)) < generator.random(12)).astype(float)
    clicks[generator.integers(25)] = 0
    labels = generator.random((25, 4)) < 0.4
    ages = np.where(generator.random(25) < 0.8, generator.integers(18, 70, 25), np.nan)
    ages[0], clicks[0] = 30, 1
    users = FeatureSet({"town": vector_feature(labels), "age": scalar_feature(ages, span=50)}, 25)
    train = replace(clicks_alone(clicks), users=users)
    model = PopularityByGroup(PopularityByGroupConfig(prior_users=kappa, number_groups=3)).fit(train)
    known = ages[(clicks.sum(axis=1) > 0) & np.isfinite(ages)]
    expected = reference(clicks, labels, ages, kappa, np.unique(np.quantile(known, [1 / 3, 2 / 3])))
    found = model.profile_scorer(all_items(model))(nobody(25, 12), users)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_who_is_in_no_group_gets_the_list_of_all_and_clicks_change_nothing():
    train = random_training_set(3)
    users = random_features(np.random.default_rng(1), 30)
    model = PopularityByGroup().fit(replace(train, users=users))
    stranger = FeatureSet(
        {
            name: vector_feature(np.zeros((1, feature.matrix.shape[1])))
            if name != "year"
            else scalar_feature([np.nan], span=70.0)
            for name, feature in users.features.items()
        },
        1,
    )
    scorer = model.profile_scorer(all_items(model))
    active = (np.diff(train.interactions.indptr) > 0).sum()
    np.testing.assert_allclose(scorer(nobody(1, 30), stranger)[0], train.clicks / active, rtol=1e-6)
    np.testing.assert_array_equal(scorer(train.interactions, users), scorer(nobody(30, 30), users))


def test_the_more_who_are_added_the_nearer_a_group_is_to_all():
    train = replace(random_training_set(3), users=random_features(np.random.default_rng(1), 30))
    apart = []
    for prior in (1.0, 30.0, 1000.0, 1e7):
        model = PopularityByGroup(PopularityByGroupConfig(prior_users=prior)).fit(train)
        scores = model.profile_scorer(all_items(model))(nobody(30, 30), train.users)
        apart.append(np.abs(scores - model.score(nobody(30, 30), all_items(model))).max())
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-4


def test_a_number_is_divided_where_as_many_users_are_on_either_side():
    """Those under thirty click even items, the others odd ones; there are six of an age that nobody else has."""
    ages = np.concatenate([np.arange(18, 30), np.full(6, 33), np.arange(40, 46)]).astype(float)
    clicks = np.where((ages < 30)[:, None], np.arange(10) % 2 == 0, np.arange(10) % 2 == 1).astype(float)
    users = FeatureSet({"age": scalar_feature(ages)}, len(ages))
    train = replace(clicks_alone(clicks), users=users)
    model = PopularityByGroup(PopularityByGroupConfig(prior_users=1.0, number_groups=2)).fit(train)
    new = FeatureSet({"age": scalar_feature([5.0, 29, 33, 1900], span=27)}, 4)
    best = model.profile_scorer(all_items(model))(nobody(4, 10), new).argmax(axis=1)
    np.testing.assert_array_equal(best % 2, [0, 0, 1, 1])


def test_dimensions_of_an_embedding_are_no_groups():
    users = FeatureSet({"about": vector_feature(np.array([[0.5, -0.2], [0.1, 0.3]]))}, 2)
    with pytest.raises(ConfigError, match="The dimensions of the attribute 'about' are no groups"):
        PopularityByGroup().fit(replace(clicks_alone(np.ones((2, 3))), users=users))


def test_clicks_are_needed_and_counts_that_are_too_many_are_refused(monkeypatch):
    users = FeatureSet({"age": scalar_feature([1.0, 2, 3])}, 3)
    with pytest.raises(DataError, match="No item has a click"):
        PopularityByGroup().fit(replace(clicks_alone(np.zeros((3, 5))), users=users))
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 100)
    with pytest.raises(CatalogTooLargeError, match="The clicks of 5 groups on 5 items"):
        PopularityByGroup().fit(replace(clicks_alone(np.ones((3, 5))), users=users))
