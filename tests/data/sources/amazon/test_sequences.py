"""The sequences of Amazon Beauty, on tiny files written here and on the real folder."""

import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import DataFileError, DataFormatError, EmptyDatasetError
from coldray.data.signals import Reads
from coldray.data.sources.amazon.sequences import read_sequences

SEQUENCES, ATTRIBUTES = "Beauty.txt", "Beauty_item2attributes.json"


def write(folder, sequences="1 7 5 9\n2 5 7\n", attributes='{"5": [1, 3], "7": [3], "9": [], "4": [1]}'):
    """Write the two files; None leaves one out."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((SEQUENCES, sequences), (ATTRIBUTES, attributes)):
        if text is not None:
            (folder / name).write_text(text)
    return folder


def test_items_of_a_line_are_clicks_at_the_times_of_their_places(tmp_path):
    dataset = read_sequences(write(tmp_path))
    assert (dataset.user_ids.tolist(), dataset.item_ids.tolist()) == ([1, 2], [4, 5, 7, 9])
    assert dataset.timestamps.toarray().tolist() == [[0, 2, 1, 3], [0, 1, 2, 0]]
    assert any("has no times: timestamps are places" in note for note in dataset.notes)
    labels = dataset.attributes["attributes"]
    assert labels.labels.tolist() == ["1", "3"]
    assert labels.matrix.toarray().tolist() == [[1, 0], [1, 1], [0, 1], [0, 0]]


def test_the_last_place_of_an_item_counts_and_is_told(tmp_path):
    dataset = read_sequences(write(tmp_path, "1 5 5 7 5 9\n2 7 9\n"))
    assert dataset.timestamps.toarray().tolist() == [[0, 4, 3, 5], [0, 0, 1, 2]]
    assert f"{SEQUENCES}: 2 items stand in a line again; the last place of an item counts." in dataset.notes


def test_a_user_without_an_item_is_left_out_and_told(tmp_path):
    dataset = read_sequences(write(tmp_path, "1 5\n\n3\n"))
    assert dataset.user_ids.tolist() == [1]
    assert f"{SEQUENCES}: 1 users have no item and are left out." in dataset.notes


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        ("1 5\n1 7\n", r"Beauty\.txt has 1 repeated rows; the first is of user 1"),
        ("x 5\n", r"Beauty\.txt, line 1: user is 'x', not a number"),
        ("1 5\n2 b\n", r"Beauty\.txt, line 2: item is 'b', not a number"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, sequences, message):
    with pytest.raises(DataFormatError, match=message):
        read_sequences(write(tmp_path, sequences))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ("[1]", "is a list, not lists of attributes by item"),
        ("{", "is not JSON"),
        ('{"5": ["a"]}', r"'5' has \['a'\], not a list of whole numbers"),
        ('{"b": [1]}', r"'b' has \[1\], not a list of whole numbers by that of an item"),
    ],
)
def test_malformed_attributes_are_named(tmp_path, attributes, message):
    with pytest.raises(DataFormatError, match=message):
        read_sequences(write(tmp_path, attributes=attributes))


@pytest.mark.parametrize("absent", ["sequences", "attributes"])
def test_an_absent_file_is_named_with_the_way_out(tmp_path, absent):
    with pytest.raises(DataFileError, match=r"has no Beauty.*sequences of Amazon Beauty files.*--data-dir"):
        read_sequences(write(tmp_path, **{absent: None}))


def test_nobody_with_an_item_is_an_error(tmp_path):
    with pytest.raises(EmptyDatasetError, match=r"Beauty\.txt has no interactions"):
        read_sequences(write(tmp_path, "1\n"))


def test_an_archive_reads_like_its_folder(tmp_path):
    folder = write(tmp_path / "files")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in (SEQUENCES, ATTRIBUTES):
            archive.write(folder / name, f"data/{name}")
    assert read_sequences(tmp_path / "x.zip").fingerprint == read_sequences(folder).fingerprint


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=5))
def test_places_are_those_of_the_lines(lines):
    text = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(lines))
    attributes = "{" + ", ".join(f'"{item}": [1]' for item in range(6)) + "}"
    with tempfile.TemporaryDirectory() as folder:
        dataset = read_sequences(write(Path(folder), text, attributes))
    placed = Reads(order=True).of(dataset).interactions.toarray()
    np.testing.assert_array_equal(placed.argsort(axis=1), lines)


def test_the_real_data_has_its_published_counts_and_leaves_the_last_item_out(real_data):
    dataset = read_sequences(real_data("amazon-beauty-sequences"))
    assert (dataset.n_users, dataset.n_items, dataset.interactions.nnz) == (22_363, 12_101, 198_502)
    assert len(dataset.attributes["attributes"].labels) == 637
    split = coldray.split(dataset, "leave-last")
    with (real_data("amazon-beauty-sequences") / SEQUENCES).open() as lines:
        lasts = [int(line.split()[-1]) for line in lines]
    test = split.test_fold.held_out
    assert test.nnz == dataset.n_users
    assert dataset.item_ids[test.indices].tolist() == lasts
