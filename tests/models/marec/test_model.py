"""MARec against its slow reference, the facts that follow from its equations, and planted answers."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import CatalogTooLargeError, ConfigError, NumericalError, SingularMatrixError
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg import panel_cholesky
from coldray.models.marec.cold_elimination import _elimination_bytes
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.mixture import _require_moments_memory, moments_bytes
from coldray.models.marec.model import MARec
from coldray.training.options import FitOptions
from contracts.pairwise import pairwise
from contracts.problems import (
    genre_groups,
    random_features,
    random_training_set,
    scalar_feature,
    vector_feature,
)
from contracts.recommender import ColdItemContract, all_items, histories_of
from models import marec_reference as reference

AGREEMENT = 1e-4
"""Largest difference from the reference, relative to the largest score of the same side."""


def slow_attributes(train):
    """Return the attributes as the reference takes them."""
    return {
        name: reference.Numbers(feature.values, feature.span)
        if isinstance(feature, ScalarFeature)
        else reference.Vectors(feature.matrix.toarray().astype(float))
        for name, feature in train.features.features.items()
    }


def slow(train, config):
    """Fit the reference to the same problem."""
    parameters = config.model_dump(include=set(reference.PARAMETERS))
    return reference.marec(train.interactions.toarray().astype(float), slow_attributes(train), **parameters)


def assert_agree(found, expected, tolerance=AGREEMENT):
    assert found.shape == expected.shape
    scale = np.abs(expected).max()
    assert scale > 0
    np.testing.assert_allclose(found / scale, expected / scale, rtol=0, atol=tolerance)


def assert_same_model(train, config, computations=None):
    """Compare weights, item weights and scores with the reference, the warm and the cold columns each by itself."""
    model = MARec(config).fit(train, computations)
    solution = slow(train, config)
    assert list(model.mixture) == list(solution.terms)
    assert_agree(np.array(list(model.mixture.values())), solution.weights, 1e-3)
    clicks = train.interactions.toarray().astype(float)
    for items in (train.warm_items, train.cold_items):
        if len(items) == 0:
            continue
        assert_agree(
            model.score(sp.eye_array(model.n_items, dtype=np.float32, format="csr"), items), solution.theta[:, items]
        )
        assert_agree(model.score(train.interactions, items), (clicks @ solution.theta)[:, items])
    return model


def few_clicks(seed, **shape):
    """Return a problem whose 10th percentile p is above 1, so that some warm items are aligned too."""
    train = random_training_set(seed, **({"n_users": 45, "n_warm": 27, "n_cold": 1} | shape))
    clicks = train.interactions.toarray()
    generator = np.random.default_rng(seed)
    for item in train.warm_items:
        rare = int(item) in train.warm_items[:4]
        users = generator.permutation(len(clicks))[: 2 + int(item) % 2 if rare else 8 + int(item) % 9]
        clicks[:, item] = 0
        clicks[users, item] = 1
    return TrainingSet(sp.csr_array(clicks), train.features, f"few clicks {seed}")


# ---- agreement with the reference


@pytest.mark.parametrize(
    *pairwise(
        solver=["items", "users", "cholesky", "auto"],
        shape=[{"n_users": 15, "n_warm": 24}, {"n_users": 60, "n_warm": 20}],
        order=[1, 2],
        seed=[0, 1, 2],
    )
)
def test_agrees_with_the_reference(seed, shape, order, solver):
    train = random_training_set(seed, **shape)
    config = MARecConfig(lambda_1=3.0, alpha=2.0, beta=40.0, delta=1.5, w0=0.1, order=order, solver=solver)
    assert_same_model(train, config)


@pytest.mark.parametrize(*pairwise(learner=["regression", "nonnegative", "correlation"], order=[1, 2], seed=[3, 4]))
def test_every_learner_agrees_with_the_reference(seed, order, learner):
    train = random_training_set(seed, n_users=40, n_warm=25)
    assert_same_model(train, MARecConfig(learner=learner, order=order, delta=0.7, w0=0.3))


@pytest.mark.parametrize(
    "parameters", [{"lambda_1": 0.2}, {"lambda_1": 1000.0}, {"w0": 1.0}, {"w0": 0.01}, {"delta": 50.0}]
)
def test_parameters_enter_as_in_the_reference(parameters):
    assert_same_model(random_training_set(5, n_users=50), MARecConfig(**({"delta": 2.0} | parameters)))


def test_delta_by_attribute_agrees_with_the_reference():
    train = random_training_set(6, n_users=40)
    named = assert_same_model(train, MARecConfig(delta={"b": 0.3, "a": 12.0}))
    swapped = MARec(MARecConfig(delta={"b": 12.0, "a": 0.3})).fit(train)
    assert abs(named.mixture["a"] / swapped.mixture["a"] - 1) > 0.1


@pytest.mark.parametrize(*pairwise(solver=["items", "cholesky", "auto"], lambda_0=[0.0, 0.6], seed=[7, 8]))
def test_aligned_warm_items_agree_with_the_reference(seed, lambda_0, solver):
    """With p > 1, the strength of the alignment depends on the clicks of an item, and no block is zero."""
    train = few_clicks(seed)
    assert np.percentile(train.clicks, 10) > 1
    config = MARecConfig(lambda_0=lambda_0, beta=3.0, lambda_1=2.0, delta=1.0, solver=solver, order=1)
    assert_same_model(train, config)


def test_aligned_warm_items_without_any_cold_one_agree_with_the_reference():
    train = few_clicks(9, n_warm=28, n_cold=0)
    assert_same_model(train, MARecConfig(beta=2.0, lambda_1=2.0, delta=1.0, order=1))


def test_aligned_warm_items_from_the_users_spectrum_agree_with_the_reference():
    train = few_clicks(12, n_users=20)
    assert train.interactions.shape[0] < train.interactions.shape[1]
    assert_same_model(train, MARecConfig(beta=2.0, lambda_1=2.0, delta=1.0, order=1, solver="users"))


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("solver", ["items", "cholesky"])
def test_attributes_in_the_gram_matrix_agree_with_the_reference(seed, solver):
    """λ₀ > 0 couples warm and cold items."""
    train = random_training_set(seed, n_users=50)
    assert_same_model(train, MARecConfig(lambda_0=0.8, beta=5.0, lambda_1=4.0, delta=1.0, solver=solver))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_users=st.integers(4, 70),
    lambda_0=st.sampled_from([0.0, 0.05, 2.0]),
    lambda_1=st.sampled_from([0.5, 20.0, 200.0]),
    p_above_1=st.booleans(),
)
def test_scores_are_the_same_whichever_solver_is_used(seed, n_users, lambda_0, lambda_1, p_above_1):
    """Cold items alone and all items together, as they are ranked; λ₀ or few clicks may couple them with warm ones."""
    train = few_clicks(seed, n_users=max(n_users, 20)) if p_above_1 else random_training_set(seed, n_users=n_users)
    shared = Computations()
    base = {"lambda_0": lambda_0, "lambda_1": lambda_1, "beta": 0.01, "delta": 1.0, "order": 1}
    solvers = ["items", "cholesky", *(["users"] if lambda_0 == 0 else [])]
    first, *others = [
        MARec(MARecConfig(**base, learner="nonnegative", solver=solver)).fit(train, shared) for solver in solvers
    ]
    scale = np.abs(first.score(train.interactions, all_items(first))).max()  # similarities may all weigh nothing
    for items in (train.cold_items, train.warm_items, all_items(first)):
        expected = first.score(train.interactions, items)
        for other in others:
            np.testing.assert_allclose(other.score(train.interactions, items) / scale, expected / scale, atol=AGREEMENT)


@pytest.mark.parametrize("order", [1, 2])
def test_beyond_the_pole_of_eq_9_a_fit_is_refused_and_below_it_right_items_come_first(order):
    """With λ₀ > 0, a rising αβ ends at a pole, behind which the order of cold items turns over."""
    train, genres = genre_groups()
    group = genres[train.interactions.indices[train.interactions.indptr[:-1]]]
    refused = []
    for scale in np.geomspace(0.1, 1e3, 9):
        config = MARecConfig(
            lambda_0=0.1, lambda_1=5.0, delta=0.1, alpha=1.0, beta=scale, order=order, learner="nonnegative"
        )
        model = MARec(config).fit(train)
        try:
            scores = model.score(train.interactions, train.cold_items)
        except NumericalError:
            refused.append(True)
        else:
            refused.append(False)
            np.testing.assert_array_equal(genres[train.cold_items[scores.argmax(axis=1)]], group)
    assert refused == sorted(refused)
    assert {True, False} == set(refused)


@pytest.mark.parametrize("shape", [{"n_users": 14, "n_warm": 24}, {"n_users": 60, "n_warm": 20}], ids=["U<W", "U>W"])
def test_configurations_that_share_computations_agree_with_the_reference(shape):
    """What is shared is computed once, and each λ₁, λ₀, α, β, w₀, learner and order still gets its own answer."""
    train, shared = random_training_set(13, **shape), CountingComputations()
    for changes in (
        {},
        {"lambda_1": 50.0},
        {"alpha": 3.0, "beta": 0.5},
        {"w0": 0.9},
        {"learner": "nonnegative"},
        {"lambda_1": 50.0, "w0": 0.9, "alpha": 0.1},
    ):
        assert_same_model(train, MARecConfig(**({"delta": 1.0} | changes)), shared)
    assert shared.counts["regression_moments"] == 1
    assert shared.counts["gram_spectrum"] == 1
    for changes in ({"lambda_0": 0.4, "beta": 4.0}, {"order": 1}, {"delta": 4.0}, {"learner": "correlation"}):
        assert_same_model(train, MARecConfig(**({"delta": 1.0} | changes)), shared)
    assert shared.counts["regression_moments"] == 3
    assert shared.counts["gram_spectrum"] == 2
    other = random_training_set(14, **shape)
    assert_same_model(other, MARecConfig(delta=1.0), shared)


class CountingComputations(Computations):
    """Counts how often each function is run."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def get(self, function, data, /, *args, **parameters):
        size = len(self._results)
        result = super().get(function, data, *args, **parameters)
        self.counts[function.__name__] = self.counts.get(function.__name__, 0) + len(self._results) - size
        return result


