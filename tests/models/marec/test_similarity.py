"""Similarities and their mixture against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError
from coldray.features.feature_set import FeatureSet
from coldray.models.marec.similarity import Similarities, _deltas, mix, term_names, term_pairs
from contracts.problems import random_features, scalar_feature, vector_feature
from models.marec_reference import number_similarity, smoothed_cosine


def two_attributes(seed=0, n_items=13):
    """Return words, one item without any, and years, one unknown and one beyond the span."""
    generator = np.random.default_rng(seed)
    words = generator.random((n_items, 5)) * (generator.random((n_items, 5)) < 0.5)
    words[4] = 0
    years = generator.integers(1950, 2000, n_items).astype(float)
    years[7], years[2] = np.nan, 2100
    features = {"words": vector_feature(words), "year": scalar_feature(years, span=50.0)}
    return FeatureSet(features, n_items), words.astype(np.float32).astype(float), years


def test_blocks_are_rows_of_the_slow_similarities():
    features, words, years = two_attributes()
    similarities = Similarities(features, features, 0.7)
    assert len(similarities) == 2
    assert similarities.shape == (13, 13)
    expected = np.stack([smoothed_cosine(words, 0.7), number_similarity(years, 50.0)])
    for start, stop in ((0, 13), (3, 8), (12, 13)):
        block = similarities.block(start, stop)
        assert block.dtype == np.float32
        np.testing.assert_allclose(block, expected[:, start:stop], atol=2e-6)


def test_an_item_without_words_and_an_unknown_year_are_similar_to_nothing():
    features, _, _ = two_attributes()
    words, year = Similarities(features, features, 0.7).block(0, 13)
    assert not words[4].any()
    assert not words[:, 4].any()
    assert not year[7].any()
    assert not year[:, 7].any()
    assert year[2, 2] == 1
    assert year.min() == 0, "an item beyond the span is not less similar than not at all"


def test_large_numbers_close_together_keep_their_distances():
    seconds = 1.7e9 + np.array([0.0, 3.0, 10.0, np.nan, 7.0])
    features = FeatureSet({"seconds": scalar_feature(seconds)}, 5)
    block = Similarities(features, features, 1.0).block(0, 5)
    np.testing.assert_allclose(block[0], number_similarity(seconds, 10.0), atol=1e-6)


def test_rows_and_columns_may_be_different_items():
    features, words, years = two_attributes()
    rows, columns = np.array([1, 4, 9]), np.array([0, 7, 9, 3])
    block = Similarities(features.take(rows), features.take(columns), 2.0).block(0, 3)
    np.testing.assert_allclose(block[0], smoothed_cosine(words, 2.0)[np.ix_(rows, columns)], atol=2e-6)
    np.testing.assert_allclose(block[1], number_similarity(years, 50.0)[np.ix_(rows, columns)], atol=2e-6)


def test_each_attribute_has_its_delta():
    features = random_features(np.random.default_rng(0), 9, year=True)
    block = Similarities(features, features, (("a", 0.5), ("b", 30.0))).block(0, 9)
    for k, (name, delta) in enumerate({"a": 0.5, "b": 30.0}.items()):
        dense = features.features[name].matrix.toarray().astype(float)
        np.testing.assert_allclose(block[k], smoothed_cosine(dense, delta), atol=2e-6)


def test_terms_are_attributes_then_pairs():
    features = random_features(np.random.default_rng(0), 9, n_vectors=2)
    assert term_names(features, 1) == ("a", "b", "year")
    assert term_names(features, 2) == ("a", "b", "year", "a × b", "a × year", "b × year")
    assert term_pairs(3, 1) == [(0,), (1,), (2,)]
    assert term_pairs(3, 2) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert term_pairs(1, 2) == [(0,)]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order=st.sampled_from([1, 2]), rows_per_block=st.sampled_from([1, 4, 256]))
def test_the_mixture_is_the_weighted_sum_of_products(seed, order, rows_per_block):
    generator = np.random.default_rng(seed)
    features = random_features(generator, 11, n_vectors=3)
    similarities = Similarities(features, features.take(np.arange(6)), 1.5)
    first = similarities.block(0, 11).astype(float)
    weights = generator.normal(size=4 if order == 1 else 10)
    expected = sum(
        weight * np.prod([first[k] for k in term], axis=0)
        for weight, term in zip(weights, term_pairs(4, order), strict=True)
    )
    mixed = mix(similarities, weights, order, rows_per_block)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed, expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


def test_delta_names_every_vector_and_nothing_else():
    features = random_features(np.random.default_rng(0), 5)
    assert _deltas(features, 3.0) == {"a": 3.0, "b": 3.0}
    assert _deltas(features, (("b", 2.0), ("a", 1.0))) == {"a": 1.0, "b": 2.0}
    with pytest.raises(ConfigError, match=r"'yeat'.*Did you mean 'year'.*Used: a, b, year"):
        _deltas(features, (("a", 1.0), ("b", 1.0), ("yeat", 1.0)))
    with pytest.raises(ConfigError, match="leaves out b"):
        _deltas(features, (("a", 1.0),))


def test_one_attribute_described_in_two_ways_is_refused():
    words = FeatureSet({"x": vector_feature(np.eye(3))}, 3)
    numbers = FeatureSet({"x": scalar_feature([1, 2, 3])}, 3)
    with pytest.raises(TypeError, match="different ways"):
        Similarities(words, numbers, 1.0)
