"""What the service refuses, over real HTTP on real Ray Serve, and what it keeps to itself."""

import http.client
import json
import socket
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from coldray.bundle.io import save_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.admission.access import new_key
from coldray.serving.api.settings import ServiceSettings
from contracts.service import free_port

MARK = "qz7marked"
"""In ids of users, items and events that are asked for, and nowhere else."""
TIMEOUT_S = 1.5


class Service:
    """A service that takes on two requests at once."""

    def __init__(self, port, keys, store):
        self.port, self.keys, self.store = port, keys, store

    def __call__(self, method, path, body=None, key="web"):
        """Return the status, the headers by lower-case name and the content of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers["Authorization"] = f"Bearer {self.keys.get(key, key)}"
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            return read(connection)
        finally:
            connection.close()

    @contextmanager
    def unfinished(self):
        """Begin a request whose body does not come; yield what returns the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.putrequest("POST", "/v1/recommend")
        for header in (f"Authorization: Bearer {self.keys['web']}", "Content-Type: application/json"):
            connection.putheader(*header.split(": "))
        connection.putheader("Content-Length", "20")
        connection.endheaders(b'{"k":')
        try:
            yield lambda: read(connection)
        finally:
            connection.close()


def read(connection):
    answer = connection.getresponse()
    text = answer.read().decode()
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return answer.status, headers, json.loads(text) if text else None


@pytest.fixture(scope="module")
def service(bundle, tmp_path_factory, ray_cluster):
    root = tmp_path_factory.mktemp("refusals")
    save_bundle(bundle, root / "bundle")
    web, slow = new_key("web"), new_key("slow", 0.2)
    settings = ServiceSettings(
        bundle=root / "bundle",
        store=f"sqlite:///{root / 'store.db'}",
        max_ongoing=1,
        max_queued=1,
        timeout_s=TIMEOUT_S,
        keys=[entry.line for _, entry in (web, slow)],
    )
    port = free_port()
    with serving(settings, host="127.0.0.1", port=port):
        yield Service(port, {"web": web[0], "slow": slow[0]}, root / "store.db")


def said(answer):
    """Return the status and the code of an error, which has the form of all errors."""
    status, _, content = answer
    assert set(content) == {"error"}
    assert set(content["error"]) == {"code", "message"}
    return status, content["error"]["code"]


@pytest.mark.parametrize("key", [None, "wrong", "web "])
def test_strangers_get_nothing_but_the_page_and_the_signs_of_life(service, key):
    for path in ("/v1/models", "/v1/catalogue", "/v1/items/item-0001", "/v1/similar/item-0001"):
        answer = service("GET", path, key=key)
        assert said(answer) == (401, "no_key")
        assert answer[1]["www-authenticate"] == "Bearer"
    assert said(service("POST", "/v1/recommend", {}, key=key)) == (401, "no_key")
    assert said(service("DELETE", "/v1/items/item-0001", key=key)) == (401, "no_key")
    for path in ("/health", "/ready"):
        assert service("GET", path, key=key)[0] == 200


def test_a_key_asks_no_more_often_than_it_may(service):
    assert service("GET", "/v1/models", key="slow")[0] == 200
    answer = service("GET", "/v1/models", key="slow")
    assert said(answer) == (429, "too_many_requests")
    assert 1 <= int(answer[1]["retry-after"]) <= 5
    assert service("GET", "/v1/models")[0] == 200


def test_a_full_service_says_when_to_come_again_and_late_requests_are_ended(service):
    start = time.monotonic()
    with service.unfinished() as first, service.unfinished() as second:
        wait_until_full(service)
        answer = service("POST", "/v1/recommend", {})
        assert said(answer) == (503, "overloaded")
        assert answer[1]["retry-after"] == "1"
        assert service("GET", "/ready")[0] == 200
        assert said(first()) == (408, "timeout")
        assert TIMEOUT_S <= time.monotonic() - start < TIMEOUT_S + 5
        assert said(second()) == (408, "timeout")
    assert service("POST", "/v1/recommend", {})[0] == 200


