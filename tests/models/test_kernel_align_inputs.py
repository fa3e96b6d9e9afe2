"""KernelAlign on input that is odd, too little or too much."""

import dataclasses
import re

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError, DataError, SingularMatrixError
from coldray.features.feature_set import FeatureSet
from coldray.models.forms import StudyOutlook
from coldray.models.kernel_align.covariance import Weights, _MarginalLikelihood
from coldray.models.kernel_align.kernels import KernelBasis
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature

QUICK = KernelAlignConfig(n_factors=64, steps=8, ridge=1.0, popularity=0.2)


def odd_attributes(kind, n_items):
    """Return attributes of which one is as odd as `kind` says; the genre is always sound."""
    generator = np.random.default_rng(5)
    odd = {
        "one value": lambda: vector_feature(np.ones((n_items, 1))),
        "all different": lambda: vector_feature(np.eye(n_items)),
        "empty": lambda: vector_feature(np.zeros((n_items, 3))),
        "no columns": lambda: vector_feature(np.zeros((n_items, 0))),
        "equal numbers": lambda: scalar_feature(np.full(n_items, 7.0), span=1.0),
        "unknown numbers": lambda: scalar_feature(np.full(n_items, np.nan), span=1.0),
        "some numbers unknown": lambda: scalar_feature(np.where(np.arange(n_items) % 3, np.arange(n_items), np.nan)),
    }
    genre = vector_feature(np.eye(4)[generator.integers(0, 4, n_items)])
    return FeatureSet({"genre": genre, "odd": odd[kind]()}, n_items)


@pytest.mark.parametrize("exact_items", [100, 0])
@pytest.mark.parametrize(
    "kind",
    ["one value", "all different", "empty", "no columns", "equal numbers", "unknown numbers", "some numbers unknown"],
)
def test_an_odd_attribute_costs_nothing_but_itself(kind, exact_items):
    train = random_training_set(21)
    train = dataclasses.replace(train, features=odd_attributes(kind, train.features.n_items), key=kind)
    model = KernelAlign(QUICK.model_copy(update={"exact_items": exact_items})).fit(train)
    scores = model.score(train.interactions, np.arange(model.n_items))
    assert np.isfinite(scores).all()
    active = np.diff(train.interactions.indptr) > 0
    assert np.ptp(scores[active][:, train.cold_items], axis=1).min() > 0
    assert model.parts["genre"] > 0


@pytest.mark.parametrize("exact_items", [100, 0])
def test_items_alike_in_everything_get_equal_scores(exact_items):
    train = random_training_set(22)
    twice = np.arange(train.features.n_items)
    first, second = train.cold_items[:2]
    twice[second] = first
    twice[train.warm_items[1]] = train.warm_items[0]
    train = dataclasses.replace(train, features=train.features.take(twice), key="twice")
    model = KernelAlign(QUICK.model_copy(update={"exact_items": exact_items})).fit(train)
    scores = model.score(train.interactions, np.arange(model.n_items))
    assert np.isfinite(scores).all()
    np.testing.assert_allclose(scores[:, first], scores[:, second], rtol=1e-4)


@pytest.mark.parametrize(("n_warm", "n_cold"), [(2, 3), (5, 1), (12, 0)])
def test_fewer_items_than_factors_are_enough(n_warm, n_cold):
    train = random_training_set(23, n_warm=n_warm, n_cold=n_cold)
    model = KernelAlign(QUICK).fit(train)
    assert model.n_items == n_warm + n_cold
    assert np.isfinite(model.score(train.interactions, np.arange(model.n_items))).all()
    new = model.add_items(random_features(np.random.default_rng(1), 2))
    assert np.isfinite(
        new.score(
            sp.csr_array(sp.hstack([train.interactions, sp.csr_array((30, 2), dtype=np.float32)], format="csr")),
            np.arange(new.n_items),
        )
    ).all()


