"""Factors in panels against NumPy's, and what is measured of their error."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.models.linalg import panel_cholesky
from coldray.models.linalg.panel_cholesky import PanelCholesky, inverse_of_factor


def positive_definite(generator, size, condition=100.0):
    vectors, _ = np.linalg.qr(generator.standard_normal((size, size)))
    return vectors @ np.diag(np.geomspace(1, condition, size)) @ vectors.T


def factorised(matrix, kind):
    return PanelCholesky.of(lambda start, stop: matrix[start:, start:stop].astype(kind), len(matrix), kind)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 40),
    width=st.integers(1, 12),
    single=st.booleans(),
)
def test_it_solves_as_the_matrix_does(seed, size, width, single):
    generator, kind = np.random.default_rng(seed), np.float32 if single else np.float64
    matrix = positive_definite(generator, size)
    right = generator.standard_normal((size, 3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel_cholesky, "PANEL", width)
        factor, error = factorised(matrix, kind)
        places = generator.integers(0, size, 5)
        assert factor.cells.dtype == kind
        assert error < (1e-3 if single else 1e-11)
        tolerance = 2e-3 if single else 1e-10
        inverse = np.linalg.inv(matrix)
        np.testing.assert_allclose(factor.solve(right), inverse @ right, atol=tolerance)
        np.testing.assert_allclose(factor.inverse_diagonal(places), np.diag(inverse)[places], atol=tolerance)
        np.testing.assert_allclose(
            PanelCholesky.of_dense(np.linalg.cholesky(matrix)).solve(right), inverse @ right, atol=1e-10
        )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(1, 40),
    width=st.integers(1, 12),
    single=st.booleans(),
    most=st.sampled_from([0, 100]),
)
def test_an_inverse_is_below_the_diagonal_by_lapack_and_beyond_its_rows_in_panels(seed, size, width, single, most):
    matrix, kind = positive_definite(np.random.default_rng(seed), size), np.float32 if single else np.float64
    factor = np.asfortranarray(np.linalg.cholesky(matrix), kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panel_cholesky, "PANEL", width)
        patch.setattr(panel_cholesky, "_LAPACK_ROWS", most)
        found = inverse_of_factor(factor)
    assert np.shares_memory(found, factor)
    np.testing.assert_allclose(np.tril(found), np.tril(np.linalg.inv(matrix)), atol=2e-3 if single else 1e-10)
    assert not np.triu(found, 1).any()


def test_what_is_solved_for_stays_as_it_is_and_cells_may_be_read_only():
    matrix = positive_definite(np.random.default_rng(0), 6)
    factor, _ = factorised(matrix, np.float64)
    factor.cells.flags.writeable = False
    right = np.ones((6, 2))
    np.testing.assert_allclose(matrix @ factor.solve(right), right)
    np.testing.assert_array_equal(right, 1)


@pytest.mark.parametrize("broken", [3, 11])
def test_a_matrix_that_is_not_positive_definite_has_none(monkeypatch, broken):
    monkeypatch.setattr(panel_cholesky, "PANEL", 4)
    matrix = np.eye(12)
    matrix[broken, broken] = -1
    assert factorised(matrix, np.float32) is None


def test_the_error_tells_of_a_precision_that_is_not_enough():
    matrix = positive_definite(np.random.default_rng(1), 60, condition=1e6)
    _, single = factorised(matrix, np.float32)
    _, double = factorised(matrix, np.float64)
    assert single > 1e-4
    assert double < 1e-8
