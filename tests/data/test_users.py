"""Attributes of users: read from tables, kept with their users, counted where they are of nobody."""

import logging

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, UnmatchedUsersError
from coldray.data.dataset import Dataset, NumberAttribute
from coldray.data.filters import FilterConfig, apply_filters
from coldray.data.sources.registry import SourceConfig
from coldray.data.splits.warming import warming_splits
from coldray.data.uninformative import uninformative_attributes

CLICKS = {"user_id": [1, 1, 2, 2, 3], "film": ["a", "b", "b", "c", "a"]}
PEOPLE = {"user_id": [3, 1, 9], "age": [30, None, 50], "job": ["cook", "cook|clerk", "smith"]}
PEOPLE |= {"about": ["x y", "", "z"]}
READ = {"user_labels": ["job"], "user_numbers": ["age"], "user_texts": ["about"]}


def dataset(**changes):
    return coldray.load_dataset(CLICKS, users={**PEOPLE, **changes}, item="film", **READ)


def labels_of(attribute, row):
    return set(attribute.labels[attribute.matrix[[row]].indices].tolist())


def test_profiles_are_of_the_users_by_their_ids():
    data = dataset()
    job, age, about = (data.user_attributes[name] for name in ("job", "age", "about"))
    assert [labels_of(job, row) for row in range(3)] == [{"cook", "clerk"}, set(), {"cook"}]
    np.testing.assert_array_equal(age.values, [np.nan, np.nan, 30])
    assert about.texts == ("", "", "x y")
    assert "1 of 3 users have no row" in data.notes[0]
    assert "1 of 3 rows are left out" in data.notes[0]
    assert "user attribute age" in dict(data.facts)
    assert "users: job (2 labels), age (number), about (text)" in repr(data)


IDS = st.lists(st.integers(0, 30), min_size=1, unique=True)
AGES = {"item": "film", "user_numbers": ["age"]}


def tables(users, rows):
    """Return clicks of some users, and a table with the ages of some people."""
    ages = {"user_id": rows, "age": [float(100 + row) for row in rows]}
    return {"user_id": users, "film": ["a"] * len(users)}, ages


@given(IDS, IDS, st.integers(0, 30))
def test_every_user_has_their_own_row_or_none(users, rows, both):
    users, rows = sorted({*users, both}), [both, *(row for row in rows if row != both)]
    clicks, ages = tables(users, rows)
    data = coldray.load_dataset(clicks, users=ages, **AGES)
    common = set(users) & set(rows)
    expected = [100.0 + user if user in common else np.nan for user in users]
    np.testing.assert_array_equal(data.user_attributes["age"].values, expected)
    assert f"{len(users) - len(common)} of {len(users)} users have no row" in data.notes[0]
    assert f"{len(rows) - len(common)} of {len(rows)} rows are left out" in data.notes[0]


@given(IDS, IDS)
def test_tables_with_no_user_in_common_are_refused(users, rows):
    clicks, ages = tables(users, [100 + row for row in rows])
    with pytest.raises(UnmatchedUsersError, match="no user in common"):
        coldray.load_dataset(clicks, users=ages, **AGES)


def test_ids_that_are_written_otherwise_are_named():
    clicks = {"user_id": ["ann", "bob"], "film": ["a", "b"]}
    with pytest.raises(UnmatchedUsersError, match=r"'ann' is 'Ann' there.*whatever their case"):
        coldray.load_dataset(clicks, users={"user_id": ["Ann"], "age": [3]}, item="film", user_numbers=["age"])


@pytest.mark.parametrize("form", ["{:03d}", "+{}", "{}.0"])
def test_a_text_that_is_written_otherwise_than_a_number_is_not_that_user(form):
    clicks = {"user_id": [1, 2, 3], "film": ["a", "b", "a"]}
    texts = [form.format(user) for user in (1, 2, 3)]
    people = {"user_id": [*texts, "2"], "age": [10.0, 20.0, 30.0, 2.0]}
    data = coldray.load_dataset(clicks, users=people, item="film", user_numbers=["age"])
    np.testing.assert_array_equal(data.user_attributes["age"].values, [np.nan, 2, np.nan])
    assert "2 of 3 users have no row" in data.notes[0]
    with pytest.raises(UnmatchedUsersError, match="no user in common"):
        coldray.load_dataset(
            clicks, users={"user_id": texts, "age": [1.0, 2.0, 3.0]}, item="film", user_numbers=["age"]
        )