def test_without_a_click_there_is_nothing_to_learn():
    train = random_training_set(24)
    empty = dataclasses.replace(train, interactions=sp.csr_array(train.interactions.shape, dtype=np.float32))
    with pytest.raises(DataError, match="No item has a click"):
        KernelAlign(QUICK).fit(empty)


def test_a_covariance_that_is_not_definite_names_the_attribute():
    """The kernel of the second attribute is turned upside down, as no attribute can be."""
    items = random_features(np.random.default_rng(3), 20)
    basis = KernelBasis.of(items)
    weights = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    additive = [-9.0 if term.attribute == "b" else 0.1 for term in basis.terms]
    broken = dataclasses.replace(weights, additive=np.array(additive))
    profiles = np.ones((20, 2), np.float32)
    with pytest.raises(
        SingularMatrixError, match=r"20 items.*'b' \(smallest eigenvalue -.*Raise min_noise.*attribute out"
    ):
        _MarginalLikelihood(basis, items, profiles)(broken)


def test_learning_on_more_items_than_fit_is_refused_before_it_is_begun(monkeypatch):
    items = random_features(np.random.default_rng(3), 20)
    basis, profiles = KernelBasis.of(items), np.ones((20, 2), np.float32)
    # Cells on and below the diagonal in float32: each term, three of a number and six more; three whole in float64.
    need = 4 * 20 * 21 // 2 * (len(basis.terms) + 3 * len(basis.numbers) + 6) + 3 * 8 * 20**2
    assert len(basis.numbers) == 1
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need)
    _MarginalLikelihood(basis, items, profiles)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: need - 1)
    with pytest.raises(CatalogTooLargeError, match=r"Learning the covariance on 20 items.*Lower subset"):
        _MarginalLikelihood(basis, items, profiles)


def test_a_catalogue_that_does_not_fit_is_refused_before_it_is_begun(monkeypatch):
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 10 * 2**30)
    exact = KernelAlign(KernelAlignConfig(form="exact"))
    exact.check_size(1000, 40_000)
    with pytest.raises(CatalogTooLargeError, match=r"covariance of 100,000 items with its factor.*form='auto'"):
        exact.check_size(1000, 100_000)
    KernelAlign(KernelAlignConfig(exact_items=30_000, inducing=1500)).check_size(1000, 100_000)
    with pytest.raises(CatalogTooLargeError, match=r"4,000,000 items with 10,000 inducing ones.*Lower most_inducing"):
        KernelAlign().check_size(1000, 4_000_000)


@pytest.mark.parametrize(
    ("n_items", "gib", "form", "reason"),
    [
        (17_000, 20, "exact", r"covariance of 17,000 items needs up to .* of 20\.0 GiB"),
        (40_000, 23, "exact", "about . minutes"),
        (40_000, 3, "inducing", r"through [0-9,]+ inducing ones at most"),
        (200_000, 10_000, "inducing", r"about [0-9,]+ minutes; all items"),
    ],
)
def test_the_form_is_settled_by_the_memory_and_the_time_of_the_largest_fit(n_items, gib, form, reason):
    outlook = StudyOutlook(5500, n_items, gib * 2**30)
    settled, (told,) = KernelAlign.settle(KernelAlignConfig(), outlook)
    assert settled.form == told.value == form
    assert told.exact == (form == "exact")
    assert re.search(reason, told.reason)


def test_a_form_once_settled_holds_for_smaller_fits():
    """What started it all: 80 % of the items below a limit that all of them exceed."""
    settled, _ = KernelAlign.settle(KernelAlignConfig(exact_items=25), StudyOutlook(30, 30, 2**34))
    train = random_training_set(21, n_warm=15, n_cold=5)
    assert "inducing_items" in KernelAlign(settled).fit(train).state()
    assert "inducing_items" not in KernelAlign(KernelAlignConfig(exact_items=25)).fit(train).state()
