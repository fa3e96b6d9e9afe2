"""ItemKNN: neighbours per target item against loops, planted structure, and the contract of all models."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.models.linalg import products as sparse_products
from coldray.models.neighbours import item as module
from coldray.models.neighbours.item import ItemKNN, ItemKNNConfig
from contracts.neighbours import NeighbourContract
from contracts.problems import clicks_alone, random_training_set
from contracts.recommender import ClickedItemContract, all_items, histories_of
from models.learned import CountingComputations


class TestItemKNN(NeighbourContract):
    model = ItemKNN
    config = ItemKNNConfig(k=12)


class TestShrunkItemKNN(ClickedItemContract):
    model = ItemKNN
    config = ItemKNNConfig(k=8, measure="pearson", shrinkage=3.0)


def weights(model):
    """Return S, dense: what a click on the item of the row adds to the item of the column."""
    return model.score(sp.csr_array(np.eye(model.n_items, dtype=np.float32)), all_items(model))


def cosines(clicks):
    """Return the cosine of each two items, cell by cell; 0 on the diagonal."""
    n_items = clicks.shape[1]
    found = np.zeros((n_items, n_items))
    for i in range(n_items):
        for j in range(n_items):
            both = np.sum((clicks[:, i] > 0) & (clicks[:, j] > 0))
            if i != j and both:
                found[i, j] = both / np.sqrt(clicks[:, i].sum() * clicks[:, j].sum())
    return found


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 25), shrinkage=st.sampled_from([0.0, 2.0]))
def test_each_column_keeps_the_k_items_most_similar_to_its_item(seed, k, shrinkage):
    generator = np.random.default_rng(seed)
    clicks = generator.random((12, 18)) < generator.random(18) * 0.8
    found = weights(ItemKNN(ItemKNNConfig(k=k, shrinkage=shrinkage)).fit(clicks_alone(clicks, str(seed))))
    every, together = cosines(clicks), clicks.T.astype(float) @ clicks
    every *= together / np.maximum(together + shrinkage, 1e-9)
    for j in range(18):
        kept = np.flatnonzero(found[:, j])
        # Of equally similar items any may be kept, so the similarities are compared, not the items.
        np.testing.assert_allclose(found[kept, j], every[kept, j], rtol=1e-5)
        best = np.sort(every[:, j])[::-1][:k]
        np.testing.assert_allclose(np.sort(found[kept, j])[::-1], best[best > 0], rtol=1e-5)


def test_neighbours_are_kept_per_target_item_and_not_per_clicked_one():
    """All users click the hub; each of the others has a twin. A hub is near to many, and few are near to it."""
    twins = np.kron(np.eye(4), np.ones((3, 2)))
    clicks = np.column_stack([np.ones(12), twins])
    found = weights(ItemKNN(ItemKNNConfig(k=2)).fit(clicks_alone(clicks)))
    assert (np.count_nonzero(found, axis=0) == 2).all()  # each column has two
    assert np.count_nonzero(found[0]) == 8  # the hub's row has them all
    for item in range(1, 9):
        twin = item + 1 if item % 2 else item - 1
        assert set(np.flatnonzero(found[:, item])) == {0, twin}
        assert found[twin, item] > found[0, item]


def test_a_longer_history_adds_up():
    train = random_training_set(2)
    model = ItemKNN(ItemKNNConfig(k=6)).fit(train)
    first, second = train.warm_items[[0, 1]]
    scores = model.score(histories_of([first], [second], [first, second], n_items=30), all_items(model))
    np.testing.assert_allclose(scores[2], scores[0] + scores[1], rtol=1e-5)


@pytest.mark.parametrize("block", [1, 7])
def test_neighbours_are_found_alike_in_blocks(monkeypatch, block):
    train = random_training_set(3)
    whole = ItemKNN(ItemKNNConfig(k=9)).fit(train).state()
    monkeypatch.setattr(module, "_BLOCK_ITEMS", block)
    parts = ItemKNN(ItemKNNConfig(k=9)).fit(train).state()
    for name, found in parts.items():
        np.testing.assert_array_equal(found, whole[name])


def test_no_block_holds_more_counts_than_it_may(monkeypatch):
    held = []
    real = module.click_similarity
    monkeypatch.setattr(
        module, "click_similarity", lambda found, *a, **k: held.append(found.shape) or real(found, *a, **k)
    )
    monkeypatch.setattr(module, "_BLOCK_CELLS", 100)
    monkeypatch.setattr(sparse_products, "_VECTOR_GAIN", 1)
    islands = np.kron(np.eye(10), np.ones((2, 4)))
    ItemKNN().fit(clicks_alone(islands))
    assert sum(rows for rows, _ in held) == 40
    assert max(rows * columns for rows, columns in held) <= 100
    assert max(columns for _, columns in held) <= 8  # of the 40 items those that two have met


@pytest.mark.parametrize("measure", ["cosine", "pearson", "jaccard"])
def test_neighbours_and_scores_do_not_depend_on_the_way_clicks_are_counted(monkeypatch, measure):
    train = random_training_set(5)
    states, scores = [], []
    for gain in (0, 10**9):
        monkeypatch.setattr(sparse_products, "_VECTOR_GAIN", gain)
        model = ItemKNN(ItemKNNConfig(k=7, measure=measure)).fit(train)
        states.append(model.state())
        scores.append(model.score(train.interactions, all_items(model)))
    for name, found in states[0].items():
        np.testing.assert_array_equal(found, states[1][name])
    np.testing.assert_array_equal(*scores)


def test_trials_that_ask_for_the_same_neighbours_share_them():
    train, shared = random_training_set(4), CountingComputations()
    config = ItemKNNConfig(k=7, measure="jaccard", shrinkage=2.0)
    for _ in range(2):
        ItemKNN(config).fit(train, shared)
    assert shared.computed["similar_items"] == [{"k": 7, "measure": "jaccard", "shrinkage": 2.0}]


def test_nothing_to_learn_from_and_too_much_of_it():
    with pytest.raises(DataError, match="No item has a click"):
        ItemKNN().fit(clicks_alone(np.zeros((3, 5))))
    with pytest.raises(CatalogTooLargeError, match="neighbours of 1,000,000,000 items"):
        ItemKNN().check_size(10, 10**9)
