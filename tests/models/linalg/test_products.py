"""Products of clicks with weights against scipy's."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.models.linalg import products as module
from coldray.models.linalg.products import click_products


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 6), st.integers(1, 9), st.integers(0, 7)),
    share=st.floats(0, 1),
    kinds=st.tuples(st.sampled_from([np.int32, np.int64]), st.sampled_from([np.int32, np.int64])),
)
def test_the_product_is_that_of_scipy(seed, shape, share, kinds):
    generator = np.random.default_rng(seed)
    n_rows, n_items, n_columns = shape
    values = generator.integers(1, 4, (n_rows, n_items)) * (generator.random((n_rows, n_items)) < share)
    clicks = sp.csr_array(values.astype(np.float32))
    clicks.indices, clicks.indptr = clicks.indices.astype(kinds[0]), clicks.indptr.astype(kinds[1])
    weights = generator.standard_normal((n_items, n_columns)).astype(np.float32)
    found = click_products(clicks, weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, values @ weights, atol=1e-5)


@pytest.mark.parametrize("order", ["C", "F"])
def test_weights_may_be_a_slice_in_any_order_and_clicks_of_any_number(order):
    generator = np.random.default_rng(1)
    weights = np.asarray(generator.standard_normal((6, 9)), np.float64, order=order)[:, ::2]
    clicks = sp.csr_array(np.array([[0, 2, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], np.int64))
    np.testing.assert_allclose(click_products(clicks, weights), clicks.toarray() @ weights, rtol=1e-5)


def test_many_clicks_are_multiplied_panel_by_panel(monkeypatch):
    generator = np.random.default_rng(2)
    clicks = sp.csr_array((generator.random((40, 12)) < 0.5).astype(np.float32))
    weights = generator.standard_normal((12, 23)).astype(np.float32)
    whole = click_products(clicks, weights)
    monkeypatch.setattr(module, "PANEL", 5)
    np.testing.assert_array_equal(click_products(clicks, weights), whole)
    widths, real = [], torch.nn.functional.embedding_bag

    def watched(indices, panel, *given, **more):
        widths.append(panel.shape[1])
        return real(indices, panel, *given, **more)

    monkeypatch.setattr(torch.nn.functional, "embedding_bag", watched)
    click_products(clicks, weights)
    click_products(clicks[:1], weights)  # too few for a copy of the weights
    assert widths == [5, 5, 5, 5, 3, 23]
