"""Two towers that read who users are: the contract, what a vector of a user is made of, and who is held out."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.neural.two_tower_users import TwoTowerUsers, TwoTowerUsersConfig
from coldray.models.neural.validation import hold_out_users
from coldray.models.state import unknown_user
from contracts.problems import random_features, random_training_set, vector_feature, with_users
from contracts.recommender import ProfiledColdItemContract

QUICK = {"embedding_dim": 16, "hidden_dim": 32, "batch_size": 16, "epochs": 40, "positives": 4, "dropout": 0.1}
QUICK |= {"weight_decay": 0.01, "id_dropout": 0.5}


class TestTwoTowerUsers(ProfiledColdItemContract):
    model = TwoTowerUsers
    config = TwoTowerUsersConfig(**QUICK, validation_share=0.0)


@pytest.fixture(scope="module")
def train():
    return with_users(random_training_set(3, n_users=40, n_warm=25, n_cold=3))


@pytest.fixture(scope="module")
def fitted(train):
    return TwoTowerUsers(TwoTowerUsersConfig(**{**QUICK, "epochs": 3, "validation_share": 0.3})).fit(train)


def test_a_user_is_the_sum_of_attributes_and_of_clicks_by_their_number(train, fitted):
    network, items = fitted.fitted_network, np.arange(fitted.n_items)
    people = fitted.task(train, fitted.inputs(train), None).people
    with torch.no_grad():
        vectors, clicked = (part.double().numpy() for part in network.all_items())
        kappa = float(network.log_prior.exp())
        found = fitted.profile_scorer(items)(train.interactions, train.users)
        for user in range(0, 40, 7):
            row = people[[user]].toarray()[0]
            bag = {
                "indices": torch.from_numpy(np.flatnonzero(row)),
                "offsets": torch.tensor([0]),
                "weights": torch.from_numpy(row[row != 0]),
            }
            told = network.people(bag)[0].double().numpy()
            history = train.interactions[[user]].toarray()[0]
            added, n = history @ clicked, history.sum()
            said = n / (n + kappa) * added / np.linalg.norm(added) + told
            moved = network.user(torch.from_numpy(said * np.sqrt(16)).float()[None])[0].double().numpy() + said
            expected = vectors @ (moved / np.linalg.norm(moved))
            np.testing.assert_allclose(found[user], expected, rtol=1e-4, atol=1e-5)


def test_who_has_just_arrived_is_given_what_their_like_click():
    """Users of two towns click the items of their town; the newcomers have clicked nothing."""
    generator = np.random.default_rng(0)
    towns = np.arange(80) % 2
    clicks = (generator.random((80, 20)) < np.where(towns[:, None] == np.arange(20) % 2, 0.6, 0.05)).astype(np.float32)
    users = FeatureSet({"town": vector_feature(np.eye(2)[towns])}, 80)
    train = replace(random_training_set(1, n_users=80, n_warm=20, n_cold=0), interactions=sp.csr_array(clicks))
    train = replace(train, users=users)
    nothing, new = sp.csr_array((2, 20), dtype=np.float32), FeatureSet({"town": vector_feature(np.eye(2))}, 2)
    model = TwoTowerUsers(TwoTowerUsersConfig(**QUICK, validation_share=0.2)).fit(train)
    scores = model.profile_scorer(np.arange(20))(nothing, new)
    for town in (0, 1):
        assert set(np.argsort(-scores[town])[:8] % 2) == {town}


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_attributes_that_no_user_has_leave_what_clicks_say(train, fitted, seed):
    """A user of whom nothing is known is scored alike, whether by clicks alone or with an empty profile."""
    generator = np.random.default_rng(seed)
    items = np.arange(fitted.n_items)
    users = random_features(generator, 2)
    unknown = unknown_user(users).take(np.zeros(2, np.intp))
    histories = train.interactions[generator.integers(0, 40, 2)]
    plain = fitted.score(histories, items)
    np.testing.assert_array_equal(fitted.profile_scorer(items)(histories, unknown), plain)
    assert np.abs(fitted.profile_scorer(items)(histories, users)).max() <= 1 + 1e-5
    assert np.abs(fitted.profile_scorer(items)(histories, users) - plain).max() > 1e-3


# ---- who is held out to stop by


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.9), st.integers(1, 50))
@settings(max_examples=25)
def test_users_are_held_out_whole(seed, share, most):
    train = with_users(random_training_set(seed % 7, n_users=40, n_warm=25, n_cold=3))
    rest, validation = hold_out_users(train, share, most, np.random.default_rng(seed))
    active = np.flatnonzero(np.diff(train.interactions.indptr))
    wanted = min(round(share * len(active)), most)
    assert len(validation) == len(validation.users) == wanted
    assert rest.users is train.users
    assert validation.histories.nnz == 0
    assert rest.interactions[validation.users].nnz == 0
    np.testing.assert_array_equal(validation.clicks.toarray(), train.interactions[validation.users].toarray() != 0)
    others = np.setdiff1d(np.arange(40), validation.users)
    np.testing.assert_array_equal(rest.interactions[others].toarray(), train.interactions[others].toarray())
    np.testing.assert_array_equal(validation.candidates, rest.warm_items)


def test_it_stops_by_the_lists_of_newcomers(train, fitted):
    rest, validation = fitted.hold_out(train)
    assert rest.interactions.nnz < train.interactions.nnz
    assert validation.histories.nnz == 0
    by_clicks = TwoTowerUsers(fitted.config.model_copy(update={"stop_by_newcomers": False, "stop_by": "clicks"}))
    assert by_clicks.hold_out(train)[1].histories.nnz > 0
    assert set(fitted.history) >= {"loss", "ndcg@10"}


def test_attributes_that_tell_nobody_from_others_are_refused(train):
    alike = FeatureSet({"town": vector_feature(np.ones((40, 1)))}, 40)
    with pytest.raises(DataError, match="town"):
        TwoTowerUsers(TwoTowerUsersConfig(**QUICK)).fit(replace(train, users=alike))