def wait_until_full(service):
    end = time.monotonic() + TIMEOUT_S / 2
    while service("GET", "/v1/models")[0] == 200:
        assert time.monotonic() < end, "requests without a body were not taken on"
        time.sleep(0.01)


def test_an_item_may_be_removed_twice_and_one_that_never_was_not_once(service):
    assert service("POST", "/v1/items", {"item_id": "brief", "attributes": {}})[0] == 201
    assert [service("DELETE", "/v1/items/brief")[0] for _ in range(3)] == [204, 204, 204]
    assert said(service("GET", "/v1/items/brief")) == (404, "unknown_id")
    for item, why in (("brief", "'brief' was removed, and takes no feedback"), ("never", "no item 'never'")):
        answer = service("POST", "/v1/feedback", {"event_id": item, "user_id": "user-0001", "item_id": item})
        assert said(answer) == (404, "unknown_id")
        assert why in str(answer)
    assert [service("DELETE", "/v1/items/item-0090")[0] for _ in range(2)] == [204, 204]
    assert said(service("DELETE", "/v1/items/never")) == (404, "unknown_id")
    assert service("POST", "/v1/items", {"item_id": "brief", "attributes": {}})[0] == 201
    assert service("GET", "/v1/items/brief")[0] == 200


def session_logs():
    """Return what Ray's processes have written, by file."""
    folder = Path(ray._private.worker._global_node.get_session_dir_path()) / "logs"
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_ids_are_in_no_log_and_what_fails_tells_a_client_nothing(service):
    """A series of requests, right and wrong ones, and at the end some that fail: the store is damaged."""
    user, item = f"{MARK}-user", f"{MARK}-item"
    event = {"event_id": f"{MARK}-event", "user_id": user, "item_id": item}
    statuses = [
        service("POST", "/v1/items", {"item_id": item, "attributes": {}})[0],
        service("GET", f"/v1/items/{item}")[0],
        service("GET", f"/v1/similar/{item}")[0],
        service("GET", f"/v1/search?q={item}")[0],
        service("POST", "/v1/feedback", event)[0],
        service("POST", "/v1/recommend", {"user_id": user})[0],
        service("POST", "/v1/recommend", {"history": [item], "explain": True})[0],
        service("POST", "/v1/recommend", {"history": [f"{item}-none"]})[0],
        service("POST", "/v1/recommend", {"user_id": user, "k": 0})[0],
        service("POST", "/v1/recommend:batch", {"requests": [{"user_id": user}]})[0],
        service("DELETE", f"/v1/items/{item}")[0],
        service("GET", f"/v1/nothing/{item}")[0],
    ]
    assert statuses == [201, 200, 200, 200, 202, 200, 200, 404, 422, 200, 204, 404]
    with sqlite3.connect(service.store) as database:
        database.execute("ALTER TABLE event_log RENAME TO gone")
    try:
        status, _, answer = service("POST", "/v1/feedback", {**event, "event_id": f"{MARK}-2", "item_id": "item-0001"})
    finally:
        with sqlite3.connect(service.store) as database:
            database.execute("ALTER TABLE gone RENAME TO event_log")
    assert status in (500, 503)
    assert not any(word in json.dumps(answer) for word in ("Traceback", "sqlalchemy", "event_log", ".py", MARK))
    time.sleep(1)  # logs are written a little later
    logs = session_logs()
    assert any(path.name.startswith("replica_coldray") for path in logs)
    assert [path.name for path, text in logs.items() if MARK.encode() in text] == []


def test_a_broken_connection_leaves_no_trace(service):
    """A client that goes away in mid-request takes no place for long."""
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(b"POST /v1/recommend HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n{")
    end = time.monotonic() + 2 * TIMEOUT_S + 5
    while service("POST", "/v1/recommend", {})[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
