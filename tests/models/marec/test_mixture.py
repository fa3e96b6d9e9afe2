"""The moments of the regression against sums over every cell, and what is solved from them."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.marec import mixture
from coldray.models.marec.mixture import (
    _GRID,
    RegressionMoments,
    coclick_moments,
    correlation_weights,
    learn_weights,
    regression_moments,
)
from coldray.models.marec.similarity import Similarities, term_names, term_pairs
from contracts.problems import random_training_set, scalar_feature, vector_feature
from models import marec_reference as reference

SHAPES = {"U<W": {"n_users": 12, "n_warm": 30}, "U>W": {"n_users": 60, "n_warm": 18}, "one user": {"n_users": 1}}


def slow_terms(train, delta, order):
    """Return every similarity over all items by name, float64."""
    similarities = Similarities(train.features, train.features, delta)
    first = similarities.block(0, train.features.n_items).astype(float)
    pairs = term_pairs(len(first), order)
    return {
        name: np.prod([first[k] for k in pair], axis=0)
        for name, pair in zip(term_names(train.features, order), pairs, strict=True)
    }


def slow_moments(train, delta, order):
    regressors, target = reference.cells(train.interactions.toarray().astype(float), slow_terms(train, delta, order))
    clicked = regressors[target > 0]
    return regressors.T @ regressors, regressors.sum(axis=0), clicked.T @ clicked, clicked.sum(axis=0)


def assert_sums(found, expected):
    for part, slow_part in zip(found, expected, strict=True):
        assert part.dtype == np.float64
        np.testing.assert_allclose(part, slow_part, rtol=2e-6, atol=2e-6 * np.abs(slow_part).max())


def sums_of(moments):
    return moments.products, moments.sums, moments.click_products, moments.click_sums


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("order", [1, 2])
def test_one_pass_gives_the_sums_over_all_cells(shape, order):
    train = random_training_set(0, **shape)
    moments = regression_moments(train, delta=1.3, order=order)
    assert_sums(sums_of(moments), slow_moments(train, 1.3, order))
    n_warm = len(train.warm_items)
    assert moments.n_cells == train.interactions.shape[0] * n_warm
    assert moments.n_clicks == train.interactions.nnz
    assert moments.terms == term_names(train.features, order)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(1, 40),
    n_warm=st.integers(2, 35),
    n_cold=st.integers(0, 9),
    dense=st.booleans(),
)
def test_the_sums_are_right_for_any_shape_and_rank(seed, n_users, n_warm, n_cold, dense):
    """By a factor of the co-clicks, and by sums over clicks, whichever would be chosen."""
    train = random_training_set(seed, n_users=n_users, n_warm=n_warm, n_cold=n_cold)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixture, "_DENSE_GAIN", 1e9 if dense else 0)
        assert_sums(sums_of(regression_moments(train, delta=1.0, order=2)), slow_moments(train, 1.0, 2))


def test_few_clicks_are_summed_up_and_many_go_through_a_factor(monkeypatch):
    ways = []
    for name in ("_moments_cpu", "_moments_of_few_clicks"):
        way = getattr(mixture, name)
        monkeypatch.setattr(mixture, name, lambda *args, name=name, way=way: ways.append(name) or way(*args))
    features = FeatureSet({"a": vector_feature(np.eye(300)[:, :7] + 1)}, 300)
    many = sp.csr_array((np.arange(300)[:, None] % 7 >= np.arange(300) % 7).astype(np.float32))
    for clicks in (sp.eye_array(300, dtype=np.float32, format="csr"), many):
        regression_moments(TrainingSet(sp.csr_array(clicks), features, "t"), delta=1.0, order=1)
    assert ways == ["_moments_of_few_clicks", "_moments_cpu"]


def test_the_clicks_of_a_training_set_are_factorised_once_for_every_delta(monkeypatch):
    made, factorise = [], mixture._pivoted_cholesky
    monkeypatch.setattr(mixture, "_pivoted_cholesky", lambda gram: made.append(len(gram)) or factorise(gram))
    one, other = random_training_set(2), random_training_set(2)
    found = [sums_of(regression_moments(train, delta=delta, order=2)) for train in (one, other) for delta in (1.0, 3.0)]
    assert len(made) == 2
    for again, first in zip(found[2:], found[:2], strict=True):
        assert_sums(again, first)
    assert_sums(found[1], slow_moments(one, 3.0, 2))
    monkeypatch.setattr(mixture, "_KEPT_BYTES", 0)  # too large to be kept
    third = random_training_set(2)
    for delta in (1.0, 3.0):
        assert_sums(sums_of(regression_moments(third, delta=delta, order=2)), slow_moments(one, delta, 2))
    assert len(made) == 4


def test_items_clicked_by_the_same_users_leave_a_rank_of_three():
    generator = np.random.default_rng(0)
    patterns = generator.random((20, 3)) < 0.5
    clicks = patterns[:, np.arange(24) % 3].astype(np.float32)
    train = TrainingSet(sp.csr_array(clicks), random_training_set(0, n_warm=24, n_cold=0).features, "rank 3")
    assert np.linalg.matrix_rank(clicks) == 3
    assert_sums(sums_of(regression_moments(train, delta=1.0, order=2)), slow_moments(train, 1.0, 2))


@pytest.mark.parametrize("order", [1, 2])
def test_several_blocks_of_columns_equal_one(monkeypatch, order):
    train = random_training_set(1, n_users=80, n_warm=70)
    whole = sums_of(regression_moments(train, delta=1.0, order=order))
    monkeypatch.setattr(mixture, "_BLOCK_FLOATS", 1)  # the narrowest blocks, of 8 columns
    assert_sums(sums_of(regression_moments(train, delta=1.0, order=order)), whole)
    correlation = coclick_moments(train, delta=1.0, order=order)
    monkeypatch.undo()
    expected = coclick_moments(train, delta=1.0, order=order)
    np.testing.assert_allclose(correlation.covariance, expected.covariance, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(correlation.with_coclicks, expected.with_coclicks, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("users_per_block", [5, 256])
@pytest.mark.parametrize("order", [1, 2])
def test_dense_regressors_on_a_device_give_the_same_sums(order, users_per_block):
    train = random_training_set(2, n_users=33)
    warm = train.warm_items
    clicks, features = sp.csr_array(train.interactions[:, warm]), train.features.take(warm)
    found = mixture._moments_torch(clicks, features, 1.0, order, torch.device("cpu"), users_per_block)
    assert_sums(found, sums_of(regression_moments(train, delta=1.0, order=order, device="cpu")))


def test_the_first_order_is_the_leading_part_of_the_second():
    train = random_training_set(3)
    both, first = (regression_moments(train, delta=1.0, order=order) for order in (2, 1))
    leading = both.leading(3)
    assert_sums(sums_of(leading), sums_of(first))
    assert (leading.terms, leading.n_cells, leading.n_clicks) == (first.terms, first.n_cells, first.n_clicks)
    np.testing.assert_allclose(
        learn_weights(leading, w0=0.2, nonnegative=False), learn_weights(first, w0=0.2, nonnegative=False), rtol=1e-3
    )


# ---- the weights


def moments_of(regressors, target, n_terms):
    """Return the moments of an explicit regression."""
    clicked = regressors[target > 0]
    return RegressionMoments(
        regressors.T @ regressors,
        regressors.sum(axis=0),
        clicked.T @ clicked,
        clicked.sum(axis=0),
        n_cells=len(target),
        n_clicks=int((target > 0).sum()),
        terms=tuple(f"term {t}" for t in range(n_terms)),
    )


def regression(seed):
    """Return regressors ``[200, 4]`` and what they explain, zeros and ones."""
    generator = np.random.default_rng(seed)
    target = (generator.random(200) < 0.2).astype(float)
    target[:2] = 0, 1
    return generator.random((200, 4)) + generator.normal(size=4) * target[:, None], target


forty = settings(max_examples=40, deadline=None)
of_any_regression = given(seed=st.integers(0, 2**32 - 1), w0=st.sampled_from([0.01, 0.2, 1.0]))


@forty
@of_any_regression
def test_weights_minimise_the_weighted_squares(seed, w0):
    regressors, target = regression(seed)
    weights = learn_weights(moments_of(regressors, target, 4), w0=w0, nonnegative=False)
    root = np.sqrt(np.where(target > 0, 1, w0))
    design = np.column_stack([np.ones(200), regressors]) * root[:, None]
    np.testing.assert_allclose(weights, np.linalg.lstsq(design, root * target, rcond=None)[0][1:], atol=1e-9)


@forty
@of_any_regression
def test_nonnegative_weights_minimise_the_weighted_squares_among_such(seed, w0):
    regressors, target = regression(seed)
    weights = learn_weights(moments_of(regressors, target, 4), w0=w0, nonnegative=True)
    assert (weights >= 0).all()
    total = np.where(target > 0, 1, w0)
    intercept = total @ (target - regressors @ weights) / total.sum()
    gradient = (regressors * total[:, None]).T @ (regressors @ weights + intercept - target)
    scale = np.abs((regressors * total[:, None]).T @ target).max()
    assert (gradient > -1e-9 * scale).all(), "a larger weight would fit better"
    assert (np.abs(gradient[weights > 0]) < 1e-9 * scale).all(), "another weight would fit better"


def test_planted_weights_are_recovered():
    """The clicks are, up to an intercept, an exact mixture of the regressors."""
    generator = np.random.default_rng(0)
    target = (generator.random(300) < 0.3).astype(float)
    planted = np.array([0.5, -1.5, 0.25])
    regressors = generator.normal(size=(300, 3))
    # Of the last regressor, so much is added that the mixture is the target plus 0.7.
    regressors[:, 2] = (target + 0.7 - regressors[:, :2] @ planted[:2]) / planted[2]
    for w0 in (0.05, 1.0):
        weights = learn_weights(moments_of(regressors, target, 3), w0=w0, nonnegative=False)
        np.testing.assert_allclose(weights, planted, rtol=1e-9)


def test_clicks_that_a_similarity_explains_give_it_the_weight_that_does():
    """Each user clicks all 5 items of one genre: G has 1/(1 + δ) between them, so μ·4/(1 + δ) is 1."""
    genres = np.repeat(np.arange(4), 5)
    clicks = np.equal.outer(np.repeat(np.arange(4), 3), genres).astype(np.float32)
    generator = np.random.default_rng(1)
    features = FeatureSet(
        {"genre": vector_feature(np.eye(4)[genres]), "noise": vector_feature(generator.random((20, 6)) < 0.4)}, 20
    )
    train = TrainingSet(sp.csr_array(clicks), features, "genres")
    moments = regression_moments(train, delta=3.0, order=2)
    for nonnegative in (False, True):
        weights = learn_weights(moments, w0=0.2, nonnegative=nonnegative)
        np.testing.assert_allclose(weights, [1.0, 0.0, 0.0], atol=1e-4)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_a_similarity_that_is_zero_everywhere_keeps_the_weight_zero(nonnegative):
    train = random_training_set(4)
    n_items = train.features.n_items
    features = {
        "id": vector_feature(np.eye(n_items)),
        **train.features.features,
        "none": scalar_feature([np.nan] * n_items, 1.0),
    }
    moments = regression_moments(
        TrainingSet(train.interactions, FeatureSet(features, n_items), "zeros"), delta=1.0, order=1
    )
    without = learn_weights(regression_moments(train, delta=1.0, order=1), w0=0.2, nonnegative=nonnegative)
    weights = learn_weights(moments, w0=0.2, nonnegative=nonnegative)
    assert weights[0] == 0
    assert weights[-1] == 0
    np.testing.assert_allclose(weights[1:-1], without, rtol=1e-4, atol=1e-9)


def test_equal_regressors_are_refused_by_name_and_shared_out_where_nonnegative():
    generator = np.random.default_rng(5)
    target = (generator.random(100) < 0.3).astype(float)
    one = generator.random(100) + target
    moments = moments_of(np.column_stack([generator.random(100), one, one]), target, 3)
    moments = replace(moments, terms=("year", "genres", "tags"))
    with pytest.raises(SingularMatrixError, match=r"singular: ('genres', 'tags'|'tags', 'genres') carry"):
        learn_weights(moments, w0=0.2, nonnegative=False)
    shared = learn_weights(moments, w0=0.2, nonnegative=True)
    alone = learn_weights(moments.leading(2), w0=0.2, nonnegative=True)
    assert shared[1] + shared[2] == pytest.approx(alone[1], rel=1e-6)


@pytest.mark.parametrize("nonnegative", [False, True])
def test_similarities_that_are_all_zero_are_told(nonnegative):
    moments = RegressionMoments(np.zeros((2, 2)), np.zeros(2), np.zeros((2, 2)), np.zeros(2), 12, 5, ("a", "b"))
    with pytest.raises(SingularMatrixError, match="All similarities are zero"):
        learn_weights(moments, w0=0.2, nonnegative=nonnegative)


# ---- the correlation with co-clicks


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_grid_weights_correlate_better(seed):
    train = random_training_set(seed, n_users=50, n_warm=25)
    weights = correlation_weights(coclick_moments(train, delta=0.5, order=1))
    clicks, terms = train.interactions.toarray().astype(float), slow_terms(train, 0.5, 1)
    expected = reference.correlation_search(clicks, terms)
    assert set(weights) <= set(_GRID)
    np.testing.assert_array_equal(weights, expected)


def test_of_proportional_weights_the_largest_are_returned():
    train = random_training_set(6)
    assert correlation_weights(coclick_moments(train, delta=0.5, order=1)).max() == 1


def test_with_many_terms_no_single_weight_can_be_improved():
    train = random_training_set(7, n_users=50, n_warm=25, n_vectors=4)
    clicks, terms = train.interactions.toarray().astype(float), slow_terms(train, 0.5, 2)
    assert len(_GRID) ** len(terms) > mixture._FULL_GRID_LIMIT
    weights = correlation_weights(coclick_moments(train, delta=0.5, order=2))
    assert set(weights) <= set(_GRID)
    (found,) = reference.correlations(clicks, terms, weights[None])
    neighbours = []
    for t in range(len(terms)):
        for value in _GRID:
            neighbours.append(weights.copy())
            neighbours[-1][t] = value
    assert found >= reference.correlations(clicks, terms, np.array(neighbours)).max() - 1e-6
    assert found >= reference.correlations(clicks, terms, np.eye(len(terms))).max() - 1e-6
