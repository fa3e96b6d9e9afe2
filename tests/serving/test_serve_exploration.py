"""Exploration over real HTTP: two replicas learn from feedback, and know it after a restart."""

from contextlib import contextmanager

import pytest

from coldray.bundle.io import load_bundle, save_bundle
from coldray.cli.jobs.serve import _service_settings, serving
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.engine.queries import Query
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store
from contracts.jobs import options_of
from contracts.service import Client, free_port, wait_for

LINUCB = ExplorationConfig(method="linucb")


@pytest.fixture
def settings(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "bundle")
    store = f"sqlite:///{tmp_path / 'store.db'}"
    return ServiceSettings(bundle=tmp_path / "bundle", store=store, poll_s=0.2, replicas=2, exploration=LINUCB)


@contextmanager
def service(settings):
    with serving(settings, host="127.0.0.1", port=free_port()) as address:
        yield Client(address)


def check_what_cannot_be_is_refused_by_name(call):
    event = {"event_id": "bad", "user_id": "a", "item_id": "item-0001"}
    for path, body, named in (
        ("/v1/feedback", {**event, "clicked": "no"}, "clicked: Input should be a valid boolean"),
        ("/v1/feedback", {**event, "clicked": None}, "clicked: "),
        ("/v1/feedback", {**event, "clicked": False, "rating": 2}, "clicked: Value error, an item with a rating was"),
        ("/v1/feedback", {**event, "click": False}, "click: Extra inputs are not permitted"),
        ("/v1/recommend", {"explore": "perhaps"}, "explore: Input should be a valid boolean"),
    ):
        status, answer = call(path, body)
        assert status == 422
        assert named in answer["error"]["message"]
    status, answer = call("/v1/feedback", {**event, "item_id": "nothing", "clicked": False})
    assert (status, answer["error"]["code"]) == (404, "unknown_id")


def check_feedback_changes_the_lists_of_others_in_all_replicas(call, settings, asked):
    status, first = call("/v1/recommend", asked)
    assert (status, first["exploration"]) == (200, "linucb")
    status, plain = call("/v1/recommend", {**asked, "explore": False})
    assert status == 200
    assert "exploration" not in plain
    scores = [place["score"] for place in plain["items"]]
    assert scores == sorted(scores, reverse=True)
    left = [place["item_id"] for place in first["items"][:2]]
    taken = call.items(user_id="user-0003", k=40)[-1]
    for number in range(20):
        user = f"user-{number + 10:04d}"
        for item in left:
            event = {"event_id": f"{number}-{item}", "user_id": user, "item_id": item, "clicked": False}
            assert call("/v1/feedback", event) == (202, {"event_id": event["event_id"], "new": True})
        event = {"event_id": f"{number}-{taken}", "user_id": user, "item_id": taken}
        assert call("/v1/feedback", event)[0] == 202
    assert call("/v1/feedback", event) == (202, {"event_id": event["event_id"], "new": False})
    status, answer = call("/v1/feedback", {**event, "clicked": False})
    assert (status, answer["error"]["code"]) == (422, "invalid_value")

    store = Store(settings.store)
    replica = LiveModel(load_bundle(settings.bundle), ModelVersion("bundle", "-"), store, LINUCB)
    assert len(store.events_since(0)) == 60
    assert all(event.context for event in store.events_since(0))
    store.close()
    (answer,) = replica.engine.answer([Query(user_id="user-0003", k=5)])
    expected = [place.item for place in answer.places]
    assert set(left).isdisjoint(expected)
    assert expected[0] == taken
    wait_for(lambda: all(call.items(**asked) == expected for _ in range(12)))
    assert call("/v1/recommend", {**asked, "explore": False})[1]["items"] == plain["items"]
    status, batch = call("/v1/recommend:batch", {"requests": [asked, {**asked, "explore": False}]})
    assert [answer.get("exploration") for answer in batch["responses"]] == ["linucb", None]
    return expected


def test_feedback_changes_lists_in_all_replicas_and_after_a_restart(settings, ray_cluster):
    asked = {"user_id": "user-0003", "k": 5}
    with service(settings) as call:
        check_what_cannot_be_is_refused_by_name(call)
        expected = check_feedback_changes_the_lists_of_others_in_all_replicas(call, settings, asked)
    with service(settings.model_copy(update={"replicas": 1})) as again:
        assert again.items(**asked) == expected


def test_the_job_turns_it_on(bundle, tmp_path):
    save_bundle(bundle, tmp_path / "bundle")

    def settings(*more):
        options = ["--bundle", str(tmp_path / "bundle"), "--store", "sqlite://", *more]
        return _service_settings(options_of("serve", *options))

    assert settings().exploration == ExplorationConfig()
    assert settings("--exploration", "thompson").exploration.method == "thompson"
