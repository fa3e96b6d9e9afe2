"""Queries that come at about the same time, answered together.

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
