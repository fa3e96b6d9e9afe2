"""Queries are answered together, each gets its own answer, and none is forgotten."""

import asyncio
import threading

import pytest

from coldray.serving.api.batches import Batches, Writes

LONG = 20.0


def doubled(sizes):
    """Return what doubles numbers and notes how many came together."""

    def answer(queries):
        sizes.append(len(queries))
        return [2 * query for query in queries]

    return answer


async def asked(batches, queries):
    return await asyncio.gather(*(batches.ask(query) for query in queries))


def test_what_comes_at_once_is_answered_at_once():
    sizes = []

    async def run():
        batches = Batches(doubled(sizes), max_size=10)
        assert await asked(batches, range(7)) == [0, 2, 4, 6, 8, 10, 12]
        assert await batches.ask(21) == 42

    asyncio.run(run())
    assert sizes == [7, 1]


def test_a_batch_is_never_larger_than_it_may_be():
    sizes = []

    async def run():
        assert await asked(Batches(doubled(sizes), max_size=4), range(10)) == [2 * query for query in range(10)]

    asyncio.run(run())
    assert sizes == [4, 4, 2]


def test_the_loop_goes_on_between_batches():
    """Who comes while there is much to do can be counted, and refused."""
    sizes, seen = [], []

    async def run():
        batches = Batches(doubled(sizes), max_size=2)
        waiting = asyncio.ensure_future(asked(batches, range(6)))
        while not waiting.done():
            seen.append(len(sizes))
            await asyncio.sleep(0)

    asyncio.run(run())
    assert sizes == [2, 2, 2]
    assert set(range(3)) <= set(seen)


def test_the_first_waits_for_others_and_a_full_batch_does_not():
    sizes = []

    async def run():
        batches = Batches(doubled(sizes), max_size=2, wait_s=LONG)
        alone = batches.ask(1)
        await asyncio.sleep(0.01)
        assert not alone.done()
        began = asyncio.get_running_loop().time()
        assert await batches.ask(2) == 4
        assert asyncio.get_running_loop().time() - began < LONG / 2
        assert alone.result() == 2

    asyncio.run(run())
    assert sizes == [2]


def test_an_error_reaches_all_who_wait_and_those_after_them_are_answered():
    calls = []

    def fails_once(queries):
        calls.append(queries)
        if len(calls) == 1:
            raise ValueError("broken")
        return queries

    async def run():
        batches = Batches(fails_once, max_size=8)
        first = [batches.ask(1), batches.ask(2)]
        for future in first:
            with pytest.raises(ValueError, match="broken"):
                await future
        assert await batches.ask(3) == 3

    asyncio.run(run())


def test_one_who_does_not_wait_any_more_is_left_out():
    sizes = []

    async def run():
        batches = Batches(doubled(sizes), max_size=8)
        gone, there = batches.ask(1), batches.ask(2)
        gone.cancel()
        assert await there == 4
        batches.ask(3).cancel()
        await asyncio.sleep(0)
        assert await batches.ask(4) == 8

    asyncio.run(run())
    assert sizes == [1, 1]


def test_what_comes_while_the_disk_is_busy_is_written_together():
    """The first alone, all that came meanwhile at most so many at once, each with its own answer; none is lost."""
    sizes, written = [], []
    begun, go_on = threading.Event(), threading.Event()

    def write(numbers):
        begun.set()
        assert go_on.wait(LONG)
        sizes.append(len(numbers))
        written.extend(numbers)
        if 13 in numbers:
            raise OSError("the disk is full")
        return [2 * number for number in numbers]

    async def run():
        writes = Writes(write, max_size=4)
        first = asyncio.create_task(writes.ask(0))
        assert await asyncio.to_thread(begun.wait, LONG)
        others = [asyncio.create_task(writes.ask(number)) for number in (1, 2, 3, 4, 5, 13, 6, 7, 8)]
        await asyncio.sleep(0)
        others[1].cancel()
        go_on.set()
        assert await first == 0
        found = await asyncio.gather(*others, return_exceptions=True)
        assert [found[place] for place in (0, 2, 3, 8)] == [2, 6, 8, 16]
        assert isinstance(found[1], asyncio.CancelledError)
        assert [str(found[place]) for place in (4, 5, 6, 7)] == ["the disk is full"] * 4
        assert await writes.ask(21) == 42

    asyncio.run(run())
    assert sizes == [1, 4, 4, 1, 1]
    assert written == [0, 1, 2, 3, 4, 5, 13, 6, 7, 8, 21]
