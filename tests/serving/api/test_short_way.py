"""The short way answers what is valid as the long way does; all else takes the long way, with its body."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from coldray.core.errors import UnknownIdError
from coldray.serving.api.short_way import ShortWay


class Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")
    k: int = Field(ge=1)


@pytest.fixture
def taken():
    return []


@pytest.fixture
def client(taken):
    api = FastAPI()

    async def answer(asked):
        taken.append("short")
        if asked.k == 13:
            raise UnknownIdError("there is no 13.")
        return Response(str(asked.k), media_type="text/plain")

    api.state.short_way = answer

    @api.post("/lists")
    async def lists(asked: Asked):
        taken.append("long")
        return Response(str(asked.k), media_type="text/plain")

    @api.post("/others")
    async def others(asked: Asked):
        taken.append("other")
        return Response(str(asked.k))

    api.add_middleware(ShortWay, path="/lists", schema=Asked)
    return TestClient(api)


def test_a_valid_request_takes_the_short_way(client, taken):
    answer = client.post("/lists", json={"k": 3})
    assert (answer.status_code, answer.text, taken) == (200, "3", ["short"])


@pytest.mark.parametrize(
    ("content", "headers"),
    [
        (b'{"k": 0}', {"content-type": "application/json"}),
        (b'{"k": 1, "l": 2}', {"content-type": "application/json"}),
        (b'{"k": ', {"content-type": "application/json"}),
        (b"", {"content-type": "application/json"}),
    ],
)
def test_an_invalid_one_is_refused_by_the_long_way(client, taken, content, headers):
    assert client.post("/lists", content=content, headers=headers).status_code == 422
    assert taken == []


def test_what_the_short_way_cannot_answer_is_asked_again_with_its_body(client, taken):
    assert client.post("/lists", json={"k": 13}).text == "13"
    assert taken == ["short", "long"]


def test_other_paths_types_and_bodies_of_unknown_length_take_the_long_way(client, taken):
    assert client.post("/others", json={"k": 1}).text == "1"
    assert client.get("/lists").status_code == 405
    headers = {"content-type": "application/json; charset=utf-8"}
    assert client.post("/lists", content=b'{"k": 2}', headers=headers).text == "2"
    chunks = (part for part in (b'{"k"', b": 5}"))
    assert client.post("/lists", content=chunks, headers={"content-type": "application/json"}).text == "5"
    assert taken == ["other", "long", "long"]


def test_an_unforeseen_error_is_not_hidden(client, taken):
    async def broken(asked):
        raise RuntimeError("broken")

    client.app.state.short_way = broken
    with pytest.raises(RuntimeError, match="broken"):
        client.post("/lists", json={"k": 3})
    assert taken == []
