"""The service over real HTTP on real Ray Serve, with a real registry behind it."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.cli.jobs.serve import serving
from coldray.command.app import main
from coldray.core.errors import TrackingError
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.registry import RegistrySource, latest_champion
from contracts.service import Client, free_port, promote, wait_for

NAME = "served"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return two bundles that score differently and one that is damaged."""
    root = tmp_path_factory.mktemp("bundles")
    dataset = sample_dataset(0, 120, 90)
    for name, ridge in (("first", 6.0), ("second", 600.0)):
        model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5, ridge=ridge))
        save_bundle(fit_bundle(model, dataset, FeatureEncoder(FeatureConfig()), {}), root / name)
    (root / "damaged").mkdir()
    for path in (root / "first").iterdir():
        (root / "damaged" / path.name).write_bytes(path.read_bytes())
    with (root / "damaged" / "arrays.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        (last,) = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last ^ 0xFF]))
    return root


@pytest.fixture(scope="module")
def uri(new_database, tmp_path_factory):
    return new_database(tmp_path_factory.mktemp("registry") / "mlflow.db")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('store') / 'store.db'}"


@pytest.fixture(scope="module")
def settings(uri, store, folders, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))
        promote(uri, folders / "first", NAME)
        yield ServiceSettings(tracking_uri=uri, model_name=NAME, store=store, poll_s=0.2)


@pytest.fixture(scope="module")
def call(settings, ray_cluster):
    with serving(settings, host="127.0.0.1", port=free_port()) as address:
        yield Client(address)


@pytest.fixture(scope="module")
def engine(folders):
    return Engine(load_bundle(folders / "first"))


def test_the_service_says_what_it_serves(call):
    assert call("/health") == (200, {"status": "ok"})
    assert call("/ready") == (200, {"status": "ready", "model": NAME, "version": "1"})
    status, (served,) = call("/v1/models")
    assert status == 200
    assert served == {"name": NAME, "version": "1", "role": "champion", "share": 1.0} | {
        "lists": served["lists"],
        "forms": served["forms"],
        "clicks": served["clicks"],
    }
    assert served["clicks"].startswith("The model takes no clicks without a fit")
    assert served["lists"].startswith("lists=exact (exact): All items are scored, as ")


def test_a_list_is_that_of_the_model(call, engine):
    for query in ({"user_id": "user-0003", "k": 7}, {"history": ["item-0001", {"item_id": "item-0004", "rating": 4}]}):
        status, answer = call("/v1/recommend", query)
        history = {"item-0001": None, "item-0004": 4.0} if "history" in query else None
        (expected,) = engine.answer([Query(k=query.get("k", 10), user_id=query.get("user_id"), history=history)])
        assert status == 200
        assert [place["item_id"] for place in answer["items"]] == [place.item for place in expected.places]
        scores = [place["score"] for place in answer["items"]]
        np.testing.assert_allclose(scores, [place.score for place in expected.places], rtol=1e-4)
        assert [place["rank"] for place in answer["items"]] == list(range(1, len(scores) + 1))
        assert answer["path"] == expected.path
        assert answer["model"] == {"name": NAME, "version": "1"}
        assert answer["items"][0]["attributes"] == engine.attributes(answer["items"][0]["item_id"])


def test_many_at_once_get_what_each_would_get_alone(call):
    users = [f"user-{number:04d}" for number in range(40)]
    alone = [call.items(user_id=user) for user in users]
    with ThreadPoolExecutor(16) as pool:
        together = list(pool.map(lambda user: call.items(user_id=user), users))
    assert together == alone
    status, batch = call("/v1/recommend:batch", {"requests": [{"user_id": user} for user in users]})
    assert status == 200
    assert [[place["item_id"] for place in one["items"]] for one in batch["responses"]] == alone


def test_a_new_item_is_recommended_at_once_and_can_be_taken_away(call):
    attributes = call("/v1/items/item-0005")[1]["attributes"]
    assert call("/v1/items/fresh")[0] == 404
    status, made = call("/v1/items", {"item_id": "fresh", "attributes": attributes})
    assert (status, made["cold"]) == (201, True)
    assert call("/v1/items/fresh")[1] == made
    assert call.items(user_id="user-0003", candidates="cold") == ["fresh"]
    assert "fresh" in call.items(user_id="user-0003", k=200)
    assert call("/v1/items/fresh", method="DELETE") == (204, None)
    assert call("/v1/items/fresh")[0] == 404
    assert "fresh" not in call.items(user_id="user-0003", k=200)


def test_labels_that_the_model_does_not_know_are_told(call):
    known = call("/v1/items/item-0005")[1]
    assert known["unread_labels"] == {}
    attributes = {**known["attributes"], "genres": [known["attributes"]["genres"][0], "no such", "nor such"]}
    status, made = call("/v1/items", {"item_id": "fresh", "attributes": attributes})
    assert (status, made["unread_labels"]) == (201, {"genres": ["no such", "nor such"]})
    assert call("/v1/items/fresh", method="DELETE") == (204, None)


def test_feedback_changes_the_next_list_and_counts_once(call):
    first = call.items(user_id="newcomer")
    event = {"event_id": "one", "user_id": "newcomer", "item_id": "item-0004"}
    assert call("/v1/feedback", event) == (202, {"event_id": "one", "new": True})
    status, answer = call("/v1/recommend", {"user_id": "newcomer"})
    assert (status, answer["path"]) == (200, "history")
    following = [place["item_id"] for place in answer["items"]]
    assert following != first
    assert "item-0004" not in following
    assert call("/v1/feedback", event) == (202, {"event_id": "one", "new": False})
    assert call.items(user_id="newcomer") == following
    status, answer = call("/v1/feedback", {**event, "item_id": "item-0005"})
    assert (status, answer["error"]["code"]) == (422, "invalid_value")


