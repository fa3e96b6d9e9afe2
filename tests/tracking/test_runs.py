"""A study on a real MLflow database: what its runs say, how they end, and what the registry serves."""

import json
import socket
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient
from mlflow.types import DataType

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.core.errors import TrackingError
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.edges import Edge
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.results import FoldMetrics, Selection, StudyResult, TrialResult
from coldray.experiments.space import StudyConfig
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.tracking.access import check_reachable
from coldray.tracking.logged_values import fold_metrics
from coldray.tracking.runs import StudyTracker
from coldray.tracking.server import active_server
from contracts.lists import places_of

CONFIG = StudyConfig.model_validate(
    {
        "name": "small",
        "model": "marec",
        "space": {"lambda_1": {"log_uniform": [1, 100]}, "order": {"choice": [1, 2]}},
        "search": {"algorithm": "random", "trials": 3, "seed": 9},
        "splits": {"n_splits": 2},
        "cutoffs": [10],
    }
)
ALWAYS = Promotion("always", "champion", "--promote always", asked=False)
PROTOCOL = {"split": "notebook: 60/20/20", "first split": "60 train items"}


@pytest.fixture(scope="module")
def dataset():
    return sample_dataset(0, 120, 100)


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture
def tracker(tracking_uri, tmp_path, request):
    """A tracker with an experiment of its own."""
    return StudyTracker(tracking_uri, request.node.name, artifact_location=tmp_path / "artifacts")


def folds(*values):
    return tuple(
        FoldMetrics(42, split, {"ndcg@10": value, "hr@10": value / 2}, 1.5) for split, value in enumerate(values)
    )


def trial(number, *values, status="finished", error=None):
    config = MARecConfig(lambda_1=2.5 + number, order=1, delta=5.0).model_dump(mode="json")
    return TrialResult(f"t{number}", number, config, folds(*values), status, error, 3.0)


def study_result(dataset, trials):
    winner = trials[0]
    return StudyResult(
        name="small",
        model="marec",
        dataset={"name": dataset.name, "synthetic": True, "fingerprint": dataset.fingerprint},
        protocol=PROTOCOL,
        searched=CONFIG.searched,
        cutoffs=(10,),
        trials=tuple(trials),
        selection=Selection(winner, winner, (winner,), "ndcg@10", 0.02, ()),
        test=folds(0.25, 0.35),
        test_intervals={"ndcg@10": (0.2, 0.4)},
        seconds=12.0,
        edges=(Edge("lambda_1", 2.5, "low", "log_uniform [2.5, 100]"),),
    )


def start(tracker, dataset, trials):
    tracker.study_started(CONFIG, dataset, "small-sample-1", PROTOCOL)
    for one in trials:
        tracker.trial_started(one.trial_id, one.number, {name: one.config[name] for name in CONFIG.searched})


TRIALS = [
    trial(0, 0.3, 0.4),
    trial(1, 0.2, status="pruned"),
    trial(2, status="failed", error="SingularMatrixError: XᵀX + λ₁I is singular. Use a larger lambda_1."),
]


@pytest.fixture(scope="module")
def logged(tracking_uri, dataset, tmp_path_factory):
    """A whole study, logged once."""
    folder = tmp_path_factory.mktemp("logged")
    report = folder / "report.html"
    report.write_text("<html>report</html>")
    tracker = StudyTracker(tracking_uri, "whole study", artifact_location=folder / "artifacts")
    start(tracker, dataset, TRIALS)
    for one in TRIALS:
        tracker.trial_ended(one)
    tracker.finish(study_result(dataset, TRIALS), [report])
    tracker.close(failed=False)
    return tracker


def trial_runs(client, tracker):
    runs = client.search_runs([tracker.experiment_id], "tags.`coldray.kind` = 'trial'", order_by=["start_time ASC"])
    return {int(run.data.tags["coldray.trial"]): run for run in runs}


def test_a_study_is_one_parent_with_one_nested_run_a_trial(client, logged):
    (parent,) = client.search_runs([logged.experiment_id], "tags.`coldray.kind` = 'study'")
    assert parent.info.run_id == logged.run_id
    assert parent.info.run_name == "small on sample"
    runs = trial_runs(client, logged)
    assert sorted(runs) == [0, 1, 2]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {logged.run_id}
    assert [runs[number].info.run_name for number in range(3)] == ["trial 000", "trial 001", "trial 002"]
    assert len({run.data.tags["coldray.trial_key"] for run in runs.values()}) == 3


def test_what_is_on_the_edge_of_the_search_is_a_tag_of_the_study(client, logged):
    tags = client.get_run(logged.run_id).data.tags
    assert tags["coldray.edges"] == "lambda_1=2.5 (low end of log_uniform [2.5, 100])"


