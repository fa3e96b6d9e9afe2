"""What is refused before anything else: too many, too large, too slow, and strangers."""

import asyncio
import json
from dataclasses import replace

import pytest
from fastapi import FastAPI, Request

from coldray.serving.admission.access import Keyring, new_key
from coldray.serving.admission.limits import Admission, Limits, error_response

LIMITS = Limits(at_once=2, timeout_s=5.0, max_body_bytes=100)


class Service:
    """An application behind the limits, and what it takes to call it."""

    def __init__(self, limits):
        self.gate = asyncio.Event()
        self.api = FastAPI()
        self.api.state.limits = limits
        self.api.add_middleware(Admission)

        @self.api.exception_handler(413)
        async def refused(request: Request, error):
            return error_response(413, "too_large", error.detail)

        @self.api.post("/read")
        async def read(request: Request):
            return len(await request.body())

        @self.api.get("/wait")
        async def wait():
            await self.gate.wait()

        @self.api.get("/broken")
        async def broken():
            raise TimeoutError

        @self.api.get("/health")
        async def health():
            return "ok"

    async def __call__(self, path, *, method="GET", body=(b"",), **headers):
        parts, sent = list(body), []

        async def receive():
            if not parts:
                await asyncio.Event().wait()
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message):
            sent.append(message)

        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "path": path, "headers": named, "query_string": b""}
        await self.api(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), json.loads(sent[1]["body"])


def code(answer):
    return answer[0], answer[2]["error"]["code"]


def test_beyond_the_limit_the_answer_is_503_and_those_before_it_go_on():
    async def calls():
        service = Service(LIMITS)
        waiting = [asyncio.create_task(service("/wait")) for _ in range(2)]
        await asyncio.sleep(0)
        refused = await service("/wait")
        assert code(refused) == (503, "overloaded")
        assert refused[1][b"retry-after"] == b"1"
        assert (await service("/health"))[0] == 200
        service.gate.set()
        assert [answer[0] for answer in await asyncio.gather(*waiting)] == [200, 200]
        assert (await service("/wait"))[0] == 200

    asyncio.run(calls())


def test_a_late_answer_is_408_and_leaves_its_place():
    async def calls():
        service = Service(replace(LIMITS, at_once=1, timeout_s=0.05))
        for _ in range(3):
            assert code(await service("/wait")) == (408, "timeout")
        with pytest.raises(TimeoutError):  # of its own: not one of the limit
            await service("/broken")

    asyncio.run(calls())


@pytest.mark.parametrize("length", ["101", "-1", "ten", "9" * 5000])
def test_a_body_that_says_it_is_too_large_is_not_read(length):
    answer = asyncio.run(Service(LIMITS)("/read", method="POST", body=[], content_length=length))
    assert code(answer) == (413, "too_large")


def test_a_body_that_does_not_say_how_large_it_is_is_counted():
    async def calls():
        service = Service(LIMITS)
        assert (await service("/read", method="POST", body=[b"x" * 50] * 2))[2] == 100
        assert code(await service("/read", method="POST", body=[b"x" * 50] * 3)) == (413, "too_large")

    asyncio.run(calls())


def test_a_key_is_needed_but_for_health():
    async def calls():
        key, entry = new_key("web", 1)
        service = Service(replace(LIMITS, keys=Keyring([entry])))
        service.gate.set()
        stranger = await service("/wait")
        assert code(stranger) == (401, "no_key")
        assert stranger[1][b"www-authenticate"] == b"Bearer"
        assert code(await service("/wait", authorization=f"Bearer {key}x")) == (401, "no_key")
        assert (await service("/wait", authorization=f"Bearer {key}"))[0] == 200
        often = await service("/wait", authorization=f"Bearer {key}")
        assert code(often) == (429, "too_many_requests")
        assert often[1][b"retry-after"] == b"1"
        assert (await service("/health"))[0] == 200

    asyncio.run(calls())
