"""Columns of users and items that look swapped, by ids, by names, and by numbers."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.sources.tabular import TabularConfig, read_tabular
from coldray.data.tables.swapped import _MANY_ITEMS, SWAPPED, swapped_note

USERS = ["u{}", "user-{}", "User {}", "customer_{}", "A{}XYZXYZXYZ0"]
ITEMS = ["i{}", "item-{:04}", "film {}", "SKU-{}-X", "B{:09}", "{:09}X"]


def pairs(user, item, n_users=6, n_items=4):
    rows = [(user.format(u), item.format(i)) for u in range(n_users) for i in range(n_items)]
    return pl.DataFrame(rows, schema=["user", "item"], orient="row")


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("item", ITEMS)
def test_ids_tell_users_from_items_whatever_their_numbers(user, item):
    assert swapped_note(pairs(user, item, 2, 40), "clicks.csv") is None
    note = swapped_note(pairs(item, user, 40, 2), "clicks.csv")
    assert note.startswith(f"clicks.csv: 40 users, such as {item.format(0)!r}, have 2 items, such as")


@given(st.integers(1, 30), st.integers(1, 300))
def test_where_ids_do_not_tell_their_numbers_do(n_users, n_items):
    found = pl.DataFrame({"user": [n % n_users for n in range(300)], "item": [n % n_items for n in range(300)]})
    assert (swapped_note(found, "clicks.csv") is not None) == (n_items >= _MANY_ITEMS * n_users)


def test_names_tell_where_ids_do_not():
    numbers = pairs("{}", "{}")
    assert swapped_note(numbers, "clicks.csv", ("user_id", "item_id")) is None
    assert "look swapped" in swapped_note(numbers, "clicks.csv", ("movieId", "userId"))
    assert swapped_note(pairs("u{}", "i{}"), "clicks.csv", ("movieId", "userId")) is None
    assert swapped_note(numbers.clear(), "clicks.csv") is None


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_with_a_header_over_swapped_columns_is_told(tmp_path, kind, caplog):
    path = tmp_path / f"clicks.{kind}"
    table = pairs("{}", "{}", 50, 3).rename({"user": "item_id", "item": "user_id"})
    getattr(table, f"write_{kind}")(path)
    dataset = read_tabular(TabularConfig(interactions=path), "csv")
    assert dataset.provenance[SWAPPED] in dataset.notes
    assert dataset.provenance[SWAPPED] in caplog.text
    right = read_tabular(TabularConfig(interactions=path, user_column="item_id", item_column="user_id"), "csv")
    assert "look swapped" in right.notes[0]  # by the names in the file
