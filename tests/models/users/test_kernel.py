"""KernelAlign over users: the contract of all models, and held against KernelAlign on the transposed clicks."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.users.kernel import KernelAlignUsers, KernelAlignUsersConfig
from contracts.problems import random_features, random_training_set, vector_feature, with_users
from contracts.recommender import ProfileContract

CONFIG = KernelAlignUsersConfig(n_factors=8, subset=100, steps=15, ridge=1.0, click_ridge=1.0, prior_clicks=0.3)


class TestKernelAlignUsers(ProfileContract):
    model = KernelAlignUsers
    config = CONFIG
    tolerance = 1e-4


@pytest.fixture(scope="module")
def train():
    return with_users(random_training_set(3, n_users=40, n_warm=25, n_cold=0))


@pytest.fixture(scope="module")
def model(train):
    return KernelAlignUsers(CONFIG).fit(train)


def test_a_newcomer_is_scored_as_kernel_align_scores_a_new_item(train, model):
    of_users = TrainingSet(sp.csr_array(train.interactions.T), train.users, "transposed")
    parameters = {**CONFIG.model_dump(), "form": "exact", "clickers": 0.0, "new_weight": 1.0}
    plain = KernelAlign(KernelAlign.config_type(**parameters)).fit(of_users)
    new = random_features(np.random.default_rng(9), 3)
    expected = plain.add_items(new).score(
        sp.csr_array(sp.hstack([of_users.interactions, np.zeros((25, 3), np.float32)])), np.arange(40, 43)
    )
    nothing = sp.csr_array((3, 25), dtype=np.float32)
    found = model.profile_scorer(np.arange(25))(nothing, new)
    np.testing.assert_allclose(found, expected.T, rtol=1e-4, atol=1e-6)


def test_who_has_just_signed_up_is_given_what_their_like_click():
    """Users of two towns click the items of their town; the newcomers have clicked nothing."""
    generator = np.random.default_rng(0)
    towns = np.arange(60) % 2
    clicks = (generator.random((60, 20)) < np.where(towns[:, None] == np.arange(20) % 2, 0.6, 0.05)).astype(np.float32)
    users = FeatureSet({"town": vector_feature(np.eye(2)[towns])}, 60)
    train = TrainingSet(sp.csr_array(clicks), FeatureSet({}, 20), "towns", users)
    model = KernelAlignUsers(CONFIG).fit(train)
    new = FeatureSet({"town": vector_feature(np.eye(2))}, 2)
    scores = model.profile_scorer(np.arange(20))(sp.csr_array((2, 20), dtype=np.float32), new)
    for town in (0, 1):
        assert set(np.argsort(-scores[town])[:10] % 2) == {town}
    unknown = model.score(sp.csr_array((1, 20), dtype=np.float32), np.arange(20))[0]
    assert abs(unknown[::2].mean() - unknown[1::2].mean()) < 0.2 * abs(scores[0, ::2].mean() - scores[0, 1::2].mean())


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_with_clicks_the_attributes_count_less(seed):
    """What differs by the attributes alone shrinks as κ / (n + κ)."""
    train = with_users(random_training_set(3, n_users=40, n_warm=25, n_cold=0))
    if not FITTED:
        FITTED.append(KernelAlignUsers(CONFIG).fit(train))
    (model,) = FITTED
    generator = np.random.default_rng(seed)
    one, other = (random_features(generator, 1) for _ in range(2))
    scorer, items = model.profile_scorer(np.arange(25)), np.zeros((1, 25), np.float32)
    apart = []
    order = generator.permutation(25)
    for n in (0, 1, 4, 9):
        items[0, order[:n]] = 1
        apart.append(scorer(sp.csr_array(items), one) - scorer(sp.csr_array(items), other))
    lengths = np.diff(train.interactions.indptr)
    kappa = CONFIG.prior_clicks * lengths[lengths > 0].mean()
    for n, found in zip((1, 4, 9), apart[1:], strict=True):
        np.testing.assert_allclose(found, apart[0] * kappa / (n + kappa), rtol=1e-3, atol=1e-5)


FITTED: list[KernelAlignUsers] = []


def test_features_of_other_users_are_refused(train):
    with pytest.raises(ValueError, match="describe 3 users"):
        replace(train, users=train.users.take(np.arange(3)))
