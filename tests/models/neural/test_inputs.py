"""The inputs of networks against a slow reference, and what becomes of what is missing, rare or new."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataError
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import _NUMBER_CENTRES, AttributeInputs, bag
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature


def slow(train, features):
    """Return the blocks of each attribute, dense, item by item."""
    warm = [int(item) for item in train.warm_items]
    blocks = {}
    for name, feature in features.features.items():
        fitted = train.features.features[name]
        if isinstance(feature, VectorFeature):
            rows = vector_rows(fitted.matrix.toarray(), feature.matrix.toarray(), warm)
        else:
            rows = number_rows(fitted.values, feature.values, warm)
        norms = [math.sqrt(sum(value**2 for value in row)) for row in rows]
        blocks[name] = np.array([[v / (norm or 1) for v in row] for row, norm in zip(rows, norms, strict=True)])
    return blocks


def vector_rows(fitted, vectors, warm):
    idf = {}
    for term in range(fitted.shape[1]):
        frequency = sum(fitted[item, term] != 0 for item in warm)
        if 2 <= frequency < len(warm):
            idf[term] = math.log((len(warm) + 1) / (frequency + 1))
    return [[idf[term] * row[term] for term in idf] for row in vectors.astype(float)]


def number_rows(fitted, values, warm):
    known = [fitted[item] for item in warm if not math.isnan(fitted[item])]
    mean = sum(known) / max(len(known), 1)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in known) / max(len(known), 1)) or 1
    rows = []
    for value in values:
        standard = min(max((value - mean) / deviation, -3), 3)
        centres = [-3 + 0.5 * i for i in range(13)]
        rows.append([0.0 if math.isnan(value) else math.exp(-2 * (standard - centre) ** 2) for centre in centres])
    return rows


def clicked(warm, features, key="clicked"):
    """Return a training set in which just the items of `warm` have a click."""
    clicks = np.zeros((1, features.n_items), np.float32)
    clicks[0, warm] = 1
    return TrainingSet(sp.csr_array(clicks), features, key)


@given(st.integers(0, 10_000), st.integers(3, 25), st.integers(0, 6), st.integers(1, 4))
@settings(max_examples=40)
def test_inputs_agree_with_the_reference(seed, n_warm, n_cold, n_vectors):
    train = random_training_set(seed, n_warm=n_warm, n_cold=n_cold, n_vectors=n_vectors)
    found = AttributeInputs.of(train).encode(train.features)
    blocks = slow(train, train.features)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.toarray(), np.concatenate(list(blocks.values()), axis=1), atol=2e-5)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_every_attribute_of_an_item_has_unit_length_or_is_missing(seed):
    train = random_training_set(seed)
    inputs = AttributeInputs.of(train).encode(train.features).toarray()
    start = 0
    for block in slow(train, train.features).values():
        norms = np.linalg.norm(inputs[:, start : start + block.shape[1]], axis=1)
        start += block.shape[1]
        assert ((abs(norms - 1) < 1e-5) | (norms == 0)).all()
    assert start == inputs.shape[1]


def test_terms_of_fewer_than_two_warm_items_and_of_all_are_left_out():
    hot = np.array(
        [
            # nobody, one warm, one warm and one cold, two, all warm
            [0, 1, 0, 1, 1],
            [0, 0, 1, 1, 1],
            [0, 0, 0, 0, 1],
            [1, 0, 1, 0, 0],
        ]
    )
    train = clicked([0, 1, 2], FeatureSet({"a": vector_feature(hot)}, 4))
    encoder = AttributeInputs.of(train)
    np.testing.assert_allclose(encoder.parameters["a"], [0, 0, 0, math.log(4 / 3), 0], rtol=1e-6)
    np.testing.assert_allclose(encoder.encode(train.features).toarray(), [[1], [1], [0], [0]], rtol=1e-6)


def test_a_missing_attribute_and_an_unknown_number_are_zeros():
    hot = np.array([[1, 0], [1, 0], [0, 1], [0, 1], [0, 0]])
    years = [1990.0, 2000.0, np.nan, 2010.0, np.nan]
    features = FeatureSet({"a": vector_feature(hot), "year": scalar_feature(years)}, 5)
    inputs = AttributeInputs.of(clicked(range(5), features)).encode(features).toarray()
    assert inputs.shape == (5, 2 + len(_NUMBER_CENTRES))
    assert not inputs[4].any()
    assert not inputs[2, 2:].any()
    assert inputs[[0, 1, 3], 2:].any(axis=1).all()
    assert np.isfinite(inputs).all()


def test_near_numbers_are_nearer_than_far_ones_and_the_furthest_are_alike():
    generator = np.random.default_rng(0)
    features = FeatureSet({"year": scalar_feature(generator.normal(1990, 10, 40))}, 40)
    encoder = AttributeInputs.of(clicked(range(40), features))
    new = FeatureSet({"year": ScalarFeature(np.array([1990.0, 1992, 2000, 2015, 9999, np.inf]), 1.0)}, 6)
    inputs = encoder.encode(new).toarray()
    cosines = inputs[0] @ inputs.T
    assert (np.diff(cosines[:4]) < 0).all()
    np.testing.assert_array_equal(inputs[4], inputs[5])
    assert np.isfinite(inputs).all()


@pytest.mark.parametrize("values", [[5.0] * 4, [np.nan] * 4], ids=["all alike", "all unknown"])
def test_a_number_that_says_nothing_is_no_error(values):
    features = FeatureSet({"year": ScalarFeature(np.array(values), 1.0)}, 4)
    encoder = AttributeInputs.of(clicked(range(4), features))
    inputs = encoder.encode(features).toarray()
    assert np.isfinite(inputs).all()
    assert (inputs == inputs[0]).all()
    assert inputs.any() == np.isfinite(values).all()


def test_new_items_are_encoded_as_those_of_the_fit():
    train = random_training_set(3)
    encoder = AttributeInputs.of(train)
    whole = encoder.encode(train.features).toarray()
    for items in (train.cold_items, train.warm_items[::-1], np.array([4])):
        np.testing.assert_array_equal(encoder.encode(train.features.take(items)).toarray(), whole[items])
    again = AttributeInputs(encoder.parameters).encode(train.features)
    np.testing.assert_array_equal(again.toarray(), whole)
    other = random_features(np.random.default_rng(9), 7)
    expected = np.concatenate(list(slow(train, other).values()), axis=1)
    np.testing.assert_allclose(encoder.encode(other).toarray(), expected, atol=2e-5)


def test_cold_items_are_not_part_of_the_fit():
    train = random_training_set(4)
    changed = train.features.features["a"].matrix.toarray()
    changed[train.cold_items] = 1
    years = train.features.features["year"].values.copy()
    years[train.cold_items] = 1e6
    others = {**train.features.features, "a": vector_feature(changed), "year": ScalarFeature(years, 70.0)}
    other = TrainingSet(train.interactions, FeatureSet(others, train.features.n_items), "other")
    for name, values in AttributeInputs.of(train).parameters.items():
        np.testing.assert_array_equal(AttributeInputs.of(other).parameters[name], values)


@pytest.mark.parametrize("text_missing", [False, True])
def test_embeddings_are_taken_as_they_are(text_missing):
    """Every item has every dimension, which must not be mistaken for a term that says nothing."""
    vectors = np.random.default_rng(5).normal(size=(12, 6))
    if text_missing:
        vectors[7] = 0
    features = FeatureSet({"text": vector_feature(vectors)}, 12)
    inputs = AttributeInputs.of(clicked(range(10), features)).encode(features).toarray()
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(inputs, vectors / np.where(norms > 0, norms, 1), atol=1e-6)


@pytest.mark.parametrize("hot", [np.ones((4, 2)), np.eye(4), np.zeros((4, 3))], ids=["in all", "in one", "in none"])
def test_attributes_without_a_term_to_learn_from_are_refused(hot):
    features = FeatureSet({"genres": vector_feature(hot)}, 4)
    with pytest.raises(DataError, match=r"genres.* of 4 items with clicks"):
        AttributeInputs.of(clicked(range(4), features))
    beside = FeatureSet({"genres": vector_feature(hot), "b": vector_feature(np.eye(2)[[0, 0, 1, 1]])}, 4)
    inputs = AttributeInputs.of(clicked(range(4), beside)).encode(beside)
    np.testing.assert_allclose(inputs.toarray(), np.eye(2)[[0, 0, 1, 1]], rtol=1e-6)


@given(st.integers(0, 10_000), st.integers(0, 8))
@settings(max_examples=25)
def test_a_bag_is_the_matrix_in_the_form_of_an_embedding_bag(seed, n_rows):
    train = random_training_set(seed)
    inputs = AttributeInputs.of(train).encode(train.features)
    rows = np.random.default_rng(seed).integers(train.features.n_items, size=n_rows)
    batch = bag(sp.csr_array(inputs[rows]))
    layer = torch.nn.EmbeddingBag(inputs.shape[1], 5, mode="sum")
    with torch.no_grad():
        found = layer(batch["indices"], batch["offsets"], per_sample_weights=batch["weights"]).numpy()
    expected = inputs.toarray()[rows] @ layer.weight.detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
