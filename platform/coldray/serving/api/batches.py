"""Queries that come at about the same time, answered together, and what is to be written, written together.

What Ray Serve has for it looks up the signature of the method at every call and wakes a task of its own for each batch,
which takes as long as making a list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Query = TypeVar("Query")
Answer = TypeVar("Answer")


class Batches(Generic[Query, Answer]):
    """Answers what came in one turn of the event loop, or within a time, by one call."""

    def __init__(
        self, answer: Callable[[list[Query]], Sequence[Answer]], *, max_size: int, wait_s: float = 0.0
    ) -> None:
        """Begin without queries.

        Parameters
        ----------
        answer
            Returns an answer for each query; called in the event loop.
        max_size
            Queries answered by one call at most.
        wait_s
            How long the first of a batch waits for others; a full batch does not wait.
        """
        self._answer, self._max_size, self._wait_s = answer, max_size, wait_s
        self._waiting: list[tuple[Query, asyncio.Future[Answer]]] = []
        self._next: asyncio.Handle | None = None

    def ask(self, query: Query) -> asyncio.Future[Answer]:
        """Return what is to be awaited for the answer to a query."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((query, future))
        if self._next is None:
            self._next = loop.call_later(self._wait_s, self._run) if self._wait_s else loop.call_soon(self._run)
        elif len(self._waiting) == self._max_size and self._wait_s:
            self._next.cancel()
            self._next = loop.call_soon(self._run)
        return future

    def _run(self) -> None:
        batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
        # Between two batches the loop sees who else has come: how many there are decides whether more are taken on.
        self._next = asyncio.get_running_loop().call_soon(self._run) if self._waiting else None
        # Whoever does not wait any more, as their time was up, needs no answer.
        waiting = [(query, future) for query, future in batch if not future.done()]
        if not waiting:
            return
        try:
            answers = self._answer([query for query, _ in waiting])
        except Exception as error:
            for _, future in waiting:
                future.set_exception(error)
            return
        for (_, future), answer in zip(waiting, answers, strict=True):
            future.set_result(answer)


class Writes(Generic[Query, Answer]):
    """Writes what came while it was writing by one call, in a thread: to wait for a disk takes as long for many."""

    def __init__(self, write: Callable[[list[Query]], Sequence[Answer]], *, max_size: int) -> None:
        """Begin with nothing to write.

        Parameters
        ----------
        write
            Returns an answer for each; called in a thread, never twice at once.
        max_size
            Written by one call at most.
        """
        self._write, self._max_size = write, max_size
        self._waiting: list[tuple[Query, asyncio.Future[Answer]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def ask(self, query: Query) -> Answer:
        """Return the answer to what is to be written, once it is; it is written whether it is waited for or not."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((query, future))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._run())
        return await future

    async def _run(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[: self._max_size], self._waiting[self._max_size :]
            futures = [future for _, future in batch]
            try:
                answers = await asyncio.to_thread(self._write, [query for query, _ in batch])
            except Exception as error:
                for future in (one for one in futures if not one.done()):
                    future.set_exception(error)
                continue
            for future, answer in zip(futures, answers, strict=True):
                if not future.done():  # whoever does not wait any more needs no answer
                    future.set_result(answer)
        self._writing = None
