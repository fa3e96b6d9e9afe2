"""Networks behind real HTTP: vectors of two towers, and texts and graphs that read ratings and times of clicks."""

import numpy as np
import pytest

from coldray.bundle.io import load_bundle, save_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from contracts.networks import full_sample, one_thread, small_bundle  # noqa: F401
from contracts.service import Client, free_port, promote

NAME, K = "networks", 7
MODELS = {"1": ("two_tower", {}), "2": ("text_graph", {"rating_embedding": True, "time_buckets": 3})}
"""By the version that each is registered as."""


@pytest.fixture(scope="module")
def folders(one_thread, tmp_path_factory):  # noqa: F811
    """Return the folder of each version's bundle."""
    root, dataset = tmp_path_factory.mktemp("networks"), full_sample()
    return {
        version: save_bundle(small_bundle(dataset, name, **fields), root / name)
        for version, (name, fields) in MODELS.items()
    }


@pytest.fixture(scope="module")
def call(folders, tracking_uri, ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("registry")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for version, place in folders.items():
            assert promote(tracking_uri, place, NAME, alias="champion" if version == "1" else "next") == version
        settings = ServiceSettings(
            tracking_uri=tracking_uri, model_name=NAME, store=f"sqlite:///{folder / 'store.db'}", poll_s=0.2
        )
        with serving(settings, host="127.0.0.1", port=free_port()) as address:
            yield Client(address)


@pytest.fixture(scope="module", params=MODELS)
def version(request):
    return request.param


@pytest.fixture(scope="module")
def engine(folders, version):
    return Engine(load_bundle(folders[version]))


def asked(call, version, **body):
    status, answer = call("/v1/recommend", {"k": K, "version": version, **body})
    assert status == 200, answer
    assert answer["model"] == {"name": NAME, "version": version}
    return answer


def check(answer, engine, **query):
    (expected,) = engine.answer([Query(k=K, **query)])
    assert [place["item_id"] for place in answer["items"]] == [place.item for place in expected.places]
    scores = [place["score"] for place in answer["items"]]
    np.testing.assert_allclose(scores, [place.score for place in expected.places], rtol=1e-4, atol=1e-5)
    assert answer["path"] == expected.path


def test_lists_of_a_network_are_those_of_its_bundle(call, engine, version):
    for user in engine.bundle.user_ids[::11].tolist():
        check(asked(call, version, user_id=user), engine, user_id=user)
    users = engine.bundle.user_ids[:20].tolist()
    requests = [{"user_id": user, "k": K, "version": version} for user in users]
    status, batch = call("/v1/recommend:batch", {"requests": requests})
    assert status == 200
    for user, answer in zip(users, batch["responses"], strict=True):
        check(answer, engine, user_id=user)


def test_ratings_and_the_order_of_a_history_reach_the_network_that_reads_them(call, engine, version):
    items = engine.ids[3:23:4]
    histories = {
        "bare": dict.fromkeys(items),
        "rated": dict(zip(items, (5.0, 1.0, 4.0, None, 2.0), strict=True)),
        "otherwise": dict(zip(items, (1.0, 5.0, 2.0, None, 4.0), strict=True)),
        "backwards": dict.fromkeys(items[::-1]),
    }
    answers = {}
    for name, history in histories.items():
        told = [item if rating is None else {"item_id": item, "rating": rating} for item, rating in history.items()]
        answers[name] = asked(call, version, history=told)
        check(answers[name], engine, history=history)
    scores = {name: [place["score"] for place in answer["items"]] for name, answer in answers.items()}
    differ = [scores[name] != pytest.approx(scores["bare"], rel=1e-5) for name in ("rated", "otherwise", "backwards")]
    assert differ == [version == "2"] * 3


def test_a_new_item_is_scored_by_every_network_that_is_served(call, version):
    name = f"fresh-{version}"
    attributes = call("/v1/items/item-0005")[1]["attributes"]
    assert call("/v1/items", {"item_id": name, "attributes": attributes})[0] == 201
    (place,) = asked(call, version, user_id="user-0003", candidates=[name])["items"]
    assert (place["item_id"], place["cold"]) == (name, True)
    assert np.isfinite(place["score"])
    assert name in [place["item_id"] for place in asked(call, version, user_id="user-0003", k=60)["items"]]
    assert call(f"/v1/items/{name}", method="DELETE") == (204, None)


def test_feedback_with_a_rating_changes_the_next_list(call, engine, version):
    user = f"newcomer-{version}"
    first, second = engine.ids[5:7]
    for item, rating in ((first, 5.0), (second, None)):
        event = {"event_id": f"{user} {item}", "user_id": user, "item_id": item, "rating": rating}
        assert call("/v1/feedback", event)[0] == 202
    check(asked(call, version, user_id=user), engine, history={first: 5.0, second: None})
