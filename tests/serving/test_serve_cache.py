"""Kept lists over real HTTP: an answer is never out of date, and a Redis that goes away costs no request."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from coldray.cli.jobs.serve import serving
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.live.cache import _PREFIX
from contracts.service import Client, RedisServer, free_port, promote, wait_for


@pytest.fixture(scope="module")
def redis(redis_executable):
    server = RedisServer(redis_executable)
    yield server
    server.stop()


@pytest.fixture(scope="module", params=["memory", "redis"])
def service(request, folders, ray_cluster, tracking_uri, tmp_path_factory):
    """Return a client, and what promotes a bundle, of a service that keeps lists in memory or in Redis."""
    root, name = tmp_path_factory.mktemp(request.param), f"kept-{request.param}"
    settings = ServiceSettings(
        tracking_uri=tracking_uri,
        model_name=name,
        store=f"sqlite:///{root / 'store.db'}",
        poll_s=0.2,
        cache=request.getfixturevalue("redis").url if request.param == "redis" else "memory",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        promote(tracking_uri, folders / "first", name)
        with serving(settings, host="127.0.0.1", port=free_port()) as address:
            yield Client(address), lambda bundle: promote(tracking_uri, folders / bundle, name)


def test_a_kept_list_is_given_again_until_something_changes_it(service, request):
    call, promoted = service
    query = {"user_id": "user-0003", "k": 12}
    first = call("/v1/recommend", query)
    for _ in range(3):
        assert call("/v1/recommend", query) == first
    assert len(first[1]["items"]) == 12
    other = call.items(user_id="user-0004", k=12)

    clicked = first[1]["items"][0]["item_id"]
    assert call("/v1/feedback", {"event_id": "e", "user_id": "user-0003", "item_id": clicked})[0] == 202
    second = call("/v1/recommend", query)
    assert clicked not in [item["item_id"] for item in second[1]["items"]]
    assert call("/v1/recommend", query) == second
    assert call.items(user_id="user-0004", k=12) == other

    attributes = call(f"/v1/items/{clicked}")[1]["attributes"]
    assert call.items(user_id="user-0003", candidates="cold") == []
    assert call("/v1/items", {"item_id": "fresh", "attributes": attributes})[0] == 201
    assert call.items(user_id="user-0003", candidates="cold") == ["fresh"]
    assert call("/v1/items/fresh", method="DELETE")[0] == 204
    assert call.items(user_id="user-0003", candidates="cold") == []

    assert call("/v1/recommend", query)[1]["model"]["version"] == "1"
    promoted("second")
    wait_for(lambda: call("/ready")[1]["version"] == "2")
    third = call("/v1/recommend", query)
    assert third[1]["model"]["version"] == "2"
    assert [item["item_id"] for item in third[1]["items"]] != [item["item_id"] for item in second[1]["items"]]
    if request.node.callspec.params["service"] == "redis":
        with Redis.from_url(request.getfixturevalue("redis").url) as kept:
            hits = kept.info("stats")["keyspace_hits"]
            wait_for(lambda: call("/v1/recommend", query) == third and kept.info("stats")["keyspace_hits"] > hits)
            assert kept.keys(f"{_PREFIX}*")


@pytest.mark.parametrize("service", ["redis"], indirect=True)
def test_a_redis_that_dies_or_halts_costs_no_request(service, redis):
    call, _ = service
    users = [f"user-{number:04d}" for number in range(20)]
    expected = {user: call.items(user_id=user) for user in users}
    wrong, stop = [], threading.Event()

    def ask(user):
        while not stop.is_set():
            status, answer = call("/v1/recommend", {"user_id": user})
            if status != 200 or [item["item_id"] for item in answer["items"]] != expected[user]:
                wrong.append((status, answer))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, user) for user in users[:4]]
        try:
            redis.stop()
            for user in users:
                assert call.items(user_id=user) == expected[user]
            redis.start()
            with redis.halted():
                for user in users:
                    assert call.items(user_id=user) == expected[user]
            with Redis.from_url(redis.url) as kept:
                wait_for(lambda: kept.dbsize() > 0)
        finally:
            stop.set()
        for one in asking:
            one.result()
    assert wrong == []