# ---- what follows from the equations


@pytest.mark.parametrize("solver", ["items", "users", "cholesky"])
def test_cold_columns_are_smoothed_similarities_and_warm_columns_are_ease(solver):
    train = random_training_set(20, n_users=26)
    config = MARecConfig(alpha=0.5, beta=7.0, lambda_1=6.0, delta=1.0, solver=solver)
    model = MARec(config).fit(train)
    warm, cold = train.warm_items, train.cold_items
    clicks = train.interactions.toarray().astype(float)[:, warm]
    gram = clicks.T @ clicks
    mixture = slow(train, config).mixture[np.ix_(warm, cold)]
    expected = 0.5 * 7.0 * clicks @ np.linalg.solve(gram + 6.0 * np.eye(len(warm)), gram @ mixture)
    assert_agree(model.score(train.interactions, cold), expected)
    assert_agree(model.score(train.interactions, warm), clicks @ reference.ease(clicks, 6.0), 1e-5)


def test_alpha_and_beta_change_nothing_within_a_side():
    train, shared = random_training_set(21), Computations()
    base = MARec(MARecConfig(alpha=1.0, beta=10.0, delta=1.0)).fit(train, shared)
    for alpha, beta in ((1.0, 90.0), (5.0, 10.0), (0.1, 0.2)):
        model = MARec(MARecConfig(alpha=alpha, beta=beta, delta=1.0)).fit(train, shared)
        ratio = np.float32(alpha * beta / 10)
        cold, warm = (model.score(train.interactions, items) for items in (train.cold_items, train.warm_items))
        assert_agree(cold, ratio * base.score(train.interactions, train.cold_items), 1e-6)
        np.testing.assert_array_equal(warm, base.score(train.interactions, train.warm_items))
        assert model.ranking_key() == base.ranking_key()
        assert model.cold_scale / base.cold_scale == pytest.approx(ratio)
    for change in ({"lambda_1": 2.0}, {"w0": 0.5}, {"order": 1}, {"delta": 2.0}, {"learner": "nonnegative"}):
        other = MARec(MARecConfig(**({"delta": 1.0} | change))).fit(train, shared)
        assert other.ranking_key() != base.ranking_key()


