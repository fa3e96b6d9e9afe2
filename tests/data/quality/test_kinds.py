"""Kinds of events and what a rule of positives takes, counted interaction by interaction."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coldray.data.quality.facts import ALL, data_quality
from coldray.data.splits.assignment import drawn_parts
from coldray.data.splits.positives import Positives
from data.planted_split import planted_split, with_kinds

KINDS = {"buy": 5.0, "cart": 0.1, "save": 0.1, "view": 0.05}
ENTRY = st.tuples(st.integers(0, 4), st.integers(0, 5), st.sampled_from([5.0, 0.1, 0.05]), st.integers(0, 2))


@given(st.lists(ENTRY, min_size=1, max_size=30, unique_by=lambda entry: entry[:2]))
def test_interactions_of_each_kind_are_what_counting_gives(entries):
    rows = [(f"u{user}", f"i{item}", weight, 0, part) for user, item, weight, part in entries]
    read = {"buy": 4, "cart": 3, "save": 2, "view": 1}
    quality = data_quality(with_kinds(planted_split(rows), KINDS, read))
    kinds = quality.kinds
    assert kinds.names == ("buy", "cart, save", "view")
    assert kinds.read == (4, 5, 1)
    for number, name in ((None, ALL), (0, "train"), (1, "validation"), (2, "test")):
        found = Counter(row[2] for row in rows if number is None or row[4] == number)
        assert quality.part(name).events == (found[5.0], found[0.1], found[0.05])
    of_users = {user: [row[2] for row in rows if row[0] == user] for user, *_ in rows}
    assert kinds.users == len(of_users)
    assert kinds.weakest_users == sum(max(weights) == 0.05 for weights in of_users.values())


def test_kinds_that_the_data_do_not_name_go_by_their_weights():
    rows = [("a", "x", 2.0, 0, 0), ("a", "y", 0.5, 0, 0), ("b", "x", 0.5, 0, 2)]
    kinds = data_quality(with_kinds(planted_split(rows))).kinds
    assert (kinds.names, kinds.read, kinds.weakest_users) == (("weight 2", "weight 0.5"), None, 1)


def test_data_of_one_kind_have_no_kinds_and_without_a_rule_nothing_is_taken():
    quality = data_quality(planted_split([("a", "x", 2.0, 0, 0)]))
    assert quality.kinds is quality.part(ALL).events is quality.part(ALL).positives is None


def test_one_kind_alone_is_not_the_weakest():
    assert data_quality(with_kinds(planted_split([("a", "x", 2.0, 0, 0)]), {"buy": 2.0})).kinds.weakest_users == 0


@given(st.lists(ENTRY, min_size=1, max_size=30, unique_by=lambda entry: entry[:2]), st.sampled_from([">=0.1", "<1"]))
def test_what_a_rule_takes_is_what_counting_gives(entries, rule):
    rows = [(f"u{user}", f"i{item}", weight, 0, part) for user, item, weight, part in entries]
    split = planted_split([*rows, ("z", "z", 0.1, 0, 0)])
    quality = data_quality(split, positives=Positives(rating=rule).holding(split.dataset))
    for number, name in ((0, "train"), (1, "validation"), (2, "test")):
        taken = [row for row in rows if row[4] == number and (row[2] >= 0.1 if rule == ">=0.1" else row[2] < 1)]
        expected = (len(taken) + (number == 0), len({row[0] for row in taken}) + (number == 0))
        found = quality.part(name).positives
        assert (found.interactions, found.users) == expected


def test_of_some_users_the_pairs_that_are_left_are_counted_and_all_the_events_that_were_read(real_data):
    from coldray.data.sources.taobao import read_taobao

    data = read_taobao(real_data("taobao-cart-buy")).dataset
    few = data.take_users(np.arange(500))
    quality = data_quality(drawn_parts(few, "holdout"))
    kinds = quality.kinds
    assert dict(zip(kinds.names, kinds.read, strict=True)) == data.provenance["events"]["read"]
    assert sum(quality.part(ALL).events) == few.interactions.nnz
    own = [few.events[[user]].data for user in range(500)]
    assert kinds.weakest_users == sum(set(weights) == {1.0} for weights in own)


def test_a_rule_and_kinds_do_not_change_other_facts():
    rows = [("a", "x", 2.0, 0, 0), ("a", "y", 0.5, 0, 1), ("b", "x", 0.5, 0, 2)]
    split = planted_split(rows)
    plain = data_quality(split)
    ruled = data_quality(split, positives=np.array([True, False, True]))
    assert [replace(part, positives=None) for part in ruled.parts] == list(plain.parts)
