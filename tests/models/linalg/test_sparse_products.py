"""Products of two sparse matrices: both ways against numpy, bit by bit the same, and chosen by what they cost."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.models.linalg import products as module
from coldray.models.linalg.products import SparseProducts, common_counts


def sparse(generator, shape, share, values=None):
    cells = (generator.random(shape) < share).astype(np.float32)
    return sp.csr_array(cells if values is None else cells * values.astype(np.float32))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(0, 150), st.integers(1, 20), st.integers(1, 30)),
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    weighted_rows=st.booleans(),
)
def test_both_ways_give_the_same_numbers(seed, shape, shares, weighted_rows):
    generator = np.random.default_rng(seed)
    n_rows, inner, n_columns = shape
    weights = [None, None]
    weights[weighted_rows] = generator.standard_normal((inner, n_columns) if weighted_rows else (n_rows, inner))
    rows, columns = (
        sparse(generator, size, share, values)
        for size, share, values in zip([(n_rows, inner), (inner, n_columns)], shares, weights, strict=True)
    )
    products = SparseProducts(columns)
    found = []
    for gain in (0, 10**9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "_VECTOR_GAIN", gain)
            found.append(products.dense(rows))
    np.testing.assert_array_equal(*found)
    assert found[0].dtype == found[1].dtype == np.float32
    assert products.n_columns == n_columns
    np.testing.assert_allclose(found[0], rows.toarray() @ columns.toarray(), atol=1e-4)
    np.testing.assert_array_equal(products.sparse(rows).toarray(), found[0])


def test_full_rows_are_made_dense_and_thin_ones_are_not(monkeypatch):
    generator = np.random.default_rng(0)
    products = SparseProducts(sparse(generator, (400, 30), 0.3))
    full, thin = sparse(generator, (80, 400), 0.3), sparse(generator, (80, 400), 0.01)
    assert products.pays_dense(full)
    assert not products.pays_dense(thin)
    panels = []
    real = module.click_products
    monkeypatch.setattr(module, "click_products", lambda *given: panels.append(given[1].shape) or real(*given))
    products.dense(thin)
    assert panels == []
    products.dense(full)
    assert panels == [(400, 64), (400, 16)]


def test_clicks_in_common_are_counted_in_blocks_of_rows(monkeypatch):
    generator = np.random.default_rng(1)
    clicks = sparse(generator, (90, 25), 0.3)
    dense = clicks.toarray()
    for rows in (4, 256):
        monkeypatch.setattr(module, "COUNTED_ROWS", rows)
        np.testing.assert_array_equal(common_counts(clicks), dense.T @ dense)
