"""The dataset refuses what does not fit, and its fingerprint follows its content and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import DataFormatError, EmptyDatasetError, UnknownAttributeError
from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute, binary_matrix


def small() -> Dataset:
    clicks = binary_matrix(np.array([0, 0, 1]), np.array([0, 2, 1]), (2, 3))
    ratings, timestamps = clicks.copy(), clicks.astype(np.int64)
    return Dataset(
        name="small",
        user_ids=np.array([3, 10]),
        item_ids=np.array(["a", "b", "c"]),
        interactions=clicks,
        ratings=ratings,
        timestamps=timestamps,
        attributes={
            "genres": LabelAttribute(
                binary_matrix(np.array([0, 1]), np.array([0, 1]), (3, 2)), np.array(["drama", "war"])
            ),
            "year": NumberAttribute(np.array([1990.0, np.nan, 2000.0])),
            "title": TextAttribute(("x", "", "y z")),
        },
        default_attributes=("genres", "year"),
    )


def test_sizes_and_density_are_those_of_the_matrix():
    assert (small().n_users, small().n_items, small().density) == (2, 3, 0.5)


def test_binary_matrix_counts_a_repeated_pair_once():
    matrix = binary_matrix(np.array([0, 0, 1]), np.array([1, 1, 0]), (2, 2))
    assert matrix.toarray().tolist() == [[0, 1], [1, 0]]
    assert matrix.dtype == np.float32


@pytest.mark.parametrize("ids", [[10, 3], [3, 3]])
def test_ids_that_are_not_unique_and_ascending_are_refused(ids):
    with pytest.raises(DataFormatError, match="user ids must be unique and ascending"):
        replace(small(), user_ids=np.array(ids))


@pytest.mark.parametrize("what", ["interactions", "ratings", "timestamps"])
def test_a_matrix_of_another_shape_is_refused(what):
    with pytest.raises(DataFormatError, match=f"{what} have shape"):
        replace(small(), **{what: sp.csr_array((2, 4), dtype=np.float32)})


def test_an_attribute_of_another_length_is_refused():
    with pytest.raises(DataFormatError, match="'year' describes 2 items, not 3"):
        replace(small(), attributes={"year": NumberAttribute(np.zeros(2))}, default_attributes=())


def test_a_dataset_without_interactions_is_refused():
    with pytest.raises(EmptyDatasetError, match="0 interactions"):
        replace(small(), interactions=sp.csr_array((2, 3), dtype=np.float32))


def test_an_unknown_attribute_is_refused_with_the_nearest_name():
    with pytest.raises(UnknownAttributeError, match="Did you mean 'genres'"):
        small().check_attributes(["genre"])


def test_taking_items_takes_every_part_and_keeps_the_users():
    taken = small().take_items(np.array([1, 2]))
    assert taken.item_ids.tolist() == ["b", "c"]
    assert taken.n_users == 2
    assert taken.interactions.toarray().tolist() == [[0, 1], [1, 0]]
    assert taken.ratings.nnz == taken.timestamps.nnz == 2
    assert taken.attributes["genres"].matrix.toarray().tolist() == [[0, 1], [0, 0]]
    assert taken.attributes["title"].texts == ("", "y z")
    assert taken.attributes["year"].values.tolist()[1] == 2000.0


def test_a_stored_zero_survives_taking_items():
    zeros = small().timestamps.copy()
    zeros.data[:] = 0
    assert replace(small(), timestamps=zeros).take_items(np.array([0, 1])).timestamps.nnz == 2


def changed(part: str) -> Dataset:
    dataset = small()
    other = {
        "user_ids": np.array([3, 11]),
        "item_ids": np.array(["a", "b", "d"]),
        "interactions": binary_matrix(np.array([0, 0, 1]), np.array([0, 2, 2]), (2, 3)),
        "ratings": None,
        "timestamps": dataset.timestamps * 2,
    }
    attributes = {
        "label names": {"genres": LabelAttribute(dataset.attributes["genres"].matrix, np.array(["drama", "warm"]))},
        "labels": {
            "genres": LabelAttribute(
                binary_matrix(np.array([0, 2]), np.array([0, 1]), (3, 2)), np.array(["drama", "war"])
            )
        },
        "number": {"year": NumberAttribute(np.array([1990.0, np.nan, 2001.0]))},
        "text": {"title": TextAttribute(("x", "", "yz"))},
        "moved text": {"title": TextAttribute(("", "x", "y z"))},
        "another attribute": {"plot": TextAttribute(("", "", ""))},
    }
    if part in other:
        return replace(dataset, **{part: other[part]})
    return replace(dataset, attributes={**dataset.attributes, **attributes[part]})


PARTS = ("user_ids", "item_ids", "interactions", "ratings", "timestamps")
ATTRIBUTE_PARTS = ("label names", "labels", "number", "text", "moved text", "another attribute")


@pytest.mark.parametrize("part", [*PARTS, *ATTRIBUTE_PARTS])
def test_the_fingerprint_changes_with_every_part(part):
    assert changed(part).fingerprint != small().fingerprint


def test_the_fingerprint_ignores_name_provenance_and_the_order_of_attributes():
    reordered = dict(reversed(small().attributes.items()))
    other = replace(small(), name="other", provenance={"file": "x"}, attributes=reordered, default_attributes=())
    assert other.fingerprint == small().fingerprint


pairs = st.sets(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1)


def from_pairs(ordered) -> Dataset:
    users, items = np.array(ordered).T
    # Not through binary_matrix: the columns of a row shall stay in the order given.
    order = np.argsort(users, kind="stable")
    row_ends = np.concatenate([[0], np.cumsum(np.bincount(users, minlength=6))])
    matrix = sp.csr_array((np.ones(len(users), np.float32), items[order], row_ends), shape=(6, 7))
    return Dataset("pairs", np.arange(6), np.arange(7), matrix, {})


@given(pairs, st.randoms(use_true_random=False))
def test_the_fingerprint_does_not_depend_on_the_order_of_construction(found, random):
    shuffled = sorted(found)
    random.shuffle(shuffled)
    assert from_pairs(shuffled).fingerprint == from_pairs(sorted(found)).fingerprint


@given(pairs, pairs)
def test_the_fingerprint_tells_any_two_sets_of_interactions_apart(one, other):
    assert (from_pairs(sorted(one)).fingerprint == from_pairs(sorted(other)).fingerprint) == (one == other)


texts = st.lists(st.text(max_size=4), min_size=7, max_size=7)


@given(texts, texts)
def test_the_fingerprint_tells_any_two_lists_of_texts_apart(one, other):
    base = from_pairs([(0, 0)])
    fingerprints = [replace(base, attributes={"t": TextAttribute(tuple(words))}).fingerprint for words in (one, other)]
    assert (fingerprints[0] == fingerprints[1]) == (one == other)
