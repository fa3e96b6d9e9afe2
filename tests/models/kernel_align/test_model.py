"""KernelAlign: its kernels, its marginal likelihood, and the contract of all models."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.computations import Computations
from coldray.models.kernel_align.covariance import ItemCovariance, Weights, _MarginalLikelihood, learn_weights
from coldray.models.kernel_align.kernels import _FARTHEST, KernelBasis
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.linalg.panel_cholesky import PanelCholesky
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature
from contracts.recommender import ColdItemContract
from models.learned import noisy


class TestKernelAlign(ColdItemContract):
    model = KernelAlign
    config = KernelAlignConfig(n_factors=12, subset=100, steps=25, ridge=1.0)


class TestKernelAlignWithPopularity(ColdItemContract):
    model = KernelAlign
    config = KernelAlignConfig(n_factors=12, subset=100, steps=25, ridge=1.0, popularity=0.3)


class TestKernelAlignThroughInducingItems(ColdItemContract):
    model = KernelAlign
    config = KernelAlignConfig(n_factors=12, subset=100, steps=25, ridge=1.0, exact_items=0, inducing=18)


def test_a_number_far_from_all_others_overflows_nothing():
    warm = FeatureSet({"year": scalar_feature([1990, 2000, 2010])}, 3)
    (distance,) = KernelBasis.of(warm).distances(warm, FeatureSet({"year": scalar_feature([1e30, 2000], span=20)}, 2))
    assert (distance[:, 0] == np.float32(_FARTHEST)).all()
    assert (distance[:, 1] < 2).all()


def random_weights(basis, generator):
    shape = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    return shape.moved(shape.logarithms() + generator.normal(0, 0.5, len(shape.logarithms())))


def reference(basis, weights, rows, columns):
    """Return the covariance of two lists of items, cell by cell, straight from the formula."""
    kernels = [kernel.astype(float) for kernel in basis.kernels(rows, columns)]
    distances = [distance.astype(float) for distance in basis.distances(rows, columns)]
    found = np.empty((rows.n_items, columns.n_items))
    for i in range(rows.n_items):
        for j in range(columns.n_items):
            additive = sum(a * kernel[i, j] for a, kernel in zip(weights.additive, kernels, strict=True))
            bumps = sum(
                b * np.exp(-decay * d[i, j])
                for b, decay, d in zip(weights.bumps, weights.bump_decays, distances, strict=True)
            )
            exponent = sum(
                decay * (1 - kernels[k][i, j]) for decay, k in zip(weights.decays, basis.product, strict=True)
            ) + sum(q * d[i, j] for q, d in zip(weights.number_decays, distances, strict=True))
            found[i, j] = weights.constant + additive + bumps + weights.product * np.exp(-exponent)
    return found


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_covariance_is_the_formula_and_its_diagonal_the_variances(seed):
    generator = np.random.default_rng(seed)
    rows, columns = random_features(generator, 9), random_features(generator, 5)
    basis = KernelBasis.of(rows)
    weights = random_weights(basis, generator)
    covariance = ItemCovariance(basis, weights)
    np.testing.assert_allclose(covariance.between(rows, columns), reference(basis, weights, rows, columns), rtol=1e-4)
    own, variances = np.diag(covariance.between(rows, rows)), covariance.variances(rows)
    complete = np.isfinite(rows.features["year"].values)
    for feature in (rows.features["a"], rows.features["b"]):
        complete &= np.diff(feature.matrix.indptr) > 0
    np.testing.assert_allclose(variances[complete], own[complete], rtol=1e-4)
    assert (variances[~complete] > own[~complete]).all()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), unknown=st.floats(0, 1))
def test_the_covariance_is_positive_definite_whatever_is_unknown(seed, unknown):
    """Few numbers far from all others, many unknown: a constant distance to the unknown would break it."""
    generator = np.random.default_rng(seed)
    numbers = generator.choice([-1.0, 0.0, 1.0], 40, p=[0.05, 0.9, 0.05])
    numbers[generator.random(40) < unknown] = np.nan
    numbers[:4] = -1, -1, 1, 1
    numbers[4:8] = np.nan
    features = FeatureSet({"n": scalar_feature(numbers, 6.0), **random_features(generator, 40).features}, 40)
    basis = KernelBasis.of(features)
    weights = random_weights(basis, generator)
    weights = dataclasses.replace(weights, bumps=weights.bumps * 20, bump_decays=weights.bump_decays / 20)
    covariance = noisy(ItemCovariance(basis, weights), features)
    assert np.linalg.eigvalsh(covariance - weights.noise * np.eye(40)).min() > -1e-5 * np.abs(covariance).max()


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_is_that_of_finite_differences(seed):
    generator = np.random.default_rng(seed)
    items = random_features(generator, 24, n_vectors=3)
    basis = KernelBasis.of(items)
    profiles = generator.standard_normal((24, 5)).astype(np.float32)
    likelihood = _MarginalLikelihood(basis, items, profiles)
    weights = random_weights(basis, generator)
    _, gradient = likelihood(weights)
    position = weights.logarithms()
    for i in range(len(position)):
        step = np.zeros_like(position)
        step[i] = 1e-2
        above, below = (likelihood(weights.moved(position + sign * step))[0] for sign in (1, -1))
        assert gradient[i] == pytest.approx((above - below) / 2e-2, abs=2e-5, rel=2e-2)


def test_the_value_is_the_density_of_scipy():
    from scipy.stats import multivariate_normal

    generator = np.random.default_rng(5)
    items = random_features(generator, 15)
    basis = KernelBasis.of(items)
    weights = random_weights(basis, generator)
    profiles = generator.standard_normal((15, 3)).astype(np.float32)
    covariance = noisy(ItemCovariance(basis, weights), items)
    density = sum(multivariate_normal(cov=covariance).logpdf(column) for column in profiles.T.astype(float))
    expected = -density / (3 * 15) - np.log(2 * np.pi) / 2
    assert _MarginalLikelihood(basis, items, profiles)(weights)[0] == pytest.approx(expected, rel=1e-5)


def test_learning_finds_the_attribute_that_matters():
    """Profiles are drawn from one attribute's kernel; the other attribute is noise."""
    generator = np.random.default_rng(2)
    genres = generator.integers(0, 6, 120)
    features = FeatureSet(
        {"genre": vector_feature(np.eye(6)[genres]), "noise": vector_feature(np.eye(6)[generator.integers(0, 6, 120)])},
        120,
    )
    profiles = np.eye(6)[genres] @ generator.standard_normal((6, 10)) + 0.3 * generator.standard_normal((120, 10))
    basis = KernelBasis.of(features)
    weights, values = learn_weights(basis, features, profiles.astype(np.float32), steps=40)
    by_name = {term.name: a for term, a in zip(basis.terms, weights.additive, strict=True)}
    decays = {basis.terms[k].attribute: decay for k, decay in zip(basis.product, weights.decays, strict=True)}
    assert values[-1] < values[0] - 0.1
    assert by_name["genre"] > 2 * by_name["noise"]
    assert decays["genre"] > 2 * decays["noise"]
    assert weights.noise == pytest.approx(0.09, rel=0.5)


