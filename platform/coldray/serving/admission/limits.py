"""Whether a request is taken on: who asks, how much it brings, how many there are already, and for how long.

It stands before everything else, so that a request that is refused costs next to nothing.
"""

import asyncio
import math
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldray.serving.admission.access import Keyring

_OPEN = frozenset({"/health", "/ready"})
"""Always answered: for whoever watches over the service."""
_PAGES = frozenset({"/", "/docs", "/redoc", "/openapi.json"})
"""Answered without a key, which a browser has no way to send with an address; they hold nothing of the data."""

_LONGEST = 18
"""Digits of a content length that is looked at any further."""


@dataclass(frozen=True)
class Limits:
    """What a replica takes on."""

    at_once: int
    """Requests it works on or has waiting."""
    timeout_s: float
    max_body_bytes: int
    keys: Keyring | None = None
    """None: nobody needs a key."""


def error_response(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error in the form that all errors have."""
    if status == 503:
        headers = {"Retry-After": "1", **(headers or {})}
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def too_large(limit: int) -> str:
    """Return what is said to somebody who sends too much."""
    return f"The body may have {limit:,} bytes at most."


class Admission:
    """ASGI middleware around an application whose ``state.limits`` are :class:`Limits`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.ongoing = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse the request, or pass it on and see to its end."""
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self.app(scope, receive, send)
            return
        limits: Limits = scope["app"].state.limits
        headers: dict[bytes, bytes] = dict(scope["headers"])
        refused = self._refusal(limits, scope["path"], headers)
        if refused is not None:
            await refused(scope, receive, send)
            return
        if b"content-length" not in headers and scope["method"] not in ("GET", "HEAD"):
            receive = _counted(receive, limits.max_body_bytes)
        self.ongoing += 1
        try:
            await self._answer_in_time(limits.timeout_s, scope, receive, send)
        finally:
            self.ongoing -= 1

    def _refusal(self, limits: Limits, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        if self.ongoing >= limits.at_once:
            return error_response(503, "overloaded", "There is more to do than can be done; ask again in a second.")
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > _LONGEST or int(length) > limits.max_body_bytes:
            return error_response(413, "too_large", too_large(limits.max_body_bytes))
        if limits.keys is None or path in _PAGES:
            return None
        place = limits.keys.find(headers.get(b"authorization", b""))
        if place is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            return error_response(401, "no_key", "Send a key of this service: Authorization: Bearer KEY.", challenge)
        wait = limits.keys.wait(place)
        if wait > 0:
            after = {"Retry-After": str(math.ceil(wait))}
            return error_response(429, "too_many_requests", "This key has asked more often than it may.", after)
        return None

    async def _answer_in_time(self, seconds: float, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            async with asyncio.timeout(seconds) as deadline:
                await self.app(scope, receive, noted)
        except TimeoutError:
            if not deadline.expired() or started:
                raise
            await error_response(408, "timeout", f"There was no answer within {seconds:g} s.")(scope, receive, send)


def _counted(receive: Receive, limit: int) -> Receive:
    """Return `receive` for a body that does not say how long it is: it ends with an error when there is too much."""
    taken = 0

    async def counting() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limit:
            raise HTTPException(413, too_large(limit))
        return message

    return counting
