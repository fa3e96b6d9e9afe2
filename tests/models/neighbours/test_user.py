"""UserKNN: scores against loops over users, planted structure, and the contract of all models."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.models.base import TrainingSet
from coldray.models.linalg import products as sparse_products
from coldray.models.neighbours import user as module
from coldray.models.neighbours.user import UserKNN, UserKNNConfig
from contracts.neighbours import NeighbourContract
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, all_items, histories_of


class TestUserKNN(NeighbourContract):
    model = UserKNN
    config = UserKNNConfig(k=12)


class TestShrunkUserKNN(ClickedItemContract):
    model = UserKNN
    config = UserKNNConfig(k=20, measure="pearson", shrinkage=3.0)


def reference(clicks, histories, k):
    """Return the scores of Jaccard neighbours, user by user."""
    scores = np.zeros(histories.shape)
    for row, history in zip(scores, histories, strict=True):
        mine = set(np.flatnonzero(history))
        likeness = []
        for user, other in enumerate(clicks):
            theirs = set(np.flatnonzero(other))
            common = len(mine & theirs)
            value = common / len(mine | theirs) if common else 0.0
            likeness.append((-np.float32(value), user))
        for value, user in sorted(likeness)[:k]:
            row += -value * clicks[user]
    return scores


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 20))
def test_scores_are_those_of_the_loops(seed, k):
    generator = np.random.default_rng(seed)
    clicks, histories = (generator.random((n, 30)) < 0.4 for n in (15, 6))
    model = UserKNN(UserKNNConfig(k=k, measure="jaccard")).fit(clicks_alone(clicks))
    scores = model.score(sp.csr_array(histories.astype(np.float32)), all_items(model))
    expected = reference(clicks.astype(float), histories, k)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)


def test_the_nearest_of_three_kinds_of_users_decides():
    kinds = np.kron(np.eye(3), np.ones((5, 6)))
    kinds[:, -1] = 1  # one item that all click
    model = UserKNN(UserKNNConfig(k=5)).fit(clicks_alone(kinds))
    scores = model.score(histories_of([0, 17], [6, 7, 17], [12, 17], n_items=18), all_items(model))
    for row, start in zip(scores, (0, 6, 12), strict=True):
        own = np.arange(start, min(start + 6, 17))
        assert (row[own] > 0).all()
        assert (np.delete(row, [*own, 17]) == 0).all()


def test_a_user_of_the_training_set_adds_to_his_own_items_alone():
    train = random_training_set(1)
    clicks = train.interactions.toarray()
    rest = TrainingSet(train.interactions[1:], train.features, "the others")
    own = train.interactions[[0]]
    among, without = (
        UserKNN(UserKNNConfig(k=k)).fit(data).score(own, np.arange(30))[0] for k, data in ((11, train), (10, rest))
    )
    np.testing.assert_allclose(among - without, clicks[0], atol=1e-6)


def test_shrinkage_prefers_the_neighbour_with_more_in_common():
    clicks = np.zeros((2, 12))
    clicks[0, [0, 10]] = 1  # one of two in common: Jaccard 1/7
    clicks[1, [*range(6), 6, 7, 8, 9, 11]] = 1
    history = histories_of([0], n_items=12), histories_of(range(6), n_items=12)
    plain, shrunk = (UserKNN(UserKNNConfig(k=1, shrinkage=s)).fit(clicks_alone(clicks)) for s in (0.0, 5.0))
    assert plain.score(history[0], np.array([10, 11]))[0].argmax() == 0
    ratio = [model.score(history[1], np.array([11]))[0, 0] for model in (shrunk, plain)]
    assert ratio[0] / ratio[1] == pytest.approx(6 / 11)


def test_scores_do_not_depend_on_the_way_clicks_are_counted(monkeypatch):
    train, scores = random_training_set(6, n_users=60), []
    model = UserKNN(UserKNNConfig(k=9, measure="pearson")).fit(train)
    for gain in (0, 10**9):
        monkeypatch.setattr(sparse_products, "_VECTOR_GAIN", gain)
        scores.append(model.score(train.interactions, all_items(model)))
    np.testing.assert_array_equal(*scores)


def test_scores_are_alike_in_blocks(monkeypatch):
    train = random_training_set(3)
    model = UserKNN(UserKNNConfig(k=9)).fit(train)
    whole = model.score(train.interactions, all_items(model))
    held = []
    real = module.click_similarity
    monkeypatch.setattr(
        module, "click_similarity", lambda found, *a, **k: held.append(found.size) or real(found, *a, **k)
    )
    monkeypatch.setattr(module, "_BLOCK_CELLS", 100)
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), whole, rtol=1e-6)
    assert max(held) <= 100
    assert len(held) == 10


def test_the_clicks_kept_are_its_own():
    train = random_training_set(4)
    model = UserKNN().fit(train)
    before = model.score(train.interactions, all_items(model))
    histories = train.interactions.copy()
    train.interactions.data[:] = 0
    np.testing.assert_array_equal(model.score(histories, all_items(model)), before)


def test_nothing_to_learn_from_and_too_much_of_it():
    with pytest.raises(DataError, match="No user has a click"):
        UserKNN().fit(clicks_alone(np.zeros((3, 5))))
    with pytest.raises(CatalogTooLargeError, match="neighbours among 1,000,000,000,000 users"):
        UserKNN().check_size(10**12, 10)