def test_an_item_without_attributes_has_the_largest_variance_and_the_mean_of_all():
    train = random_training_set(3, n_users=40)
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=20)).fit(train)
    blank = FeatureSet(
        {
            name: scalar_feature([np.nan], 70.0) if name == "year" else vector_feature(np.zeros((1, f.matrix.shape[1])))
            for name, f in train.features.features.items()
        },
        1,
    )
    extended = model.add_items(blank)
    variance = extended.variance(np.arange(extended.n_items))
    assert variance[-1] > variance[train.warm_items].max()
    assert extended.falls_back(np.arange(extended.n_items)).tolist() == [False] * train.features.n_items + [True]
    assert np.isfinite(extended.score(extended_histories(train, 1), np.array([extended.n_items - 1]))).all()


def extended_histories(train, n_new):
    added = sp.csr_array((train.interactions.shape[0], n_new), dtype=np.float32)
    return sp.csr_array(sp.hstack([train.interactions, added], format="csr"))


def test_trials_that_differ_in_the_smoothing_share_the_covariance():
    train = random_training_set(4)
    calls = []

    class Counting(Computations):
        def get(self, function, data, /, *args, **parameters):
            def counted(*a, **k):
                calls.append(function.__name__)
                return function(*a, **k)

            counted.__module__, counted.__qualname__ = function.__module__, function.__qualname__
            return super().get(counted, data, *args, **parameters)

    shared = Counting()
    for alpha in (0.0, 0.2):
        for ridge in (1.0, 6.0):
            KernelAlign(KernelAlignConfig(n_factors=8, steps=5, alpha=alpha, ridge=ridge)).fit(train, shared)
    assert calls.count("learned_covariance") == calls.count("conditional") == 1
    assert calls.count("co_clicks") == 1


