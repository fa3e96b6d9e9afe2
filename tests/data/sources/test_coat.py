"""The reader of Coat, against what is written to its files, and against the published numbers."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import DataFileError, DataFormatError
from coldray.data.sources.coat import read_coat, read_coat_split

FILES = {
    "train.ascii": "0 5 0\n1 0 0\n",
    "test.ascii": "0 5 2\r\n0 0 3\r\n",
    "user_features.ascii": "1 0 0 1\n0 1 0 0\n",
    "user_features_map.txt": "gender:men\ngender:women\nage:20-30\nage:over 60",
    "item_features.ascii": "1 0\n0 1\n0 0\n",
    "item_features_map.txt": "color:red\njackettype:rain\n",
}


def write(folder, **changes):
    """Write the files, some of them changed; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        changed = changes.get(name.partition(".")[0], text)
        if changed is not None:
            (folder / name).write_bytes(changed.encode())
    return folder


def labels_of(attribute):
    return [attribute.labels[row > 0].tolist() for row in attribute.matrix.toarray()]


def test_users_and_coats_are_the_places_in_their_files(tmp_path):
    dataset = read_coat(write(tmp_path))
    assert (dataset.name, dataset.user_ids.tolist(), dataset.item_ids.tolist()) == ("coat", [0, 1], [0, 1, 2])
    assert dataset.ratings.toarray().tolist() == [[0, 5, 2], [1, 0, 3]]
    assert dataset.timestamps is None
    assert {name: labels_of(one) for name, one in dataset.user_attributes.items()} == {
        "gender": [["men"], ["women"]], "age": [["over 60"], []]
    }  # fmt: skip
    assert {name: labels_of(one) for name, one in dataset.attributes.items()} == {
        "color": [["red"], [], []], "jackettype": [[], ["rain"], []]
    }  # fmt: skip
    assert set(dataset.default_attributes) == {"color", "jackettype"}


def test_the_split_is_the_published_one_and_what_is_in_both_parts_is_of_train(tmp_path):
    split = read_coat_split(write(tmp_path))
    assert split.train.toarray().tolist() == [[0, 1, 0], [1, 0, 0]]
    assert split.test.toarray().tolist() == [[0, 0, 1], [0, 0, 1]]
    assert any("1 of 3 ratings are of coats that the user has rated in train.ascii" in x for x in split.dataset.notes)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_ratings_are_those_of_the_matrices(tmp_path_factory, seed):
    generator = np.random.default_rng(seed)
    train, test = (generator.integers(0, 6, (3, 4)) * (generator.random((3, 4)) < 0.6) for _ in range(2))
    train[:, 0], test[:, 0], train[:, 1], test[:, 1] = 3, 0, 0, 4  # both parts have something
    written = []
    for matrix in (train, test):
        buffer = io.BytesIO()
        np.savetxt(buffer, matrix, fmt="%d")
        written.append(buffer.getvalue().decode())
    folder = tmp_path_factory.mktemp("coat")
    write(folder, train=written[0], test=written[1], user_features="0 1 0 0\n" * 3, item_features="1 0\n" * 4)
    split = read_coat_split(folder)
    np.testing.assert_array_equal(split.dataset.ratings.toarray(), np.where(train > 0, train, test))
    np.testing.assert_array_equal(split.ratings("train").toarray(), train)
    np.testing.assert_array_equal(split.ratings("test").toarray(), np.where(train > 0, 0, test))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"train": "0 6 0\n1 0 0\n"}, DataFormatError, "train.ascii, line 1: value is '6', not a whole number up to 5"),
        ({"train": "0 5 0\n1 2.5 0\n"}, DataFormatError, "train.ascii, line 2: value is '2.5'"),
        ({"train": "0 x 0\n1 0 0\n"}, DataFormatError, "train.ascii, line 1"),
        ({"train": "0 5 0\n1 0\n"}, DataFormatError, "train.ascii"),
        ({"test": "0 5 0\n"}, DataFormatError, "test.ascii has 1 lines of users, and user_features.ascii has 2"),
        ({"user_features": "1 0 0 2\n0 1 0 0\n"}, DataFormatError, "line 1: value is '2', neither 0 nor 1"),
        (
            {"user_features_map": "gender:men\nwomen\nage:20\nage:30"},
            DataFormatError,
            "'women', not like attribute:lab",
        ),
        ({"item_features_map": "color:red\ncolor:red\n"}, DataFormatError, "2 names, 1 of them different"),
        ({"item_features": None}, DataFileError, r"has no item_features\.ascii"),
    ],
)
def test_what_is_malformed_is_named(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        read_coat(write(tmp_path, **changes))


def test_the_real_data_has_its_published_counts(real_data):
    split = read_coat_split(real_data("coat"))
    assert (split.dataset.n_users, split.dataset.n_items) == (290, 300)
    assert (np.diff(split.train.indptr) == 24).all()
    assert split.test.nnz == 16 * 290 - 366
    attributes = split.dataset.user_attributes
    assert {name: len(one.labels) for name, one in attributes.items()} == {
        "gender": 2, "age": 6, "location": 3, "fashioninterest": 3
    }  # fmt: skip
    assert all((np.diff(one.matrix.indptr) == 1).all() for one in attributes.values())
