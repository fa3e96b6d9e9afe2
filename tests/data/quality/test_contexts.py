"""Facts of contexts, against counting one by one."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.data.quality.contexts import context_facts

LABELS = st.lists(st.lists(st.sampled_from("abc"), max_size=2, unique=True), min_size=1, max_size=12)


@given(LABELS, st.randoms(use_true_random=False))
def test_facts_of_labels_are_those_of_counting(cells, random):
    n = len(cells)
    data = coldray.load_dataset({"user_id": list(range(n)), "item_id": [0] * n, "x": cells}, context_labels=["x"])
    parts = np.array([random.choice("tho") for _ in range(n)])  # train, held out, others
    (found,) = context_facts(data, parts == "t", parts == "h")
    counts = Counter(label for labels in cells for label in labels)
    assert (found.interactions, found.unknown, found.values) == (n, sum(not labels for labels in cells), len(counts))
    assert found.of_commonest == max(counts.values(), default=0)
    assert counts.get(found.commonest, 0) == found.of_commonest
    seen = {label for labels, part in zip(cells, parts, strict=True) if part == "t" for label in labels}
    held_out = [set(labels) for labels, part in zip(cells, parts, strict=True) if part == "h" and labels]
    assert (found.held_out, found.unseen) == (len(held_out), sum(bool(labels - seen) for labels in held_out))
    total = counts.total()
    entropy = -sum(count / total * math.log(count / total) for count in counts.values())
    expected = entropy / math.log(len(counts)) if len(counts) > 1 else None
    assert found.evenness == (None if expected is None else pytest.approx(expected))


def test_facts_of_numbers():
    clicks = {"user_id": [1, 2, 3, 4], "item_id": [0] * 4, "x": [2.0, None, -1, 2], "y": [None] * 4}
    data = coldray.load_dataset(clicks, context_numbers=["x", "y"])
    one, other = context_facts(data, np.array([True, False, False, False]), np.array([False, True, True, True]))
    assert (one.unknown, one.values, one.ends, one.commonest, one.held_out, one.unseen) == (
        1,
        2,
        (-1.0, 2.0),
        None,
        2,
        0,
    )
    assert (other.unknown, other.values, other.ends, other.evenness) == (4, 0, None, None)


def test_data_without_context_have_no_facts():
    data = coldray.load_dataset({"user_id": [1, 2], "item_id": [0, 0]})
    assert context_facts(data, np.ones(2, bool), np.zeros(2, bool)) == ()
