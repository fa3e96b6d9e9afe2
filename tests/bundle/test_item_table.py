"""Attributes of some items and of others, one after the other, say of each what they said before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.bundle.item_table import attributes_of, item_table, joined
from coldray.data.dataset import LabelAttribute, TextAttribute, binary_matrix
from coldray.features.builder import attributes_from_records

KINDS = {"labels": "labels", "number": "number", "text": "text"}
records = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "labels": st.lists(st.sampled_from("abcdefg"), unique=True),
            "number": st.floats(-1e6, 1e6),
            "text": st.text(st.characters(codec="utf-8"), max_size=5),
        },
    ),
    max_size=6,
)


def said(attributes, n_items):
    """Return what is said of each item, as plain values."""
    labels, numbers, texts = attributes["labels"], attributes["number"].values, attributes["text"].texts
    matrix = labels.matrix.toarray()
    return [
        (sorted(labels.labels[matrix[i] > 0]), None if np.isnan(numbers[i]) else numbers[i], texts[i])
        for i in range(n_items)
    ]


@settings(max_examples=40)
@given(records, records)
def test_joined_attributes_are_those_of_all_records_together(known, added):
    parts = [attributes_from_records(part, KINDS) for part in (known, added)]
    both = {name: joined(parts[0][name], parts[1][name]) for name in KINDS}
    assert said(both, len(known) + len(added)) == said(
        attributes_from_records([*known, *added], KINDS), len(both["text"].texts)
    )
    assert both["labels"].labels.tolist() == sorted(set(both["labels"].labels))
    assert set(both["labels"].matrix.data) <= {1.0}


@given(records, st.sets(st.sampled_from(sorted(KINDS))))
def test_a_table_gives_back_what_is_known(known, read):
    attributes = attributes_from_records(known, KINDS)
    table = item_table(np.arange(len(known)), attributes, read)
    found = attributes_of(table, {name: KINDS[name] for name in KINDS if name in read})
    assert list(found) == list(KINDS)
    assert said(found, len(known)) == said(attributes, len(known))


def test_a_vocabulary_that_repeats_a_name_joins_as_one_label():
    twice = LabelAttribute(binary_matrix(np.array([0, 0]), np.array([0, 1]), (1, 2)), np.array(["a", "a"]))
    both = joined(twice, LabelAttribute(binary_matrix(np.array([0]), np.array([0]), (1, 1)), np.array(["b"])))
    assert both.labels.tolist() == ["a", "b"]
    assert both.matrix.toarray().tolist() == [[1, 0], [0, 1]]


def test_attributes_of_two_kinds_do_not_join():
    labels = LabelAttribute(binary_matrix(np.array([0]), np.array([0]), (1, 1)), np.array(["b"]))
    with pytest.raises(TypeError, match="TextAttribute cannot be joined with a LabelAttribute"):
        joined(TextAttribute(("a",)), labels)


def test_a_column_that_the_encoder_reads_must_be_there():
    with pytest.raises(KeyError, match="attribute:year"):
        attributes_of(item_table(np.arange(1), {"text": TextAttribute(("a",))}, ()), {"year": "number"})
