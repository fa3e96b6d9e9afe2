"""Queries are answered together, each gets its own answer, and none is forgotten."""

import asyncio

import pytest

from coldray.serving.api.batches import Batches

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
