"""A short way for the request that comes most often.

In the framework a valid request for a list takes as long as all else that is done for it. Whatever is not
plainly right, and every answer that is an error, goes the long way, which says what is wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel, ValidationError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldray.core.errors import ColdrayError

_Handler = Callable[[Any], Awaitable[Response]]


class ShortWay:
    """ASGI middleware: hands the bodies of one path to the application's ``state.short_way``."""

    def __init__(self, app: ASGIApp, path: str, schema: type[BaseModel]) -> None:
        self.app, self.path, self.schema = app, path, schema

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request if it is of the path and its body is valid; else leave it to the application."""
        if scope["type"] != "http" or scope["path"] != self.path or not _is_json(scope):
            return await self.app(scope, receive, send)
        body = await _body(receive)
        if body is None:
            return None
        handle: _Handler = scope["app"].state.short_way
        try:
            response = await handle(self.schema.model_validate_json(body))
        except (ValidationError, ColdrayError):
            return await self.app(scope, _again(body, receive), send)
        return await response(scope, receive, send)


def _is_json(scope: Scope) -> bool:
    """Return whether it is JSON of a known length; one that does not say its length is counted on the long way."""
    headers = dict(scope["headers"])
    return (
        scope["method"] == "POST"
        and headers.get(b"content-type") == b"application/json"
        and b"content-length" in headers
    )


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request, or None if the client has gone before all of it came."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return what gives a body that has been read once more, and after it what comes."""
    given = False

    async def receiving() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receiving
