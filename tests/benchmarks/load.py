"""A load generator: connections that ask again as soon as they are answered, with what each request took.

Requests are written out beforehand and answers are read just far enough, so that the generator takes little of the
cores it shares with the service.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Load:
    """What came of a run."""

    seconds: float
    latencies: np.ndarray
    """Of the answered requests, in seconds."""
    statuses: dict[int, int]
    """How many answers had each status; 0 for a connection that broke."""

    @property
    def per_second(self) -> float:
        """Answers with status 200 a second."""
        return self.statuses.get(200, 0) / self.seconds

    def quantile(self, share: float) -> float:
        """Return a quantile of the latencies, in seconds."""
        return float(np.quantile(self.latencies, share))


def post(path: str, body: Any) -> bytes:
    """Return a request on a connection that is kept."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(data)}"
    return "\r\n".join((*head, "", "")).encode() + data


def generate(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Ask in turn for `requests` through so many connections for so many seconds."""
    return asyncio.run(_generate(port, requests, connections, seconds))


async def _generate(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Load:
    latencies: list[float] = []
    statuses: dict[int, int] = {}
    start = time.perf_counter()
    end = start + seconds

    async def connection(first: int) -> None:
        place = first
        while time.perf_counter() < end:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                while time.perf_counter() < end:
                    began = time.perf_counter()
                    writer.write(requests[place % len(requests)])
                    status = await _answer(reader)
                    latencies.append(time.perf_counter() - began)
                    statuses[status] = statuses.get(status, 0) + 1
                    place += connections
                writer.close()
            except (OSError, asyncio.IncompleteReadError):
                statuses[0] = statuses.get(0, 0) + 1

    await asyncio.gather(*(connection(number) for number in range(connections)))
    return Load(time.perf_counter() - start, np.array(latencies), statuses)


async def _answer(reader: asyncio.StreamReader) -> int:
    """Read one answer and return its status."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(head[9:12])
    at = head.find(b"content-length:")
    if at >= 0:
        await reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
        return status
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)
    return status
