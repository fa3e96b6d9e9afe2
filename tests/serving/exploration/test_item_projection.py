"""Short vectors of items: the same in whatever catalogue, and nearly as like each other as the items are."""

import numpy as np
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.bundle.item_space import item_vectors
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.serving.engine.engine import Engine
from coldray.serving.exploration.explore import _DIMENSIONS, ItemProjection


def test_items_that_come_change_no_vector_and_get_that_of_their_attributes(bundle):
    known = Engine(bundle).attributes(bundle.item_ids[4])
    record = {name: known[name] for name in bundle.encoder.kinds if name in known}
    projection = ItemProjection(bundle.features)
    before = projection.vectors(bundle.features)
    after = projection.vectors(bundle.add_items({"new": record}).features)
    assert after.shape == (len(before) + 1, _DIMENSIONS)
    np.testing.assert_array_equal(after[:-1], before)
    np.testing.assert_array_equal(after[-1], before[4])
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=0.01)
    assert ((before * 1024) % 1 == 0).all()


labels = st.lists(st.sets(st.sampled_from("abcdefgh"), min_size=1), min_size=2, max_size=6)


def catalogue(items, terms):
    rows = [[float(term in item) for term in terms] for item in items]
    return FeatureSet({"labels": VectorFeature(sp.csr_array(np.array(rows, np.float32)), tuple(terms))}, len(items))


@given(labels, st.permutations("abcdefgh"))
def test_an_item_has_one_vector_whatever_else_there_is_and_in_whatever_order(items, terms):
    used = [term for term in terms if any(term in item for item in items)]
    one = ItemProjection(catalogue(items, "abcdefghij")).vectors(catalogue(items, "abcdefghij"))
    other = ItemProjection(catalogue(items[:1], used)).vectors(catalogue(items, used))
    np.testing.assert_allclose(one, other, atol=1.01 / 1024)  # sums of float32 in another order


def test_cosines_stay_about_what_they_were():
    rng = np.random.default_rng(0)
    terms = tuple(f"term-{number}" for number in range(400))
    features = FeatureSet({"words": VectorFeature(sp.csr_array(rng.random((150, 400), np.float32) ** 8), terms)}, 150)
    vectors = ItemProjection(features).vectors(features)
    exact = item_vectors(features, np.arange(150)).toarray()
    pairs = np.triu_indices(150, 1)
    error = (vectors @ vectors.T - exact @ exact.T)[pairs]
    assert abs(error.mean()) < 0.02
    assert error.std() < 1.5 / np.sqrt(_DIMENSIONS)


def test_the_same_label_of_another_attribute_is_another_one():
    matrix = sp.csr_array(np.array([[1], [0]], np.float32)), sp.csr_array(np.array([[0], [1]], np.float32))
    features = FeatureSet({name: VectorFeature(m, ("x",)) for name, m in zip("ab", matrix, strict=True)}, 2)
    first, second = ItemProjection(features).vectors(features)
    assert abs(first @ second) < 0.7


def test_items_of_which_nothing_is_known_are_zero():
    features = FeatureSet({"year": ScalarFeature(np.array([1999.0, np.nan]), 1.0)}, 2)
    assert not ItemProjection(features).vectors(features).any()
    features = catalogue([set(), {"a"}], "ab")
    vectors = ItemProjection(features).vectors(features)
    assert not vectors[0].any()
    assert vectors[1].any()
