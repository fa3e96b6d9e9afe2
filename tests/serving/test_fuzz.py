"""The service over real HTTP, asked for whatever its own description allows and forbids: it never fails."""

import http.client
import json
import socket
from contextlib import suppress
from itertools import product

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from coldray.bundle.io import save_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.api.settings import ServiceSettings

EXAMPLES = 10


@pytest.fixture(scope="module")
def address(bundle, tmp_path_factory, ray_cluster):
    root = tmp_path_factory.mktemp("fuzz")
    save_bundle(bundle, root / "bundle")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    service = ServiceSettings(bundle=root / "bundle", store=f"sqlite:///{root / 'store.db'}", poll_s=60)
    with serving(service, host="127.0.0.1", port=port) as address:
        yield address


def test_nothing_that_is_sent_breaks_the_service(address):
    """Each operation is asked for what its schema allows and for what it forbids."""
    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    statuses = []
    for operation, mode in product(operations, GenerationMode):

        @settings(max_examples=EXAMPLES, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
        @given(operation.as_strategy(generation_mode=mode))
        def nothing_breaks(case):
            statuses.append(case.call(timeout=20).status_code)
            assert statuses[-1] < 500

        with suppress(Unsatisfiable):  # where nothing can be sent, nothing wrong can
            nothing_breaks()
    assert len(operations) >= 9
    assert {200, 404, 422} <= set(statuses)


def send(address, method, path, body=None, headers=()):
    """Return the status and the content of the answer to a request that is sent as it is."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
    try:
        connection.request(method, path, body, {"Content-Type": "application/json", **dict(headers)})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


DEEP = b'{"k":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BODIES = {
    "deep": DEEP,
    "deep attribute": b'{"item_id": "deep", "attributes": {"year":' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "not a number": b'{"item_id": "nan", "attributes": {"year": NaN}, "diversity": NaN, "user_id": NaN}',
    "infinite": b'{"item_id": "inf", "attributes": {"year": 1e999}, "user_id": "a", "event_id": "i", "rating": 1e999}',
    "huge": b'{"item_id": 1' + b"0" * 5000 + b', "attributes": {}, "user_id": 1' + b"0" * 5000 + b"}",
    "beyond 64 bits": b'{"item_id": 18446744073709551616, "attributes": {}, "user_id": 18446744073709551616}',
    "huge number": b'{"item_id": "huge", "attributes": {"year": 1' + b"0" * 400 + b"}}",
    "surrogate": b'{"item_id": "\\ud800", "attributes": {}, "user_id": "\\ud800", "event_id": "\\ud800"}',
    "surrogate user": b'{"user_id": "\\ud800"}',
    "surrogate event": b'{"event_id": "\\ud800", "user_id": "a", "item_id": "item-0001"}',
    "surrogate user of an event": b'{"event_id": "s", "user_id": "\\ud800", "item_id": "item-0001"}',
    "surrogate attribute": b'{"item_id": "s", "attributes": {"\\ud800": 1, "genres": ["\\ud800"]}}',
    "surrogate label": b'{"item_id": "t", "attributes": {"genres": ["\\ud800"]}}',
    "surrogate filter": b'{"filters": {"genres": {"any": ["\\ud800"]}}}',
    "surrogate name": b'{"filters": {"\\ud800": {"any": ["x"]}}}',
    "nul": b'{"event_id": "\\u0000", "user_id": "\\u0000", "item_id": "item-0001"}',
    "nul item": b'{"item_id": "\\u0000", "attributes": {"genres": ["\\u0000"]}}',
    "empty": b'{"event_id": "e", "user_id": "", "item_id": ""}',
    "empty item": b'{"item_id": "", "attributes": {}}',
    "empty user": b'{"user_id": ""}',
    "many": json.dumps({"history": [f"item-{number % 90:04d}" for number in range(10_000)]}).encode(),
    "many excluded": json.dumps({"exclude": [f"item-{number % 90:04d}" for number in range(10_000)]}).encode(),
    "a list": b"[]",
    "a number": b"1" + b"0" * 5000,
    "true for a number": b'{"k": true, "user_id": true, "diversity": true}',
    "not UTF-8": b'{"user_id": "\xff"}',
    "UTF-16": '{"user_id": "a"}'.encode("utf-16"),
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_what_no_schema_thinks_of_is_answered_too(address, body):
    for path in ("/v1/recommend", "/v1/recommend:batch", "/v1/items", "/v1/feedback"):
        status, content = send(address, "POST", path, body)
        assert status < 500, (path, content)
        assert json.loads(content)


@pytest.mark.parametrize(
    "path", ["/v1/items/%ff", "/v1/items/%00", "/v1/items/" + "9" * 5000, "/v1/items/%ED%A0%80", "/v1/items/²", "/%"]
)
def test_an_address_that_makes_no_sense_is_answered_too(address, path):
    for method in ("GET", "DELETE"):
        assert 400 <= send(address, method, path.replace("²", "%C2%B2"))[0] < 500