def test_configurations_that_learn_other_covariances_share_the_kernels():
    train = random_training_set(4)
    made = []

    class Counting(Computations):
        def get(self, function, data, /, *args, **parameters):
            before = len(self._results)
            result = super().get(function, data, *args, **parameters)
            made.extend([function.__name__] * (len(self._results) > before))
            return result

    shared = Counting()
    configs = [KernelAlignConfig(n_factors=n, subset=m, steps=5) for n, m in ((8, 900), (4, 900), (8, 10))]
    fitted = [KernelAlign(config).fit(train, shared) for config in configs]
    assert made.count("kernel_matrices") == 1
    assert made.count("learned_covariance") == made.count("conditional") == 3
    for config, model in zip(configs, fitted, strict=True):
        alone = KernelAlign(config).fit(train)
        np.testing.assert_array_equal(model.state()["logarithms"], alone.state()["logarithms"])


def test_kernels_too_large_to_hold_are_made_each_time(monkeypatch):
    train, shared = random_training_set(4), Computations()
    config = KernelAlignConfig(n_factors=8, subset=20, steps=5)
    held = KernelAlign(config).fit(train).state()
    monkeypatch.setattr("coldray.models.kernel_align.model._KERNEL_BYTES", 0)
    monkeypatch.setattr("coldray.models.kernel_align.posterior.kernel_matrices", None)
    made = KernelAlign(config).fit(train, shared).state()
    for name, array in held.items():
        np.testing.assert_allclose(made[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_run_over_the_popularity_smooths_once():
    """What an αλγ grid makes in this process: the smoothing of the configuration before it."""
    train, shared = random_training_set(4), Computations()
    first, second, third = (
        KernelAlign(KernelAlignConfig(n_factors=8, steps=5, ridge=ridge, popularity=popularity)).fit(train, shared)
        for ridge, popularity in ((6.0, 0.1), (6.0, 0.4), (7.0, 0.4))
    )
    everybody = [model.score(train.interactions, np.arange(model.n_items)) for model in (first, second, third)]
    assert second.state()["smoother.panels"] is first.state()["smoother.panels"]
    assert third.state()["smoother.panels"] is not first.state()["smoother.panels"]
    for model, scores in zip((first, second, third), everybody, strict=True):
        alone = KernelAlign(model.config).fit(train)
        for items in (np.arange(alone.n_items), train.cold_items, train.warm_items[:3], train.cold_items):
            np.testing.assert_array_equal(
                alone.score(train.interactions, items), model.score(train.interactions, items)
            )
            assert_no_mixing(alone, model, train.interactions[[5]], items)
        np.testing.assert_array_equal(scores, alone.score(train.interactions, np.arange(alone.n_items)))


def assert_no_mixing(alone, model, history, items):
    """Check that other users, and the same items with other clicks, are not answered with what is kept."""
    twice = sp.csr_array((2 * history.data, history.indices, history.indptr), shape=history.shape)
    for asked in (history, twice, history):
        np.testing.assert_allclose(model.score(asked, items), alone.score(asked, items), rtol=1e-6)


@pytest.mark.parametrize("exact_items", [1000, 0])
def test_scorers_of_different_items_do_not_meet(exact_items):
    """Made one after the other, asked in turns; models with other added items share what they were made of."""
    train = random_training_set(4)
    config = KernelAlignConfig(n_factors=8, steps=5, popularity=0.3, exact_items=exact_items)
    model = KernelAlign(config).fit(train)
    first, second = train.cold_items[:3], train.warm_items[:3]
    expected = [KernelAlign(config).fit(train).score(train.interactions, items) for items in (first, second)]
    scorers = [model.scorer(items) for items in (first, second)]
    for _ in range(2):
        for scorer, scores in zip(scorers, expected, strict=True):
            np.testing.assert_allclose(scorer(train.interactions), scores, rtol=1e-5)
    history = extended_histories(train, 1)
    added = [random_features(np.random.default_rng(seed), 1) for seed in (1, 2)]
    extended = [model.add_items(features) for features in added]
    new = np.array([model.n_items])
    found = [one.score(history, new) for one in extended]
    for features, scores in zip(added, found, strict=True):
        alone = KernelAlign(config).fit(train).add_items(features).score(history, new)
        np.testing.assert_allclose(scores, alone, rtol=1e-4)
    assert not np.allclose(found[0], found[1], rtol=1e-3)


@given(st.permutations(range(30)), st.integers(1, 30), st.integers(1, 30), st.booleans())
def test_weights_of_items_that_were_asked_for_before_are_theirs(order, first, second, popular):
    """Whatever was asked for before, and after an item has come."""
    model, alone, history = SHARED[popular]
    asked = np.array(order[:first]), np.append(order[::-1][:second], 30)
    grown = model.add_items(random_features(np.random.default_rng(1), 1))
    model.scorer(asked[0])
    for one in (grown, grown, model.add_items(random_features(np.random.default_rng(1), 1))):
        np.testing.assert_allclose(one.score(history, asked[1]), alone[:, asked[1]], rtol=2e-4, atol=1e-6)


def _shared(popular):
    train = random_training_set(4)
    config = KernelAlignConfig(n_factors=8, steps=5, popularity=0.3 if popular else 0.0, exact_items=1000)
    history = extended_histories(train, 1)
    grown = KernelAlign(config).fit(train).add_items(random_features(np.random.default_rng(1), 1))
    return KernelAlign(config).fit(train), grown.score(history, np.arange(31)), history


@pytest.fixture(scope="module", autouse=True)
def _fits():
    SHARED.update({popular: _shared(popular) for popular in (False, True)})
    yield
    SHARED.clear()


SHARED = {}


def test_a_new_item_costs_its_own_system_and_no_other(monkeypatch):
    solved, solve = [], PanelCholesky.solve

    def counted(self, right):
        solved.append(right.shape[1])
        return solve(self, right)

    monkeypatch.setattr(PanelCholesky, "solve", counted)
    train = random_training_set(4)
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5, exact_items=1000)).fit(train)
    model.scorer(np.arange(model.n_items))
    before = len(solved)
    grown = model.add_items(random_features(np.random.default_rng(1), 1))
    grown.scorer(np.arange(grown.n_items))
    assert solved[before:]
    assert max(solved[before:]) == 1