def test_numbers_as_text_in_one_table_are_the_same_ids(tmp_path):
    pl.DataFrame(CLICKS).write_csv(tmp_path / "clicks.csv")
    pl.DataFrame({"user_id": ["1", "x", "3"], "age": [1.0, 2.0, 3.0]}).write_parquet(tmp_path / "people.parquet")
    read = {"item": "film", "user_numbers": ["age"]}
    data = coldray.load_dataset(tmp_path / "clicks.csv", users=tmp_path / "people.parquet", **read)
    np.testing.assert_array_equal(data.user_attributes["age"].values, [1, np.nan, 3])
    assert data.user_ids.dtype.kind == "i"


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"user_id": [1, 1, 3]}, DataFormatError, "1 repeated rows"),
        ({"user_id": [1, None, 3]}, DataFormatError, "have no id"),
        ({"age": ["old", "1", "2"]}, DataFormatError, "'age'"),
        ({name: [] for name in PEOPLE}, (EmptyDatasetError, DataFormatError), "users"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(changes, error, words):
    with pytest.raises(error, match=words):
        dataset(**changes)


def test_columns_without_a_table_and_tables_of_two_kinds_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="no users table"):
        coldray.load_dataset(CLICKS, item="film", user_numbers=["age"])
    with pytest.raises(ConfigError, match="'users' describes data of your own"):
        coldray.load_dataset("sample", users=PEOPLE)
    with pytest.raises(ConfigError, match="both files, or both frames"):
        coldray.load_dataset(CLICKS, users=tmp_path / "people.csv", item="film", user_numbers=["age"])


def test_they_go_with_their_users_through_filters_and_splits():
    many = {"user_id": np.repeat(np.arange(40), 5).tolist(), "film": (np.arange(200) % 17).tolist()}
    ages = {"user_id": list(range(40)), "age": [float(user) for user in range(40)]}
    data = coldray.load_dataset(many, users=ages, item="film", user_numbers=["age"])
    kept = apply_filters(data, FilterConfig(min_item_interactions=12))
    for part in (kept, *(split.for_tuning().fold.dataset for split in warming_splits(data, protocol="user-cold"))):
        np.testing.assert_array_equal(part.user_attributes["age"].values, part.user_ids)
        assert 0 < part.n_users < 40 or part is kept


def test_a_label_that_only_test_users_have_is_not_seen_by_the_tuning():
    many = {"user_id": np.repeat(np.arange(40), 5).tolist(), "film": (np.arange(200) % 17).tolist()}
    names = {"user_id": list(range(40)), "name": [f"n{user}" for user in range(40)]}
    data = coldray.load_dataset(many, users=names, item="film", user_labels=["name"])
    (split,) = warming_splits(data, protocol="user-cold")
    seen = split.for_tuning().fold.dataset
    assert set(seen.user_attributes["name"].labels) == {f"n{user}" for user in seen.user_ids}


def test_the_fingerprint_is_of_users_as_well():
    data = dataset()
    assert data.fingerprint != dataset(age=[31, None, 50]).fingerprint
    bare = coldray.load_dataset(CLICKS, item="film")
    assert data.fingerprint != bare.fingerprint


def test_the_transposed_dataset_transposed_is_the_dataset():
    data = dataset()
    again = data.of_users.of_users
    assert again.fingerprint == data.fingerprint
    assert data.of_users.default_attributes == ("job", "age", "about")


def test_attributes_of_other_users_are_refused():
    data = dataset()
    with pytest.raises(DataFormatError, match="describes 2 users, not 3"):
        Dataset(
            "d", data.user_ids, data.item_ids, data.interactions, {},
            user_attributes={"age": NumberAttribute(np.zeros(2))},
        )  # fmt: skip


def test_one_that_tells_nobody_apart_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        data = dataset(job=["cook", "cook", "cook"], user_id=[1, 2, 3])
    assert list(uninformative_attributes(data)) == ["Attribute 'job' tells no users apart: all have the same labels."]


def test_movielens_knows_its_users(tmp_path):
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    (folder / "u.data").write_text("1\t1\t5\t10\n2\t1\t4\t11\n")
    (folder / "u.item").write_text("1|One (1990)|01-Jan-1990||url|1\n")
    (folder / "u.genre").write_text("Drama|0\n")
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|v5a2b\n3|23|M|writer|32067\n")
    data = coldray.load_dataset("ml-100k", data_dir=folder)
    np.testing.assert_array_equal(data.user_attributes["age"].values, [24, 53])
    assert labels_of(data.user_attributes["zip_area"], 1) == {"V"}
    assert labels_of(data.user_attributes["occupation"], 0) == {"technician"}
    assert any("1 of 3 rows are left out" in note for note in data.notes)
    (folder / "u.user").write_text("1|old|M|technician|85711\n")
    with pytest.raises(DataFormatError, match=r"u\.user"):
        coldray.load_dataset("ml-100k", data_dir=folder)


def test_paths_are_taken_from_the_folder_of_the_file_that_names_them(tmp_path):
    source = SourceConfig(name="csv", tabular={"interactions": "a.csv", "users": "b.csv"})
    assert source.below(tmp_path).tabular.users == tmp_path / "b.csv"
    assert source.below(tmp_path).tabular.items is None
