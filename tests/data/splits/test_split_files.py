"""The field's cold split by files: what they list is what the folds have, and odd files are told or refused."""

import numpy as np
import pytest

import coldray
from coldray.core.errors import (
    ConfigError,
    DataFileError,
    DataFormatError,
    EmptyDatasetError,
    LeakageError,
    UnmatchedItemsError,
)
from coldray.data.dataset import Dataset, binary_matrix, rows_of
from coldray.data.splits.parts import TEST, TRAIN, VALIDATION
from coldray.data.splits.recsys_cold import recsys_cold_splits
from coldray.experiments.split_config import SplitConfig
from data.canary import canary_dataset

NAMES = ("warm_train", "warm_val", "warm_test", "cold_item_val", "cold_item_test")


def drawn(dataset):
    return next(recsys_cold_splits(dataset, seeds=(3,)))


def listed(split):
    """Return the (user, item) ids of each file."""
    data, clicks = split.dataset, split.dataset.interactions
    cold = np.isin(clicks.indices, np.concatenate([*split.cold.values()]))
    chosen = [(TRAIN, ~cold), (VALIDATION, ~cold), (TEST, ~cold), (VALIDATION, cold), (TEST, cold)]
    users, items = data.user_ids[rows_of(clicks)], data.item_ids[clicks.indices]
    return {
        name: list(zip(users[where].tolist(), items[where].tolist(), strict=True))
        for name, where in zip(NAMES, [(split.parts == part) & side for part, side in chosen], strict=True)
    }


def written(folder, tables, header="user,item"):
    for name, rows in tables.items():
        (folder / f"{name}.csv").write_text("\n".join([header, *(f"{user},{item}" for user, item in rows)]) + "\n")
    return folder


def read(dataset, folder):
    return next(recsys_cold_splits(dataset, folder=folder))


@pytest.fixture
def data():
    return canary_dataset()


@pytest.fixture
def tables(data):
    return listed(drawn(data))


def test_a_drawn_split_that_is_written_and_read_is_itself(data, tables, tmp_path, caplog):
    tables = {name: rows[::-1] for name, rows in tables.items()}
    found = read(data, written(tmp_path, tables))
    assert found.parts.tolist() == drawn(data).parts.tolist()
    assert {part: items.tolist() for part, items in found.cold.items()} == {
        part: items.tolist() for part, items in drawn(data).cold.items()
    }
    assert found.counts() == drawn(data).counts()
    assert caplog.text == ""


def test_how_a_file_was_read_is_told(data, tables, tmp_path, caplog):
    folder = written(tmp_path, tables)
    (folder / "warm_val.csv").write_text((folder / "warm_val.csv").read_text().replace(",", ";") + "user;item\n")
    assert read(data, folder).parts.tolist() == drawn(data).parts.tolist()
    assert "warm_val.csv: values are divided by ';'" in caplog.text
    assert "warm_val.csv: its header is there 1 times more" in caplog.text


def test_train_has_the_names_that_the_codes_give_it(data, tables, tmp_path):
    train = tables.pop("warm_train")
    folder = written(tmp_path, {**tables, "warm_emb": train[::2], "warm_map": train[1::2]})
    assert read(data, folder).parts.tolist() == drawn(data).parts.tolist()


def test_what_the_data_or_the_files_lack_is_counted_and_told(data, tables, tmp_path, caplog):
    (user, item), cold = tables["warm_train"][0], tables["cold_item_test"][0][1]
    tables["warm_train"][0] = (user, "item-999")
    tables["warm_train"].append((999, item))
    absent = next(one for one in range(30) if (one, cold) not in tables["cold_item_test"])
    tables["cold_item_test"].append((absent, cold))
    split = read(data, written(tmp_path, tables))
    assert split.counts()["listed_clicks_left_out"] == 3
    assert split.counts()["unlisted_interactions"] == 1
    assert f"{tmp_path.name}: 3 rows that are no clicks of the data are left out of the split." in caplog.text
    assert "1 clicks of the data that no split file lists are left out" in caplog.text


def test_a_warm_item_that_train_does_not_know_is_not_looked_for(data, tables, tmp_path, caplog):
    item = tables["warm_test"][0][1]
    alone = [pair for pair in tables["warm_train"] if pair[1] == item]
    tables["warm_train"] = [pair for pair in tables["warm_train"] if pair[1] != item]
    n_held_out = sum(pair[1] == item for name in ("warm_val", "warm_test") for pair in tables[name])
    split = read(data, written(tmp_path, tables))
    place = data.item_ids.tolist().index(item)
    assert place not in split.test_fold.cold_items
    assert place not in split.test_fold.held_out.indices
    counts = split.counts()
    assert counts["warm_clicks_on_items_without_train_clicks"] == n_held_out
    assert counts["unlisted_interactions"] == len(alone)
    assert f"{n_held_out} held-out clicks on warm items without a train click are left out" in caplog.text


