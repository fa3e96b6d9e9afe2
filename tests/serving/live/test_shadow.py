"""Shadow traffic: what is compared, and that nobody notices a shadow that is slow or broken."""

import asyncio
import threading
from collections import Counter

import pytest

from coldray.bundle.lists import Place
from coldray.serving.engine.queries import Answer, Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.shadow import _MOST_WAITING, Shadow, overlap

USER = Query(user_id="user-0003")


class Noted:
    def __init__(self):
        self.outcomes, self.overlaps = Counter(), []

    def outcome(self, kind, version):
        self.outcomes[kind, version] += 1

    def overlap(self, share, version):
        self.overlaps.append((share, version))


@pytest.fixture
def live(bundle, store):
    return LiveModel(bundle, ModelVersion("m", "2"), store)


def compared(share, *handed):
    """Return what a shadow noted of models, queries and lists that it was handed, and of what it wanted."""
    noted = Noted()

    async def work():
        shadow = Shadow(share, noted)
        wanted = [shadow.wants_next() for _ in range(12)]
        for one in handed:
            await shadow.compare(*one)
        await shadow.done()
        assert not shadow.working.done()
        shadow.working.cancel()
        return wanted

    return noted, asyncio.run(work())


def answer(*items):
    return Answer(tuple(Place(item, 1.0, False) for item in items), "model", {})


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("abcd", "dcba", 1), ("abcd", "abxy", 0.5), ("ab", "abcd", 0.5), ("ab", "xy", 0), ("", "", 1), ("", "a", 0)],
)
def test_the_overlap_is_what_both_lists_have_whatever_the_order(one, other, share):
    assert overlap(answer(*one), answer(*other)) == overlap(answer(*other), answer(*one)) == share


def test_lists_of_the_shadow_are_compared_with_those_that_were_sent(live):
    (own,) = live.engine.answer([USER])
    half = answer(*(place.item for place in own.places[:5]), *(f"other-{place}" for place in range(5)))
    noted, _ = compared(1.0, (live, USER, own), (live, USER, half))
    assert noted.overlaps == [(1.0, "2"), (0.5, "2")]
    assert noted.outcomes == {("compared", "2"): 2}


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 0), (0.25, 3), (0.5, 6), (1.0, 12)])
def test_its_share_of_lists_is_wanted_evenly(share, wanted):
    _, found = compared(share)
    assert sum(found) == wanted
    assert wanted == 0 or sum(found[:6]) in (wanted // 2, wanted - wanted // 2)


def test_a_shadow_that_fails_is_noted_and_goes_on_and_its_log_holds_no_id(live, caplog):
    (own,) = live.engine.answer([USER])
    unknown = Query(history={"secret-item": None})
    noted, _ = compared(1.0, *[(live, unknown, own)] * 3, (live, USER, own))
    assert noted.outcomes == {("failed", "2"): 3, ("compared", "2"): 1}
    assert len(caplog.records) == 1
    assert "UnknownIdError" in caplog.text
    assert "secret-item" not in caplog.text


def test_when_the_shadow_is_too_slow_what_is_too_much_is_dropped(live):
    (own,) = live.engine.answer([USER])
    noted, gate, answering = Noted(), threading.Event(), live.engine.answer

    def slow(queries):
        gate.wait(10)
        return answering(queries)

    live.engine.answer = slow

    async def work():
        shadow = Shadow(1.0, noted)
        await shadow.compare(live, USER, own)
        await asyncio.sleep(0.05)  # that one is being made
        for _ in range(_MOST_WAITING + 7):
            await shadow.compare(live, USER, own)
        gate.set()
        await shadow.done()
        shadow.working.cancel()

    asyncio.run(work())
    assert noted.outcomes == {("dropped", "2"): 7, ("compared", "2"): _MOST_WAITING + 1}
