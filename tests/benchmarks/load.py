"""A load generator: connections that ask again as soon as they are answered, with what each request took.

Requests are written out beforehand and answers are read just far enough, so that the generator takes little of the
cores it shares with the service.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PATIENCE_S = 20.0
"""A connection without an answer for so long is given up as broken."""
Check = Callable[[int, int, bytes], None]
"""Gets the place of a request, and the status and the body of its answer."""


@dataclass(frozen=True)
class Load:
    """What came of a run."""

    seconds: float
    latencies: np.ndarray
    """Of the answers with status 200, in seconds."""
    statuses: dict[int, int]
    """How many answers had each status; 0 for a request whose connection broke, twice in a row."""
    retry_after: int
    """Answers with status 503 that said when to come again."""

    @property
    def per_second(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses.get(200, 0) / self.seconds

    @property
    def failed(self) -> int:
        """Requests without an answer of status 200."""
        return sum(count for status, count in self.statuses.items() if status != 200)

    def quantile(self, share: float) -> float:
        """Return a quantile of the latencies, in seconds."""
        return float(np.quantile(self.latencies, share))


def post(path: str, body: Any) -> bytes:
    """Return a request on a connection that is kept."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(data)}"
    return "\r\n".join((*head, "", "")).encode() + data


def get(path: str) -> bytes:
    """Return a request without a body on a connection that is kept."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def generate(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float,
    per_second: float | None = None,
    check: Check | None = None,
) -> Load:
    """Ask in turn for `requests` through so many connections for so many seconds.

    Parameters
    ----------
    per_second
        Requests of all connections together, whether they are answered or refused; a connection that is late sends at
        once. As many as are answered if None.
    check
        Called with every answer.
    """
    pause = None if per_second is None else connections / per_second
    return asyncio.run(_Run(port, requests, connections, pause, check).load(seconds))


class _Run:
    def __init__(
        self, port: int, requests: Sequence[bytes], connections: int, pause: float | None, check: Check | None
    ) -> None:
        self.port, self.requests, self.connections = port, requests, connections
        self.pause, self.check = pause, check
        self.latencies: list[float] = []
        self.statuses: dict[int, int] = {}
        self.retry_after = 0

    async def load(self, seconds: float) -> Load:
        start = time.perf_counter()
        await asyncio.gather(*(self._connection(number, start + seconds) for number in range(self.connections)))
        taken = time.perf_counter() - start
        return Load(taken, np.array(self.latencies), self.statuses, self.retry_after)

    async def _connection(self, first: int, end: float) -> None:
        place, broken = first, False
        due = time.perf_counter() + (self.pause or 0) * first / self.connections
        while time.perf_counter() < end:
            writer = None
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                while time.perf_counter() < end:
                    if self.pause is not None:
                        await asyncio.sleep(max(0.0, due - time.perf_counter()))
                        due += self.pause
                    async with asyncio.timeout(PATIENCE_S):
                        await self._ask(place % len(self.requests), reader, writer)
                    place, broken = place + self.connections, False
            except (OSError, asyncio.IncompleteReadError):  # a timeout is an OSError
                if broken:
                    self.statuses[0] = self.statuses.get(0, 0) + 1
                    place += self.connections
                broken = not broken
            finally:
                if writer is not None:
                    writer.close()

    async def _ask(self, place: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began = time.perf_counter()
        writer.write(self.requests[place])
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        body = await _body(head, reader)
        status = int(head[9:12])
        if status == 200:
            self.latencies.append(time.perf_counter() - began)
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.retry_after += status == 503 and b"\r\nretry-after:" in head
        if self.check is not None:
            self.check(place, status, body)


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    at = head.find(b"content-length:")
    if at >= 0:
        return await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
    parts = []
    while size := int(await reader.readuntil(b"\r\n"), 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)