def changed(tables, change):
    """Return the files with one oddity."""
    found = {name: list(rows) for name, rows in tables.items()}
    if change == "a pair in two files":
        found["warm_test"].append(found["warm_train"][0])
    elif change == "a pair twice":
        found["warm_val"].append(found["warm_val"][0])
    elif change == "warm and cold":
        user, item = found["cold_item_val"][0]
        found["cold_item_val"] = found["cold_item_val"][1:] + [pair for pair in found["warm_val"] if pair[1] != item]
        found["warm_train"].append((user, item))
        found["warm_val"] = []
    elif change == "cold in both parts":
        found["cold_item_test"] += found["cold_item_val"][:1]
        found["cold_item_val"] = found["cold_item_val"][1:]
    elif change.endswith(" empty"):
        found[change.removesuffix(" empty")] = []
    return found


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("a pair in two files", LeakageError, r"1 \(user, item\) pairs of warm_test\.csv .* is in warm_train\.csv"),
        ("a pair twice", DataFormatError, r"warm_val\.csv has 1 repeated rows"),
        ("warm and cold", LeakageError, r"cold_item_val\.csv: \d+ of its \d+ cold items have a click"),
        ("warm_train empty", EmptyDatasetError, "the train part has no click"),
        ("warm_test empty", EmptyDatasetError, "the test part has no click on a warm item"),
        ("cold_item_val empty", EmptyDatasetError, "the validation part has no click on a cold item"),
    ],
)
def test_odd_files_are_refused(data, tables, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        read(data, written(tmp_path, changed(tables, change)))


def test_an_item_is_cold_in_one_part(tmp_path):
    everyone, everything = np.nonzero(np.ones((4, 6), bool))
    dataset = Dataset("dense", np.arange(4), np.arange(6), binary_matrix(everyone, everything, (4, 6)), {})
    tables = {
        "warm_train": [(0, 0), (1, 1)], "warm_val": [(2, 0)], "warm_test": [(3, 0)],
        "cold_item_val": [(0, 4), (1, 5)], "cold_item_test": [(2, 5)],
    }  # fmt: skip
    with pytest.raises(LeakageError, match=r"cold_item_test\.csv: 1 of its 1 cold items .* the first is item 5"):
        read(dataset, written(tmp_path, tables))


def numbered(data):
    """Return the data with ids of items that are numbers, as those of users are."""
    return Dataset("numbers", data.user_ids, np.arange(data.n_items), data.interactions, {})


@pytest.mark.parametrize("header", ["item,user", "user,item"])
def test_columns_are_read_by_their_names_and_swapped_ones_are_refused(data, tmp_path, header):
    dataset = numbered(data)
    swapped = {name: [(item, user) for user, item in rows] for name, rows in listed(drawn(dataset)).items()}
    folder = written(tmp_path, swapped, header)
    if header == "item,user":
        found = read(dataset, folder).parts.tolist()
        assert found == drawn(dataset).parts.tolist()
    else:
        with pytest.raises(DataFormatError, match=r"warm_train\.csv: .* if its columns user and item were swapped"):
            read(dataset, folder)


def test_files_of_other_data_are_refused(data, tables, tmp_path):
    other = {name: [(user, f"film-{item}") for user, item in rows] for name, rows in tables.items()}
    with pytest.raises(UnmatchedItemsError, match=r"warm_train\.csv: none of its .* ids is one of the 40 items"):
        read(data, written(tmp_path, other))
    empty = Dataset("others", data.user_ids, data.item_ids, binary_matrix([29], [39], (30, 40)), {})
    tables["warm_train"] = [pair for pair in tables["warm_train"] if pair != (29, "item-039")]
    with pytest.raises(UnmatchedItemsError, match="is a click of 'others', though"):
        read(empty, written(tmp_path, tables))


def test_absent_files_and_columns_are_named(data, tables, tmp_path):
    folder = written(tmp_path, tables)
    with pytest.raises(DataFormatError, match="item"):
        read(data, written(tmp_path, tables, "user,film"))
    (folder / "warm_val.csv").unlink()
    with pytest.raises(DataFileError, match=r"has no warm_val\.csv\. A split by files is five tables"):
        read(data, folder)
    with pytest.raises(DataFileError, match=r"no warm_train\.csv or warm_emb\.csv"):
        SplitConfig(protocol="recsys-cold", n_splits=1, folder=tmp_path / "absent").digests()


def test_a_folder_is_one_split_is_found_beside_the_study_and_is_known_by_its_content(
    data, tables, tmp_path, monkeypatch
):
    beside, root = tmp_path / "studies", tmp_path / "data"
    folder = root / "parts"
    for one in (beside, folder):
        one.mkdir(parents=True)
    monkeypatch.setenv("COLDRAY_DATA", str(root))
    written(folder, tables)
    config = SplitConfig(protocol="recsys-cold", n_splits=1, folder="parts").below(beside)
    assert config.folder == folder
    first = config.digests()
    split = coldray.split(data, "recsys-cold", folder=folder)
    assert split.parts.tolist() == drawn(data).parts.tolist()
    tables["warm_val"] = tables["warm_val"][1:]
    written(folder, tables)
    assert config.digests() != first
    with pytest.raises(ConfigError, match="split files give one split"):
        SplitConfig(protocol="recsys-cold", folder=folder)
    with pytest.raises(ConfigError, match=r"splits\.folder: .* is not read by the protocol 'notebook'"):
        SplitConfig(folder=folder)