@pytest.mark.parametrize(
    "parameters", [{}, {"beta": 0.001}, {"lambda_0": 1.0, "beta": 0.001, "lambda_1": 50.0}, {"solver": "blocks"}]
)
def test_an_evened_model_has_both_sides_on_one_scale_and_orders_each_as_before(parameters):
    train = random_training_set(5, n_users=60)
    model = MARec(MARecConfig(delta=1.0, **{"lambda_1": 10.0, **parameters})).fit(train)
    evened = model.evened(train.interactions)
    before, after = (one.score(train.interactions, all_items(model)) for one in (model, evened))
    warm, cold = train.warm_items, train.cold_items
    assert len(cold) > 2
    np.testing.assert_allclose(after[:, warm], before[:, warm], rtol=1e-6)
    np.testing.assert_allclose(after[:, cold], evened.config.cold_weight * before[:, cold], rtol=1e-5)
    tops = {"warm": [], "cold": []}
    for user, scores in enumerate(after):
        clicked = set(train.interactions[[user]].indices.tolist())
        for name, side in (("warm", warm), ("cold", cold)):
            tops[name].append(np.quantile([scores[item] for item in side if item not in clicked], 0.9))
    assert sum(tops["cold"]) == pytest.approx(sum(tops["warm"]), rel=1e-3)
    again = MARec.from_state(evened.config, evened.state(), train.features)
    np.testing.assert_allclose(again.score(train.interactions, all_items(model)), after, rtol=1e-4, atol=1e-6)
    extended = again.add_items(train.features.take(cold[:2]))
    found = extended.score(train.interactions, np.arange(model.n_items, model.n_items + 2))
    if not parameters.get("lambda_0"):  # with λ₀ a new item would change what it is like
        np.testing.assert_allclose(found, after[:, cold[:2]], rtol=1e-3, atol=1e-5)
    assert evened.ranking_key() == model.ranking_key()
    assert evened.forms == model.forms


