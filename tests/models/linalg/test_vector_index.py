"""Lists from an index of vectors: those of all scores, without what is known."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, ConfigError
from coldray.evaluation.ranking import rank
from coldray.models.linalg.vector_index import VectorIndex, VectorModel
from coldray.models.linear.svd import SVD
from coldray.models.neural.two_tower import TwoTower, TwoTowerConfig
from contracts.problems import random_training_set
from models.learned import one_thread  # noqa: F401


class Drawn:
    """A model whose vectors are drawn; a user is what they clicked and a bit more, so that nothing is equal."""

    def __init__(self, seed, n_items, width=8):
        self.vectors = np.random.default_rng(seed).normal(size=(n_items, width)).astype(np.float32)

    def item_vectors(self, items):
        return self.vectors[items]

    def user_vectors(self, histories):
        return np.asarray(histories @ self.vectors + self.vectors[0] / 3, np.float32)

    def lists(self, histories, items, k):
        """Return what ranking all scores gives."""

        def scores(block):
            return self.user_vectors(block) @ self.vectors[items].T

        return rank(scores, histories, items, k=k, exclude=histories)


def drawn_clicks(seed, n_users, n_items, share=0.2):
    return sp.csr_array((np.random.default_rng(seed).random((n_users, n_items)) < share).astype(np.float32))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 40), share=st.floats(0, 1))
def test_lists_are_those_of_all_scores(seed, k, share):
    model, clicks = Drawn(seed, 30), drawn_clicks(seed, 6, 30, share)
    items = np.flatnonzero(np.random.default_rng(seed).random(30) < 0.7)
    items = items if len(items) else np.array([3])
    found, expected = VectorIndex(model, items).search(clicks, k), model.lists(clicks, items, k)
    np.testing.assert_array_equal(found.items, expected.items)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(found.users, expected.users)


def test_a_graph_finds_most_of_the_lists():
    model, clicks = Drawn(1, 3000, 16), drawn_clicks(1, 50, 3000, 0.01)
    items = np.arange(3000)
    index = VectorIndex(model, items, hnsw_from=3000)
    assert index.kind == "hnsw"
    assert VectorIndex(model, items).kind == "flat"
    found, expected = index.search(clicks, 10), model.lists(clicks, items, 10)
    shared = [len(set(one) & set(other)) for one, other in zip(found.items, expected.items, strict=True)]
    assert np.mean(shared) > 9.5
    assert not clicks.toarray()[np.arange(50)[:, None], found.items].any()


def test_two_towers_are_searched_as_they_score():
    train = random_training_set(4)
    config = TwoTowerConfig(embedding_dim=8, hidden_dim=8, batch_size=16, epochs=3, validation_share=0)
    model = TwoTower(config).fit(train)
    assert isinstance(model, VectorModel)
    assert not isinstance(SVD(), VectorModel)
    found = VectorIndex(model, train.cold_items).search(train.interactions, 3)
    expected = rank(model.scorer(train.cold_items), train.interactions, train.cold_items, k=3)
    np.testing.assert_array_equal(found.items, expected.items)


def test_nobody_and_nothing():
    model = Drawn(2, 5)
    assert VectorIndex(model, np.arange(5)).search(drawn_clicks(0, 3, 5)[:0], 4).items.shape == (0, 4)
    everything = sp.csr_array(np.ones((1, 5), np.float32))
    assert (VectorIndex(model, np.arange(5)).search(everything, 2).items == -1).all()
    with pytest.raises(ConfigError, match="k is 0"):
        VectorIndex(model, np.arange(5)).search(everything, 0)


def test_memory_is_checked_before_the_index_is_made(monkeypatch):
    monkeypatch.setattr("coldray.core.memory.available_bytes", lambda: 100)
    with pytest.raises(CatalogTooLargeError, match=r"An index of 5 items .* scoring all items"):
        VectorIndex(Drawn(2, 5), np.arange(5))
