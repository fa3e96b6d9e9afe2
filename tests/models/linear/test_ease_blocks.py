"""EASE in blocks: exact where blocks are islands, close to exact where they are not, in bounded memory."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.linear import ease, ease_blocks
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_blocks import item_blocks
from contracts.problems import random_training_set
from contracts.recommender import ClickedItemContract, all_items
from models.learned import CountingComputations


class TestEASEInBlocks(ClickedItemContract):
    model = EASE
    config = EASEConfig(regularization=3.0, solver="blocks", block_items=16)


def training_set(clicks, key="clicks"):
    clicks = np.asarray(clicks, np.float32)
    return TrainingSet(sp.csr_array(clicks), FeatureSet({}, clicks.shape[1]), key)


def islands(seed, count=4, n_users=15, n_items=6):
    """Return clicks of groups of users on items of their own, and an item that nobody clicks."""
    generator = np.random.default_rng(seed)
    clicks = np.zeros((count * n_users, count * n_items + 1))
    for island in range(count):
        rows, columns = (slice(island * n, (island + 1) * n) for n in (n_users, n_items))
        clicks[rows, columns] = generator.random((n_users, n_items)) < 0.5
        clicks[island * n_users, columns] = 1  # nothing falls apart
    return training_set(clicks, str(seed))


def weights(model):
    return model.score(sp.csr_array(np.eye(model.n_items, dtype=np.float32)), all_items(model))


def fits(train, **parameters):
    return [weights(EASE(EASEConfig(solver=solver, **parameters)).fit(train)) for solver in ("exact", "blocks")]


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(6, 30), st.floats(0.01, 1), st.sampled_from([0.5, 20.0]))
def test_islands_that_fit_in_a_block_are_solved_exactly(seed, block_items, share, regularization):
    exact, blocks = fits(islands(seed), regularization=regularization, block_items=block_items, block_share=share)
    np.testing.assert_allclose(blocks, exact, atol=2e-5)
    assert np.abs(exact).max() > 0.01


@given(st.integers(0, 10**6), st.floats(0, 3))
def test_one_block_of_all_items_is_exact(seed, exponent):
    exact, blocks = fits(random_training_set(seed, n_cold=4), regularization=10.0**exponent, block_items=30)
    np.testing.assert_allclose(blocks, exact, atol=1e-5 * np.abs(exact).max() + 2e-6)


def test_an_item_is_predicted_by_ease_on_the_items_of_its_block():
    train = random_training_set(1, n_users=80, n_cold=0)
    found = weights(EASE(EASEConfig(regularization=2.0, solver="blocks", block_items=9)).fit(train))
    for block in item_blocks(train, size=9, share=0.5):
        alone = EASE(EASEConfig(regularization=2.0)).fit(training_set(train.interactions[:, block.members].toarray()))
        places = np.searchsorted(block.members, block.targets)
        np.testing.assert_allclose(found[np.ix_(block.members, block.targets)], weights(alone)[:, places], atol=1e-5)
        outside = np.setdiff1d(np.arange(train.interactions.shape[1]), block.members)
        assert (found[np.ix_(outside, block.targets)] == 0).all()


def test_the_loss_by_blocks_falls_as_they_grow():
    """Items in a row, each like its neighbours: the weights of the far ones are small, and those left out."""
    places = np.linspace(0, 1, 60)
    generator = np.random.default_rng(0)
    distance = np.abs(generator.random(600)[:, None] - places)
    train = training_set(generator.random((600, 60)) < np.exp(-distance * 12))
    exact = EASE(EASEConfig(regularization=5.0)).fit(train).score(train.interactions, np.arange(60))
    losses = []
    for block_items in (6, 15, 30, 59):
        model = EASE(EASEConfig(regularization=5.0, solver="blocks", block_items=block_items, block_share=0.2))
        scores = model.fit(train).score(train.interactions, np.arange(60))
        losses.append(float(np.square(scores - exact).sum() / np.square(exact).sum()))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 0.05
    assert losses[2] < 0.02
    assert losses[3] < 1e-3


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(0.01, 1))
def test_blocks_cover_each_item_once_and_are_no_larger_than_asked(seed, size, share):
    train = random_training_set(seed % 1000)
    blocks = item_blocks(train, size=size, share=share)
    targets = np.concatenate([block.targets for block in blocks])
    np.testing.assert_array_equal(np.sort(targets), train.warm_items)
    for block in blocks:
        assert len(block.members) <= max(size, 1)
        assert (np.diff(block.members) > 0).all()
        assert np.isin(block.targets, block.members).all()
        if size < len(train.warm_items):
            assert len(block.targets) <= max(1, round(share * len(block.members)))


def test_the_state_is_of_the_size_of_the_blocks_and_gives_the_model_back():
    train, config = random_training_set(2), EASEConfig(regularization=2.0, solver="blocks", block_items=5)
    model = EASE(config).fit(train)
    state = model.state()
    assert set(state) == {"indptr", "indices", "values", "warm_items", "n_items"}
    assert np.diff(state["indptr"]).max() <= 4  # the weight of an item itself is not kept
    again = EASE.from_state(config, state, train.features)
    np.testing.assert_array_equal(weights(again), weights(model))


def test_a_second_fit_by_the_other_solver_starts_afresh():
    train = random_training_set(3)
    model = EASE(EASEConfig(regularization=2.0, solver="blocks", block_items=5)).fit(train)
    model.config = EASEConfig(regularization=2.0)
    np.testing.assert_array_equal(weights(model.fit(train)), weights(EASE(model.config).fit(train)))


def test_blocks_are_shared_by_the_trials_of_a_study():
    train, shared = random_training_set(4), CountingComputations()
    for regularization in (1.0, 10.0):
        EASE(EASEConfig(regularization=regularization, solver="blocks", block_items=7)).fit(train, shared)
    assert shared.computed["item_blocks"] == [{"size": 7, "share": 0.5}]


def test_a_catalogue_that_is_too_large_for_a_matrix_fits_in_blocks(monkeypatch):
    with pytest.raises(CatalogTooLargeError, match="Use solver='blocks'"):
        EASE(EASEConfig(solver="exact")).check_size(10, 10**6)
    blocks = EASE(EASEConfig(solver="blocks", block_items=100))
    blocks.check_size(10, 10**6)
    with pytest.raises(
        CatalogTooLargeError, match=r"EASE on 1,000,000,000 items in blocks of 100 .*smaller block_items"
    ):
        blocks.check_size(10, 10**9)
    monkeypatch.setattr(ease, "block_bytes", lambda *_: 10**18)
    monkeypatch.setattr(ease, "item_blocks", None)
    with pytest.raises(CatalogTooLargeError, match="in blocks of 30"):
        blocks.fit(random_training_set(5))


def test_a_fit_and_its_scores_keep_within_what_they_are_said_to_need():
    train = random_training_set(7, n_users=60, n_warm=500, n_cold=20)
    model = EASE(EASEConfig(solver="blocks", block_items=50))
    tracemalloc.start()
    try:
        model.fit(train).score(train.interactions, np.arange(20))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < model.memory_bytes(60, 520)


def test_no_matrix_is_larger_than_a_block(monkeypatch):
    shapes = []
    real = ease._cholesky_inverse
    monkeypatch.setattr(ease, "_cholesky_inverse", lambda *given: shapes.append(given[0].shape) or real(*given))
    monkeypatch.setattr(ease, "co_clicks", None)
    EASE(EASEConfig(solver="blocks", block_items=8)).fit(random_training_set(6))
    assert max(shapes) <= (8, 8)
    assert len(shapes) > 1


def test_what_cannot_be_solved_is_refused():
    with pytest.raises(DataError, match="No item has a click"):
        EASE(EASEConfig(solver="blocks")).fit(training_set(np.zeros((3, 4))))
    config = EASEConfig(regularization=1e-30, solver="blocks", block_items=3)
    with pytest.raises(SingularMatrixError, match="larger"):
        EASE(config).fit(training_set(np.ones((1000, 5))))
    assert ease_blocks.block_bytes(5, 10, 100) == ease_blocks.block_bytes(5, 10, 10)