@pytest.mark.parametrize("parameters", [{"beta": 0.001}, {"beta": 10.0}, {"lambda_0": 1.0, "beta": 0.001}])
def test_a_model_without_cold_items_is_evened_for_those_that_will_be_added(parameters):
    train = random_training_set(5, n_users=60)
    warm = TrainingSet(
        sp.csr_array(train.interactions[:, train.warm_items]), train.features.take(train.warm_items), "warm"
    )
    config = MARecConfig(**{"lambda_1": 10.0, "delta": 1.0, **parameters})
    model = MARec(config).fit(warm)
    evened = model.evened(warm.interactions)
    scores, before = (one.score(warm.interactions, all_items(one)) for one in (evened, model))
    np.testing.assert_array_equal(scores, before)
    added = evened.add_items(train.features.take(train.cold_items))
    seen = sp.csr_array(
        (warm.interactions.data, warm.interactions.indices, warm.interactions.indptr),
        shape=(warm.interactions.shape[0], added.n_items),
    )
    found = added.score(seen, all_items(added))
    found[seen.nonzero()] = np.nan
    sides = np.split(found, [model.n_items], axis=1)
    tops = [np.nanquantile(side, 0.9, axis=1).sum() for side in sides]
    assert 0.2 < tops[1] / tops[0] < 5  # not all places, nor none: β alone moves it by four orders of magnitude


def test_the_weight_for_items_to_come_is_that_of_copies_of_warm_ones():
    train = random_training_set(9, n_cold=0, n_users=40)
    model = MARec(MARecConfig(delta=1.0, lambda_1=10.0, beta=0.001)).fit(train)
    n_items, clicks = model.n_items, train.interactions
    copied = model.add_items(train.features)  # each item once more, without its clicks
    histories = sp.csr_array((clicks.data, clicks.indices, clicks.indptr), shape=(clicks.shape[0], 2 * n_items))
    scores = copied.score(histories, np.arange(2 * n_items)).astype(float)
    known = np.flatnonzero(np.diff(clicks.indptr))
    new, old = [], []
    for user in known:
        seen = clicks[[user]].indices
        left = np.setdiff1d(np.arange(n_items), seen)  # who knows an item knows its copy
        old.append(np.quantile(scores[user, left], 0.9))
        new.append(np.quantile(scores[user, n_items + left], 0.9))
    assert len(known) > 30
    assert model.evened(clicks).config.cold_weight == pytest.approx(sum(old) / sum(new), rel=1e-5)


def test_a_model_whose_cold_items_are_like_no_warm_one_stays_as_it_is():
    train = random_training_set(5, n_users=60)
    labels = np.zeros((train.features.n_items, 2), np.float32)
    labels[train.warm_items, 0] = labels[train.cold_items, 1] = 1
    features = FeatureSet({"kind": VectorFeature(sp.csr_array(labels), ("warm", "cold"))}, train.features.n_items)
    model = MARec(MARecConfig(delta=1.0, lambda_1=10.0)).fit(TrainingSet(train.interactions, features, "apart"))
    assert np.abs(model.score(train.interactions, train.cold_items)).max() == 0
    assert model.evened(train.interactions) is model


def test_no_order_is_promised_where_alpha_and_beta_reach_the_warm_items():
    assert MARec(MARecConfig(order=1, delta=1.0)).fit(few_clicks(7)).ranking_key() is None
    assert MARec(MARecConfig(lambda_0=0.1, delta=1.0)).fit(random_training_set(21)).ranking_key() is None


