"""EASE: against a plain inverse, on clicks whose right answer is known, and the contract of all models."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, DataError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import StudyOutlook
from coldray.models.linalg import panel_cholesky
from coldray.models.linear import ease
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.training.options import FitOptions
from contracts.problems import random_features, random_training_set
from contracts.recommender import ClickedItemContract
from models.learned import CountingComputations


class TestEASE(ClickedItemContract):
    model = EASE
    config = EASEConfig(regularization=3.0)


class TestEASEOfAStudy(ClickedItemContract):
    """The same, with all weights from the spectrum."""

    class Model(EASE):
        def fit(self, train, computations=None, options=FitOptions()):
            return super().fit(train, computations or Computations(), options)

    model = Model
    config = EASEConfig(regularization=3.0)

    test_is_registered_under_its_name = None  # the model it is made of is


def training_set(clicks, key="clicks"):
    clicks = np.asarray(clicks, np.float32)
    return TrainingSet(sp.csr_array(clicks), FeatureSet({}, clicks.shape[1]), key)


def reference(train, regularization):
    """Return B of all items as the paper's code computes it, with a plain inverse."""
    clicks = train.interactions.toarray().astype(np.float64)
    inverse = np.linalg.inv(clicks.T @ clicks + regularization * np.eye(clicks.shape[1]))
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def weights_of(model):
    """Return B ``[I, I]``: what single clicks score."""
    return model.score(sp.csr_array(np.eye(model.n_items, dtype=np.float32)), np.arange(model.n_items))


@given(st.integers(0, 10**6), st.floats(-1, 4), st.booleans(), st.booleans())
def test_weights_are_those_of_a_plain_inverse(seed, exponent, shared, wide):
    """Both ways to them, with more users than items or fewer, at any regularisation."""
    size = {"n_users": 12, "n_warm": 30} if wide else {"n_users": 60, "n_warm": 20}
    train, regularization = random_training_set(seed, n_cold=4, **size), 10.0**exponent
    config = EASEConfig(regularization=regularization)
    found = weights_of(EASE(config).fit(train, Computations() if shared else None))
    expected = reference(train, regularization)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max() + 2e-6)
    assert (np.diag(found) == 0).all()


def test_users_are_scored_by_the_columns_of_b_not_by_its_rows():
    train = random_training_set(3, n_users=200)
    model, expected = EASE(EASEConfig(regularization=2.0)).fit(train), reference(train, 2.0)
    histories = train.interactions.toarray()
    scores = model.score(train.interactions, np.arange(model.n_items))
    np.testing.assert_allclose(scores, histories @ expected, atol=1e-4)
    assert np.abs(scores - histories @ expected.T).max() > 0.1


def test_what_few_click_is_predicted_by_what_all_click_the_less():
    """Of everybody who clicks the rare item, all click the common one, and of the others half: B is far from even."""
    rare = np.repeat([1, 0], [20, 180])
    common = np.where(rare == 1, 1, np.arange(200) % 2)
    model = EASE(EASEConfig(regularization=1.0)).fit(training_set(np.column_stack([rare, common])))
    scores = model.score(sp.csr_array(np.eye(2, dtype=np.float32)), np.arange(2))
    assert scores[0, 1] == pytest.approx(20 / 21)  # a click on the rare item predicts the common one
    assert scores[1, 0] == pytest.approx(20 / 111)


def test_each_user_is_given_the_item_withheld():
    """A checkerboard: a user clicks every other item, but one that all of the same colour click."""
    users, items = np.indices((30, 30))
    board = ((users + items) % 2 == 0).astype(np.float32)
    withheld = board - np.eye(30)
    train = training_set(withheld)
    for computations in (None, Computations()):
        scores = EASE(EASEConfig(regularization=5.0)).fit(train, computations).score(train.interactions, np.arange(30))
        best = np.where(withheld > 0, -np.inf, scores).argmax(axis=1)
        np.testing.assert_array_equal(best, np.arange(30))


