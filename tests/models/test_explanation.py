"""Explanations of KernelAlign: shares of attributes and clicked items add up to the score."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import NotFittedError
from coldray.features.feature_set import FeatureSet
from coldray.models.explanation import COMMON, POPULARITY
from coldray.models.kernel_align.covariance import ItemCovariance, Weights
from coldray.models.kernel_align.explanation import _covariance_parts
from coldray.models.kernel_align.kernels import KernelBasis
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from contracts.problems import genre_groups, random_features, random_training_set, vector_feature

CONFIG = KernelAlignConfig(n_factors=8, steps=15, ridge=2.0)


def random_covariance(items, generator):
    basis = KernelBasis.of(items)
    shape = Weights.initial(len(basis.terms), len(basis.product), len(basis.numbers))
    return ItemCovariance(basis, shape.moved(shape.logarithms() + generator.normal(0, 0.5, len(shape.logarithms()))))


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_parts_add_up_to_the_covariance(seed):
    generator = np.random.default_rng(seed)
    rows, item = random_features(generator, 12, n_vectors=3), random_features(generator, 1, n_vectors=3)
    covariance = random_covariance(rows, generator)
    names, parts = _covariance_parts(covariance, rows, item)
    assert names == ("a", "b", "c", "year")
    np.testing.assert_allclose(parts.sum(axis=1), covariance.between(rows, item)[:, 0], rtol=1e-4)


def test_the_item_itself_has_the_variance_of_the_covariance():
    """Its unknown attributes are the same as its own, though they are like no other item's."""
    generator = np.random.default_rng(1)
    rows = random_features(generator, 12)
    covariance = random_covariance(rows, generator)
    for own in range(12):
        _, parts = _covariance_parts(covariance, rows, rows.take(np.array([own])), own=own)
        assert parts[own].sum() == pytest.approx(covariance.variances(rows)[own], rel=1e-4)


def test_an_attribute_that_is_not_shared_has_no_share():
    """Items with one label each: only where the labels are the same does the attribute bring anything."""
    labels = np.eye(3)[[0, 0, 1, 2, 1]]
    rows = FeatureSet({"genre": vector_feature(labels), "noise": vector_feature(np.eye(5))}, 5)
    covariance = random_covariance(rows, np.random.default_rng(4))
    _, parts = _covariance_parts(covariance, rows, rows.take(np.array([2])), own=2)
    np.testing.assert_allclose(parts[[0, 1, 3], 0], 0, atol=1e-12)
    np.testing.assert_allclose(parts[[0, 1, 3, 4], 1], 0, atol=1e-12)
    assert parts[4, 0] > 0.01
    assert np.ptp(parts[:, 2]) == 0


@pytest.mark.parametrize(("seed", "popularity"), [(0, 0.0), (1, 0.0), (2, 0.4)])
def test_shares_add_up_to_the_score_of_any_item(seed, popularity):
    train = random_training_set(seed, n_vectors=3)
    model = KernelAlign(CONFIG.model_copy(update={"popularity": popularity})).fit(train)
    model = model.add_items(random_features(np.random.default_rng(seed), 2, n_vectors=3))
    history = sp.csr_array(sp.hstack([train.interactions[[3]], sp.csr_array((1, 2), dtype=np.float32)], format="csr"))
    scores = model.score(history, np.arange(model.n_items))[0]
    for item in range(model.n_items):
        found = model.explain(history, item)
        assert found.score == pytest.approx(scores[item], abs=2e-4 * float(np.abs(scores).max()))
        assert found.shares.sum() == pytest.approx(found.score)
        assert sum(found.by_part.values()) == pytest.approx(found.score)
        assert sum(found.by_item.values()) == pytest.approx(found.score)
        assert (POPULARITY in found.parts) == (popularity > 0)


def test_the_genre_explains_an_item_of_the_users_genre():
    train, genres = genre_groups()
    model = KernelAlign(CONFIG).fit(train)
    item = int(train.cold_items[0])
    user = int(np.flatnonzero(genres[train.interactions.indices[train.interactions.indptr[:-1]]] == genres[item])[0])
    found = model.explain(train.interactions[[user]], item)
    assert set(found.parts) == {"genre", "noise", COMMON}
    assert next(iter(found.by_part)) == "genre"
    assert found.by_part["genre"] > 3 * abs(found.by_part["noise"])
    assert set(found.by_item) == set(train.interactions[[user]].indices)
    assert list(found.by_item.values()) == sorted(found.by_item.values(), reverse=True)


def test_an_empty_history_has_nothing_to_explain():
    train = random_training_set(2)
    found = KernelAlign(CONFIG).fit(train).explain(sp.csr_array((1, 30), dtype=np.float32), 3)
    assert found.score == 0
    assert found.by_item == {}


def test_no_explanation_before_the_fit():
    with pytest.raises(NotFittedError):
        KernelAlign(CONFIG).explain(random_training_set(2).interactions[[0]], 0)
