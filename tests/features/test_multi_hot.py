import io
import json

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.core.errors import DataFormatError, NotFittedError
from coldray.data.dataset import LabelAttribute
from coldray.features.multi_hot import MultiHotConfig, MultiHotEncoder, read_labels

ITEMS = st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=12)


def attribute(labels_of):
    return read_labels([sorted(labels) for labels in labels_of], "genres")


def decoded(feature):
    """Return the set of terms of each row."""
    dense = feature.matrix.toarray()
    assert set(np.unique(dense)) <= {0.0, 1.0}
    return [{feature.terms[j] for j in np.flatnonzero(row)} for row in dense]


def through_disk(state):
    """Return a state after its arrays went through npz without pickle and the rest through JSON."""
    arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    buffer.seek(0)
    plain = json.loads(json.dumps({key: value for key, value in state.items() if key not in arrays}))
    return plain | dict(np.load(buffer, allow_pickle=False))


@settings(deadline=None)
@given(ITEMS, st.integers(1, 4), st.sampled_from([0.1, 0.25, 0.3, 0.5, 1.0]))
def test_the_labels_kept_and_the_rows_are_those_of_a_count_by_hand(labels_of, min_items, max_share):
    count = {label: sum(label in labels for labels in labels_of) for label in "abcdefgh"}
    kept = [label for label in "abcdefgh" if count[label] >= min_items and count[label] / len(labels_of) <= max_share]
    encoder = MultiHotEncoder(MultiHotConfig(min_items=min_items, max_share=max_share)).fit(attribute(labels_of))
    assert list(encoder.labels) == kept
    feature = encoder.transform(attribute(labels_of))
    assert feature.terms == encoder.labels
    assert feature.matrix.shape == (len(labels_of), len(kept))
    assert feature.matrix.dtype == np.float32
    assert decoded(feature) == [labels & set(kept) for labels in labels_of]


@settings(deadline=None)
@given(ITEMS, st.randoms(use_true_random=False))
def test_permuting_the_items_permutes_the_rows(labels_of, random):
    order = list(range(len(labels_of)))
    random.shuffle(order)
    original = attribute(labels_of)
    rows = MultiHotEncoder().fit(original).transform(original)
    permuted = MultiHotEncoder().fit(original.take(np.array(order))).transform(original.take(np.array(order)))
    assert permuted.terms == rows.terms
    np.testing.assert_array_equal(permuted.matrix.toarray(), rows.matrix.toarray()[order])


@settings(deadline=None)
@given(ITEMS, ITEMS)
def test_a_restored_encoder_encodes_the_same(fitted, new):
    encoder = MultiHotEncoder(MultiHotConfig(min_items=1, max_share=0.9)).fit(attribute(fitted))
    restored = MultiHotEncoder.from_state(through_disk(encoder.state()))
    assert restored.config == encoder.config
    before, after = encoder.transform(attribute(new)), restored.transform(attribute(new))
    assert after.terms == before.terms
    np.testing.assert_array_equal(after.matrix.toarray(), before.matrix.toarray())


@pytest.mark.parametrize(("count", "kept"), [(28, True), (29, True), (30, False)])
def test_the_largest_share_is_exact(count, kept):
    # 0.29 * 100 is 28.999999999999996 in floats: a product would refuse the 29.
    labels_of = [{"x"}] * count + [set()] * (100 - count)
    encoder = MultiHotEncoder(MultiHotConfig(max_share=0.29)).fit(attribute(labels_of))
    assert encoder.labels == (("x",) if kept else ())


def test_new_items_are_aligned_by_name_and_their_unseen_labels_ignored():
    encoder = MultiHotEncoder(MultiHotConfig(min_items=1)).fit(attribute([{"b", "d"}, {"c"}]))
    new = LabelAttribute(
        sp.csr_array(np.array([[1, 1, 0, 0], [0, 0, 1, 1]], np.float32)), np.array(["d", "a", "z", "b"])
    )
    assert decoded(encoder.transform(new)) == [{"d"}, {"b"}]


def test_stored_zeros_and_repeated_entries_count_as_they_should():
    matrix = sp.csr_array(
        (np.array([1, 1, 0, 1], np.float32), np.array([0, 0, 1, 1]), np.array([0, 2, 3, 4])), shape=(3, 2)
    )
    encoder = MultiHotEncoder(MultiHotConfig(min_items=1)).fit(LabelAttribute(matrix, np.array(["a", "b"])))
    assert decoded(encoder.transform(LabelAttribute(matrix, np.array(["a", "b"])))) == [{"a"}, set(), {"b"}]
    twice = MultiHotEncoder(MultiHotConfig(min_items=2)).fit(LabelAttribute(matrix, np.array(["a", "b"])))
    assert twice.labels == ()


def test_a_second_fit_forgets_the_first():
    encoder = MultiHotEncoder().fit(attribute([{"a"}, {"a"}]))
    assert encoder.fit(attribute([{"b"}, {"b"}])).labels == ("b",)


def test_nothing_can_be_encoded_before_the_fit():
    with pytest.raises(NotFittedError, match="fit"):
        MultiHotEncoder().transform(attribute([{"a"}]))
    with pytest.raises(NotFittedError, match="fit"):
        MultiHotEncoder().state()


def test_a_vocabulary_that_does_not_fit_the_matrix_is_refused():
    with pytest.raises(DataFormatError, match="1 labels but its matrix has 2"):
        MultiHotEncoder().fit(LabelAttribute(sp.csr_array(np.ones((3, 2), np.float32)), np.array(["a"])))


@pytest.mark.parametrize("limits", [{"min_items": 0}, {"max_share": 0}, {"max_share": 1.5}, {"min_item": 2}])
def test_limits_that_mean_nothing_are_refused(limits):
    with pytest.raises(ValidationError, match=next(iter(limits))):
        MultiHotConfig(**limits)


def test_plain_values_become_labels():
    read = read_labels([["b", "a", "b"], "c", None, [], ("a",)], "genres")
    assert read.labels.tolist() == ["a", "b", "c"]
    assert read.matrix.toarray().tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0], [1, 0, 0]]


def test_labels_written_out_and_read_back_are_the_same_even_a_blank_one():
    original = LabelAttribute(sp.csr_array(np.array([[1, 0], [1, 1]], np.float32)), np.array(["", "a"]))
    read = read_labels([[""], ["", "a"]], "genres")
    assert read.labels.tolist() == original.labels.tolist()
    assert read.matrix.toarray().tolist() == original.matrix.toarray().tolist()


@pytest.mark.parametrize("value", [3, ["a", 3], {"a": 1}, [None]])
def test_a_value_that_is_no_label_is_named(value):
    with pytest.raises(DataFormatError, match=r"item 1 .*'genres' must be a str or a list of str"):
        read_labels(["a", value], "genres")
