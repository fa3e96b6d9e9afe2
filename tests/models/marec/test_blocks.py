"""MARec in blocks: the closed form on cold items, EASE in blocks on warm ones, and nothing of items × items."""

import logging
import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, ConfigError
from coldray.models.computations import Computations
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec import blocks as marec_blocks
from coldray.models.marec import model as marec
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.models.marec.plus import MARecPlusConfig
from coldray.training.options import FitOptions
from contracts.pairwise import pairwise
from contracts.problems import genre_groups, random_training_set
from contracts.recommender import ColdItemContract
from models.learned import CountingComputations
from models.marec.test_model import assert_agree, assert_same_model, few_clicks, slow

BLOCKS = {"solver": "blocks", "delta": 1.5}


class TestMARecInBlocks(ColdItemContract):
    model = MARec
    config = MARecConfig(lambda_1=3.0, beta=5.0, block_items=12, learning_items=15, order=1, **BLOCKS)


@pytest.mark.parametrize(
    *pairwise(
        lambda_1=[0.2, 3.0, 1000.0],
        parameters=[{"order": 1}, {"order": 2, "learner": "nonnegative"}],
        shape=[{"n_users": 15, "n_warm": 24}, {"n_users": 60, "n_warm": 20}],
        seed=[0, 1],
    )
)
def test_one_block_and_all_items_are_the_closed_form(seed, shape, parameters, lambda_1):
    train = random_training_set(seed, **shape)
    assert_same_model(train, MARecConfig(lambda_1=lambda_1, alpha=2.0, beta=40.0, w0=0.1, **BLOCKS, **parameters))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), block_items=st.integers(2, 12), exponent=st.floats(-1, 3))
def test_cold_items_are_those_of_the_closed_form_whatever_the_blocks(seed, block_items, exponent):
    """The measured error is that of the tolerance."""
    train = random_training_set(seed % 1000)
    config = MARecConfig(lambda_1=10.0**exponent, order=1, delta=1.5)
    exact = MARec(config).fit(train)
    blocks = MARec(config.model_copy(update={"solver": "blocks", "block_items": block_items})).fit(train)
    np.testing.assert_allclose(list(blocks.mixture.values()), list(exact.mixture.values()), rtol=1e-3, atol=1e-6)
    found, expected = (model.score(train.interactions, train.cold_items) for model in (blocks, exact))
    assert_agree(found, expected, 1e-3)


def test_warm_items_are_those_of_ease_in_blocks():
    train = random_training_set(2, n_users=80)
    model = MARec(MARecConfig(lambda_1=2.0, block_items=9, order=1, **BLOCKS)).fit(train)
    ease = EASE(EASEConfig(regularization=2.0, solver="blocks", block_items=9)).fit(train)
    mixed = np.concatenate([train.cold_items[:2], train.warm_items, train.cold_items[2:]])
    found = model.score(train.interactions, mixed)[:, 2 : 2 + len(train.warm_items)]
    np.testing.assert_array_equal(found, ease.score(train.interactions, train.warm_items))


def test_the_weights_of_some_items_come_close_to_those_of_all():
    """A planted mixture: clicks follow the genre, and the regression on a fifth of the items finds it."""
    train, _ = genre_groups(n_groups=4, users_per_group=60, items_per_genre=30, cold_per_genre=6)
    fifth = len(train.warm_items) // 5
    every, some = (MARec(MARecConfig(order=1, learning_items=count, **BLOCKS)).fit(train) for count in (1000, fifth))
    for name, weight in every.mixture.items():
        assert some.mixture[name] == pytest.approx(weight, rel=0.25, abs=0.02 * max(every.mixture.values()))
    assert some.mixture != every.mixture


def test_a_study_learns_once_and_cuts_blocks_once():
    train, shared = random_training_set(3), CountingComputations()
    for lambda_1 in (1.0, 10.0):
        MARec(MARecConfig(lambda_1=lambda_1, order=1, block_items=7, **BLOCKS)).fit(train, shared)
    assert {name: len(calls) for name, calls in shared.computed.items()} == {"sampled_moments": 1, "item_blocks": 1}


def test_what_is_learned_from_is_as_configured(monkeypatch):
    train, given, real = random_training_set(4), [], marec.sampled_moments
    one = {"workers": 1}

    def recorded(train, **parameters):
        given.append(parameters)
        return real(train, **{**parameters, **one})

    monkeypatch.setattr(marec, "sampled_moments", recorded)
    config = MARecConfig(order=1, learning_items=9, seed=5, **BLOCKS)
    MARec(config).fit(train, options=FitOptions(workers=2))
    assert given == [{"delta": 1.5, "order": 1, "items": 9, "seed": 5, "workers": 2}]


