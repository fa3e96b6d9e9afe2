"""Canary, shadow and versions by name over real HTTP, with a real registry behind the service."""

import re
import urllib.request

import pytest
import ray
from mlflow.tracking import MlflowClient

from coldray.bundle.io import load_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.versions import _place_of
from contracts.service import Client, free_port, promote, wait_for

NAME, SHARE = "versions", 0.5
USERS = [f"user-{number:04d}" for number in range(30)]


@pytest.fixture(scope="module")
def registry(folders, tracking_uri, tmp_path_factory):
    """Register a champion (1), another model (2) and a damaged bundle (3)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))
        for folder, alias in (("first", "champion"), ("second", None), ("damaged", None)):
            promote(tracking_uri, folders / folder, NAME, alias)
        yield MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture(scope="module")
def call(registry, tracking_uri, ray_cluster, tmp_path_factory):
    settings = ServiceSettings(
        tracking_uri=tracking_uri,
        model_name=NAME,
        store=f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}",
        poll_s=0.2,
        canary_alias="challenger",
        canary_share=SHARE,
        shadow_alias="shade",
    )
    with serving(settings, host="127.0.0.1", port=free_port()) as address:
        yield Client(address)


@pytest.fixture(scope="module")
def expected(folders):
    """Return the list of each user by version, made without the service."""
    engines = {version: Engine(load_bundle(folders / name)) for version, name in (("1", "first"), ("2", "second"))}
    return {
        version: [
            [place.item for place in answer.places]
            for answer in engine.answer([Query(user_id=user, k=10) for user in USERS])
        ]
        for version, engine in engines.items()
    }


def roles(call):
    status, served = call("/v1/models")
    assert status == 200
    return {one["role"]: (one["version"], one["share"]) for one in served}


def answers(call, **fields):
    """Return who answers each user, and with which items."""
    found = [call("/v1/recommend", {"user_id": user, **fields}) for user in USERS]
    assert {status for status, _ in found} == {200}
    return [answer["model"]["version"] for _, answer in found], [
        [item["item_id"] for item in answer["items"]] for _, answer in found
    ]


def test_a_canary_answers_its_users_until_its_alias_goes_or_its_bundle_is_bad(call, registry, expected):
    assert roles(call) == {"champion": ("1", 1.0)}
    assert answers(call) == (["1"] * len(USERS), expected["1"])
    registry.set_registered_model_alias(NAME, "challenger", "2")
    wait_for(lambda: roles(call) == {"champion": ("1", 1 - SHARE), "canary": ("2", SHARE)})
    versions, lists = answers(call)
    assert versions == ["2" if _place_of(RecommendRequest(user_id=user)) < SHARE else "1" for user in USERS]
    assert set(versions) == {"1", "2"}
    assert lists == [expected[version][place] for place, version in enumerate(versions)]
    assert answers(call, k=7)[0] == versions
    batch = call("/v1/recommend:batch", {"requests": [{"user_id": user} for user in USERS]})[1]["responses"]
    assert [answer["model"]["version"] for answer in batch] == versions
    registry.set_registered_model_alias(NAME, "challenger", "3")
    wait_for(lambda: roles(call) == {"champion": ("1", 1.0)})
    assert answers(call) == (["1"] * len(USERS), expected["1"])
    registry.set_registered_model_alias(NAME, "challenger", "2")
    wait_for(lambda: "canary" in roles(call))
    registry.delete_registered_model_alias(NAME, "challenger")
    wait_for(lambda: roles(call) == {"champion": ("1", 1.0)})
    assert answers(call) == (["1"] * len(USERS), expected["1"])


def told_of(call, version):
    return next((one for one in call("/v1/versions")[1] if one["version"] == version), {})


def test_a_study_of_the_sample_leaves_a_live_service_as_it_is(call, registry, expected, tracking_uri, folders):
    """It took the alias and was served: films of MovieLens became "The train mountain 21"."""
    for folder, told in (("sample", "are generated"), ("numbered", "item ids of 'films' are integer")):
        version = promote(tracking_uri, folders / folder, NAME)
        wait_for(lambda version=version: "refused" in told_of(call, version))
        found = told_of(call, version)
        assert told in found["refused"]
        assert found["aliases"] == ["champion"]
        assert roles(call) == {"champion": ("1", 1.0)}
        assert answers(call) == (["1"] * len(USERS), expected["1"])
        registry.set_registered_model_alias(NAME, "champion", "1")
        registry.delete_model_version(NAME, version)


def test_feedback_and_new_items_reach_the_canary_too(call, registry):
    registry.set_registered_model_alias(NAME, "challenger", "2")
    wait_for(lambda: "canary" in roles(call))
    user = next(user for user in USERS if _place_of(RecommendRequest(user_id=user)) < SHARE)
    first = call.items(user_id=user)
    assert call("/v1/feedback", {"event_id": "canary", "user_id": user, "item_id": first[0]})[0] == 202
    assert first[0] not in call.items(user_id=user)
    attributes = call(f"/v1/items/{first[0]}")[1]["attributes"]
    assert call("/v1/items", {"item_id": "fresh", "attributes": attributes})[0] == 201
    assert call.items(user_id=user, candidates="cold") == ["fresh"]
    assert call("/v1/items/fresh", method="DELETE")[0] == 204
    assert call.items(user_id=user, candidates="cold") == []
    registry.delete_registered_model_alias(NAME, "challenger")
    wait_for(lambda: "canary" not in roles(call))


def metrics_of(name):
    """Return the sum of the values of a metric, over what Ray exports for Prometheus."""
    found = {}
    for node in ray.nodes():
        address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(address, timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"ray_coldray_{name}"):
                    labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
                    key = (line.partition("{")[0], labels.get("outcome", labels.get("found")))
                    found[key] = found.get(key, 0.0) + float(line.rpartition(" ")[2])
    return found


def test_a_shadow_is_compared_and_changes_no_answer(call, registry, expected):
    registry.set_registered_model_alias(NAME, "shade", "2")
    wait_for(lambda: roles(call) == {"champion": ("1", 1.0), "shadow": ("2", 0.0)})
    users = USERS[-10:]
    for place, user in enumerate(users):
        status, answer = call("/v1/recommend", {"user_id": user, "exclude": ["item-0001"]})
        assert (status, answer["model"]["version"]) == (200, "1")
        assert [item["item_id"] for item in answer["items"][:3]] == [
            item for item in expected["1"][len(USERS) - 10 + place] if item != "item-0001"
        ][:3]
    wait_for(lambda: metrics_of("shadow_lists").get(("ray_coldray_shadow_lists_total", "compared"), 0) >= 10, 60)
    metrics = metrics_of("shadow_overlap")
    assert metrics["ray_coldray_shadow_overlap_count", None] >= 10
    assert 0 < metrics["ray_coldray_shadow_overlap_sum", None] < metrics["ray_coldray_shadow_overlap_count", None]
    lists = metrics_of("cached_lists")
    assert lists["ray_coldray_cached_lists_total", "no"] > 30
    assert lists["ray_coldray_cached_lists_total", "yes"] > 30
    registry.delete_registered_model_alias(NAME, "shade")
    wait_for(lambda: "shadow" not in roles(call))


def test_a_request_is_answered_by_the_version_that_it_names(call, expected):
    assert call("/v1/versions") == (
        200,
        [
            {"name": NAME, "version": "3", "aliases": []},
            {"name": NAME, "version": "2", "aliases": []},
            {"name": NAME, "version": "1", "aliases": ["champion"]},
        ],
    )
    for version in ("2", "1"):
        answer = call("/v1/recommend", {"user_id": USERS[5], "version": version})[1]
        assert answer["model"]["version"] == version
        assert [item["item_id"] for item in answer["items"]] == expected[version][5]
    mixed = [{"user_id": USERS[5], "version": "2"}, {"user_id": USERS[5]}]
    batch = call("/v1/recommend:batch", {"requests": mixed})[1]["responses"]
    assert [answer["model"]["version"] for answer in batch] == ["2", "1"]
    assert roles(call) == {"champion": ("1", 1.0)}


@pytest.mark.parametrize(
    ("version", "status", "message"),
    [
        ("3", 422, "version: '3' cannot be served; the log of the service says why."),
        ("4", 404, f"version: there is no version '4' of '{NAME}'. GET /v1/versions lists them."),
        ("latest", 404, f"version: there is no version 'latest' of '{NAME}'. GET /v1/versions lists them."),
        ("²", 404, f"version: there is no version '²' of '{NAME}'. GET /v1/versions lists them."),
        ("9" * 64, 404, None),
        ("", 422, "version: String should have at least 1 character"),
        (2, 422, "version: Input should be a valid string"),
    ],
)
def test_a_version_that_is_none_is_an_error_of_that_field(call, version, status, message):
    found, answer = call("/v1/recommend", {"user_id": USERS[0], "version": version})
    assert found == status
    assert message in (None, answer["error"]["message"])
