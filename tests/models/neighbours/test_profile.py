"""ProfileKNN: scores against loops over users, planted structure, and the contract of all models."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.features.feature_set import FeatureSet
from coldray.models.neighbours import user as module
from coldray.models.neighbours.profile import ProfileKNN, ProfileKNNConfig
from coldray.models.neighbours.user import UserKNN, UserKNNConfig
from contracts.problems import clicks_alone, random_training_set, scalar_feature, vector_feature, with_users
from contracts.recommender import ProfileContract, all_items


class TestProfileKNN(ProfileContract):
    model = ProfileKNN
    config = ProfileKNNConfig(k=10, shrinkage=1.0, delta=1.0, prior_clicks=3.0)


def reference(clicks, users, histories, new, config):
    """Return the scores by Jaccard and by attributes, user by user; an attribute is a dict of name, kind and values."""
    scores = np.zeros(histories.shape)
    active = [user for user in range(len(clicks)) if clicks[user].any()]
    for row, history, who in zip(scores, histories, range(len(histories)), strict=True):
        mine, likeness = set(np.flatnonzero(history)), []
        weight = config.prior_clicks / (len(mine) + config.prior_clicks)
        for user in active:
            theirs, towns, other = set(np.flatnonzero(clicks[user])), new["town"][who], users["town"][user]
            lengths = np.sqrt(towns.sum()) * np.sqrt(other.sum())
            by_town = (towns * other).sum() / (lengths + config.delta)
            by_age = max(1 - abs(new["age"][who] - users["age"][user]) / 50, 0)
            by_age = 0.0 if np.isnan(by_age) else by_age
            common = len(mine & theirs)
            shrunk = common / (common + config.shrinkage) if common else 0.0
            by_clicks = shrunk * common / len(mine | theirs) if common else 0.0
            likeness.append((weight * (by_town + by_age) / 2 + (1 - weight) * by_clicks, user))
        nearest = sorted(likeness, key=lambda pair: (-round(pair[0], 5), pair[1]))[: config.k]
        for value, user in nearest:
            row += value * clicks[user]
        if not any(value for value, _ in nearest):
            row += clicks.sum(axis=0)
    return scores


def drawn(generator, n):
    """Return towns and ages of n users, no two of an age, and their features."""
    towns = (generator.random((n, 3)) < 0.5).astype(float)
    ages = np.where(generator.random(n) < 0.8, generator.uniform(18, 68, n), np.nan)
    features = FeatureSet({"town": vector_feature(towns), "age": scalar_feature(ages, span=50)}, n)
    return {"town": towns, "age": ages}, features


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_loops(seed):
    generator = np.random.default_rng(seed)
    clicks = (generator.random((15, 20)) < 0.3).astype(float)
    clicks[2], clicks[3, 0] = 0, 1
    (users, features), (new, profiles) = drawn(generator, 15), drawn(generator, 6)
    histories = (generator.random((6, 20)) < 0.2).astype(np.float32)
    histories[0] = 0
    config = ProfileKNNConfig(k=15, measure="jaccard", shrinkage=2.0, delta=1.0, prior_clicks=2.0)
    model = ProfileKNN(config).fit(replace(clicks_alone(clicks), users=features))
    found = model.profile_scorer(all_items(model))(sp.csr_array(histories), profiles)
    np.testing.assert_allclose(found, reference(clicks, users, histories, new, config), rtol=1e-3, atol=1e-5)


def test_attributes_first_and_clicks_more_and_more():
    """Those of two towns click what is of their town; who is said to be of one and clicks as the other goes over."""
    towns = np.arange(40) % 2
    clicks = (np.random.default_rng(0).random((40, 20)) < 0.5) & (towns[:, None] == np.arange(20) % 2)
    users = FeatureSet({"town": vector_feature(np.eye(2)[towns])}, 40)
    train = replace(clicks_alone(clicks), users=users)
    model = ProfileKNN(ProfileKNNConfig(k=15, prior_clicks=2.0, delta=0.1, shrinkage=0)).fit(train)
    scorer, of_one = model.profile_scorer(all_items(model)), FeatureSet({"town": vector_feature(np.eye(2)[:1])}, 1)
    history = np.zeros((1, 20), np.float32)
    own = []
    for n in range(0, 9, 2):
        history[0, 1 : 2 * n : 2] = 1
        scores = scorer(sp.csr_array(history), of_one)[0]
        own.append(scores[::2].sum() / scores.sum())
    assert own[0] == 1
    assert own[-1] < 0.5
    assert own == sorted(own, reverse=True)


def test_without_attributes_it_is_user_knn_and_like_nobody_is_given_what_most_click():
    train = with_users(random_training_set(4))
    model = ProfileKNN(ProfileKNNConfig(k=12)).fit(train)
    plain = UserKNN(UserKNNConfig(k=12, shrinkage=20)).fit(train)
    ours, theirs = (one.score(train.interactions, all_items(one)) for one in (model, plain))
    own = np.diff(train.interactions.indptr)
    active = own > 0
    np.testing.assert_allclose(ours[active], (theirs * (own / (own + 30))[:, None])[active], rtol=1e-4)
    nothing = model.score(sp.csr_array((1, 30), dtype=np.float32), all_items(model))
    np.testing.assert_array_equal(nothing[0], train.clicks)


def test_blocks_of_users_change_nothing(monkeypatch):
    train = with_users(random_training_set(4))
    model = ProfileKNN(ProfileKNNConfig(k=12)).fit(train)
    whole = model.profile_scorer(all_items(model))(train.interactions, train.users)
    monkeypatch.setattr(module, "_BLOCK_CELLS", 70)
    parts = model.profile_scorer(all_items(model))(train.interactions, train.users)
    np.testing.assert_allclose(parts, whole, rtol=1e-6)