def test_every_item_warm_is_ease_alone():
    train = random_training_set(22, n_cold=0)
    model = MARec(MARecConfig(lambda_1=3.0, delta=1.0)).fit(train)
    clicks = train.interactions.toarray().astype(float)
    assert train.clicks.min() == np.percentile(train.clicks, 10), "this problem aligns warm items"
    assert_agree(model.score(train.interactions, all_items(model)), clicks @ reference.ease(clicks, 3.0))


def test_an_empty_history_scores_zero():
    train = random_training_set(23)
    model = MARec(MARecConfig(delta=1.0)).fit(train)
    assert not model.score(sp.csr_array((3, model.n_items), dtype=np.float32), all_items(model)).any()


def test_clicks_on_cold_items_count_for_nothing_where_nothing_is_known_of_them():
    """A row of Θ of a cold item is zero: no user of the training set has clicked it."""
    train = random_training_set(24)
    model = MARec(MARecConfig(delta=1.0)).fit(train).add_items(random_features(np.random.default_rng(1), 2))
    warm, cold = train.warm_items[:3], train.cold_items[:2]
    without = histories_of(warm, n_items=model.n_items)
    with_cold = histories_of([*warm, *cold, model.n_items - 1], n_items=model.n_items)
    np.testing.assert_array_equal(model.score(with_cold, all_items(model)), model.score(without, all_items(model)))


# ---- new items


def without_items(train, items):
    """Return `train` without some cold items, and the features of those."""
    kept = np.setdiff1d(np.arange(train.interactions.shape[1]), items)
    smaller = TrainingSet(sp.csr_array(train.interactions[:, kept]), train.features.take(kept), f"{train.key} smaller")
    return smaller, train.features.take(items), kept


@pytest.mark.parametrize("learner", ["regression", "correlation"])
def test_an_added_item_gets_the_column_it_would_have_had_as_a_cold_item(learner):
    train = random_training_set(30, n_cold=12)
    late = train.cold_items[[1, 4, 8]]
    smaller, features, kept = without_items(train, late)
    config = MARecConfig(delta=1.0, learner=learner)
    extended, whole = MARec(config).fit(smaller).add_items(features), MARec(config).fit(train)
    histories, padded = train.interactions, train.interactions[:, np.r_[kept, late]]
    found = extended.score(padded, all_items(extended))
    assert_agree(found, whole.score(histories, np.r_[kept, late]), 1e-5)
    assert_agree(found[:, -3:], whole.score(histories, late), 1e-5)


@pytest.mark.parametrize("many_cold", [True, False], ids=["p=1", "p>1"])
@pytest.mark.parametrize("lambda_0", [0.0, 0.7])
def test_a_column_of_an_added_item_is_that_of_the_closed_form(lambda_0, many_cold):
    """``P (αβ C g + λ₀ F f)`` with the P, the mixture and the encoding of the fit."""
    train = random_training_set(31, n_users=50) if many_cold else few_clicks(31)
    config = MARecConfig(lambda_0=lambda_0, alpha=2.0, beta=1.5, lambda_1=3.0, delta=1.0, order=1)
    new = random_features(np.random.default_rng(4), 3)
    model = MARec(config).fit(train)
    one_by_one = model
    for item in range(3):
        one_by_one = one_by_one.add_items(new.take(np.array([item])))
    every = train.features.append(new)
    clicks = train.interactions.toarray().astype(float)
    gram = clicks.T @ clicks
    attributes = {
        name: reference.Numbers(feature.values, feature.span)
        if isinstance(feature, ScalarFeature)
        else reference.Vectors(feature.matrix.toarray().astype(float))
        for name, feature in every.features.items()
    }
    terms = reference.similarity_terms(attributes, 1.0, 1)
    mixture = sum(w * g for w, g in zip(slow(train, config).weights, terms.values(), strict=True))
    n = model.n_items
    # The centre of the numbers is that of the items the model was fitted on.
    centre = np.nanmean(train.features.features["year"].values)
    year = every.features["year"].values
    stacked = np.column_stack(
        [attributes["a"].values, attributes["b"].values, np.nan_to_num((year - centre) / every.features["year"].span)]
    )
    attribute_gram = stacked @ stacked.T
    strength = reference.alignment_strength(clicks, 1.5)
    system = gram + lambda_0 * attribute_gram[:n, :n] + 2.0 * gram @ mixture[:n, :n] @ np.diag(strength)
    right = 2.0 * 1.5 * gram @ mixture[:n, n:] + lambda_0 * attribute_gram[:n, n:]
    expected = np.linalg.solve(system + 3.0 * np.eye(n), right)
    identity = sp.eye_array(n, n + 3, dtype=np.float32, format="csr")
    assert_agree(model.add_items(new).score(identity, np.arange(n, n + 3)), expected)
    assert_agree(one_by_one.score(identity, np.arange(n, n + 3)), expected)


