"""Smoothing over users against the dense formula."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, SingularMatrixError
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.smoothing import UserSmoother, co_clicks, users_are_fewer
from contracts.problems import random_training_set


def dense(train, alpha, ridge):
    """Return ``D (A + s I)⁻¹ A`` as the formula has it, in double precision."""
    clicks = train.interactions.toarray()[:, train.warm_items].astype(float)
    damping = np.diag((clicks.sum(axis=0) + 5) ** -alpha)
    gram = damping @ clicks.T @ clicks @ damping
    shift = ridge * np.mean(np.diag(gram))
    return damping @ np.linalg.solve(gram + shift * np.eye(len(gram)), gram)


def of_few_users(train):
    """Return the clicks of a few of the users, on items that these have clicked."""
    clicks = train.interactions[:3]
    warm = np.flatnonzero(np.diff(clicks.tocsc().indptr))
    return TrainingSet(sp.csr_array(clicks[:, warm]), train.features.take(warm), "few users")


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    alpha=st.floats(0, 2),
    ridge=st.floats(1e-3, 100),
    few=st.booleans(),
)
def test_weights_and_rows_are_the_formula(seed, alpha, ridge, few):
    """From the side of the items, and from that of the users where these are fewer."""
    train = random_training_set(seed)
    if few:
        train = of_few_users(train)
        assume(users_are_fewer(train))  # once in a thousand, three users have clicked two items
    assert users_are_fewer(train) == few
    generator = np.random.default_rng(seed)
    means = generator.standard_normal((len(train.warm_items), 5)).astype(np.float32)
    expected = dense(train, alpha, ridge)
    smoother = UserSmoother.of(train, alpha, ridge)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(smoother.weights(means), expected @ means, atol=2e-4 * scale)
    np.testing.assert_allclose(smoother.rows(means.T), means.T @ expected, atol=2e-4 * scale)


def test_co_clicks_are_those_of_the_warm_items():
    train = random_training_set(3)
    clicks = train.interactions.toarray()[:, train.warm_items]
    np.testing.assert_array_equal(co_clicks(train), clicks.T @ clicks)


def test_a_small_ridge_is_factorised_in_double_precision():
    train = random_training_set(5)
    assert UserSmoother.of(train, 0.2, 6.0).factor.cells.dtype == np.float32
    assert UserSmoother.of(train, 0.2, 1e-5).factor.cells.dtype == np.float64


@pytest.mark.parametrize(("ridge", "size"), [(6.0, 4), (1e-5, 8)])
def test_a_factor_that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch, ridge, size):
    train = random_training_set(5)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: size * 22**2)
    UserSmoother.of(train, 0.2, ridge)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: size * 22**2 - 1)
    with pytest.raises(CatalogTooLargeError, match="The factor of the co-clicks of 22 rows"):
        UserSmoother.of(train, 0.2, ridge)


def test_smoothing_leaves_its_arguments_alone():
    train = random_training_set(6)
    counts = co_clicks(train)
    before, means = counts.copy(), np.ones((len(train.warm_items), 2), np.float32)
    UserSmoother.of(train, 0.3, 2.0, counts).weights(means)
    np.testing.assert_array_equal(counts, before)
    np.testing.assert_array_equal(means, 1)


def test_a_ridge_too_small_to_help_is_named():
    train = random_training_set(5)
    alike = sp.csr_array(np.ones((30, 4), np.float32))  # rank 1
    train = TrainingSet(alike, train.features.take(np.arange(4)), "alike")
    with pytest.raises(SingularMatrixError, match=r"4 rows with ridge 1e-18.*Raise ridge"):
        UserSmoother.of(train, 0.0, 1e-18)