def test_alpha_and_beta_change_nothing_within_a_side():
    train = random_training_set(5)
    first, second = (MARec(MARecConfig(alpha=alpha, beta=3.0, order=1, **BLOCKS)).fit(train) for alpha in (1.0, 4.0))
    assert first.ranking_key() == second.ranking_key() is not None
    cold, warm = train.cold_items, train.warm_items
    scale = second.cold_scale / first.cold_scale
    clicks = train.interactions
    np.testing.assert_allclose(second.score(clicks, cold), scale * first.score(clicks, cold), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(second.score(clicks, warm), first.score(clicks, warm))


def test_warm_items_with_few_clicks_are_left_as_they_are_and_told_of(caplog):
    train = few_clicks(7)
    with caplog.at_level(logging.WARNING):
        model = MARec(MARecConfig(lambda_1=2.0, order=1, **BLOCKS)).fit(train)
    assert "aligns cold items alone; 2 warm items of few clicks 7" in caplog.text
    expected = slow(train, MARecConfig(lambda_1=2.0, order=1, **BLOCKS))
    found = model.score(sp.eye_array(28, dtype=np.float32, format="csr"), train.cold_items)
    gram = (train.interactions.T @ train.interactions).toarray()[np.ix_(train.warm_items, train.warm_items)]
    similarity = expected.mixture[np.ix_(train.warm_items, train.cold_items)]
    wanted = 100 * np.linalg.solve(gram + 2 * np.eye(len(gram)), gram @ similarity)
    assert_agree(found[train.warm_items], wanted)
    caplog.clear()
    MARec(MARecConfig(order=1, **BLOCKS)).fit(random_training_set(6))
    assert caplog.text == ""


def test_nothing_of_items_times_items_is_allocated(monkeypatch):
    monkeypatch.setattr("coldray.models.marec.sampled_moments.BLOCK_FLOATS", 2**14)
    monkeypatch.setattr(marec_blocks, "_BLOCK_FLOATS", 2**14)
    train = random_training_set(8, n_users=40, n_warm=2500, n_cold=300)
    model = MARec(MARecConfig(order=1, block_items=10, learning_items=20, **BLOCKS))
    tracemalloc.start()
    try:
        model.fit(train)
        model.score(train.interactions, train.cold_items[:20])
        model.state()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2500**2


def test_what_does_not_fit_is_refused(monkeypatch):
    blocks = MARec(MARecConfig(block_items=100, **BLOCKS))
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 8 * 2**30)
    with pytest.raises(CatalogTooLargeError, match=r"MARec on 1,000,000 items .*Use solver='blocks'"):
        MARec().check_size(10, 10**6)
    blocks.check_size(10**5, 10**6)
    with pytest.raises(CatalogTooLargeError, match=r"000,000 items in blocks needs .*smaller block_items"):
        blocks.check_size(10, 10**9)
    train = random_training_set(9)
    model = MARec(MARecConfig(order=1, **BLOCKS)).fit(train)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match=r"8 cold columns of MARec over 22 warm items .*fewer items"):
        model.score(train.interactions, train.cold_items)
    need = 12 * 22 * 8 + marec_blocks._solver_bytes(30, 22, 8)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need - 1)
    with pytest.raises(CatalogTooLargeError, match="8 cold columns"):
        model.score(train.interactions, train.cold_items)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need)
    model.score(train.interactions, train.cold_items)
    with pytest.raises(CatalogTooLargeError, match="MARec on 30 items in blocks"):
        MARec(MARecConfig(order=1, **BLOCKS)).fit(train, Computations())


TWO = FitOptions(workers=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MARecConfig(lambda_0=0.5, **BLOCKS), "lambda_0=0.5 is no part of"),
        (lambda: MARecConfig(learner="correlation", **BLOCKS), "learner='correlation' needs the item × item"),
        (lambda: MARec().check_options(TWO), "workers=2 share what solver='blocks' learns from; solver='auto'"),
        (lambda: MARecPlusConfig(**BLOCKS), "Use another solver, or the model marec"),
        (lambda: EASE(EASEConfig(solver="blocks")).check_options(TWO), "workers=2 count the item × item co-clicks"),
    ],
    ids=["lambda_0", "correlation", "workers", "marec_plus", "ease"],
)
def test_values_that_exclude_each_other_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
