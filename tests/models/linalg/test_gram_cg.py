"""Smoothing over users by conjugate gradients in double precision: the dense formula, its error bound, and refusals."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import NumericalError
from coldray.models.marec.blocks import _column_floats, _smoothed_by_clicks
from contracts.problems import random_training_set


def problem(seed, columns=4, **sizes):
    train = random_training_set(seed % 1000, **sizes)
    clicks = sp.csr_array(train.interactions[:, train.warm_items])
    return clicks, np.random.default_rng(seed).standard_normal((clicks.shape[1], columns)).astype(np.float32)


def dense(clicks, right, lambda_1):
    gram = (clicks.T @ clicks).toarray().astype(np.float64)
    return np.linalg.solve(gram + lambda_1 * np.eye(len(gram)), gram @ right)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    exponent=st.floats(-2, 4),
    columns=st.integers(0, 7),
    tolerance=st.sampled_from([1e-2, 1e-4, 1e-6]),
    block_floats=st.sampled_from([1, 400, 2**20]),
)
def test_no_column_errs_by_more_than_is_promised(seed, exponent, columns, tolerance, block_floats):
    clicks, right = problem(seed, columns)
    found = _smoothed_by_clicks(
        clicks, right, lambda_1=10.0**exponent, tolerance=tolerance, block_floats=block_floats, max_steps=500
    )
    errors = np.linalg.norm(found - dense(clicks, right, 10.0**exponent), axis=0)
    smoothed = np.linalg.norm(clicks.T @ (clicks @ right), axis=0) / 10.0**exponent
    limit = np.minimum(np.linalg.norm(right, axis=0), smoothed)
    assert found.dtype == np.float32
    assert found.shape == right.shape
    assert (errors <= (tolerance + 1e-6) * limit).all()


def test_a_loose_tolerance_takes_fewer_steps_and_a_tight_one_is_met():
    clicks, right = problem(1, n_users=200, n_warm=60)
    with pytest.raises(NumericalError, match="after 6 steps"):
        _smoothed_by_clicks(clicks, right, lambda_1=1.0, max_steps=6)
    loose = _smoothed_by_clicks(clicks, right, lambda_1=1.0, max_steps=6, tolerance=0.5)
    assert np.abs(loose - dense(clicks, right, 1.0)).max() > 1e-4


def test_clicks_of_very_different_items_are_no_obstacle():
    """Counts from 1 to 600 and a small λ₁: without a preconditioner this takes three times the steps."""
    generator = np.random.default_rng(4)
    clicks = (generator.random((600, 150)) < np.geomspace(1, 0.002, 150)).astype(np.float32)
    clicks[0] = 1
    right = generator.standard_normal((150, 3)).astype(np.float32)
    found = _smoothed_by_clicks(sp.csr_array(clicks), right, lambda_1=0.1, max_steps=120)
    np.testing.assert_allclose(found, dense(sp.csr_array(clicks), right, 0.1), atol=1e-4)


def test_a_column_of_zeros_stays_zero_and_does_not_disturb_others():
    clicks, right = problem(2)
    right[:, 1] = 0
    found = _smoothed_by_clicks(clicks, right, lambda_1=2.0)
    assert (found[:, 1] == 0).all()
    np.testing.assert_allclose(found, dense(clicks, right, 2.0), atol=1e-4)


def test_a_column_does_not_depend_on_how_large_its_neighbours_are():
    clicks, right = problem(3, columns=3)
    scale = np.array([1e-6, 1.0, 1e6], np.float32)
    found = _smoothed_by_clicks(clicks, right * scale, lambda_1=2.0) / scale
    np.testing.assert_allclose(found, dense(clicks, right, 2.0), atol=1e-4)


def test_one_user_is_the_formula_of_a_rank_one_matrix():
    right = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    found = _smoothed_by_clicks(sp.csr_array(np.ones((1, 8), np.float32)), right, lambda_1=4.0)
    np.testing.assert_allclose(found, np.tile(right.mean(axis=0) * 8 / 12, (8, 1)), rtol=1e-4)


def test_too_few_steps_are_an_error_that_says_what_to_do():
    clicks, right = problem(5)
    with pytest.raises(NumericalError, match=r"after 2 steps.*tolerance 1e-05.*larger lambda_1 than 0\.01"):
        _smoothed_by_clicks(clicks, right, lambda_1=0.01, max_steps=2)


def test_values_that_are_not_finite_are_refused():
    clicks, right = problem(6)
    right[0, 1] = np.nan
    with pytest.raises(NumericalError, match="residual is inf"):
        _smoothed_by_clicks(clicks, right, lambda_1=6.0, max_steps=5)


def test_what_a_column_takes_grows_with_users_and_items():
    assert _column_floats(1000, 10) == 1070