@pytest.mark.parametrize("change", [{"seed": 1}, {"alpha": 0.6}, {"ridge": 1.0}, {"inducing": 6}])
def test_what_is_reused_through_inducing_items_is_of_the_same_configuration(change):
    train, shared = random_training_set(4), Computations()
    config = KernelAlignConfig(n_factors=8, steps=5, subset=100, exact_items=0, inducing=10)
    changed = config.model_copy(update=change)
    before = KernelAlign(config).fit(train, shared).score(train.interactions, train.cold_items)
    found = KernelAlign(changed).fit(train, shared).score(train.interactions, train.cold_items)
    np.testing.assert_allclose(found, KernelAlign(changed).fit(train).score(train.interactions, train.cold_items))
    assert not np.allclose(found, before, rtol=1e-3)


def test_shared_labels_are_counted_where_items_have_many():
    """``F F' / df`` in units of its mean diagonal, beside the cosines."""
    generator = np.random.default_rng(6)
    labels = (generator.random((14, 80)) < 0.2).astype(np.float32)
    features = FeatureSet({"cast": vector_feature(labels)}, 14)
    basis = KernelBasis.of(features)
    assert [term.name for term in basis.terms] == ["cast", "cast (count)"]
    frequency = np.maximum(labels.sum(axis=0), 1)
    products = (labels / frequency) @ labels.T
    expected = products / np.mean(np.diag(products))
    np.testing.assert_allclose(list(basis.kernels(features, features))[1], expected, rtol=1e-4)
    np.testing.assert_allclose(list(basis.diagonals(features))[1], np.diag(expected), rtol=1e-4)


