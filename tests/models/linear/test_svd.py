"""SVD and the singular vectors it is made of: numpy's decomposition, nested factors, and the contract of all models."""

import logging

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import extmath

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.linalg import singular as module
from coldray.models.linalg.singular import singular_vectors
from coldray.models.linear.svd import SVD, SVDConfig
from contracts.problems import genre_groups, random_training_set
from contracts.recommender import ClickedItemContract, all_items
from models.learned import CountingComputations


class TestSVD(ClickedItemContract):
    model = SVD
    config = SVDConfig(n_factors=3)


class TestCentredSVD(ClickedItemContract):
    model = SVD
    config = SVDConfig(n_factors=4, max_factors=12, alpha=0.5, centred=True)


def many_clicks(seed, n_users, n_items, density=0.4):
    """Return clicks without any structure, whose singular values are all distinct; the last item is cold."""
    clicks = np.random.default_rng(seed).random((n_users, n_items)) < density
    clicks[:, -1] = False
    return TrainingSet(sp.csr_array(clicks.astype(np.float32)), FeatureSet({}, n_items), f"many clicks {seed}")


def decomposed(train, alpha, centred):
    """Return ``X D`` of the warm items, centred if asked for, dense."""
    clicks = train.interactions.toarray()[:, train.warm_items].astype(float)
    damped = clicks * (clicks.sum(axis=0) + 5.0) ** -alpha
    return damped - damped.mean(axis=0) if centred else damped


def reference(train, config, histories):
    """Return the scores of all items by numpy's decomposition."""
    warm, clicks = train.warm_items, train.interactions.toarray()[:, train.warm_items].astype(float)
    damping = (clicks.sum(axis=0) + 5.0) ** -config.alpha
    right = np.linalg.svd(decomposed(train, config.alpha, config.centred))[2][: config.n_factors]
    mean = clicks.mean(axis=0) if config.centred else 0.0
    scores = np.zeros(histories.shape)
    scores[:, warm] = ((histories[:, warm] - mean) * damping) @ right.T @ right / damping + mean
    return scores


SOLVERS = {"dense": {}, "ARPACK": {"_DENSE_SIDE": 0}, "randomised": {"_DENSE_SIDE": 0, "_RANDOMISED_CLICKS": 1}}


@pytest.fixture(params=SOLVERS)
def solver(request, monkeypatch):
    for name, value in SOLVERS[request.param].items():
        monkeypatch.setattr(module, name, value)
    return request.param


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.sampled_from([(14, 25), (30, 18)]),
    n_factors=st.integers(1, 9),
    alpha=st.sampled_from([0.0, 0.3, 1.0]),
    centred=st.booleans(),
)
def test_scores_are_the_projection_by_numpys_decomposition(seed, shape, **parameters):
    train, config = many_clicks(seed, *shape), SVDConfig(**parameters)
    scores = SVD(config).fit(train).score(train.interactions, np.arange(shape[1]))
    np.testing.assert_allclose(scores, reference(train, config, train.interactions.toarray()), atol=2e-4)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("shape", [(30, 60), (60, 40)], ids=["U<W", "U>W"])
def test_every_solver_finds_numpys_vectors_with_the_largest_entry_positive(solver, shape, centred):
    train = many_clicks(1, *shape)
    found, values = singular_vectors(train, n_factors=6, alpha=0.2, centred=centred)
    _, expected, right = np.linalg.svd(decomposed(train, 0.2, centred))
    np.testing.assert_allclose(values, expected[:6], rtol=1e-3)
    signs = np.sign((right[:6].T * found).sum(axis=0))
    np.testing.assert_allclose(found, right[:6].T * signs, atol=5e-3 if solver == "randomised" else 1e-5)
    assert (found[np.abs(found).argmax(axis=0), np.arange(6)] > 0).all()


def test_the_solver_follows_from_the_size(monkeypatch):
    used = []
    for owner, name in ((module.scipy.sparse.linalg, "svds"), (extmath, "randomized_svd"), (module, "symmetric_eigen")):
        real = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *a, _real=real, _name=name, **k: used.append(_name) or _real(*a, **k))
    train = many_clicks(2, 40, 30)

    def solve(n_factors, centred=False):
        singular_vectors(train, n_factors=n_factors, alpha=0.0, centred=centred)
        name, *_ = used
        used.clear()
        return name

    assert solve(4) == "symmetric_eigen"
    monkeypatch.setattr(module, "_DENSE_SIDE", 20)
    assert solve(4) == "svds"
    assert solve(28) == "symmetric_eigen"  # nearly all of them
    monkeypatch.setattr(module, "_RANDOMISED_CLICKS", train.interactions.nnz)
    assert solve(4) == "randomized_svd"
    assert solve(4, centred=True) == "svds"


