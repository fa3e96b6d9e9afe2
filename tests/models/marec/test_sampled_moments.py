"""MARec's regression on the cells of some items: the moments of all, those of the drawn ones, and several workers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.models.marec import sampled_moments as module
from coldray.models.marec.mixture import regression_moments
from coldray.models.marec.sampled_moments import sampled_moments
from contracts.problems import random_training_set
from models import marec_reference as reference
from models.marec.test_model import slow_attributes

PARTS = ("products", "sums", "click_products", "click_sums")


def assert_same(found, expected, rtol=1e-5):
    assert (found.n_cells, found.n_clicks, found.terms) == (expected.n_cells, expected.n_clicks, expected.terms)
    for part in PARTS:
        wanted = getattr(expected, part)
        np.testing.assert_allclose(getattr(found, part), wanted, rtol=rtol, atol=rtol * np.abs(wanted).max(initial=0))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), order=st.sampled_from([1, 2]), block_floats=st.sampled_from([1, 300, 5000, 2**24]))
def test_all_items_give_the_moments_of_the_closed_form(seed, order, block_floats):
    train = random_training_set(seed % 1000, n_vectors=1 + seed % 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_FLOATS", block_floats)
        found = sampled_moments(train, delta=1.5, order=order, items=1000, seed=seed)
    assert_same(found, regression_moments(train, delta=1.5, order=order, device="cpu"))


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("block_floats", [200, 2**24])
def test_some_items_give_the_moments_of_their_cells(monkeypatch, order, block_floats):
    monkeypatch.setattr(module, "BLOCK_FLOATS", block_floats)
    train = random_training_set(1)
    found = sampled_moments(train, delta=1.5, order=order, items=7, seed=3)
    drawn = np.sort(np.random.default_rng(3).permutation(22)[:7])
    terms = reference.similarity_terms(slow_attributes(train), 1.5, order)
    columns, target = reference.cells(train.interactions.toarray().astype(float), terms)
    cells = np.isin(np.tile(np.arange(22), 30), drawn)
    columns, target = columns[cells], target[cells]
    assert (found.n_cells, found.n_clicks) == (len(target), target.sum())
    for weights, parts in ((np.ones(len(target)), PARTS[:2]), (target, PARTS[2:])):
        np.testing.assert_allclose(getattr(found, parts[0]), columns.T @ (columns * weights[:, None]), rtol=1e-5)
        np.testing.assert_allclose(getattr(found, parts[1]), columns.T @ weights, rtol=1e-5)


def test_items_are_drawn_by_the_seed():
    train = random_training_set(2)
    first, again, other = (
        sampled_moments(train, delta=1.0, order=1, items=6, seed=seed).products for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_workers_find_what_one_process_does(ray_cluster):
    train = random_training_set(3, n_users=50)
    alone, sharded = (
        sampled_moments(train, delta=1.0, order=2, items=9, seed=0, workers=workers) for workers in (1, 2)
    )
    assert_same(sharded, alone)