def test_attributes_may_be_named_like_parts_of_the_model():
    features = random_features(np.random.default_rng(3), 30, n_vectors=3).features
    odd = dict(zip(("a", "a (plain)", "product", "popularity"), features.values(), strict=True))
    train = dataclasses.replace(random_training_set(4), features=FeatureSet(odd, 30), key="odd names")
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5, popularity=0.3)).fit(train)
    found = model.explain(train.interactions[[3]], 2)
    assert len(found.by_part) == 6
    assert sum(found.by_part.values()) == pytest.approx(found.score)
    assert {"(product)", "product (plain)", "popularity"} <= set(model.parts)


def test_a_warm_item_scores_as_the_formula_says():
    """``X D (A + sI)⁻¹ A (K + σ²I)⁻¹ K`` in double precision, for warm and cold items together."""
    train = random_training_set(7)
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=10, alpha=0.3, ridge=2.0)).fit(train)
    warm, items = train.warm_items, np.arange(model.n_items)
    known = train.features.take(warm)
    covariance = model._covariance()
    between = covariance.between(known, train.features).astype(float)
    between[np.arange(len(warm)), warm] = covariance.variances(known)
    means = np.linalg.solve(noisy(covariance, known), between)
    clicks = train.interactions.toarray()[:, warm].astype(float)
    damping = np.diag((clicks.sum(axis=0) + 5) ** -0.3)
    gram = damping @ clicks.T @ clicks @ damping
    ridge = 2 * np.mean(np.diag(gram)) * np.eye(len(gram))
    expected = clicks @ damping @ np.linalg.solve(gram + ridge, gram) @ means
    np.testing.assert_allclose(model.score(train.interactions, items), expected, atol=2e-4 * np.abs(expected).max())
    explained = np.sum(between * means, axis=0)
    prior = covariance.variances(train.features) + covariance.weights.noise
    np.testing.assert_allclose(model.variance(items), prior - explained, rtol=1e-3)


def forms_of_smoothing():
    """Return training sets with more items than users and with fewer."""
    return random_training_set(7), random_training_set(7, n_users=12)


@pytest.mark.parametrize("many_users", [True, False])
def test_single_precision_in_panels_is_the_form_of_small_catalogues(monkeypatch, many_users):
    """Scores of all items and of users one by one, variances, explanations and added items."""
    train = forms_of_smoothing()[not many_users]
    config = KernelAlignConfig(n_factors=8, steps=10, ridge=2.0, popularity=0.3)
    expected = said_by(KernelAlign(config).fit(train), train)
    monkeypatch.setattr("coldray.models.kernel_align.posterior.DOUBLE_ITEMS", 0)
    monkeypatch.setattr("coldray.models.kernel_align.model.DOUBLE_ITEMS", 0)
    for module in ("linalg.panel_cholesky", "kernel_align.posterior", "kernel_align.smoothing"):
        monkeypatch.setattr(f"coldray.models.{module}.PANEL", 5)
    monkeypatch.setattr("coldray.models.kernel_align.weights._WEIGHT_BYTES", 0)
    monkeypatch.setattr("coldray.models.kernel_align.posterior._TILE_ROWS", 3)
    large = KernelAlign(config).fit(train)
    assert large.state()["factor"].dtype == np.float32
    for found, known in zip(said_by(large, train), expected, strict=True):
        np.testing.assert_allclose(found, known, rtol=1e-4, atol=1e-4 * np.abs(known).max())


