"""What became of items: sums that are exact, whatever the order of the events and however they are parted."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.serving.exploration.outcomes import (
    Outcomes,
    _read_context,
    contexts,
    known_part,
    on_grid,
    relative_scores,
    written_context,
)
from coldray.serving.live.store import Event


@st.composite
def logs(draw):
    """Return events on three items, most of them with a context."""
    number = st.floats(-1, 1).map(lambda value: float(on_grid(value)))
    written = st.none() | st.builds(written_context, number, st.floats(0, 1).map(lambda value: float(on_grid(value))))
    rows = draw(st.lists(st.tuples(st.sampled_from(["a", "b", 3]), written, st.booleans()), max_size=30))
    return [
        Event(seq, str(seq), "user", item, None, 0.0, clicked, context)
        for seq, (item, context, clicked) in enumerate(rows, 1)
    ]


def exactly(events):
    """Return the sums by item in rational numbers, event by event."""
    sums = {}
    for event in events:
        if event.context is None:
            continue
        score, history = (Fraction(event.context[name]) for name in ("score", "history"))
        y = [Fraction(1), score, history, Fraction(int(event.clicked))]
        known = sums.setdefault(event.item_id, [[Fraction(0)] * 4 for _ in range(4)])
        sums[event.item_id] = [[known[i][j] + y[i] * y[j] for j in range(4)] for i in range(4)]
    return sums


def as_fractions(outcomes):
    return {item: [[Fraction(value) for value in row] for row in sums] for item, sums in outcomes.sums.items()}


@given(logs(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_sums_are_exact_in_any_order_and_those_of_parts_add_up(events, random, n_parts):
    whole, shuffled = Outcomes(), Outcomes()
    whole.add(events)
    order = random.sample(events, len(events))
    for event in order:
        shuffled.add([event])
    assert as_fractions(whole) == as_fractions(shuffled) == exactly(events)
    parts = [Outcomes() for _ in range(n_parts)]
    for part in parts:
        part.add(event for event in order if event.seq % n_parts == parts.index(part))
    for item, sums in whole.sums.items():
        added = sum((part.sums[item] for part in parts if item in part.sums), np.zeros((4, 4)))
        np.testing.assert_array_equal(added, sums)


def test_what_was_added_is_returned_and_no_more():
    context = written_context(0.5, 0.25)
    outcomes = Outcomes()
    outcomes.add([Event(1, "1", "u", "a", None, 0.0, True, context)])
    added = outcomes.add([Event(2, "2", "u", "a", None, 0.0, False, context), Event(3, "3", "u", "b", None, 0.0)])
    assert list(added) == ["a"]
    np.testing.assert_array_equal(added["a"][-1], np.zeros(4))
    assert added["a"][0, 0] == 1
    assert outcomes.sums["a"][0].tolist() == [2, 1, 0.5, 1]


@pytest.mark.parametrize(
    "written",
    [
        None, {}, {"score": 0.5}, {"score": "high", "history": 0.5}, {"score": float("nan"), "history": 0.5},
        {"score": 2.0, "history": 0.5}, {"score": 0.5, "history": [1]}, {"score": None, "history": 0.5},
    ],
)  # fmt: skip
def test_what_is_no_context_does_not_count(written):
    assert _read_context(written) is None


def test_a_written_context_is_read_as_it_was():
    relative, history = float(on_grid(0.3)), known_part(7)
    expected = contexts(np.array([relative]), history)[0]
    np.testing.assert_array_equal(_read_context(written_context(relative, history)), expected)
    np.testing.assert_allclose(expected, [1, 0.3, 7 / 17], atol=1 / 1024)
    assert ((expected * 1024) % 1 == 0).all()


def test_scores_are_measured_from_the_mean_to_the_best_of_what_is_open():
    scores = np.array([4, 1, 2, 3, -100, 99], np.float32)
    open_ = np.array([True, True, True, True, False, False])
    found = relative_scores(scores, open_, np.array([0, 2, 3, 1, 4, 5]))
    np.testing.assert_allclose(found, [1, -1 / 3, 1 / 3, -1, -1, 1], atol=1 / 1024)
    assert relative_scores(np.ones(6, np.float32), open_, np.array([0, 4])).tolist() == [0, 0]
    assert relative_scores(scores, np.zeros(6, bool), np.array([0])).tolist() == [0]


def test_the_longer_the_history_the_better_the_user_is_known():
    parts = [known_part(length) for length in (0, 1, 10, 100, 10_000)]
    assert parts == sorted(parts)
    assert parts[0] == 0
    assert parts[2] == 0.5
    assert parts[-1] <= 1