def test_duplicates_score_alike():
    train = random_training_set(32)
    model = MARec(MARecConfig(delta=1.0)).fit(train)
    copies = model.add_items(train.features.take(train.cold_items))
    padded = sp.csr_array(train.interactions, shape=train.interactions.shape)
    padded.resize((padded.shape[0], copies.n_items))
    added = np.arange(model.n_items, copies.n_items)
    assert_agree(copies.score(padded, added), copies.score(padded, train.cold_items), 1e-6)


# ---- properties


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), learner=st.sampled_from(["regression", "nonnegative"]), p_above_1=st.booleans())
def test_the_numbering_of_items_and_users_does_not_matter(seed, learner, p_above_1):
    train = few_clicks(seed) if p_above_1 else random_training_set(seed, n_users=40)
    generator = np.random.default_rng(seed)
    users, items = (generator.permutation(size) for size in train.interactions.shape)
    shuffled = TrainingSet(sp.csr_array(train.interactions[users][:, items]), train.features.take(items), "shuffled")
    config = MARecConfig(delta=1.0, beta=3.0, lambda_1=3.0, order=1, learner=learner)
    one, other = MARec(config).fit(train), MARec(config).fit(shuffled)
    expected = one.score(train.interactions, items)[users]
    assert_agree(other.score(shuffled.interactions, all_items(other)), expected)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_scores_are_linear_in_the_history(seed):
    train = random_training_set(33)
    model = MARec(MARecConfig(delta=1.0)).fit(train, SHARED)
    generator = np.random.default_rng(seed)
    one, other = (
        sp.random_array((4, model.n_items), density=0.3, format="csr", rng=generator, dtype=np.float32)
        for _ in range(2)
    )
    total = sp.csr_array(2 * one + other)
    items = all_items(model)
    assert_agree(model.score(total, items), 2 * model.score(one, items) + model.score(other, items), 1e-5)


SHARED = Computations()


# ---- refusals


def test_duplicated_attributes_are_named():
    train = random_training_set(40, n_vectors=2)
    features = dict(train.features.features)
    features["copy"] = features["b"]
    twice = TrainingSet(train.interactions, FeatureSet(features, train.features.n_items), "twice")
    with pytest.raises(SingularMatrixError, match=r"singular: ('b', 'copy'|'copy', 'b') carry"):
        MARec(MARecConfig(order=1, delta=1.0)).fit(twice)
    with pytest.raises(SingularMatrixError, match="copy"):
        MARec(MARecConfig(order=2, delta=1.0)).fit(twice)
    MARec(MARecConfig(order=1, delta=1.0, learner="nonnegative")).fit(twice)


@pytest.mark.parametrize("seed", range(6))
def test_attributes_equal_but_for_rounding_are_named(seed):
    generator = np.random.default_rng(seed)
    train = random_training_set(seed, n_vectors=2, n_warm=100)
    words = train.features.features["b"].matrix.toarray() * generator.random(9)
    features = train.features.features | {
        "b": vector_feature(words),
        "shuffled": vector_feature(words[:, generator.permutation(9)]),
    }
    twice = TrainingSet(train.interactions, FeatureSet(features, train.features.n_items), f"rounded {seed}")
    with pytest.raises(SingularMatrixError, match=r"'b'.*'shuffled'|'shuffled'.*'b'"):
        MARec(MARecConfig(order=1, delta=1.0)).fit(twice)


def test_a_correlation_with_constant_similarities_is_refused():
    train = random_training_set(41)
    n_items = train.features.n_items
    same = TrainingSet(train.interactions, FeatureSet({"id": vector_feature(np.eye(n_items))}, n_items), "constant")
    with pytest.raises(SingularMatrixError, match="No similarity varies"):
        MARec(MARecConfig(delta=1.0, learner="correlation")).fit(same)


