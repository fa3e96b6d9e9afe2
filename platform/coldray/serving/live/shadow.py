"""Shadow traffic: another model answers requests that were answered, and its lists are compared and thrown away."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Protocol

from ray.util.metrics import Counter, Histogram

from coldray.serving.engine.queries import Answer, Query
from coldray.serving.live.model import LiveModel
from coldray.serving.live.rare_warning import RareWarning

_MOST_WAITING = 64
"""Requests that wait for the shadow; those beyond are not compared."""
logger = logging.getLogger("coldray.serving")


class _Measures(Protocol):
    """Where it is noted what became of the comparisons."""

    def outcome(self, kind: str, version: str) -> None:
        """Note a list that was ``compared``, ``failed`` or was ``dropped`` because too many waited."""

    def overlap(self, share: float, version: str) -> None:
        """Note which share of its items a list has in common with the one that was sent."""


class RayMeasures:
    """Metrics of Ray, for Prometheus."""

    def __init__(self) -> None:
        self._lists = Counter("coldray_shadow_lists", "Lists that the shadow was asked for.", ("outcome", "version"))
        self._overlap = Histogram(
            "coldray_shadow_overlap",
            "Share of items that a list of the shadow has in common with the one that was sent.",
            [tenth / 10 for tenth in range(1, 11)],
            ("version",),
        )

    def outcome(self, kind: str, version: str) -> None:
        """Count a list."""
        self._lists.inc(1, {"outcome": kind, "version": version})

    def overlap(self, share: float, version: str) -> None:
        """Take a share into the distribution."""
        self._overlap.observe(share, {"version": version})


class Shadow:
    """Has a model answer a share of the queries that another one has answered, one after another in a thread.

    It is handed a query once the answer is on its way, never waited for, and never raises.
    """

    def __init__(self, share: float, measures: _Measures) -> None:
        self._share, self._measures = share, measures
        self._due = 0.0
        self._waiting: asyncio.Queue[tuple[LiveModel, Query, Answer]] = asyncio.Queue(_MOST_WAITING)
        self._warn = RareWarning(logger)
        self.working = asyncio.get_running_loop().create_task(self._work())

    def wants_next(self) -> bool:
        """Return whether the next list is one of the share: evenly, so of a half every second one."""
        self._due += self._share
        if self._due < 1:
            return False
        self._due -= 1
        return True

    async def compare(self, live: LiveModel, query: Query, sent: Answer) -> None:
        """Have a model answer a query as soon as it comes to it, and compare that with what was sent; does not wait."""
        try:
            self._waiting.put_nowait((live, query, sent))
        except asyncio.QueueFull:
            self._measures.outcome("dropped", live.version.version)

    async def _work(self) -> None:
        while True:
            live, query, sent = await self._waiting.get()
            version = live.version.version
            try:
                (answer,) = await asyncio.to_thread(live.engine.answer, [replace(query, explore=False)])
                self._measures.overlap(overlap(sent, answer), version)
                self._measures.outcome("compared", version)
            except Exception as error:  # what it says may hold ids, which are no matter of the log
                self._warn("The shadow %s failed at a list: %s.", live.version, type(error).__name__)
                logger.debug("The shadow failed.", exc_info=error)
                self._measures.outcome("failed", version)
            finally:
                self._waiting.task_done()

    async def done(self) -> None:
        """Wait until nothing waits for the shadow."""
        await self._waiting.join()


def overlap(one: Answer, other: Answer) -> float:
    """Return which share of the longer of two lists both have; 1 if both are empty."""
    items, others = ({place.item for place in answer.places} for answer in (one, other))
    return len(items & others) / max(len(items), len(others)) if items or others else 1.0
