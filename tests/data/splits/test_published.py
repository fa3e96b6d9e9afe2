"""Splits given by the data: each interaction in its part, no pair in two, and what leaks is counted."""

import logging

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.dataset import rows_of
from coldray.data.splits.parts import PART_WORDS
from coldray.data.splits.parts import TEST as TEST_PART
from coldray.data.splits.parts import VALIDATION as VALIDATION_PART
from coldray.data.splits.published import PARTS, PredefinedSplit, _TimeLeaks, assemble_split

TRAIN = [("b", 3, 4.0, 100), ("a", 7, 0.0, 50), ("a", 3, 2.0, 60)]
VALIDATION = [("b", 7, 5.0, 110)]
TEST = [("a", 9, 1.0, 55), ("c", 3, 3.0, 200)]


def test_published_parts_have_the_numbers_of_drawn_ones():
    assert PART_WORDS[:3] == PARTS


def table(rows, columns=("user", "item", "rating", "timestamp")):
    types = {"user": pl.String, "item": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    return pl.DataFrame(
        [row[: len(columns)] for row in rows], schema={column: types[column] for column in columns}, orient="row"
    )


def build(train=TRAIN, validation=VALIDATION, test=TEST, columns=("user", "item", "rating", "timestamp")):
    parts = {part: table(rows, columns) for part, rows in zip(PARTS, (train, validation, test), strict=True)}
    return assemble_split(
        parts, lambda _: {}, name="data", split="fold", file="files", default_attributes=(), provenance={}
    )


def cells(matrix, dataset):
    rows = np.repeat(np.arange(dataset.n_users), np.diff(matrix.indptr))
    return {
        (str(dataset.user_ids[row]), int(dataset.item_ids[column])): value
        for row, column, value in zip(rows, matrix.indices, matrix.data.tolist(), strict=True)
    }


def test_every_part_has_its_clicks_ratings_and_times_on_the_same_vocabularies():
    split = build()
    assert split.dataset.user_ids.tolist() == ["a", "b", "c"]
    assert split.dataset.item_ids.tolist() == [3, 7, 9]
    for part, rows in zip(PARTS, (TRAIN, VALIDATION, TEST), strict=True):
        clicks = getattr(split, part)
        assert clicks.shape == (3, 3)
        assert clicks.dtype == np.float32
        assert cells(clicks, split.dataset) == {(user, item): 1.0 for user, item, _, _ in rows}
        # The rating of 0 is a value too.
        assert cells(split.ratings(part), split.dataset) == {(user, item): rating for user, item, rating, _ in rows}
        assert cells(split.timestamps(part), split.dataset) == {(user, item): time for user, item, _, time in rows}


def test_the_counts_name_users_and_items_without_train():
    split = build()
    expected = {
        "train_interactions": 3,
        "validation_interactions": 1,
        "test_interactions": 2,
        "users_without_train": 1,
        "items_without_train": 1,
    }
    assert split.counts() == expected
    noted = split.dataset.provenance["split"]
    assert noted == {"name": "fold", **expected, "time_leaks": {"within_user": 1, "across_users": 1}}


def test_held_out_interactions_before_train_ones_are_counted():
    assert build().time_leaks() == _TimeLeaks(within_user=1, across_users=1)
    later = [(user, item, rating, time + 1000) for user, item, rating, time in TEST]
    assert build(test=later).time_leaks() == _TimeLeaks(within_user=0, across_users=0)
    # At the same time is not earlier; b's history ends at 100, a's at 60.
    assert build(validation=[("a", 9, 1.0, 60)], test=[("b", 9, 1.0, 100)]).time_leaks() == _TimeLeaks(0, 1)


def test_each_flaw_is_warned_of_once_with_its_count(caplog):
    with caplog.at_level(logging.WARNING):
        build()
    assert [record.getMessage().split(": ")[1].split(" ")[:2] for record in caplog.records] == [
        ["1", "users"], ["1", "items"], ["1", "held-out"],
    ]  # fmt: skip


def test_a_sound_split_is_not_warned_of(caplog):
    with caplog.at_level(logging.WARNING):
        build(validation=[("a", 9, 1.0, 101)], test=[("b", 9, 1.0, 102)], train=[*TRAIN, ("c", 9, 1.0, 100)])
    assert caplog.records == []


def test_without_times_and_ratings_there_are_clicks_alone():
    split = build(columns=("user", "item"))
    assert split.time_leaks() is None
    assert split.dataset.provenance["split"]["time_leaks"] is None
    assert split.train.nnz == 3
    with pytest.raises(ConfigError, match="'data' has no ratings"):
        split.ratings("train")
    with pytest.raises(ConfigError, match="no timestamps"):
        split.timestamps("test")


def test_a_pair_in_two_parts_is_refused_with_count_and_first():
    with pytest.raises(LeakageError, match=r"files: 2 .* pairs are in two parts.*'a' and item 3, is in train and te"):
        build(test=[("b", 3, 1.0, 1), ("a", 3, 1.0, 1)])


def test_a_pair_twice_in_one_part_is_refused_as_repeated():
    with pytest.raises(DataFormatError, match=r"files has 1 repeated rows; the first is of user 'b', item 3"):
        build(train=[*TRAIN, ("b", 3, 1.0, 1)])


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_part_is_refused_but_for_validation(part):
    with pytest.raises(EmptyDatasetError, match=f"the {part} part has no interaction"):
        build(**{part: []})
    assert build(validation=[]).validation.nnz == 0


@pytest.mark.parametrize("parts", [[0, 1, 2], [0, 0, 0, 1, 2, 3]])
def test_parts_that_do_not_fit_the_interactions_are_refused(parts):
    with pytest.raises(DataFormatError, match="do not put each of 6 interactions in one of 3 parts"):
        PredefinedSplit(build().dataset, np.array(parts, np.uint8), "x")


@given(
    st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.tuples(st.integers(0, 2), st.integers(0, 9)))
)
def test_the_parts_divide_the_interactions_and_leaks_are_those_of_a_plain_count(cells_of):
    cells_of = {(0, 0): (0, 5), (3, 0): (2, 5), **cells_of}
    rows = {part: [(str(u), i, 1.0, t) for (u, i), (p, t) in cells_of.items() if p == part] for part in range(3)}
    assume(rows[0] and rows[2])
    split = build(rows[0], rows[1], rows[2])
    for part, name in enumerate(PARTS):
        assert cells(split.timestamps(name), split.dataset) == {(u, i): t for u, i, _, t in rows[part]}
    held_out = rows[1] + rows[2]
    within = sum(any(u == user and t > time for u, _, _, t in rows[0]) for user, _, _, time in held_out)
    across = sum(any(t > time for _, _, _, t in rows[0]) for _, _, _, time in held_out)
    assert split.time_leaks() == _TimeLeaks(within, across)


