"""The process through inducing items: its formulas, what is exact, which items are chosen."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, ConfigError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.kernel_align import inducing
from coldray.models.kernel_align.covariance import ItemCovariance, Weights
from coldray.models.kernel_align.inducing import choose_inducing, enough_inducing, inducing_posterior
from coldray.models.kernel_align.kernels import KernelBasis
from contracts.problems import random_features, vector_feature
from models.learned import noisy


def random_covariance(warm, generator):
    basis = KernelBasis.of(warm)
    shape = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    return ItemCovariance(basis, shape.moved(shape.logarithms() + generator.normal(0, 0.5, len(shape.logarithms()))))


def problem(seed, n_warm=30, n_new=7):
    generator = np.random.default_rng(seed)
    warm, new = random_features(generator, n_warm), random_features(generator, n_new)
    return random_covariance(warm, generator), warm, new


def exact(covariance, warm, new):
    """Return the weights and the variances by inverting the covariance of all warm items."""
    between = covariance.between(warm, new).astype(float)
    weights = np.linalg.solve(noisy(covariance, warm), between)
    noise = covariance.weights.noise
    return weights, covariance.variances(new) + noise - np.einsum("wn,wn->n", between, weights)


def formulas(covariance, warm, new, chosen):
    """Return weights and variances by the formulas with ``K_ZZ⁻¹``, all dense."""
    whole = noisy(covariance, warm) - covariance.weights.noise * np.eye(warm.n_items)
    across, points = whole[:, chosen], whole[np.ix_(chosen, chosen)]
    points = points + inducing._JITTER * np.mean(np.diag(points)) * np.eye(len(chosen))
    between = covariance.between(warm, new).astype(float)
    inner = np.linalg.inv(points + across.T @ across / covariance.weights.noise)
    weights = across / covariance.weights.noise @ inner @ between[chosen]
    reduction = np.linalg.inv(points) - inner
    explained = np.einsum("zn,zy,yn->n", between[chosen], reduction, between[chosen])
    return weights, covariance.variances(new) + covariance.weights.noise - explained


def conditioned(covariance, warm, new, chosen):
    posterior = inducing_posterior(covariance, warm, chosen)
    coordinates = posterior.coordinates(covariance.between(warm.take(chosen), new))
    variances = covariance.variances(new) + covariance.weights.noise - posterior.explained(coordinates)
    return posterior.projection @ coordinates, variances


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 29))
def test_weights_and_variances_are_the_formulas(seed, count):
    covariance, warm, new = problem(seed)
    chosen = np.random.default_rng(seed).permutation(30)[:count]
    found = conditioned(covariance, warm, new, chosen)
    expected = formulas(covariance, warm, new, chosen)
    for value, reference in zip(found, expected, strict=True):
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, reference, atol=2e-3 * np.abs(reference).max())


@pytest.mark.parametrize("seed", range(4))
def test_with_all_items_inducing_it_is_the_exact_process(seed):
    covariance, warm, new = problem(seed)
    order = np.random.default_rng(seed).permutation(30)
    weights, variances = conditioned(covariance, warm, new, order)
    expected, expected_variances = exact(covariance, warm, new)
    np.testing.assert_allclose(weights, expected, atol=1e-3)
    np.testing.assert_allclose(variances, expected_variances, atol=1e-3)


def test_blocks_of_rows_change_nothing(monkeypatch):
    covariance, warm, _ = problem(9)
    chosen = np.array([3, 8, 9, 20])
    whole = inducing_posterior(covariance, warm, chosen)
    monkeypatch.setattr(inducing, "ROWS_PER_BLOCK", 7)
    parts = inducing_posterior(covariance, warm, chosen)
    np.testing.assert_allclose(parts.projection, whole.projection, atol=1e-5)
    np.testing.assert_allclose(parts.inner, whole.inner, rtol=1e-5)


def grouped(n_groups, per_group):
    """Return items that share all attributes with those of their group and none with others."""
    hot = np.eye(n_groups)[np.repeat(np.arange(n_groups), per_group)]
    warm = FeatureSet({"group": vector_feature(hot)}, len(hot))
    return random_covariance(warm, np.random.default_rng(0)), warm


def test_one_item_of_each_group_of_equals_says_all():
    covariance, warm = grouped(5, 8)
    new = warm.take(np.arange(0, 40, 8))
    weights, variances = conditioned(covariance, warm, new, np.arange(3, 40, 8))
    expected, expected_variances = exact(covariance, warm, new)
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    np.testing.assert_allclose(variances, expected_variances, atol=1e-4)


def test_inducing_items_that_are_equals_do_no_harm():
    covariance, warm = grouped(5, 8)
    new = warm.take(np.arange(0, 40, 8))
    object.__setattr__(covariance.weights, "noise", 0.5)
    weights, variances = conditioned(covariance, warm, new, np.arange(40))
    expected, expected_variances = exact(covariance, warm, new)
    np.testing.assert_allclose(weights, expected, atol=1e-4)
    np.testing.assert_allclose(variances, expected_variances, atol=1e-4)
    pivots = np.diag(inducing_posterior(covariance, warm, np.arange(40)).factor) ** 2
    assert pivots.min() > 0.5e-5 * covariance.variances(warm).mean()


def test_variances_lie_between_the_noise_and_those_of_an_item_nothing_is_known_of():
    covariance, warm, new = problem(11)
    few = conditioned(covariance, warm, new, np.arange(4))[1]
    many = conditioned(covariance, warm, new, np.arange(24))[1]
    prior = covariance.variances(new) + covariance.weights.noise
    assert (few <= prior).all()
    assert (many >= covariance.weights.noise).all()
    assert many.mean() < few.mean() - 1e-3


def test_items_are_drawn_in_proportion_to_their_clicks_and_each_once():
    clicks = np.array([1, 50, 1, 50, 1, 50, 1, 1, 1, 1])
    drawn = [choose_inducing(clicks, count=3, seed=seed) for seed in range(200)]
    assert all((np.diff(positions) > 0).all() for positions in drawn)
    often = np.bincount(np.concatenate(drawn), minlength=10) / 200
    assert often[clicks == 50].min() > 0.85
    assert 0.01 < often[clicks == 1].mean() < 0.12


def test_the_same_seed_chooses_the_same_items_and_another_others():
    clicks = np.random.default_rng(0).integers(1, 100, 300)
    first, again, other = (choose_inducing(clicks, count=40, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert len(np.intersect1d(first, other)) < 40


def test_all_items_are_chosen_where_there_are_no_more():
    np.testing.assert_array_equal(choose_inducing(np.array([4, 1, 9]), count=10, seed=0), [0, 1, 2])


def test_no_inducing_items_are_refused():
    with pytest.raises(ConfigError, match=r"0 inducing items were asked for; use at least 1"):
        choose_inducing(np.array([1, 2]), count=0, seed=0)


def test_a_covariance_that_is_no_covariance_is_refused():
    covariance, warm, _ = problem(2)
    w = covariance.weights
    broken = ItemCovariance(covariance.basis, w.moved(w.logarithms()))
    object.__setattr__(broken.weights, "additive", -5 * w.additive)
    with pytest.raises(SingularMatrixError, match=r"30 inducing items with jitter .* is not positive definite"):
        inducing_posterior(broken, warm, np.arange(30))


def test_noise_that_is_none_is_refused():
    covariance, warm, _ = problem(2)
    object.__setattr__(covariance.weights, "noise", -0.05)
    with pytest.raises(SingularMatrixError, match=r"5 inducing items with noise -0\.05.*Raise min_noise"):
        inducing_posterior(covariance, warm, np.arange(5))


def test_matrices_that_do_not_fit_are_refused_before_they_are_allocated(monkeypatch):
    covariance, warm, _ = problem(3)
    clicks, free = np.ones(30, int), "coldray.core.memory._available_bytes"
    # What 30 items take with 5: float32 projections, four matrices of the 5 in float64, and five of the block's rows.
    for need, making, told in (
        (4 * 30 * 5 + 32 * 5**2 + 40 * 30 * 5, lambda: inducing_posterior(covariance, warm, np.arange(5)), "30 items"),
        (
            24 * 20**2 + 24 * 20 * 7,
            lambda: enough_inducing(covariance, warm, clicks, most=20, tolerance=0.1, seed=0),
            "20 inducing items",
        ),
    ):
        monkeypatch.setattr(free, lambda need=need: need)
        making()
        monkeypatch.setattr(free, lambda need=need: need - 1)
        with pytest.raises(CatalogTooLargeError, match=rf"The covariances? of {told}"):
            making()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), tolerance=st.floats(0.01, 0.6))
def test_their_number_is_the_smallest_that_explains_the_held_out_up_to_the_tolerance(seed, tolerance):
    covariance, warm, _ = problem(seed, n_warm=40)
    clicks = np.random.default_rng(seed).integers(1, 30, 40)
    chosen = enough_inducing(covariance, warm, clicks, most=35, tolerance=tolerance, seed=3)
    order = np.random.default_rng(3).choice(40, 40, replace=False, p=clicks / clicks.sum())
    np.testing.assert_array_equal(chosen, np.sort(order[: len(chosen)]))
    others, noise = order[30:], covariance.weights.noise
    whole = noisy(covariance, warm) - noise * np.eye(40)

    def unexplained(count):
        points = order[:count]
        across, square = whole[np.ix_(others, points)], whole[np.ix_(points, points)]
        square = square + inducing._JITTER * np.diag(whole)[order[:30]].mean() * np.eye(count)
        left = np.diag(whole)[others] - np.einsum("op,po->o", across, np.linalg.solve(square, across.T))
        return left.mean() / (np.diag(whole)[others].mean() + noise)

    assert len(chosen) == 30 or unexplained(len(chosen)) <= tolerance + 1e-5
    assert len(chosen) == 1 or unexplained(len(chosen) - 1) > tolerance - 1e-5


def test_equals_of_a_few_groups_need_one_item_of_each():
    covariance, warm = grouped(5, 8)
    chosen = enough_inducing(covariance, warm, np.ones(40, int), most=40, tolerance=0.01, seed=1)
    assert len(chosen) < 30
    assert set(chosen // 8) == set(range(5))