def test_runs_end_as_their_trials_did(client, logged):
    runs = trial_runs(client, logged)
    assert [runs[number].info.status for number in range(3)] == ["FINISHED", "FINISHED", "FAILED"]
    assert [runs[number].data.tags["coldray.status"] for number in range(3)] == ["finished", "pruned", "failed"]
    assert runs[2].data.tags["coldray.error"] == TRIALS[2].error
    assert "coldray.error" not in runs[0].data.tags
    assert client.get_run(logged.run_id).info.status == "FINISHED"


def test_parameters_and_metrics_can_be_searched(client, logged):
    runs = trial_runs(client, logged)
    found = client.search_runs(
        [logged.experiment_id],
        "metrics.val_ndcg_at_10 > 0.25 and params.order = '1' and params.learner = 'regression'",
    )
    assert [run.info.run_id for run in found] == [runs[0].info.run_id]
    assert float(runs[1].data.params["lambda_1"]) == 3.5
    assert set(runs[2].data.params) == set(MARecConfig.model_fields)
    best = client.search_runs(
        [logged.experiment_id], "tags.`coldray.kind` = 'trial'", order_by=["metrics.val_ndcg_at_10 DESC"]
    )
    assert best[0].info.run_id == runs[0].info.run_id


def test_metrics_are_means_with_their_spread_and_each_split_as_a_step(client, logged):
    run = trial_runs(client, logged)[0]
    assert run.data.metrics["val_ndcg_at_10"] == pytest.approx(0.35)
    assert run.data.metrics["val_ndcg_at_10_std"] == pytest.approx(np.std([0.3, 0.4], ddof=1))
    assert run.data.metrics["seconds"] == 3.0
    history = client.get_metric_history(run.info.run_id, "val_ndcg_at_10_split")
    assert sorted((entry.step, entry.value) for entry in history) == [(0, 0.3), (1, 0.4)]
    failed = trial_runs(client, logged)[2]
    assert not [name for name in failed.data.metrics if name.startswith("val_")]


def test_the_parent_tells_settings_protocol_and_findings(client, logged, dataset):
    data = client.get_run(logged.run_id).data
    assert data.params["search.algorithm"] == "random"
    assert data.params["search.trials"] == "3"
    assert data.params["search.seed"] == "9"
    assert data.params["splits"] == "2"
    assert data.params["winner.lambda_1"] == "2.5"
    assert data.tags["protocol.split"] == PROTOCOL["split"]
    assert data.tags["protocol.first_split"] == "60 train items"
    assert data.tags["dataset.synthetic"] == "true"
    assert data.tags["dataset.fingerprint"] == dataset.fingerprint
    assert data.metrics["test_ndcg_at_10"] == pytest.approx(0.3)
    assert data.metrics["val_ndcg_at_10"] == pytest.approx(0.35)
    history = client.get_metric_history(logged.run_id, "test_ndcg_at_10_split")
    assert sorted((entry.step, entry.value) for entry in history) == [(0, 0.25), (1, 0.35)]
    winner = trial_runs(client, logged)[0]
    assert data.tags["coldray.winner_run_id"] == winner.info.run_id
    assert winner.data.tags["coldray.winner"] == "true"


def test_the_dataset_is_an_input_named_by_its_fingerprint(client, logged, dataset):
    (given,) = client.get_run(logged.run_id).inputs.dataset_inputs
    assert given.dataset.name == "sample"
    assert dataset.fingerprint.startswith(given.dataset.digest)
    assert len(given.dataset.digest) >= 32
    profile = json.loads(given.dataset.profile)
    assert profile["fingerprint"] == dataset.fingerprint
    assert profile["n_interactions"] == dataset.interactions.nnz
    assert json.loads(given.dataset.source)["source"] == "sample"


def test_artifacts_lie_in_the_folder_asked_for(client, logged, tmp_path_factory):
    assert [entry.path for entry in client.list_artifacts(logged.run_id, "report")] == ["report/report.html"]
    copy = client.download_artifacts(logged.run_id, "report/report.html", str(tmp_path_factory.mktemp("copy")))
    assert Path(copy).read_text() == "<html>report</html>"


@pytest.mark.parametrize("failed", [True, False])
def test_no_run_is_left_running(client, tracker, dataset, failed):
    start(tracker, dataset, TRIALS)
    tracker.trial_ended(TRIALS[0])
    tracker.close(failed=failed)
    runs = trial_runs(client, tracker)
    assert [runs[number].info.status for number in range(3)] == ["FINISHED", "KILLED", "KILLED"]
    assert client.get_run(tracker.run_id).info.status == ("FAILED" if failed else "FINISHED")
    assert client.search_runs([tracker.experiment_id], "attributes.status = 'RUNNING'") == []