# ---- what a study takes


def test_published_parts_are_those_of_the_study():
    split = build()
    studied = split.for_study(validation_share=0.5, seed=1)
    fold = studied.for_tuning().fold
    assert cells(fold.train, fold.dataset).keys() == cells(split.train, split.dataset).keys()
    assert cells(fold.held_out, fold.dataset).keys() == cells(split.validation, split.dataset).keys()
    assert cells(studied.test_fold.held_out, split.dataset) == cells(split.test, split.dataset)
    assert studied.protocol == "predefined"


@given(st.integers(0, 10**6), st.floats(0.05, 0.95))
def test_without_a_published_validation_part_one_is_drawn_from_each_users_train_part(seed, share):
    generator = np.random.default_rng(seed)
    cells_of = generator.permutation(np.flatnonzero(generator.random((9, 12)) < 0.6))
    rows = [(f"user {cell // 12}", int(cell % 12), 3.0, int(cell)) for cell in cells_of]
    published = build(train=rows[3:], validation=[], test=rows[:3])
    split = published.for_study(validation_share=share, seed=seed)
    users = rows_of(split.dataset.interactions)
    assert np.array_equal(split.parts == TEST_PART, published.parts == PARTS.index("test"))
    of_train = np.bincount(users[published.parts == PARTS.index("train")], minlength=split.dataset.n_users)
    drawn = np.bincount(users[split.parts == VALIDATION_PART], minlength=split.dataset.n_users)
    expected = np.minimum(np.maximum(np.floor(share * of_train + 0.5), 1), np.maximum(of_train - 1, 0))
    assert drawn.tolist() == expected.tolist()
    again, other = (published.for_study(validation_share=share, seed=number).parts for number in (seed, seed + 1))
    assert np.array_equal(again, split.parts)
    assert np.array_equal(np.bincount(other), np.bincount(split.parts))


def test_a_split_whose_users_have_one_train_interaction_each_has_none_to_draw():
    published = build(train=[("a", 3, 1.0, 1), ("b", 7, 1.0, 1)], validation=[], test=[("a", 9, 1.0, 2)])
    with pytest.raises(EmptyDatasetError, match="the validation part has no interaction"):
        published.for_study(validation_share=0.2, seed=0)