def test_attributes_that_no_two_warm_items_share_are_refused():
    train = random_training_set(41)
    n_items = train.features.n_items
    lonely = TrainingSet(train.interactions, FeatureSet({"id": vector_feature(np.eye(n_items))}, n_items), "lonely")
    with pytest.raises(SingularMatrixError, match="no two warm items share"):
        MARec(MARecConfig(delta=1.0)).fit(lonely)


def test_weights_that_are_not_finite_are_refused(monkeypatch):
    monkeypatch.setattr("coldray.models.marec.model.learn_weights", lambda *_, **__: np.array([1.0, np.nan, 0.0]))
    with pytest.raises(NumericalError, match="not finite"):
        MARec(MARecConfig(order=1)).fit(random_training_set(42))


def test_an_unknown_attribute_of_delta_is_refused():
    train = random_training_set(43)
    with pytest.raises(ConfigError, match=r"'aa'.*Did you mean 'a'"):
        MARec(MARecConfig(delta={"aa": 1.0, "a": 2.0, "b": 2.0})).fit(train)
    with pytest.raises(ConfigError, match="leaves out b"):
        MARec(MARecConfig(delta={"a": 1.0})).fit(train)


def test_users_solver_with_attributes_in_the_gram_matrix_is_refused():
    with pytest.raises(ConfigError, match=r"solver='users'.*lambda_0=0\.1.*Use solver='items'"):
        MARecConfig(solver="users", lambda_0=0.1, delta=1.0)
    for parameters in ({"solver": "users"}, {"solver": "items", "lambda_0": 0.1}, {"lambda_0": 0.1}):
        MARecConfig(**parameters)


def test_an_absent_cuda_device_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="cuda"):
        MARec().fit(random_training_set(45), options=FitOptions(device="cuda"))


def test_attributes_are_checked_before_the_fit_as_by_the_fit():
    kinds = {"a": "labels", "b": "text", "year": "number"}
    for delta in (3.0, {"a": 1.0, "b": 2.0}, {"a": 1.0, "b": 2.0, "year": 1.0}):
        MARec(MARecConfig(delta=delta)).check_attributes(kinds)
    with pytest.raises(ConfigError, match=r"'aa'.*Did you mean 'a'.*Used: a, b, year"):
        MARec(MARecConfig(delta={"aa": 1.0, "a": 2.0, "b": 2.0})).check_attributes(kinds)
    with pytest.raises(ConfigError, match=r"leaves out b\. Give one for each of a, b, or one number"):
        MARec(MARecConfig(delta={"a": 1.0})).check_attributes(kinds)


@pytest.mark.parametrize("parameters", [{}, {"learner": "correlation"}, {"lambda_0": 0.5}], ids=str)
def test_a_catalogue_that_does_not_fit_is_refused_before_anything_is_allocated(monkeypatch, parameters):
    train = random_training_set(46, n_users=10, n_warm=1500, n_cold=200)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 3 * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(
            CatalogTooLargeError, match=r"1,500 warm items.* GiB of memory; 0\.0 GiB is free.*fewer items"
        ):
            MARec(MARecConfig(**parameters)).fit(train)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1500**2, "a dense matrix between items was allocated"


COUPLED = {"lambda_0": 0.1, "beta": 0.01}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"solver": "items"},
        {"solver": "cholesky"},
        {**COUPLED, "solver": "items"},
        {**COUPLED, "solver": "cholesky"},
    ],
    ids=str,
)
@pytest.mark.parametrize("n_users", [60, 900])
def test_a_fit_and_its_scores_keep_within_what_they_are_said_to_need(monkeypatch, parameters, n_users):
    monkeypatch.setattr("coldray.models.marec.mixture._BLOCK_FLOATS", 2**12)
    train = random_training_set(48, n_users=n_users, n_warm=400, n_cold=100)
    model = MARec(MARecConfig(order=1, delta=1.0, **parameters))
    tracemalloc.start()
    try:
        model.fit(train).scorer(np.arange(500))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.memory_bytes(n_users, 500) / 3 < peak < model.memory_bytes(n_users, 500)


