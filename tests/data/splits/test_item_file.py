"""Splits whose items are listed in a file."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFileError, DataFormatError, EmptyDatasetError, UnmatchedItemsError
from coldray.data.dataset import Dataset, binary_matrix
from coldray.data.splits.item_file import item_file_split
from coldray.evaluation.ratings import ones_where_stored
from coldray.experiments.split_config import SplitConfig


def dataset_of(n_users=6, n_items=10, ids=None):
    """Every item but the last has clicks of two users."""
    items = np.repeat(np.arange(n_items - 1), 2)
    clicks = binary_matrix((items * 2 + np.tile([0, 1], n_items - 1)) % n_users, items, (n_users, n_items))
    return Dataset("tiny", np.arange(n_users) * 10, np.arange(n_items) if ids is None else ids, clicks, {})


def table(folder, rows, name="parts.csv", header="film,part"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_listed_items_are_held_out_in_ascending_order_and_all_others_are_train(tmp_path):
    parts = table(tmp_path, ["5,test", "3,validation", "1,test", "0,train"])
    split = item_file_split(dataset_of(), parts)
    assert split.test_items.tolist() == [1, 5]
    assert split.validation_items.tolist() == [3]
    assert split.train_items.tolist() == [0, 2, 4, 6, 7, 8]
    assert (split.protocol, split.counts()["test_items"]) == ("item-file", 2)
    assert "listed_items_left_out" not in split.counts()
    assert split.for_tuning().dataset.item_ids.tolist() == [0, 2, 3, 4, 6, 7, 8, 9]


def test_what_the_data_lack_and_what_nobody_clicked_is_counted(tmp_path, caplog):
    parts = table(tmp_path, ["5,test", "3,validation", "77,test", "9,test"])
    split = item_file_split(dataset_of(), parts)
    assert split.test_items.tolist() == [5]
    assert split.counts()["listed_items_left_out"] == 2
    assert "parts.csv: 2 of 4 listed items are not in tiny, or nobody has clicked them" in caplog.text


def test_lists_of_the_users_of_a_file_alone_are_measured_and_models_read_all(tmp_path, caplog):
    dataset, parts = dataset_of(), table(tmp_path, ["5,test", "4,test", "3,validation", "2,validation"])
    users = table(tmp_path, ["40", "0", "999"], "users.csv", "userID")
    split = item_file_split(dataset, parts, users)
    everybody = item_file_split(dataset, parts)
    for fold, of_all in (
        (split.test_fold, everybody.test_fold),
        (split.for_tuning().fold, everybody.for_tuning().fold),
    ):
        assert (fold.train != of_all.train).nnz == 0
        kept = np.flatnonzero(np.diff(fold.held_out.indptr))
        assert set(kept) <= {0, 4}
        np.testing.assert_array_equal(fold.held_out.toarray()[[0, 4]], of_all.held_out.toarray()[[0, 4]])
    assert split.counts()["measured_users"] == 2
    assert "users.csv: 1 of 3 users are not in tiny" in caplog.text


def test_ids_that_are_text_are_matched_as_text(tmp_path):
    names = np.array([f"film-{n}" for n in range(10)])
    split = item_file_split(dataset_of(ids=names), table(tmp_path, ["film-2,test", "film-4,validation"]))
    assert (split.test_items.tolist(), split.validation_items.tolist()) == ([2], [4])


@given(parts=st.lists(st.sampled_from(["train", "validation", "test"]), min_size=9, max_size=9))
def test_the_parts_are_those_of_the_file_whatever_the_order_of_its_rows(parts, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    order = np.random.default_rng(len(set(parts))).permutation(9)
    file = table(folder, [f"{item},{parts[item]}" for item in order])
    if set(parts) != {"train", "validation", "test"}:
        with pytest.raises(EmptyDatasetError):
            item_file_split(dataset_of(), file)
    else:
        split = item_file_split(dataset_of(), file)
        found = {"train": split.train_items, "validation": split.validation_items, "test": split.test_items}
        assert {name: items.tolist() for name, items in found.items()} == {
            name: [item for item in range(9) if parts[item] == name] for name in found
        }


@pytest.mark.parametrize(
    ("rows", "header", "error", "message"),
    [
        (["1,test", "1,validation"], "film,part", DataFormatError, r"parts\.csv has 1 repeated rows.*film 1"),
        (["1,test", "2,Test"], "film,part", DataFormatError, r"parts\.csv, row 2: part is 'Test', none of train"),
        (["1,test", "2,"], "film,part", DataFormatError, r"row 2: part is .*, none of train"),
        (["1,test"], "film,parts", DataFormatError, "part"),
        (["test"], "part", DataFormatError, r"no column of ids besides 'part'"),
        (["71,test", "72,validation"], "film,part", UnmatchedItemsError, r"none of its 2 ids is one of the 10 items"),
        (["1,test", "2,test"], "film,part", EmptyDatasetError, "validation part has 0 items"),
        (["01,test", "02,validation"], "film,part", UnmatchedItemsError, r"'1' is '01' there.*without leading zeros"),
        ([], "film,part", EmptyDatasetError, r"parts\.csv has no rows"),
        (["1,test"], "9,part", DataFormatError, "no header: its first line is '9', which is one of the items"),
    ],
)
def test_a_bad_table_is_named(tmp_path, rows, header, error, message):
    with pytest.raises(error, match=message):
        item_file_split(dataset_of(), table(tmp_path, rows, header=header))


@pytest.mark.parametrize(("part", "message"), [(1, "part is '1', none of train"), (b"x", "'part' holds Binary")])
def test_parts_of_another_type_are_refused_by_name(tmp_path, part, message):
    pl.DataFrame({"film": [1, 2], "part": [part, part]}).write_parquet(tmp_path / "parts.parquet")
    with pytest.raises(DataFormatError, match=message):
        item_file_split(dataset_of(), tmp_path / "parts.parquet")


def test_users_without_a_header_are_refused_as_the_first_would_be_lost(tmp_path):
    parts = table(tmp_path, ["5,test", "3,validation"])
    with pytest.raises(DataFormatError, match=r"users\.csv has no header: its first line is '40'"):
        item_file_split(dataset_of(), parts, table(tmp_path, ["0"], "users.csv", "40"))


def test_how_a_table_was_read_is_told(tmp_path, caplog):
    parts = table(tmp_path, ["5;test", "", "3;validation"], header="film;part")
    assert item_file_split(dataset_of(), parts).test_items.tolist() == [5]
    assert "parts.csv: values are divided by ';'" in caplog.text
    assert "parts.csv: 1 blank lines are passed over" in caplog.text


def test_no_table_and_an_absent_one_are_errors(tmp_path):
    with pytest.raises(ConfigError, match="needs items"):
        SplitConfig(protocol="item-file", n_splits=1)
    with pytest.raises(ConfigError, match="gives one split"):
        SplitConfig(protocol="item-file", items=tmp_path / "parts.csv")
    with pytest.raises(ConfigError, match=r"splits\.items: .* is not read by the protocol 'notebook'"):
        SplitConfig(items=tmp_path / "parts.csv")
    with pytest.raises(DataFileError, match=r"absent\.csv"):
        item_file_split(dataset_of(), tmp_path / "absent.csv")
    with pytest.raises(ConfigError, match=r"splits\.items"):
        item_file_split(dataset_of(), None)


def test_the_front_door_takes_the_file(tmp_path):
    parts = table(tmp_path, ["5,test", "3,validation"])
    split = coldray.split(dataset_of(), "item-file", items=parts)
    assert split.counts()["test_items"] == 1
    assert ones_where_stored(split.test_fold.held_out).nnz == 2


def test_a_file_is_found_beside_the_study_or_in_the_folder_of_the_data_and_known_by_its_content(tmp_path, monkeypatch):
    beside, data = tmp_path / "studies", tmp_path / "data"
    for folder in (beside, data):
        folder.mkdir()
    monkeypatch.setenv("COLDRAY_DATA", str(data))
    config = SplitConfig(protocol="item-file", n_splits=1, items="parts.csv")
    assert config.below(beside).items == beside / "parts.csv"
    there = table(data, ["5,test"])
    assert config.below(beside).items == there
    here = table(beside, ["6,test"])
    assert config.below(beside).items == here
    first = config.below(beside).digests()
    table(beside, ["7,test"])
    assert config.below(beside).digests() != first
    assert SplitConfig().digests() == {}
    with pytest.raises(DataFileError, match="A file of the splits cannot be read"):
        config.digests()


def test_the_published_split_of_movielens_has_its_counts(real_data):
    folder, clicks = real_data("ml1m-cold-2021"), real_data("ml1m-hetrec")
    dataset = coldray.load_dataset("ml1m-hetrec", data_dir=clicks, filters={"min_item_interactions": 20})
    split = coldray.split(dataset, "item-file", items=folder / "cold_items.csv", only_users=folder / "users.csv")
    counts = split.counts()
    assert (counts["train_items"], counts["validation_items"], counts["test_items"]) == (1836, 302, 905)
    assert (counts["test_interactions"], counts["measured_users"]) == (297_005, 6016)