def test_the_same_clicks_have_the_same_vectors(solver):
    train = many_clicks(3, 50, 40)
    first, _ = singular_vectors(train, n_factors=5, alpha=0.2, centred=False)
    np.random.random(3)  # noqa: NPY002  nothing depends on the global generator
    again, _ = singular_vectors(train, n_factors=5, alpha=0.2, centred=False)
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("n_factors", [1, 3, 7])
def test_the_leading_factors_of_many_are_those_of_few(solver, n_factors):
    train = many_clicks(4, 50, 40)
    alone = SVD(SVDConfig(n_factors=n_factors)).fit(train)
    nested = SVD(SVDConfig(n_factors=n_factors, max_factors=10)).fit(train)
    assert nested.n_factors == alone.n_factors == n_factors
    found, expected = (model.score(train.interactions, all_items(model)) for model in (nested, alone))
    np.testing.assert_allclose(found, expected, atol=2e-2 if solver == "randomised" else 1e-5)


def test_a_sweep_over_factors_is_one_decomposition():
    train, shared = many_clicks(5, 60, 50), CountingComputations()
    for n_factors in (2, 5, 20):
        SVD(SVDConfig(n_factors=n_factors, max_factors=20, alpha=0.3)).fit(train, shared)
    assert shared.computed["singular_vectors"] == [{"n_factors": 20, "alpha": 0.3, "centred": False}]
    for n_factors in (2, 5):
        SVD(SVDConfig(n_factors=n_factors, alpha=0.3)).fit(train, shared)
    assert [each["n_factors"] for each in shared.computed["singular_vectors"]] == [20, 2, 5]
    SVD(SVDConfig(n_factors=30, max_factors=10, alpha=0.3)).fit(train, shared)
    assert shared.computed["singular_vectors"][-1]["n_factors"] == 30


def test_a_study_that_asks_for_more_than_there_is_still_shares_it():
    train, shared = many_clicks(6, 12, 50), CountingComputations()
    for n_factors in (2, 20, 30):
        SVD(SVDConfig(n_factors=n_factors, max_factors=100)).fit(train, shared)
    assert [each["n_factors"] for each in shared.computed["singular_vectors"]] == [12]


def test_too_many_factors_are_reduced_told_of_and_recorded(caplog):
    train = many_clicks(7, 12, 50)
    with caplog.at_level(logging.WARNING):
        model = SVD(SVDConfig(n_factors=12, max_factors=40)).fit(train)
    assert caplog.text == ""
    with caplog.at_level(logging.WARNING):
        reduced = SVD(SVDConfig(n_factors=40)).fit(train)
    assert "n_factors is 40" in caplog.text
    assert "12 are used" in caplog.text
    assert reduced.n_factors == reduced.state()["n_factors"][0] == 12
    found, expected = (each.score(train.interactions, all_items(each)) for each in (reduced, model))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_no_more_factors_are_used_than_the_rank(solver, caplog):
    """Users of three kinds click in three ways: the rank is 3, and all clicks are given back."""
    train, _ = genre_groups(users_per_group=20)
    groups = np.arange(60) // 20
    clicks = np.zeros_like(train.interactions.toarray())
    for user, group in enumerate(groups):
        clicks[user, group * 10 : group * 10 + 8] = 1
    train = TrainingSet(sp.csr_array(clicks), train.features, "rank 3")
    model = SVD(SVDConfig(n_factors=7)).fit(train)
    assert model.n_factors == 3
    assert "3 are used" in caplog.text
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), clicks, atol=1e-4)


def test_an_item_without_clicks_scores_0():
    train = random_training_set(8)
    for centred in (False, True):
        model = SVD(SVDConfig(n_factors=5, centred=centred)).fit(train)
        assert (model.score(train.interactions, train.cold_items) == 0).all()


def test_an_empty_history_scores_0_or_the_mean():
    train = random_training_set(9)
    nobody = sp.csr_array((1, 30), dtype=np.float32)
    plain, centred = (SVD(SVDConfig(n_factors=22, centred=flag)).fit(train) for flag in (False, True))
    assert (plain.score(nobody, np.arange(30)) == 0).all()
    # All factors but none of the mean user's: the projection of minus the mean is not the whole of it.
    everyone = train.interactions.mean(axis=0)
    assert np.corrcoef(centred.score(train.interactions, np.arange(30)).mean(axis=0), everyone)[0, 1] > 0.999


def test_a_matrix_too_small_is_refused():
    items = FeatureSet({}, 5)
    for clicks in (np.zeros((3, 5)), np.eye(1, 5).repeat(3, axis=0), np.ones((1, 5))):
        train = TrainingSet(sp.csr_array(clicks.astype(np.float32)), items, "small")
        with pytest.raises(DataError, match="at least 2 of each"):
            SVD().fit(train)


def test_a_decomposition_that_does_not_fit_is_refused_by_name(monkeypatch):
    with pytest.raises(CatalogTooLargeError, match=r"50 singular vectors of 1,000,000,000,000 users and 10,000 items"):
        SVD().check_size(10**12, 10**4)
    with pytest.raises(CatalogTooLargeError, match="80 singular vectors"):
        SVD(SVDConfig(max_factors=80)).check_size(10**12, 10**4)

    def refuse(n_bytes, *, purpose, way_out):
        raise CatalogTooLargeError(f"{purpose}: {n_bytes}. {way_out}")

    monkeypatch.setattr(module, "require_memory", refuse)
    with pytest.raises(CatalogTooLargeError, match=r"6 singular vectors of 40 users and 29 items: \d+\. .*n_factors"):
        singular_vectors(many_clicks(10, 40, 30), n_factors=6, alpha=0.0, centred=False)
