"""How a table of items fits the clicks: counted by a plain loop, refused, warned about, and the cause found."""

import logging

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import UnmatchedItemsError
from coldray.data.catalogue import _ALL_WAYS, _FEW, _WAYS, Catalogue, match_items

IDS = ["1", "2", "3", "01", "1.0", " 1", "a", "A", "b", "c", "d"]
CLICKS = st.lists(st.sampled_from(IDS), min_size=1)


def matched(clicks, rows):
    """Match the item of each click with the ids of the rows."""
    counted = pl.DataFrame({"item": pl.Series(clicks)}).group_by("item").len("clicks")
    return match_items(counted, Catalogue(pl.Series(rows), "items.csv"), "clicks.csv")


@given(CLICKS, st.lists(st.sampled_from(IDS), unique=True), st.data())
def test_the_counts_are_those_of_a_loop(clicks, rows, data):
    if rows:
        rows = list({*rows, data.draw(st.sampled_from(clicks))})
    match = matched(clicks, pl.Series(rows, dtype=pl.String))
    assert match.rows == len(rows)
    assert match.rows_without_clicks == sum(row not in clicks for row in rows)
    assert match.clicked_items == len(set(clicks))
    assert match.clicked_items_without_row == sum(item not in rows for item in set(clicks))
    assert match.clicks == len(clicks)
    assert match.clicks_without_row == sum(item not in rows for item in clicks)
    known_items, known_clicks = len(set(clicks) & set(rows)), sum(item in rows for item in clicks)
    assert match.few == (known_items < _FEW * len(set(clicks)) or known_clicks < _FEW * len(clicks))


@given(st.permutations(IDS), st.data())
def test_a_table_without_a_clicked_item_is_refused(ids, data):
    clicks, rows = (data.draw(st.lists(st.sampled_from(half), min_size=1)) for half in (ids[:5], ids[5:]))
    with pytest.raises(UnmatchedItemsError, match="no item in common"):
        matched(clicks, list(set(rows)))


SPELLINGS = {
    "without the blanks around them": lambda number: f" {number} ",
    "without leading zeros": lambda number: f"{number:04d}",
    "without '.0' at their end": lambda number: f"{number}.0",
    "whatever their case": lambda number: f"Movie{number}",
    "in the composed form of Unicode (NFC)": lambda number: f"cafe\u0301 {number}",
    _ALL_WAYS: lambda number: f" {number:04d}.0",
}
PLAIN = {"whatever their case": "movie{}", "in the composed form of Unicode (NFC)": "caf\u00e9 {}"}


@pytest.mark.parametrize("way", [*_WAYS, _ALL_WAYS])
def test_ids_that_are_written_otherwise_are_refused_with_two_of_each_side_and_the_cause(way):
    spelt = SPELLINGS[way]
    plain = [PLAIN.get(way, "{}").format(number) for number in range(1, 6)]
    with pytest.raises(UnmatchedItemsError) as caught:
        matched(plain, [spelt(number) for number in range(2, 9)])
    message = str(caught.value)
    assert "items.csv and clicks.csv have no item in common: none of 7 rows is of one of 5 clicked items" in message
    assert f"Ids are {spelt(2)!r} and {spelt(3)!r} there and {plain[0]!r} and {plain[1]!r} in clicks.csv" in message
    assert (
        f"4 of the 5 items without a row have one but for how ids are written: {plain[1]!r} is {spelt(2)!r}" in message
    )
    assert f"They are the same {way}" in message


def test_ids_of_other_things_are_refused_without_a_cause():
    with pytest.raises(UnmatchedItemsError, match="Name the columns with the ids of the items, or leave the table out"):
        matched(["a", "b"], ["x", "y", "z"])


def test_numbers_are_shown_as_numbers():
    with pytest.raises(UnmatchedItemsError, match="Ids are 7 and 8 there and 1 and 2 in"):
        matched([1, 2, 3], [7, 8, 9])


def test_little_that_matches_is_told_and_enough_is_not(caplog):
    clicks = [f"item-{number:02d}" for number in range(20)]
    with caplog.at_level(logging.WARNING):
        assert not matched(clicks, clicks[:2]).suspicious
        assert not caplog.records
        assert matched(clicks, [*clicks[:1], "x", "y", "z"]).few
    assert "19 of 20 clicked items, with 19 of 20 clicks, have no row, and 3 of 4 rows" in caplog.text
    assert "Without a row are 'item-01' and 'item-02', without a click 'x' and 'y'" in caplog.text


def test_items_with_few_of_the_clicks_are_told_too():
    assert matched(["hit"] * 95 + ["a", "b", "c", "d", "e"], ["a", "b", "c", "d", "e"]).few


def test_a_single_id_that_is_written_otherwise_is_told_where_all_others_match(caplog):
    with caplog.at_level(logging.WARNING):
        match = matched(["a", "b", "c", "7"], ["a", "b", "c", "07", "d"])
    assert not match.few
    assert match.suspicious
    assert "'7' is '07' there. They are the same without leading zeros" in caplog.text


def test_a_table_without_rows_is_no_mistake_in_ids():
    assert matched(["a"], pl.Series([], dtype=pl.String)).rows == 0