def said_by(model, train):
    """Return scores, variances and explanations of all items and of three added ones."""
    model = model.add_items(random_features(np.random.default_rng(1), 3))
    history, items = extended_histories(train, 3), np.arange(model.n_items)
    scores, shares = model.score(history, items), []
    for item in (train.warm_items[0], train.cold_items[0], items[-1]):
        found = model.explain(history[[2]], int(item))
        assert found.score == pytest.approx(scores[2, item], rel=1e-3, abs=1e-5)
        shares.append(found.shares)
    return scores, model.variance(items), *shares


def test_an_earlier_bundle_with_the_inverse_and_a_square_factor_scores_as_before():
    train = random_training_set(7)
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=10, ridge=2.0)).fit(train)
    warm, items = train.warm_items, np.arange(model.n_items)
    clicks = train.interactions.toarray()[:, warm].astype(float)
    state = dict(model.state())
    del state["factor"], state["smoother.panels"]
    state["precision"] = np.linalg.inv(noisy(model._covariance(), train.features.take(warm))).astype(np.float32)
    shift = float(state["smoother.shift"][0])
    square = clicks.T @ clicks + np.diag(shift / state["smoother.damping"].astype(float) ** 2)
    state["smoother.factor"] = np.linalg.cholesky(square).astype(np.float32)
    state["variance"] = model.variance(items)
    config = KernelAlignConfig.model_validate({**model.config.model_dump(), "exact_items": 15_000, "inducing": 1500})
    old = KernelAlign.from_state(config, state, train.features)
    new = random_features(np.random.default_rng(1), 3)
    old, model = old.add_items(new), model.add_items(new)
    history, items = extended_histories(train, 3), np.arange(model.n_items)
    np.testing.assert_allclose(old.score(history, items), model.score(history, items), atol=1e-4)
    np.testing.assert_allclose(old.variance(items), model.variance(items), rtol=1e-4)
    found, known = (one.explain(history[[2]], int(train.cold_items[0])) for one in (old, model))
    np.testing.assert_allclose(found.shares, known.shares, atol=1e-4)
    again = KernelAlign.from_state(config, old.state(), train.features.append(new))
    np.testing.assert_array_equal(again.score(history, items), old.score(history, items))


def test_the_variance_of_a_warm_item_is_made_once_and_kept_when_items_are_added(monkeypatch):
    train = random_training_set(7)
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=10)).fit(train)
    expected, items = model.variance(train.warm_items), np.arange(model.n_items)
    assert (expected > 0).all()
    whole = model.variance(items)
    asked, made = [], PanelCholesky.inverse_diagonal
    monkeypatch.setattr(
        PanelCholesky, "inverse_diagonal", lambda self, places: asked.extend(places) or made(self, places)
    )
    np.testing.assert_array_equal(model.variance(items), whole)
    np.testing.assert_array_equal(model.variance(train.warm_items), expected)
    extended = model.add_items(random_features(np.random.default_rng(1), 3))
    np.testing.assert_array_equal(extended.variance(items), whole)
    assert asked == []


