"""How many labels and words an item has, as numbers of their own."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError
from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute
from coldray.features.builder import FeatureConfig, FeatureEncoder, attribute_names, attributes_from_records
from coldray.features.counts import count_attributes
from coldray.features.feature_set import ScalarFeature

ACTORS = LabelAttribute(
    sp.csr_array(np.array([[1, 1, 1], [0, 0, 1], [0, 0, 0], [0, 0, 0]], np.float32)), np.array(["a", "b", "c"])
)
YEAR = NumberAttribute(np.array([1990.0, 2000.0, 2010.0, np.nan]))
PLOT = TextAttribute(("two words", "", "and three more", ""))
ATTRIBUTES = {"actors": ACTORS, "year": YEAR, "plot": PLOT}


def dataset():
    return Dataset(
        name="counted",
        user_ids=np.array(["u"]),
        item_ids=np.array(list("wxyz")),
        interactions=sp.csr_array(np.ones((1, 4), np.float32)),
        attributes=ATTRIBUTES,
        default_attributes=("actors", "year"),
    )


def test_labels_and_words_are_counted_and_nothing_is_known_of_a_blank_item():
    counts = count_attributes(ATTRIBUTES, ATTRIBUTES)
    assert list(counts) == ["number of actors", "number of plot"]
    np.testing.assert_allclose(counts["number of actors"].values, np.log1p([3, 1, 0, np.nan]))
    np.testing.assert_allclose(counts["number of plot"].values, np.log1p([2, 0, 3, np.nan]))


def test_an_item_is_known_by_the_attributes_named():
    """The third item has a plot and a year, but of its actors alone nothing is known."""
    counts = count_attributes(ATTRIBUTES, ["actors"])
    np.testing.assert_allclose(counts["number of actors"].values, np.log1p([3, 1, np.nan, np.nan]))


def test_labels_too_rare_for_a_column_count():
    features = FeatureEncoder(FeatureConfig(counts=True, min_items=2)).fit(dataset()).transform(ATTRIBUTES, 4).features
    assert features["actors"].terms == ("c",)
    np.testing.assert_allclose(features["number of actors"].values, np.log1p([3, 1, 0, np.nan]))


def test_counts_are_off_by_default_and_only_of_what_is_encoded():
    assert list(FeatureEncoder().fit(dataset()).transform(ATTRIBUTES, 4).features) == ["actors", "year"]
    with_counts = FeatureEncoder(FeatureConfig(counts=True)).fit(dataset())
    assert list(with_counts.methods) == ["actors", "year", "number of actors"]
    assert with_counts.kinds == {"actors": "labels", "year": "number"}


@pytest.mark.parametrize("restore", [False, True])
def test_new_items_are_counted_by_what_they_say(restore):
    encoder = FeatureEncoder(FeatureConfig(counts=True, attributes=("actors", "year", "plot"))).fit(dataset())
    if restore:
        encoder = FeatureEncoder.from_state(encoder.state())
    new = [{"actors": ["a", "nobody", "c", "x"]}, {"plot": "a b c d e"}, {}]
    features = encoder.transform(attributes_from_records(new, encoder.kinds), 3).features
    actors, plot = features["number of actors"], features["number of plot"]
    assert isinstance(actors, ScalarFeature)
    assert actors.span == pytest.approx(np.log1p(3))
    np.testing.assert_allclose(actors.values, [np.log1p(4), 0, np.nan])
    np.testing.assert_allclose(plot.values, [0, np.log1p(5), np.nan])


def test_a_dataset_with_a_number_of_that_name_is_refused():
    """With counts on; with counts off it is a number like any other, also after it was stored."""
    own = {**ATTRIBUTES, "number of actors": NumberAttribute(np.array([5.0, 6.0, 7.0, 8.0]))}
    data = replace(dataset(), attributes=own, default_attributes=("actors", "number of actors"))
    with pytest.raises(ConfigError, match=r"'number of actors' itself\. Rename"):
        FeatureEncoder(FeatureConfig(counts=True)).fit(data)
    encoder = FeatureEncoder.from_state(FeatureEncoder().fit(data).state())
    assert encoder.kinds["number of actors"] == "number"
    np.testing.assert_array_equal(encoder.transform(own, 4).features["number of actors"].values, [5, 6, 7, 8])


def test_items_of_which_nothing_is_given_have_unknown_counts():
    encoder = FeatureEncoder(FeatureConfig(counts=True, attributes=("actors", "year", "plot"))).fit(dataset())
    nothing, some = encoder.transform({}, 2).features, encoder.transform({"year": YEAR.take(np.arange(2))}, 2).features
    assert np.isnan(nothing["number of actors"].values).all()
    np.testing.assert_array_equal(some["number of actors"].values, [0, 0])


def test_all_attributes_are_those_that_a_new_item_can_have():
    data = replace(dataset(), provenance={"later_attributes": ["plot"]})
    assert attribute_names(data, FeatureConfig(attributes="all")) == ("actors", "year")
    assert attribute_names(dataset(), FeatureConfig(attributes="all")) == ("actors", "year", "plot")


def test_words_of_scripts_without_blanks_are_pairs_of_characters():
    plots = {"plot": TextAttribute(("東京物語", "東", "one 東京 two", "one two"))}
    np.testing.assert_allclose(count_attributes(plots, plots)["number of plot"].values, np.log1p([3, 1, 3, 2]))