@pytest.mark.parametrize("parameters", [{}, {"lambda_0": 0.1, "beta": 0.01}], ids=str)
def test_what_is_stored_is_checked_before_it_is_allocated(monkeypatch, parameters):
    train = random_training_set(49, n_users=60, n_warm=400, n_cold=100)
    model = MARec(MARecConfig(order=1, delta=1.0, **parameters)).fit(train)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(CatalogTooLargeError, match="closed form of MARec on 500 items needs"):
            model.state()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_an_inverse_of_coupled_items_is_checked_before_it_is_allocated(monkeypatch):
    train = random_training_set(50, n_users=60, n_warm=400, n_cold=100)
    config = MARecConfig(order=1, delta=1.0, **COUPLED)
    every = 32 * 500**2 + 24 * 500 * 100
    for solver, items, need in (
        ("items", train.cold_items, every),
        ("cholesky", np.arange(500), every),
        ("cholesky", train.cold_items, _elimination_bytes(400, 100)),
    ):
        model = MARec(config.model_copy(update={"solver": solver})).fit(train)
        monkeypatch.setattr("coldray.core.memory._available_bytes", lambda need=need: need - 1)
        with pytest.raises(CatalogTooLargeError, match="closed form of MARec on 500 items needs"):
            model.score(train.interactions, items)
        monkeypatch.setattr("coldray.core.memory._available_bytes", lambda need=need: need)
        model.score(train.interactions, items)
        monkeypatch.undo()


def test_moments_that_do_not_fit_are_told_with_what_would(monkeypatch):
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: moments_bytes(20_000, 3))
    _require_moments_memory(20_000, 3)
    with pytest.raises(CatalogTooLargeError, match=r"between 20,001 warm items.*enough for 20,000 items"):
        _require_moments_memory(20_001, 3)


@pytest.mark.parametrize("solver", ["items", "users", "cholesky"])
def test_a_closed_form_that_does_not_fit_is_refused_before_it_is_allocated(monkeypatch, solver):
    train, shared = random_training_set(47, n_users=10), CountingComputations()
    MARec(MARecConfig(delta=1.0)).fit(train, shared)
    shared._results = {key: value for key, value in shared._results.items() if "gram_spectrum" not in key}
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match=r"closed form of MARec on 22 items needs .*min_item_interactions"):
        MARec(MARecConfig(delta=1.0, solver=solver)).fit(train, shared)


@pytest.mark.parametrize(
    "parameters",
    [
        {"lambda_1": 0},
        {"lambda_1": -1},
        {"lambda_0": -0.1},
        {"alpha": 0},
        {"beta": 0},
        {"delta": 0},
        {"delta": {"a": -1.0}},
        {"w0": 0},
        {"w0": 1.1},
        {"order": 3},
        {"learner": "magic"},
        {"solver": "gpu"},
    ],
    ids=str,
)
def test_impossible_parameters_are_refused(parameters):
    (name,) = parameters
    with pytest.raises(ValidationError, match=name):
        MARecConfig(**parameters)


# ---- the contract


class TestMARec(ColdItemContract):
    model = MARec
    config = MARecConfig(delta=1.0, beta=10.0, lambda_1=2.0)


class TestMARecCoupled(ColdItemContract):
    """With λ₀ > 0, where warm and cold items are not apart."""

    model = MARec
    config = MARecConfig(lambda_0=0.01, beta=0.5, delta=1.0, lambda_1=2.0, order=1, learner="nonnegative")


def test_defaults_are_the_papers():
    config = MARecConfig()
    assert (config.lambda_1, config.alpha, config.beta, config.delta, config.w0) == (1, 1, 100, 20, 0.2)
    assert (config.order, config.learner, config.lambda_0) == (2, "regression", 0)


def test_years_alone_are_enough():
    train = random_training_set(48)
    years = FeatureSet({"year": scalar_feature(np.linspace(1950, 2010, 30))}, 30)
    assert_same_model(TrainingSet(train.interactions, years, "years"), MARecConfig())


def test_genres_that_decide_get_the_weight():
    train, _ = genre_groups()
    mixture = MARec(MARecConfig(order=1)).fit(train).mixture
    assert mixture["genre"] > 3 * abs(mixture["noise"])


@pytest.mark.parametrize("lambda_0", [0.0, 2.0])
def test_beyond_the_rows_of_lapack_the_scores_are_the_same(lambda_0, monkeypatch):
    train = random_training_set(3)
    config = MARecConfig(lambda_0=lambda_0, lambda_1=5.0, beta=0.05, solver="cholesky", learner="nonnegative")
    items = np.arange(train.interactions.shape[1])
    expected = MARec(config).fit(train).score(train.interactions, items)
    monkeypatch.setattr(panel_cholesky, "_LAPACK_ROWS", 5)
    monkeypatch.setattr(panel_cholesky, "PANEL", 4)
    np.testing.assert_allclose(MARec(config).fit(train).score(train.interactions, items), expected, atol=1e-5)