def test_single_precision_that_is_not_enough_gives_way_to_double(monkeypatch):
    train = random_training_set(7)
    config = KernelAlignConfig(n_factors=8, steps=10)
    expected = KernelAlign(config).fit(train).score(train.interactions, train.cold_items)
    monkeypatch.setattr("coldray.models.kernel_align.posterior.DOUBLE_ITEMS", 0)
    monkeypatch.setattr("coldray.models.kernel_align.posterior._MAX_ERROR", 1e-9)
    found = KernelAlign(config).fit(train)
    assert found.state()["factor"].dtype == np.float64
    np.testing.assert_allclose(found.score(train.interactions, train.cold_items), expected, rtol=1e-4)
    monkeypatch.setattr("coldray.models.kernel_align.posterior._MAX_ERROR", 1e-30)
    with pytest.raises(SingularMatrixError, match=r"leaves an error of .* to working precision.*Raise min_noise"):
        KernelAlign(config).fit(train)


@given(st.floats(0.5, 40.0))
@settings(max_examples=6)
def test_noise_may_be_raised_once_it_is_learned(factor):
    """All else is learned as without it, and the weights are those of a dense solution with the noise as raised."""
    train = random_training_set(5)
    config = KernelAlignConfig(n_factors=8, subset=100, steps=8)
    plain = KernelAlign(config).fit(train)
    raised = KernelAlign(config.model_copy(update={"noise_factor": factor})).fit(train)
    expected = {name: weight * (factor if name == "(noise)" else 1) for name, weight in plain.parts.items()}
    assert raised.parts == pytest.approx(expected, rel=1e-6)
    warm, cold = (train.features.take(items) for items in (train.warm_items, train.cold_items))
    covariance = plain._covariance()
    square = covariance.between(warm, warm).astype(np.float64)
    np.fill_diagonal(square, covariance.variances(warm) + factor * plain.parts["(noise)"])
    means = np.linalg.solve(square, covariance.between(warm, cold).astype(np.float64))
    np.testing.assert_allclose(raised.state()["cold_means"], means, atol=1e-4)


def test_all_warm_items_as_inducing_ones_give_the_exact_form():
    """Scores, variances, explanations and added items, up to the tolerance of the smoothing."""
    train = random_training_set(7)
    exact, inducing = (
        KernelAlign(KernelAlignConfig(n_factors=8, steps=10, ridge=2.0, exact_items=limit, inducing=1000)).fit(train)
        for limit in (1000, 0)
    )
    new = random_features(np.random.default_rng(1), 3)
    exact, inducing = exact.add_items(new), inducing.add_items(new)
    history, items = extended_histories(train, 3), np.arange(exact.n_items)
    scores = exact.score(history, items)
    np.testing.assert_allclose(inducing.score(history, items), scores, atol=0.01 * np.abs(scores).max())
    np.testing.assert_allclose(inducing.variance(items), exact.variance(items), rtol=1e-3)
    np.testing.assert_array_equal(inducing.falls_back(items), exact.falls_back(items))
    for item in (train.warm_items[0], train.cold_items[0], items[-1]):
        found, expected = (model.explain(history[[2]], int(item)) for model in (inducing, exact))
        assert found.score == pytest.approx(inducing.score(history[[2]], np.array([item]))[0, 0], rel=1e-3)
        np.testing.assert_allclose(found.shares, expected.shares, atol=0.02 * float(np.abs(scores).max()))


def test_embeddings_are_compared_after_their_mean_is_taken_off():
    generator = np.random.default_rng(8)
    points = generator.standard_normal((12, 20)) + 5  # all of them point the same way
    points[3] = 0  # an item without a text
    features = FeatureSet({"text": vector_feature(points)}, 12)
    basis = KernelBasis.of(features)
    (kernel,) = basis.kernels(features, features)
    known = np.delete(np.arange(12), 3)
    centred = points[known] - points[known].mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(kernel[np.ix_(known, known)], centred @ centred.T, atol=1e-5)
    np.testing.assert_array_equal(kernel[3], 0)


def test_attributes_that_tell_nothing_apart_are_refused():
    same = FeatureSet({"year": scalar_feature([2000.0, 2000.0, 2000.0], 1.0)}, 3)
    with pytest.raises(ConfigError, match=r"No attribute tells the warm items apart.*features\.attributes"):
        KernelBasis.of(same)