def test_more_regularisation_means_smaller_weights():
    train = random_training_set(4)
    sizes = [np.abs(weights_of(EASE(EASEConfig(regularization=r)).fit(train))).sum() for r in (1, 10, 100, 1000)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_sweep_decomposes_once_and_gives_what_single_fits_do():
    train, shared = random_training_set(5, n_users=80), CountingComputations()
    for regularization in np.geomspace(1, 10_000, 6):
        config = EASEConfig(regularization=regularization)
        together, alone = (weights_of(EASE(config).fit(train, given)) for given in (shared, None))
        np.testing.assert_allclose(together, alone, atol=1e-5 * np.abs(alone).max() + 1e-6)
    assert shared.computed == {"co_click_spectrum": [{"device": "auto", "workers": 1}]}


def test_a_fit_on_its_own_decomposes_nothing(monkeypatch):
    monkeypatch.delattr(ease, "symmetric_eigen")
    assert EASE().fit(random_training_set(6)).n_items > 0


@pytest.mark.parametrize(("regularization", "kind"), [(1e-3, np.float64), (10.0, np.float32)])
def test_an_ill_conditioned_matrix_is_factorised_in_double_precision(regularization, kind):
    clicks = np.ones((40, 3), np.float32)
    clicks[::2, 0] = 0
    counts = clicks.T @ clicks
    expected = np.linalg.inv(counts + regularization * np.eye(3))
    inverse = ease._cholesky_inverse(counts, regularization)
    assert inverse.dtype == kind
    np.testing.assert_allclose(inverse, expected, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_inverse_is_mirrored_in_blocks(monkeypatch, rows):
    monkeypatch.setattr(ease, "_MIRRORED_ROWS", rows)
    factor = np.random.default_rng(0).standard_normal((30, 20)).astype(np.float32)
    inverse = ease._cholesky_inverse(factor.T @ factor, 5.0)
    np.testing.assert_array_equal(inverse, inverse.T)
    np.testing.assert_allclose(inverse, np.linalg.inv(factor.T @ factor + 5.0 * np.eye(20)), atol=1e-5)


def test_columns_asked_for_are_those_of_all_items():
    train = random_training_set(10, n_cold=0)
    model = EASE(EASEConfig(regularization=2.0)).fit(train)
    every = model.score(train.interactions, np.arange(model.n_items))
    some = np.array([5, 2, 17])
    np.testing.assert_array_equal(model.score(train.interactions, some), every[:, some])


def test_items_without_clicks_score_nothing_and_give_nothing():
    train = random_training_set(7)
    weights = weights_of(EASE(EASEConfig(regularization=1.0)).fit(train))
    assert (weights[train.cold_items] == 0).all()
    assert (weights[:, train.cold_items] == 0).all()
    assert np.abs(weights[train.warm_items][:, train.warm_items]).max() > 0


def test_a_single_item_with_clicks_has_nothing_to_be_predicted_by():
    for computations in (None, Computations()):
        model = EASE().fit(training_set([[1, 0], [1, 0], [0, 0]]), computations)
        assert (weights_of(model) == 0).all()


def test_clicks_are_needed():
    with pytest.raises(DataError, match="No item has a click"):
        EASE().fit(training_set(np.zeros((3, 4))))


def test_a_regularisation_lost_in_rounding_is_refused():
    clicks = np.ones((1000, 2))
    with pytest.raises(SingularMatrixError, match=r"regularization=1e-30.*larger"):
        EASE(EASEConfig(regularization=1e-30)).fit(training_set(clicks))


def test_a_catalogue_that_is_too_large_is_refused_before_anything_is_allocated(monkeypatch):
    expected = r"EASE on 1,000,000 items needs 31,665\.0 GiB of memory.*min_item_interactions"
    with pytest.raises(CatalogTooLargeError, match=expected):
        EASE(EASEConfig(solver="exact")).check_size(10, 10**6)
    monkeypatch.setattr(ease, "_BYTES_PER_PAIR", 10**15)
    monkeypatch.setattr(ease, "co_clicks", None)
    for computations in (None, Computations()):
        with pytest.raises(CatalogTooLargeError, match="EASE on 22 items"):
            EASE(EASEConfig(solver="exact")).fit(random_training_set(8), computations)
    with pytest.raises(CatalogTooLargeError, match="EASE on 22 items"):
        ease.co_click_spectrum(random_training_set(8), device="cpu")


@pytest.mark.parametrize("computations", [None, Computations])
def test_a_fit_and_its_scores_keep_within_what_they_are_said_to_need(computations):
    train = random_training_set(11, n_users=60, n_warm=500, n_cold=20)
    model = EASE()
    tracemalloc.start()
    try:
        model.fit(train, computations and computations()).scorer(np.arange(520))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert model.memory_bytes(60, 500) / 5 < peak < model.memory_bytes(60, 500)


def test_a_catalogue_that_is_too_large_is_told_what_would_fit(monkeypatch):
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 34 * 30_000**2)
    with pytest.raises(CatalogTooLargeError, match=r"needs 114\.0 GiB .*, enough for 30,000 items\."):
        EASE(EASEConfig(solver="exact")).check_size(10, 60_000)


def test_attributes_are_not_read():
    train = random_training_set(9)
    bare = TrainingSet(train.interactions, FeatureSet({}, 30), "bare")
    other = TrainingSet(train.interactions, random_features(np.random.default_rng(1), 30), "other")
    first, second = (weights_of(EASE().fit(given)) for given in (bare, other))
    np.testing.assert_array_equal(first, second)


def test_a_factor_for_each_fit_gives_what_the_spectrum_does_and_leaves_the_shared_counts_as_they_are():
    train, shared = random_training_set(9), Computations()
    for regularization in (500.0, 2.0, 0.5):
        found, expected = (
            EASE(EASEConfig(regularization=regularization, factorisation=factorisation)).fit(train, shared)
            for factorisation in ("cholesky", "spectrum")
        )
        items = np.arange(found.n_items)
        scores = [model.score(train.interactions, items) for model in (found, expected)]
        np.testing.assert_allclose(*scores, atol=1e-4 * np.abs(scores[1]).max())


def test_a_study_names_the_factorisation_that_costs_it_less():
    def settled(trials, **parameters):
        outlook = StudyOutlook(1000, 2000, 2**40, trials, 1, {"regularization": trials})
        config, forms = EASE.settle(EASEConfig(**parameters), outlook)
        assert [getattr(config, form.parameter) for form in forms] == [form.value for form in forms]
        return config.factorisation

    assert settled(8) == "cholesky"
    assert settled(20) == "spectrum"
    assert settled(8, factorisation="spectrum") == "spectrum"
    assert settled(20, solver="blocks") == "auto"


@pytest.mark.parametrize("regularization", [0.5, 500.0])
def test_beyond_the_rows_of_lapack_the_weights_are_the_same(regularization, monkeypatch):
    """In double precision and in single."""
    train = random_training_set(3)
    expected = EASE(EASEConfig(regularization=regularization)).fit(train).state()["weights"]
    monkeypatch.setattr(panel_cholesky, "_LAPACK_ROWS", 5)
    monkeypatch.setattr(panel_cholesky, "PANEL", 4)
    found = EASE(EASEConfig(regularization=regularization)).fit(train).state()["weights"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
