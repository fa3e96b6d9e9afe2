"""The nearest items by an index of vectors, and whether lists come from it."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError
from coldray.evaluation.ranking import rank
from coldray.models.forms import Form
from coldray.models.linalg import vector_index
from coldray.models.linalg.vector_index import VectorIndex, VectorModel, settled_index
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

    @property
    def n_items(self):
        return len(self.vectors)


def drawn_clicks(seed, n_users, n_items, share=0.2):
    return sp.csr_array((np.random.default_rng(seed).random((n_users, n_items)) < share).astype(np.float32))


@settings(max_examples=30)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 30), share=st.floats(0, 1))
def test_the_nearest_are_those_of_the_greatest_products(seed, count, share):
    model, clicks = Drawn(seed, 30), drawn_clicks(seed, 6, 30, share)
    items = np.flatnonzero(np.random.default_rng(seed).random(30) < 0.7)
    items = items if len(items) else np.array([3])
    users = model.user_vectors(clicks)
    scores, found = VectorIndex(model, items).nearest(users, count)
    products = users @ model.vectors[items].T
    order = np.argsort(-products, axis=1)[:, :count]
    listed = order.shape[1]
    np.testing.assert_array_equal(found[:, :listed], items[order])
    np.testing.assert_allclose(scores[:, :listed], np.take_along_axis(products, order, 1), rtol=1e-4, atol=1e-4)
    assert (found[:, listed:] == -1).all()
    assert (scores[:, listed:] == -np.inf).all()


def test_a_graph_finds_most_of_the_nearest():
    model, clicks = Drawn(1, 3000, 16), drawn_clicks(1, 50, 3000, 0.01)
    items, users = np.arange(3000), model.user_vectors(clicks)
    index = VectorIndex(model, items, hnsw_from=3000)
    assert index.kind == "hnsw"
    assert VectorIndex(model, items).kind == "flat"
    found, expected = (one.nearest(users, 10)[1] for one in (index, VectorIndex(model, items)))
    assert np.mean([len(set(one) & set(other)) for one, other in zip(found, expected, strict=True)]) > 9.5


def test_two_towers_are_searched_as_they_score():
    train = random_training_set(4)
    config = TwoTowerConfig(embedding_dim=8, hidden_dim=8, batch_size=16, epochs=3, validation_share=0)
    model = TwoTower(config).fit(train)
    assert isinstance(model, VectorModel)
    assert not isinstance(SVD(), VectorModel)
    found = VectorIndex(model, train.cold_items).nearest(model.user_vectors(train.interactions), 3)[1]
    expected = rank(model.scorer(train.cold_items), train.interactions, train.cold_items, k=3)
    np.testing.assert_array_equal(found, expected.items)


# ---- whether lists come from an index


def settled(monkeypatch, model, clicks, kind="hnsw", before=None):
    monkeypatch.setattr(vector_index, "_INDEX_FROM", 100)
    monkeypatch.setattr(vector_index, "HNSW_FROM", 100 if kind == "hnsw" else 10_000)
    return settled_index(model, np.arange(model.n_items), clicks, before)


def test_small_catalogues_and_models_without_vectors_have_no_index(monkeypatch):
    clicks = drawn_clicks(0, 30, 100)
    assert settled(monkeypatch, Drawn(0, 99), clicks[:, :99])[0] is None
    index, form = settled(monkeypatch, Drawn(0, 100), clicks)
    assert (index.kind, form.value, form.exact) == ("hnsw", "hnsw", False)
    index, form = settled(monkeypatch, Drawn(0, 100), clicks, "flat")
    assert (index.kind, form.value, form.exact) == ("flat", "flat", True)
    index, form = settled(monkeypatch, SVD(), clicks)
    assert (index, form.exact) == (None, True)
    assert "has no vectors" in form.told


def test_the_loss_of_an_index_is_measured_and_one_that_loses_too_much_is_not_used(monkeypatch):
    model, clicks = Drawn(3, 3000, 16), drawn_clicks(1, 50, 3000, 0.01)
    monkeypatch.setattr(vector_index, "_POOLS", (1, 30, 700))
    losses = {}
    for wanted, pool in ((0.0, 1), (1.01, 700)):
        monkeypatch.setattr(vector_index, "WANTED_RECALL", wanted)
        monkeypatch.setattr(vector_index, "LEAST_RECALL", 0.0)
        index, form = settled(monkeypatch, model, clicks)
        assert index.search_pool == pool
        exact = VectorIndex(model, index.items, hnsw_from=3001)
        users = model.user_vectors(clicks)
        pairs = zip(index.nearest(users, 10)[1], exact.nearest(users, 10)[1], strict=True)
        assert form.loss == pytest.approx(1 - np.mean([len(set(a) & set(b)) / 10 for a, b in pairs]), abs=1e-6)
        losses[pool] = form.loss
        assert f"Loss against the exact form: {form.loss:.1%} (share of the 10 best items of 100 users" in form.told
    assert losses[1] > losses[700]
    monkeypatch.setattr(vector_index, "LEAST_RECALL", 1.01)
    index, form = settled(monkeypatch, model, clicks)
    assert (index, form.exact) == (None, True)
    assert "as an index would lose" in form.told
    index, form = settled(monkeypatch, model, clicks, before=Form("lists", "hnsw", False, "Settled."))
    assert (index.kind, form.exact) == ("hnsw", False)


def test_an_index_that_does_not_fit_or_cannot_be_measured_leaves_the_lists_exact(monkeypatch):
    clicks = drawn_clicks(0, 30, 100)
    assert "nobody by whom the loss" in settled(monkeypatch, Drawn(0, 100), clicks[:0])[1].told
    monkeypatch.setattr(vector_index, "LINKS", 1 << 60)
    index, form = settled(monkeypatch, Drawn(0, 100), clicks)
    assert (index, form.exact) == (None, True)
    assert "An index of 100 items" in form.told


def test_memory_is_checked_before_the_index_is_made(monkeypatch):
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 100)
    with pytest.raises(CatalogTooLargeError, match=r"An index of 5 items .* scoring all items"):
        VectorIndex(Drawn(2, 5), np.arange(5))


@pytest.mark.parametrize(("hnsw_from", "numbers"), [(100, 3 * 8), (1, 3 * 8 + 3 * vector_index.LINKS)])
def test_an_index_of_just_what_there_is_is_made(hnsw_from, numbers, monkeypatch):
    """Of each item its vector three times, single precision, and in a graph its links."""
    need = 50 * 4 * numbers
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need)
    VectorIndex(Drawn(2, 50), np.arange(50), hnsw_from=hnsw_from)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need - 1)
    with pytest.raises(CatalogTooLargeError):
        VectorIndex(Drawn(2, 50), np.arange(50), hnsw_from=hnsw_from)
