"""The closed form and its factorisations against explicit inverses."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, NumericalError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.marec.alignment import (
    Alignment,
    _click_percentile,
    aligned_inverse,
    gram_spectrum,
    item_weights,
    require_before_pole,
    stacked_features,
    system_items,
)
from coldray.models.marec.ridge import CholeskyRidge, SpectralRidge
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature

SHAPES = {"U<W": {"n_users": 12, "n_warm": 30}, "U>W": {"n_users": 60, "n_warm": 18}}


def gram_of(train, items, lambda_0=0.0):
    clicks = train.interactions.toarray().astype(float)[:, items]
    stacked = stacked_features(train.features.take(items)).toarray().astype(float)
    return clicks.T @ clicks + lambda_0 * stacked @ stacked.T


def ridges(train, lambda_1, lambda_0=0.0):
    """Return every way to solve the system."""
    found = {
        "items": SpectralRidge(gram_spectrum(train, lambda_0=lambda_0, solver="items"), lambda_1),
        "auto": SpectralRidge(gram_spectrum(train, lambda_0=lambda_0, solver="auto"), lambda_1),
        "cholesky": CholeskyRidge(train, lambda_0=lambda_0, lambda_1=lambda_1),
    }
    if lambda_0 == 0:
        found["users"] = SpectralRidge(gram_spectrum(train, lambda_0=0.0, solver="users"), lambda_1)
    return found


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("solver", ["items", "users", "auto"])
def test_the_spectrum_is_that_of_the_coclicks(shape, solver):
    train = random_training_set(0, **shape)
    warm = train.warm_items
    gram = gram_of(train, warm)
    spectrum = gram_spectrum(train, lambda_0=0.0, solver=solver)
    values, vectors = spectrum.values, spectrum.vectors
    assert (values >= 0).all()
    assert vectors.shape == (len(warm), len(values))
    np.testing.assert_allclose(vectors * values @ vectors.T, gram, atol=1e-4)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(values)), atol=1e-4)
    np.testing.assert_allclose(np.sort(values)[::-1][:10], np.linalg.eigvalsh(gram)[::-1][:10], rtol=1e-6)


def test_auto_takes_the_smaller_matrix():
    few_users, many_users = (random_training_set(1, **shape) for shape in SHAPES.values())
    assert len(gram_spectrum(few_users, lambda_0=0.0, solver="auto").values) <= 12
    assert len(gram_spectrum(few_users, lambda_0=0.0, solver="items").values) == 30
    assert len(gram_spectrum(many_users, lambda_0=0.0, solver="auto").values) == 18


def test_directions_without_data_are_left_out_of_the_users_spectrum():
    train = random_training_set(2, n_users=40, n_warm=20)
    twice = sp.csr_array(sp.vstack([train.interactions, train.interactions], format="csr"))
    values = gram_spectrum(TrainingSet(twice, train.features, "twice"), lambda_0=0.0, solver="users").values
    assert len(values) == np.linalg.matrix_rank(train.interactions.toarray())
    assert values.min() > 1e-6


@pytest.mark.parametrize("shape", [*SHAPES.values(), {"n_users": 3, "n_warm": 30}], ids=[*SHAPES, "Y has few rows"])
@pytest.mark.parametrize("lambda_1", [0.05, 1.0, 500.0])
@pytest.mark.parametrize("lambda_0", [0.0, 0.7])
def test_every_solver_inverts_the_same_system(shape, lambda_1, lambda_0):
    train = random_training_set(3, **shape)
    every = system_items(train, Alignment.of(train, lambda_0=lambda_0))
    assert len(every) == (len(train.warm_items) if lambda_0 == 0 else train.features.n_items)
    for ridge in ridges(train, lambda_1, lambda_0).values():
        items = getattr(ridge, "items", every)  # a factor is over the warm items, whatever λ₀ is
        assert len(items) == len(every if isinstance(ridge, SpectralRidge) else train.warm_items)
        gram = gram_of(train, np.arange(train.features.n_items), lambda_0)[np.ix_(items, items)]
        inverse = np.linalg.inv(gram + lambda_1 * np.eye(len(gram)))
        right = np.random.default_rng(0).normal(size=(len(gram), 5)).astype(np.float32)
        smoothed = inverse @ gram @ right
        found = ridge.inverse()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found * lambda_1, inverse * lambda_1, atol=1e-5)
        np.testing.assert_allclose(ridge.solve_gram(right), smoothed, atol=1e-5 * np.abs(smoothed).max() + 1e-6)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(2, 70),
    lambda_0=st.sampled_from([0.0, 0.3, 5.0]),
    lambda_1=st.sampled_from([0.5, 30.0, 3e4]),
)
def test_a_factor_solves_for_rows_whichever_side_is_smaller(seed, n_users, lambda_0, lambda_1):
    """``(YᵀY + λ₁I)⁻¹Yᵀ R`` against a dense inverse, for Y with more rows than columns and with fewer."""
    train = random_training_set(seed, n_users=n_users, n_warm=25)
    ridge = CholeskyRidge(train, lambda_0=lambda_0, lambda_1=lambda_1)
    root = ridge.root.toarray().astype(float)
    assert ridge.by_rows == (len(root) < len(ridge.items))
    np.testing.assert_allclose(
        root.T @ root,
        gram_of(train, np.arange(train.features.n_items), lambda_0)[np.ix_(ridge.items, ridge.items)],
        atol=1e-4,
    )
    right = np.random.default_rng(seed).normal(size=(len(root), 3))
    expected = np.linalg.solve(root.T @ root + lambda_1 * np.eye(25), root.T @ right)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ridge.solve_rows(right), expected, atol=1e-4 * scale)
    np.testing.assert_allclose(ridge.solve_rows(sp.csr_array(right)), expected, atol=1e-4 * scale)


def test_the_rest_of_the_users_spectrum_weighs_one_over_lambda():
    """Directions in which no user has clicked have the eigenvalue 0; without them the inverse has no full rank."""
    train = random_training_set(4, n_users=5, n_warm=30)
    ridge = SpectralRidge(gram_spectrum(train, lambda_0=0.0, solver="users"), 2.0)
    assert ridge.spectrum.vectors.shape[1] <= 5
    values = np.linalg.eigvalsh(ridge.inverse().astype(float))
    np.testing.assert_allclose(values[-25:], 0.5, rtol=1e-5)
    assert values[0] < 0.4


def test_a_factor_is_used_as_often_as_asked():
    ridge = CholeskyRidge(random_training_set(5), lambda_0=0.0, lambda_1=1.0)
    right = np.eye(22, dtype=np.float32)
    first = ridge.solve_gram(right)
    inverse = ridge.inverse()
    np.testing.assert_array_equal(inverse, ridge.inverse())
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_array_equal(ridge.solve_gram(right), first)


def test_a_system_that_is_singular_to_working_precision_is_refused():
    train = random_training_set(6, n_users=40, n_warm=30)
    clicks = train.interactions.toarray()
    clicks[:, train.warm_items[0]] = clicks[:, train.warm_items[1]]  # two items that the clicks cannot tell apart
    ridge = CholeskyRidge(TrainingSet(sp.csr_array(clicks), train.features, "twins"), lambda_0=0.0, lambda_1=1e-30)
    with pytest.raises(SingularMatrixError, match=r"30 items .*lambda_1=1e-30.*larger lambda_1"):
        ridge.solve_gram(np.ones((30, 1), np.float32))
    few_users = CholeskyRidge(random_training_set(6, n_users=4, n_warm=30), lambda_0=0.0, lambda_1=1e-30)
    with pytest.raises(SingularMatrixError, match=r"30 items .*lambda_1=1e-30.*larger lambda_1"):
        few_users.inverse()


def test_users_do_not_see_attributes():
    with pytest.raises(ConfigError, match=r"lambda_0.*solver='items'"):
        gram_spectrum(random_training_set(7), lambda_0=0.5, solver="users")


# ---- the percentile rule


def train_with_clicks(counts):
    counts = np.asarray(counts)
    dense = (np.arange(max(counts.max(), 1))[:, None] < counts).astype(np.float32)
    features = FeatureSet({"id": vector_feature(np.eye(len(counts)))}, len(counts))
    return TrainingSet(sp.csr_array(dense), features, "counts")


def test_with_a_tenth_of_the_items_cold_they_are_all_that_is_aligned():
    train = train_with_clicks([0, 0, *range(1, 9)])
    alignment = Alignment.of(train, lambda_0=0.0)
    assert _click_percentile(train.clicks) == 1
    assert alignment.items.tolist() == [0, 1]
    assert alignment.strength.tolist() == [1, 1]
    assert alignment.triangular
    assert system_items(train, alignment).tolist() == list(range(2, 10))
    assert not Alignment.of(train, lambda_0=0.1).triangular


def test_items_below_the_percentile_are_aligned_the_less_the_more_clicks_they_have():
    train = train_with_clicks([9, 2, 9, 0, 4, *[9] * 16])  # place 2 of 0 … 20, counted from 0, is the percentile
    assert _click_percentile(train.clicks) == 4
    alignment = Alignment.of(train, lambda_0=0.0)
    assert alignment.items.tolist() == [1, 3]
    assert alignment.strength.tolist() == [0.5, 1]
    assert not alignment.triangular
    assert len(system_items(train, alignment)) == 21


def test_the_percentile_is_interpolated():
    counts = np.array([2, 5, *[30] * 9])
    assert _click_percentile(counts) == 5
    assert _click_percentile(np.array([2, 5, *[30] * 4])) == 3.5


# ---- the inverse with the alignment


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.01, 1.0, 50.0]), n_aligned=st.integers(1, 6))
def test_woodbury_equals_the_direct_inverse(seed, scale, n_aligned):
    generator = np.random.default_rng(seed)
    clicks = generator.random((15, 10)) < 0.4
    base = np.linalg.inv(clicks.T.astype(float) @ clicks + 2 * np.eye(10))
    items = np.sort(generator.permutation(10)[:n_aligned]).astype(np.int32)
    alignment = Alignment(items, generator.random(n_aligned).astype(np.float32), triangular=False)
    aligned_gram = generator.random((10, n_aligned)).astype(np.float32)
    update = np.zeros((10, 10))
    update[:, items] = scale * aligned_gram.astype(float) * alignment.strength.astype(float)
    system = np.linalg.inv(base.astype(np.float32).astype(float)) + update
    expected = np.linalg.inv(system)
    found = aligned_inverse(base.astype(np.float32), aligned_gram, alignment, scale)
    assert found.dtype == np.float64
    tolerance = 1e-12 * np.linalg.cond(system)
    np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())


def test_an_aligned_system_without_an_inverse_is_refused():
    alignment = Alignment(np.array([0], np.int32), np.ones(1, np.float32), triangular=False)
    with pytest.raises(SingularMatrixError, match=r"alpha·beta=2"):
        aligned_inverse(np.eye(2, dtype=np.float32), np.array([[-0.5], [0.0]], np.float32), alignment, 2.0)


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1, 5, 90]))
def test_the_pole_is_where_the_determinant_first_vanishes(seed, size):
    """A planted spectrum: of all eigenvalues of K, −0.5 is the lowest, so the pole is at αβ = 2."""
    generator = np.random.default_rng(seed)
    values = np.append(generator.uniform(-0.4, 3.0, size - 1), -0.5)
    basis = np.eye(size) + 0.3 * generator.standard_normal((size, size)) / np.sqrt(size)
    coupling = basis * values @ np.linalg.inv(basis)
    require_before_pole(1.99 * coupling, 1.99)
    with pytest.raises(NumericalError, match=r"alpha·beta=2\.01 is beyond the pole of Eq. 9 at 2 .*smaller lambda_0"):
        require_before_pole(2.01 * coupling, 2.01)


def test_without_aligned_items_there_is_no_pole():
    alignment = Alignment(np.zeros(0, np.int32), np.zeros(0, np.float32), triangular=False)
    ridge = np.eye(3, dtype=np.float32)
    found = aligned_inverse(ridge, np.zeros((3, 0), np.float32), alignment, 1e9, coupled=True)
    np.testing.assert_array_equal(found, ridge)


def test_item_weights_have_a_zero_diagonal_and_predict_an_item_from_the_others():
    """Column j is the ridge regression of the clicks of item j on those of all others."""
    train = random_training_set(8, n_users=40)
    clicks = train.interactions.toarray().astype(float)[:, train.warm_items]
    weights = item_weights(np.linalg.inv(clicks.T @ clicks + 3 * np.eye(22)))
    assert weights.dtype == np.float32
    assert not np.diag(weights).any()
    for j in range(22):
        others = np.delete(clicks, j, axis=1)
        expected = np.linalg.solve(others.T @ others + 3 * np.eye(21), others.T @ clicks[:, j])
        np.testing.assert_allclose(np.delete(weights[:, j], j), expected, atol=1e-5)


def test_features_are_stacked_with_numbers_centred_on_the_fitted_items():
    fitted = FeatureSet(
        {"a": vector_feature([[1, 0], [0, 2], [0, 0]]), "year": scalar_feature([1990, 2010, np.nan], 20.0)}, 3
    )
    np.testing.assert_allclose(stacked_features(fitted).toarray(), [[1, 0, -0.5], [0, 2, 0.5], [0, 0, 0]])
    new = FeatureSet({"a": vector_feature([[1, 1]]), "year": scalar_feature([2005], 20.0)}, 1)
    np.testing.assert_allclose(stacked_features(new, fitted).toarray(), [[1, 1, 0.25]])
    unknown = FeatureSet({"year": scalar_feature([np.nan, np.nan], 20.0)}, 2)
    assert stacked_features(unknown).toarray().tolist() == [[0], [0]]
    assert stacked_features(random_features(np.random.default_rng(0), 6)).shape == (6, 4 + 9 + 1)
