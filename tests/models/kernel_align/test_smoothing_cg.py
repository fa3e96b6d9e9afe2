"""Smoothing over users by conjugate gradients: the dense formula, blocks, precision and refusals."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, NumericalError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.smoothing_cg import smooth_by_conjugate_gradients
from contracts.problems import genre_groups, random_training_set, scalar_feature


def training_set(clicks):
    n_items = clicks.shape[1]
    features = FeatureSet({"year": scalar_feature(np.arange(n_items))}, n_items)
    return TrainingSet(sp.csr_array(clicks.astype(np.float32)), features, "clicks")


def dense(train, *, alpha, ridge, right):
    """Return the formula in float64, and the smoothed part before D."""
    clicks = train.interactions.toarray()[:, train.warm_items].astype(np.float64)
    damping = (clicks.sum(axis=0) + 5.0) ** -alpha
    gram = clicks.T @ clicks * damping[:, None] * damping
    shift = ridge * np.mean(np.diag(gram))
    inner = np.linalg.solve(gram + shift * np.eye(len(gram)), gram @ right)
    limit = np.minimum(np.linalg.norm(right, axis=0), np.linalg.norm(gram @ right, axis=0) / shift)
    return damping[:, None] * inner, damping, limit


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    ridge=st.sampled_from([0.1, 1.0, 6.0, 1000.0]),
    columns=st.integers(1, 7),
)
def test_it_is_the_dense_formula_within_the_promised_error(seed, alpha, ridge, columns):
    train = random_training_set(seed % 1000)
    right = np.random.default_rng(seed).standard_normal((len(train.warm_items), columns)).astype(np.float32)
    found = smooth_by_conjugate_gradients(train, alpha=alpha, ridge=ridge, right=right, tolerance=1e-5)
    expected, damping, limit = dense(train, alpha=alpha, ridge=ridge, right=right)
    errors = np.linalg.norm((found - expected) / damping[:, None], axis=0)
    assert found.dtype == np.float32
    assert found.shape == right.shape
    assert (errors <= 1.2e-5 * limit).all()  # the residual is measured in float32 too


def test_columns_solved_in_blocks_are_those_solved_at_once():
    train = random_training_set(1)
    right = np.random.default_rng(1).standard_normal((len(train.warm_items), 7)).astype(np.float32)
    parameters = {"alpha": 0.2, "ridge": 2.0, "right": right, "tolerance": 1e-5}
    whole = smooth_by_conjugate_gradients(train, **parameters)
    for block_floats in (1, 700):
        parts = smooth_by_conjugate_gradients(train, **parameters, block_floats=block_floats)
        np.testing.assert_allclose(parts, whole, atol=1e-6)


def test_a_column_does_not_depend_on_how_large_its_neighbours_are():
    train = random_training_set(2)
    right = np.random.default_rng(2).standard_normal((len(train.warm_items), 3)).astype(np.float32)
    scale = np.array([1e-6, 1.0, 1e6], np.float32)
    found = smooth_by_conjugate_gradients(train, alpha=0.2, ridge=2.0, right=right * scale, tolerance=1e-5) / scale
    expected = dense(train, alpha=0.2, ridge=2.0, right=right)[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_weight_stays_among_the_items_that_share_users():
    train, genres = genre_groups()
    own = genres[train.warm_items][:, None] == np.arange(3)
    smoothed = smooth_by_conjugate_gradients(train, alpha=0.2, ridge=1.0, right=own.astype(np.float32))
    assert (smoothed[own] > 0.1).all()
    assert (smoothed[~own] == 0).all()


def test_one_user_is_the_formula_of_a_rank_one_matrix():
    """A is the matrix of ones: the mean is kept up to n / (n + λ), the rest is forgotten."""
    train = training_set(np.ones((1, 8)))
    right = np.random.default_rng(0).standard_normal((8, 2)).astype(np.float32)
    smoothed = smooth_by_conjugate_gradients(train, alpha=0.0, ridge=4.0, right=right)
    np.testing.assert_allclose(smoothed, np.tile(right.mean(axis=0) * 8 / 12, (8, 1)), rtol=1e-4)


def test_a_column_of_zeros_stays_zero():
    train = random_training_set(3)
    right = np.random.default_rng(3).standard_normal((len(train.warm_items), 3)).astype(np.float32)
    right[:, 1] = 0
    smoothed = smooth_by_conjugate_gradients(train, alpha=0.2, ridge=6.0, right=right)
    assert (smoothed[:, 1] == 0).all()
    assert np.isfinite(smoothed).all()
    assert (smoothed[:, [0, 2]] != 0).any(axis=0).all()


def test_single_precision_reaches_the_tolerance_on_a_badly_conditioned_problem():
    generator = np.random.default_rng(4)
    popular = np.linspace(0.9, 0.02, 150)
    train = training_set(generator.random((600, 150)) < popular)
    right = generator.standard_normal((150, 5)).astype(np.float32)
    found = smooth_by_conjugate_gradients(train, alpha=0.2, ridge=0.1, right=right, tolerance=1e-5)
    expected, damping, limit = dense(train, alpha=0.2, ridge=0.1, right=right)
    assert (np.linalg.norm((found - expected) / damping[:, None], axis=0) <= 1.2e-5 * limit).all()


def test_too_few_steps_are_an_error_that_says_what_to_do():
    train = random_training_set(5)
    right = np.ones((len(train.warm_items), 2), np.float32)
    with pytest.raises(
        NumericalError,
        match=r"residual is .* after 2 steps, more than the tolerance 1e-06.*larger ridge than 0\.01, or a",
    ):
        smooth_by_conjugate_gradients(train, alpha=0.2, ridge=0.01, right=right, tolerance=1e-6, max_steps=2)


def test_a_tolerance_beyond_single_precision_is_an_error_that_names_the_true_residual():
    train = random_training_set(5)
    right = np.random.default_rng(5).standard_normal((len(train.warm_items), 2)).astype(np.float32)
    with pytest.raises(NumericalError, match=r"after 300 steps") as raised:
        smooth_by_conjugate_gradients(train, alpha=0.2, ridge=6.0, right=right, tolerance=1e-9, max_steps=300)
    assert 1e-9 < float(str(raised.value).split("residual is ")[1].split()[0]) < 1e-5


def test_values_that_are_not_finite_are_refused():
    train = random_training_set(6)
    right = np.ones((len(train.warm_items), 2), np.float32)
    right[0, 1] = np.nan
    with pytest.raises(NumericalError, match="residual is inf"):
        smooth_by_conjugate_gradients(train, alpha=0.2, ridge=6.0, right=right)


def test_a_block_that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch):
    train, right = random_training_set(7), np.ones((22, 4), np.float32)
    need = 4 * (4 * (30 + 8 * 22) + 4 * 22)  # of each column a value a user and eight an item; and what is returned
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need)
    smooth_by_conjugate_gradients(train, alpha=0.2, ridge=6.0, right=right)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need - 1)
    with pytest.raises(CatalogTooLargeError, match=r"Smoothing 4 columns over 30 users and 22 items"):
        smooth_by_conjugate_gradients(train, alpha=0.2, ridge=6.0, right=right)