@pytest.mark.parametrize(
    ("path", "body", "status", "expected"),
    [
        ("/v1/recommend", {"k": 0}, 422, "k: Input should be greater than or equal to 1"),
        ("/v1/recommend", {"k": 10**6}, 422, "k: Input should be less than or equal to 1000"),
        ("/v1/recommend", {"k": "many"}, 422, "k: "),
        ("/v1/recommend", {"users": 1}, 422, "users: Extra inputs are not permitted"),
        ("/v1/recommend", {"history": ["nothing"]}, 404, "history: there is no item 'nothing'"),
        ("/v1/recommend", {"history": ["x"] * 10_001}, 422, "history: "),
        ("/v1/recommend", {"exclude": [1.5]}, 422, "exclude"),
        ("/v1/recommend", {"filters": {"genre": {"any": ["a"]}}}, 422, "Did you mean 'genres'"),
        ("/v1/recommend", {"filters": {"year": {"at_least": "soon"}}}, 422, "filters.year.at_least"),
        ("/v1/recommend", {"diversity": 2}, 422, "diversity"),
        ("/v1/items", {"item_id": "item-0001", "attributes": {}}, 422, "the model was fitted with"),
        ("/v1/items", {"item_id": "x", "attributes": {"genre": 1}}, 422, "Did you mean 'genres'"),
        ("/v1/items", {"attributes": {}}, 422, "item_id: Field required"),
        ("/v1/feedback", {"event_id": "", "user_id": "a", "item_id": "b"}, 422, "event_id"),
        ("/v1/feedback", {"event_id": "z", "user_id": "a", "item_id": "b"}, 404, "there is no item 'b'"),
    ],
)
def test_a_bad_request_names_the_field(call, path, body, status, expected):
    found, answer = call(path, body)
    assert found == status
    assert expected in answer["error"]["message"]


@pytest.mark.parametrize(
    ("raw", "status"), [(b"\xff\xfe{", 400), (b"", 422), (b"[1, 2", 422), (b'{"k": ' + b" " * (1 << 20) + b"1}", 413)]
)
def test_a_body_that_is_no_request_is_refused(call, raw, status):
    found, answer = call("/v1/recommend", raw=raw, method="POST")
    assert found == status
    assert set(answer) == {"error"}


def served_version(call):
    return call("/ready")[1]["version"]


def test_a_promotion_is_served_without_a_lost_request_and_rolled_back(call, settings, folders):
    """Every answer is of one version; a damaged bundle is refused, and the one before goes on."""
    uri, client = settings.tracking_uri, MlflowClient(settings.tracking_uri, settings.tracking_uri)
    expected = {"1": call.items(user_id="user-0007")}
    seen, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            seen.append(call("/v1/recommend", {"user_id": "user-0007"}))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        promote(uri, folders / "second", NAME)
        wait_for(lambda: served_version(call) == "2")
        expected["2"] = call.items(user_id="user-0007")
        promote(uri, folders / "damaged", NAME)
        time.sleep(2)
        assert served_version(call) == "2"
        client.set_registered_model_alias(NAME, "champion", "1")
        wait_for(lambda: served_version(call) == "1")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert expected["1"] != expected["2"]
    assert {status for status, _ in seen} == {200}
    assert {answer["model"]["version"] for _, answer in seen} == {"1", "2"}
    for _, answer in seen:
        assert [place["item_id"] for place in answer["items"]] == expected[answer["model"]["version"]]


def test_what_was_taken_in_is_there_for_another_replica(call, settings, folders):
    """A replica that starts reads what the store has, as one does after a restart."""
    attributes = call("/v1/items/item-0005")[1]["attributes"]
    assert call("/v1/items", {"item_id": "kept", "attributes": attributes})[0] == 201
    restarted = LiveModel(load_bundle(folders / "first"), ModelVersion(NAME, "1"), settings.open_store())
    assert restarted.engine.knows_item("kept")
    expected = [place.item for place in restarted.engine.answer([Query(user_id="newcomer")])[0].places]
    assert call.items(user_id="newcomer") == expected


def test_the_interface_documents_itself(call):
    status, page = call("/openapi.json")
    assert status == 200
    assert {"/v1/recommend", "/v1/recommend:batch", "/v1/items", "/v1/feedback", "/v1/models", "/v1/versions"} <= set(
        page["paths"]
    )
    for methods in page["paths"].values():
        for operation in methods.values():
            assert operation["description"]


def test_a_registry_without_a_champion_is_said_before_anything_starts(new_database, tmp_path, capsys):
    empty = new_database(tmp_path / "empty.db")
    assert main(["serve", "--tracking-uri", empty]) == 1
    assert "has no model with the alias 'champion'. Run a tuning job first" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(TrackingError, match="has no model 'other' with the alias"):
        RegistrySource(empty, "other").current()


def test_the_youngest_champion_of_real_data_is_the_one_to_serve(uri, settings, folders, caplog):
    assert latest_champion(uri) == NAME
    promote(uri, folders / "second", "younger")
    assert latest_champion(uri) == "younger"
    for folder in ("sample", "tagged"):  # generated data do not take the place of what is in use
        version = promote(uri, folders / "sample", folder)
        if folder == "tagged":
            MlflowClient(uri, uri).set_model_version_tag(folder, version, "coldray.synthetic", "true")
    assert latest_champion(uri) == "sample"  # of which nothing is known
    MlflowClient(uri, uri).set_model_version_tag("sample", "1", "coldray.synthetic", "true")
    assert latest_champion(uri) == "younger"
    assert "tagged is of generated data and passed over for younger" in caplog.text
