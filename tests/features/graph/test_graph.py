"""Features of the graph as of a moment: by walks and clicks looked at one by one, and planted communities."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core import memory
from coldray.core.errors import CatalogTooLargeError
from coldray.features.graph import item_graph, measures
from coldray.features.graph.item_graph import GRAPH_WORDS, ItemGraph
from coldray.features.graph.snapshots import Snapshots
from coldray.features.graph.user_ranks import UserRanks
from coldray.features.moment_words import Past
from contracts.pasts import DAY, TIMES, known, moments

N_USERS, N_ITEMS = 5, 6
SIZES = (8, 12, 18, 27)
PAIRS = st.tuples(st.integers(0, N_USERS - 1), st.integers(0, N_ITEMS - 1))


def rows_of(least, most):
    """Return a strategy for clicks, each pair once, some at the same time and some at an unknown one."""
    pairs = st.lists(PAIRS, min_size=least, max_size=most, unique=True)
    timed = TIMES | st.integers(0, 30).map(float)
    return pairs.flatmap(lambda some: st.lists(timed, min_size=len(some), max_size=len(some)).map(
        lambda times: [(*pair, time, np.nan) for pair, time in zip(some, times, strict=True)]
    ))  # fmt: skip


ROWS = rows_of(8, 28)
ASKED = st.lists(st.tuples(st.integers(-1, N_USERS), TIMES | st.integers(0, 31).map(float)), min_size=1, max_size=5)


def read_at(rows, time):
    """Return the pairs of the graph that a moment reads; None before the first."""
    if math.isnan(time):
        return [row[:2] for row in rows]
    times = sorted(row[2] for row in rows if not math.isnan(row[2]))
    ends = [times[size - 1] for size in SIZES if size <= len(times) and times[size - 1] < time]
    return [row[:2] for row in rows if row[2] <= ends[-1]] if ends else None


def walked(pairs, restart):
    """Return the chances to be at users and items of a walk, from its linear equations over all nodes."""
    nodes = sorted({("user", user) for user, _ in pairs} | {("item", item) for _, item in pairs})
    place = {node: number for number, node in enumerate(nodes)}
    goes = np.zeros((len(nodes), len(nodes)))
    for user, item in pairs:
        goes[place["user", user], place["item", item]] = goes[place["item", item], place["user", user]] = 1
    begin = np.array([float(restart(node)) for node in nodes])
    step = (goes / goes.sum(axis=1, keepdims=True)).T
    found = np.linalg.solve(np.eye(len(nodes)) - 0.85 * step, 0.15 * begin / begin.sum()) if nodes else begin
    return dict(zip(nodes, found, strict=True))


def cosine(one, other):
    return len(one & other) / math.sqrt(len(one) * len(other))


def one_by_one(rows, user, time, item):
    """Compute the features of an item but its community from clicks looked at one after the other."""
    pairs = read_at(rows, time)
    nothing = dict.fromkeys(("item_pagerank", "item_walk", "item_neighbours", "user_neighbours"), math.nan)
    by_item = {} if pairs is None else {at: {u for u, i in pairs if i == at} for _, at in pairs}
    if item not in by_item:
        return nothing
    at = walked(pairs, lambda node: 1)
    found = {**nothing, "item_pagerank": math.log(len(at) * at["item", item])}
    past = [row for row in rows if row[0] == user and (math.isnan(time) or row[2] < time) and row[1] in by_item]
    if past:
        others = [row[1] for row in past if row[1] != item]
        walks = [walked(pairs, lambda node, one=one: node == ("item", one))["item", item] for one in others]
        found["item_walk"] = math.log1p(len(by_item) * sum(walks) / len(past))
        found["item_neighbours"] = sum(cosine(by_item[one], by_item[item]) for one in others) / len(past)
        alike = set().union(*(by_item[row[1]] for row in past))
        found["user_neighbours"] = len(alike & by_item[item]) / len(alike)
    return found


def asked_values(graph, rows, asked):
    """Return features of all items, and of one that came later ``[b, I + 1, f]``."""
    at = moments(*map(list, zip(*asked, strict=True)))
    return graph.values(np.arange(N_ITEMS + 1), at.times, known(rows).items_before(at, N_ITEMS + 1))


WALKS = tuple(word for word in GRAPH_WORDS if word != "item_community")


@given(ROWS, ASKED)
@settings(max_examples=15)
def test_features_are_those_of_walks_and_clicks_looked_at_one_by_one(rows, asked):
    found = asked_values(ItemGraph.of(known(rows), N_ITEMS, WALKS), rows, asked)
    for row, (user, time) in zip(found, asked, strict=True):
        slow = [[one_by_one(rows, user, time, item)[word] for word in WALKS] for item in range(N_ITEMS + 1)]
        np.testing.assert_allclose(row, slow, rtol=1e-4, atol=1e-5)


@given(ROWS, ASKED)
@settings(max_examples=15)
def test_the_rank_of_a_user_is_that_of_the_graph_and_of_one_whom_it_lacks_what_their_clicks_pass_on(rows, asked):
    ranks, data = UserRanks.of(known(rows), N_ITEMS), known(rows)
    found = ranks.values(Past(moments(*map(list, zip(*asked, strict=True))), data))
    for value, (user, time) in zip(found, asked, strict=True):
        pairs = read_at(rows, time) or []
        at = walked(pairs, lambda node: 1)
        past = {row[1] for row in rows if row[0] == user and (math.isnan(time) or row[2] < time)}
        degree = {item: sum(other == item for _, other in pairs) for _, item in pairs}
        passed = [at["item", item] / degree[item] for item in past if item in degree]
        assert value == pytest.approx(
            math.log(0.15 + len(at) * 0.85 * sum(passed)) if passed else math.nan, abs=1e-5, nan_ok=True
        )
        if past == {item for other, item in pairs if other == user} != set():
            assert value == pytest.approx(math.log(len(at) * at["user", user]), abs=1e-5), (
                "the equation of PageRank itself"
            )


@given(ROWS, rows_of(0, 20), ASKED, st.integers(2, 30).map(float))
@settings(max_examples=15)
def test_what_comes_at_a_moment_or_later_changes_nothing(rows, others, asked, now):
    asked = [(user, np.fmin(time, now)) for user, time in asked]
    past = [row for row in rows if row[2] < now]
    there = {row[:2] for row in past}
    changed = past + [row for row in others if not row[2] < now and row[:2] not in there]
    found, same = (
        asked_values(ItemGraph.of(known(some), N_ITEMS, GRAPH_WORDS), some, asked) for some in (rows, changed)
    )
    np.testing.assert_allclose(same, found, rtol=1e-5, atol=1e-6)
    at = moments(*map(list, zip(*asked, strict=True)))
    ranks, same = (UserRanks.of(known(some), N_ITEMS).values(Past(at, known(some))) for some in (rows, changed))
    np.testing.assert_allclose(same, ranks, rtol=1e-5)


@given(ROWS, ASKED)
@settings(max_examples=10)
def test_its_arrays_keep_it_and_blocks_change_nothing(rows, asked):
    words = ("user_neighbours", "item_community", "item_walk", "item_pagerank")
    made = ItemGraph.of(known(rows), N_ITEMS, words)
    again = ItemGraph.from_state(made.state())
    assert again.words == words
    whole = asked_values(made, rows, asked)
    np.testing.assert_array_equal(asked_values(again, rows, asked), whole)
    for place, one in enumerate(asked):
        np.testing.assert_array_equal(asked_values(made, rows, [one])[0], whole[place])
    ranks = UserRanks.of(known(rows), N_ITEMS)
    at = Past(moments(*map(list, zip(*asked, strict=True))), known(rows))
    np.testing.assert_array_equal(UserRanks.from_state(ranks.state()).values(at), ranks.values(at))


@given(st.lists(TIMES | st.integers(0, 30).map(float), max_size=40), st.integers(0, 31).map(float))
def test_a_moment_lacks_a_third_of_the_clicks_before_it_at_most(times, now):
    """But for those of the second of the latest click that is read."""
    times = np.array(times, float)
    snapshots = Snapshots.of(times)
    place = int(snapshots.at(np.array([now]))[0])
    before = np.sort(times[times < now])
    if place < 0:
        assert len(before) < 8
    else:
        read = np.count_nonzero(before <= snapshots.ends[place])
        assert read >= 8
        assert len(before) - read < read / 2 + 1
    assert snapshots.at(np.array([np.nan]))[0] == len(snapshots) - 1


def planted():
    """Return clicks of 12 people on 12 items, half of each apart from the others but for one click, a minute each."""
    pairs = [(user, item) for user in range(12) for item in range(12) if user % 2 == item % 2 and (user + item) % 5]
    order = np.random.default_rng(0).permutation(len(pairs))
    rows = [(*pairs[place], 60.0 * number, np.nan) for number, place in enumerate(order.tolist())]
    return [*rows, (0, 1, 60.0 * len(rows), np.nan)]


def test_communities_are_those_that_are_planted():
    graph = ItemGraph.of(known(planted()), 12, ["item_community", "item_walk"])
    earlier = sp.csr_array(np.array([[1.0, 0, 2, 0, 3, 4] + [0] * 6]))  # three of four are even
    found = graph.values(np.arange(12), np.array([DAY]), earlier)[0]
    np.testing.assert_allclose(found[:, 0], [0.75, 0.25] * 6)
    assert found[::2, 1].min() > found[1::2, 1].max()


def test_the_latest_clicks_tell_who_clicked_alike(monkeypatch):
    monkeypatch.setattr(item_graph, "_RECENT", 1)
    monkeypatch.setattr(item_graph, "_ALIKE", 2)
    rows = [(user, item, float(user), np.nan) for user in range(4) for item in ((0, 2) if user < 2 else (1, 3))]
    graph = ItemGraph.of(known(rows), 4, ["user_neighbours"])
    now = np.array([DAY])
    earlier = sp.csr_array(np.array([[2.0, 1, 0, 0]]))  # item 1 first, item 0 of late
    np.testing.assert_allclose(graph.values(np.arange(4), now, earlier)[0, :, 0], [1, 0, 1, 0])
    later = sp.csr_array(np.array([[1.0, 2, 0, 0]]))
    np.testing.assert_allclose(graph.values(np.arange(4), now, later)[0, :, 0], [0, 1, 0, 1])


def test_the_nearest_items_alone_are_kept():
    clicks = sp.csr_array(np.array([[1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 1.0]]))
    for measure in (measures.cosines, measures.walks):
        every, nearest = measure(clicks, 9).toarray(), measure(clicks, 2).toarray()
        assert (np.count_nonzero(nearest, axis=1) <= 2).all()
        np.testing.assert_allclose(nearest, np.where(every >= np.sort(every, axis=1)[:, [-2]], every, 0))
        assert not np.diagonal(every).any()


def test_cosines_by_blocks_are_the_same(monkeypatch):
    clicks = sp.csr_array((np.random.default_rng(0).random((30, 17)) < 0.3).astype(float))
    whole = measures.cosines(clicks, 5).toarray()
    monkeypatch.setattr(measures, "_BLOCK", 40)
    np.testing.assert_allclose(measures.cosines(clicks, 5).toarray(), whole)


def test_walks_that_do_not_fit_in_memory_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "_available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match=r"walks between 6 items.*Leave 'item_walk' out of moment_features"):
        measures.walks(sp.csr_array(np.ones((3, 6))), 5)
