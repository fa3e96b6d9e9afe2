"""Facts of datasets whose answers are known, and the same facts counted interaction by interaction."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.quality.facts import ALL, _alike_ids, data_quality
from coldray.data.splits.assignment import drawn_parts, published_parts
from data.planted_split import DAY, NOON, planted_split

TRAIN, VALIDATION, TEST, GIVEN = 0, 1, 2, 4
# user, item, rating, days after noon, part
ROWS = [
    ("a", "x", 4.0, 0, TRAIN),
    ("a", "y", 2.0, 3, TRAIN),
    ("a", "z", 5.0, 1, TEST),  # earlier than y, and z has no train interaction
    ("b", "x", 1.0, 2, TRAIN),
    ("b", "y", 9.0, 2, VALIDATION),  # at the time of x, and earlier than a train interaction of a
    ("c", "x", 3.0, 9, TEST),  # nothing is known of c
    ("c", "w", 3.0, 9, TEST),
]


@pytest.fixture
def quality():
    return data_quality(planted_split(ROWS), scale=(1.0, 5.0))


def test_the_sizes_of_each_part_and_its_own_density(quality):
    sizes = {part.name: (part.interactions, part.users, part.items) for part in quality.parts}
    assert sizes == {ALL: (7, 3, 4), "train": (3, 2, 2), "validation": (1, 1, 1), "test": (3, 2, 3)}
    assert quality.part("train").density == 3 / 4
    assert quality.part(ALL).density == 7 / 12
    assert quality.part(ALL).sparsity == pytest.approx(5 / 12)
    assert quality.held_out == 4


def test_what_is_unseen_in_train_is_counted_with_its_interactions(quality):
    test = quality.part("test")
    assert (test.unseen_users, test.of_unseen_users) == (1, 2)
    assert (test.unseen_items, test.of_unseen_items) == (2, 2)
    train, validation = quality.part("train"), quality.part("validation")
    assert train.unseen_users == train.unseen_items == validation.unseen_users == validation.unseen_items == 0


def test_the_ratings_of_each_part_and_those_outside_the_scale(quality):
    assert quality.levels.values.tolist() == [1, 2, 3, 4, 5, 9]
    train = quality.part("train").ratings
    assert (train.lowest, train.highest, train.counts) == (1, 4, (1, 1, 0, 1, 0, 0))
    assert train.mean == pytest.approx(7 / 3)
    assert train.std == pytest.approx(np.std([4, 2, 1]))
    assert quality.part(ALL).ratings.counts == (1, 1, 2, 1, 1, 1)
    assert quality.outside_scale == 1
    assert data_quality(planted_split(ROWS), scale=(2.0, 9.0)).outside_scale == 1
    assert data_quality(planted_split(ROWS)).outside_scale is None


def test_the_order_of_times(quality):
    times = quality.times
    assert (times.within_user, times.across_users, times.tied, times.implausible) == (1, 2, 1, 0)
    # b has both interactions at one time, and so has c; a has not.
    assert (times.one_time_users, times.users) == (2, 3)
    assert (quality.part("test").first, quality.part("test").last) == (NOON + DAY, NOON + 9 * DAY)


def test_times_that_were_no_clicks_are_counted():
    rows = [("a", "x", 1.0, -NOON / DAY, 0), ("a", "y", 1.0, 40_000, 2), ("a", "z", 1.0, 0, 0)]
    assert data_quality(planted_split(rows)).times.implausible == 2


def test_what_is_given_of_a_tested_user_makes_him_known_but_not_the_items():
    rows = [*ROWS, ("c", "v", 2.0, 1, GIVEN)]
    quality = data_quality(planted_split(rows))
    assert quality.part("test").unseen_users == 0
    assert quality.part("test").unseen_items == 2
    assert quality.part("given for test").unseen_items == 1
    assert [part.name for part in quality.parts] == [ALL, "train", "validation", "test", "given for test"]


def test_data_without_ratings_or_times_and_an_empty_part_have_none():
    quality = data_quality(
        planted_split([row for row in ROWS if row[4] != VALIDATION], ratings=False, times=False), (1, 5)
    )
    assert quality.levels is quality.outside_scale is quality.times is quality.timeline is None
    empty = quality.part("validation")
    assert (empty.interactions, empty.density, empty.ratings, empty.first) == (0, 0.0, None, None)
    assert quality.part(ALL).ratings is None


def test_pairs_in_two_parts_and_repeated_ones_are_told_apart():
    rows = [*ROWS, ("a", "x", 1.0, 5, TEST), ("a", "x", 2.0, 6, TEST), ("b", "x", 2.0, 7, TRAIN)]
    quality = data_quality(planted_split(rows, unsorted=True))
    assert (quality.pairs_in_two_parts, quality.repeated_pairs) == (1, 3)
    later_first = data_quality(planted_split([("b", "x", 2.0, 7, TEST), *ROWS], unsorted=True))
    assert (later_first.pairs_in_two_parts, later_first.repeated_pairs) == (1, 1)
    assert data_quality(planted_split(ROWS, unsorted=True)).pairs_in_two_parts == 0
    clean = data_quality(planted_split(ROWS))
    assert (clean.pairs_in_two_parts, clean.repeated_pairs) == (0, 0)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["007", "7", "8", "x"], 2),
        (["Ann", "ann ", " ANN", "bob"], 3),
        (["0", "00", "a0", "a00"], 2),
        (["a", "b"], 0),
    ],
)
def test_ids_that_are_likely_the_same(ids, expected):
    assert _alike_ids(np.array(sorted(ids))) == expected


def test_numbers_are_never_alike():
    assert _alike_ids(np.array([7, 70, 700])) == 0


ENTRY = st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(1, 10), st.integers(0, 6), st.integers(0, 5))


@given(st.lists(ENTRY, min_size=1, max_size=40, unique_by=lambda entry: entry[:2]))
def test_every_fact_is_what_counting_one_by_one_gives(entries):
    rows = [(f"u{user}", f"i{item}", rating / 2, day, part) for user, item, rating, day, part in entries]
    quality = data_quality(planted_split(rows), scale=(1.0, 4.0))
    known_users = {row[0] for row in rows if row[4] in (0, 3, 4)}
    known_items = {row[1] for row in rows if row[4] == 0}
    names = ["train", "validation", "test", "given for validation", "given for test", "unused"]
    for part in quality.parts:
        members = [row for row in rows if part.name == ALL or names[row[4]] == part.name]
        assert part.interactions == len(members)
        assert part.users == len({row[0] for row in members})
        assert part.items == len({row[1] for row in members})
        assert part.unseen_users == len({row[0] for row in members} - known_users)
        assert part.unseen_items == len({row[1] for row in members} - known_items)
        assert part.of_unseen_users == sum(row[0] not in known_users for row in members)
        assert part.of_unseen_items == sum(row[1] not in known_items for row in members)
        if members:
            counts = Counter(row[2] for row in members)
            assert part.ratings.counts == tuple(counts[value] for value in quality.levels.values.tolist())
    assert sum(part.interactions for part in quality.parts[1:]) == len(rows)
    assert quality.outside_scale == sum(not 1 <= row[2] <= 4 for row in rows)
    check_times(quality.times, rows)


def check_times(times, rows):
    days, of_user = defaultdict(list), defaultdict(list)
    for user, _, _, day, part in rows:
        of_user[user].append(day)
        if part in (0, 3, 4):
            days[user].append(day)
    held_out = [row for row in rows if row[4] in (1, 2)]
    everybody = [day for found in days.values() for day in found]
    assert times.within_user == sum(any(row[3] < day for day in days[row[0]]) for row in held_out)
    assert times.across_users == sum(any(row[3] < day for day in everybody) for row in held_out)
    assert times.tied == sum(row[3] == max(days[row[0]], default=None) for row in held_out)
    several = [found for found in of_user.values() if len(found) > 1]
    assert (times.users, times.one_time_users) == (len(several), sum(len(set(found)) == 1 for found in several))


def test_a_drawn_split_by_time_has_no_leak_and_a_random_one_has(real_data):
    from coldray.data.sources.movielens import read_movielens, read_movielens_split

    folder = real_data("ml-100k")
    dataset = read_movielens(folder)
    last = data_quality(drawn_parts(dataset))
    assert last.times.within_user == 0
    assert data_quality(drawn_parts(dataset, "temporal")).times.across_users == 0
    assert data_quality(drawn_parts(dataset, "holdout")).times.within_user > 30_000
    published = read_movielens_split(folder, "u1")
    quality = data_quality(published_parts(published), scale=(1, 5))
    leaks = published.time_leaks()
    assert (quality.times.within_user, quality.times.across_users) == (leaks.within_user, leaks.across_users)
    assert quality.part("test").unseen_items == published.counts()["items_without_train"] == 32
    assert (quality.part("train").interactions, quality.part("test").interactions) == (80_000, 20_000)
    assert quality.outside_scale == 0