def test_a_study_that_raises_leaves_a_failed_run(client, tracker, dataset):
    def interrupted():
        with tracker:
            start(tracker, dataset, TRIALS[:1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert client.get_run(tracker.run_id).info.status == "FAILED"
    assert trial_runs(client, tracker)[0].info.status == "KILLED"


def test_closing_before_anything_started_does_nothing(client, tracker):
    tracker.close(failed=True)
    assert client.search_runs([tracker.experiment_id]) == []


def test_a_trial_that_failed_before_it_started_has_its_run(client, tracker, dataset):
    tracker.study_started(CONFIG, dataset, "small-sample-2", PROTOCOL)
    tracker.trial_ended(TRIALS[2])
    tracker.close(failed=False)
    runs = trial_runs(client, tracker)
    assert [(number, run.info.status) for number, run in runs.items()] == [(2, "FAILED")]


def test_long_and_odd_values_are_logged(client, tracker, dataset):
    values = {"lambda_1": 1e-5, "order": 1, "delta": {"genres": 5.0, "actors": 2.0}, "learner": None}
    one = TrialResult("t0", 0, values, folds(0.3, 0.0), "failed", "E: " + "é" * 9000, 1.0)
    tracker.study_started(CONFIG, dataset, "small-sample-3", {"split": "x" * 9000})
    tracker.trial_started("t0", 0, {"lambda_1": 1e-5, "order": 1})
    tracker.trial_ended(one)
    tracker.close(failed=False)
    run = trial_runs(client, tracker)[0]
    assert json.loads(run.data.params["delta"]) == values["delta"]
    assert float(run.data.params["lambda_1"]) == 1e-5
    assert run.data.tags["coldray.error"].startswith("E: é")


def test_nothing_measured_is_nothing_logged():
    assert fold_metrics("val", ()) == []


def test_parts_of_a_test_are_logged_where_every_split_has_them():
    parts = {"overall.n5.ndcg@10": 0.2, "overall.n50.ndcg@10": 0.4}
    folds = [FoldMetrics(42, split, {"ndcg@10": 0.3}, parts=dict(list(parts.items())[: 2 - split])) for split in (0, 1)]
    logged = {metric.key: metric.value for metric in fold_metrics("test", folds)}
    assert logged["test_overall.n5.ndcg_at_10"] == pytest.approx(0.2)
    assert logged["test_ndcg_at_10"] == pytest.approx(0.3)
    assert not any("n50" in name for name in logged)


# The registry.


@pytest.fixture(scope="module")
def bundles(dataset, tmp_path_factory):
    """Two bundles that recommend different lists, and where they lie."""
    made = []
    for lambda_1 in (1.0, 5000.0):
        model = MARec(MARecConfig(order=1, delta=5.0, lambda_1=lambda_1))
        bundle = fit_bundle(model, dataset, FeatureEncoder(FeatureConfig()), {})
        made.append(save_bundle(bundle, tmp_path_factory.mktemp("bundles") / "bundle"))
    return made


@pytest.fixture
def registry(tracking_uri):
    """Let MLflow's own calls, with which a user loads a model, speak to the database of these tests."""
    with active_server(tracking_uri):
        yield


def lists(table):
    return [part["item"].tolist() for _, part in table.sort_values(["row", "rank"]).groupby("row")]


def test_the_champion_is_what_was_registered_last(client, logged, bundles, dataset, registry):
    before = mlflow.get_tracking_uri()
    history = [item.item() for item in dataset.item_ids[[3, 14, 15]]]
    users = [user.item() for user in dataset.user_ids[:3]]
    expected = []
    for number, folder in enumerate(bundles, start=1):
        version = logged.register(folder, (DataType.string, DataType.string), "test-champion", ALWAYS).version
        assert version == str(number)
        assert mlflow.get_tracking_uri() == before
        assert str(client.get_model_version_by_alias("test-champion", "champion").version) == version
        assert client.get_model_version("test-champion", version).run_id == logged.run_id
        loaded = mlflow.pyfunc.load_model("models:/test-champion@champion")
        bundle = load_bundle(folder)
        wanted = [[place.item for place in places_of(bundle, [history], 4)[0]]]
        wanted.append([place.item for place in bundle.most_clicked(4)])
        given = loaded.predict(pd.DataFrame({"history": [history, []]}), params={"k": 4})
        assert lists(given) == wanted
        assert list(given.columns) == ["row", "rank", "item", "score", "cold", "path"]
        assert given["path"].tolist() == ["history"] * 4 + ["popularity"] * 4
        asked = loaded.predict(pd.DataFrame({"user_id": [users[0], "nobody"]}), params={"k": 4})
        assert asked["path"].tolist() == ["model"] * 4 + ["popularity"] * 4
        assert lists(asked)[1] == wanted[1]
        assert given["rank"].tolist() == [1, 2, 3, 4] * 2
        wanted = [
            [place.item for place in places]
            for places in places_of(bundle, [bundle.history(user) for user in users], 10)
        ]
        assert lists(loaded.predict(pd.DataFrame({"user_id": users}))) == wanted
        expected.append(wanted)
    assert expected[0] != expected[1]
    old = mlflow.pyfunc.load_model("models:/test-champion/1")
    assert lists(old.predict(pd.DataFrame({"user_id": users}))) == expected[0]
    assert client.get_run(logged.run_id).info.status == "FINISHED"


def test_ids_that_are_numbers_stay_numbers(tracker, dataset, tmp_path, registry):
    numbered = replace(dataset, user_ids=np.arange(120) + 1000, item_ids=np.arange(100) * 3)
    model = MARec(MARecConfig(order=1, delta=5.0))
    bundle = fit_bundle(model, numbered, FeatureEncoder(FeatureConfig()), {})
    start(tracker, numbered, [])
    tracker.register(save_bundle(bundle, tmp_path / "bundle"), (DataType.long, DataType.long), "test-numbers", ALWAYS)
    tracker.close(failed=False)
    loaded = mlflow.pyfunc.load_model("models:/test-numbers@champion")
    for asked in (pd.DataFrame({"user_id": [1000]}), pd.DataFrame({"history": [bundle.history(1000)]})):
        assert lists(loaded.predict(asked, params={"k": 6})) == [
            [place.item for place in places_of(bundle, [bundle.history(1000)], 6)[0]]
        ]


# What refuses.


def test_a_server_that_does_not_answer_is_told_within_seconds():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(TrackingError, match=rf"http://127\.0\.0\.1:{port} cannot be reached.*--tracking-uri"):
        StudyTracker(f"http://127.0.0.1:{port}", "any")
    assert time.monotonic() - started < 10


def test_a_server_that_accepts_and_says_nothing_is_told_within_seconds(monkeypatch):
    monkeypatch.setattr("coldray.tracking.access._CONNECT_SECONDS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(TrackingError, match=f"{uri} cannot be reached"):
            check_reachable(uri)
    assert time.monotonic() - started < 5


def test_a_database_in_a_folder_that_does_not_exist_is_told(tmp_path):
    with pytest.raises(TrackingError, match=r"cannot be written: .*absent is not a writable folder"):
        StudyTracker(f"sqlite:///{tmp_path}/absent/mlflow.db", "any")
    assert list(tmp_path.iterdir()) == []


def test_a_database_below_a_file_is_told(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(TrackingError, match="is not a writable folder"):
        StudyTracker(f"sqlite:///{tmp_path}/file/mlflow.db", "any")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_that_is_no_database_is_told_and_left_alone(tmp_path):
    (tmp_path / "clicks.csv").write_text("user,item\n1,2\n")
    with pytest.raises(TrackingError, match=r"clicks\.csv is not an sqlite database"):
        check_reachable(f"sqlite:///{tmp_path}/clicks.csv")
    assert (tmp_path / "clicks.csv").read_text() == "user,item\n1,2\n"


def test_a_folder_that_takes_no_files_is_told_at_once(tmp_path):
    folder = Path("/proc")  # refuses even root, whom permissions do not stop
    if not folder.is_dir():
        pytest.skip("there is no /proc here")
    with pytest.raises(TrackingError, match="/proc is not a writable folder"):
        check_reachable("sqlite:////proc/mlflow.db")


def test_checking_a_new_database_creates_nothing(tmp_path):
    check_reachable(f"sqlite:///{tmp_path}/mlflow.db")
    assert list(tmp_path.iterdir()) == []


PLAIN = "is not supported: MLflow no longer keeps runs in plain files"


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        *((uri, PLAIN) for uri in ("mlruns", "file:///tmp/mlruns", "databricks", "")),
        ("sqlite://", "is of a kind that studies do not write to by themselves"),
    ],
)
def test_a_store_that_is_not_supported_is_told_with_the_way_out(uri, told):
    with pytest.raises(TrackingError, match=rf"{told}.*sqlite:///") as caught:
        check_reachable(uri)
    assert repr(uri) in str(caught.value)
