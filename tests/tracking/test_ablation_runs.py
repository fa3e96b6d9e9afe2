"""An ablation on a real MLflow database: what its runs say, and how they end."""

import math
from pathlib import Path

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from coldray.data.sources.sample import sample_dataset
from coldray.experiments.ablation.result import AblationResult, Cloud, Lift, LossCurve, ModeResult
from coldray.experiments.results import FoldMetrics
from coldray.experiments.space import StudyConfig
from coldray.models.marec.plus import MARecPlusConfig
from coldray.tracking import limits
from coldray.tracking.comparison_runs import AblationTracker

CONFIG = StudyConfig.model_validate(
    {
        "name": "small",
        "model": "marec_plus",
        "space": {"lambda_1": {"choice": [1.0, 2.0]}, "ca_weight": {"choice": [0, 1.0]}},
        "splits": {"n_splits": 2},
        "cutoffs": [10],
    }
)
MODES = ("MARec", "+CA", "+CA+UA", "+CA+UA+GE")
CURVES = {
    "InfoNCE": (
        LossCurve("seed 42 / split 0", np.array([3.0, np.nan, 1.0])),
        LossCurve("seed 43 / split 1", np.array([2.5])),
    ),
    "Gaussian NLL": (LossCurve("seed 42 / split 0", np.array([-1.0, -2.0])),),
}


def mode(number):
    folds = tuple(
        FoldMetrics(42 + split, split, {"ndcg@10": 0.2 + 0.01 * number + 0.1 * split, "hr@10": 0.5}, 1.0)
        for split in range(2)
    )
    lift = Lift(0.01 * number, 0.001, 0.02, 0.05, 0.004, 0.012)
    return ModeResult(
        name=MODES[number],
        config=MARecPlusConfig(lambda_1=2.0, ca_weight=float(number)).model_dump(mode="json"),
        folds=folds,
        per_user={"ndcg@10": np.array([0.25, 0.25])},
        intervals={"ndcg@10": (0.2, 0.3)},
        lifts={"ndcg@10": lift} if number else {},
    )


def result():
    cloud = Cloud(np.zeros((3, 2)), np.array([True, False, False]), (0.5, 0.2))
    return AblationResult(
        name="small",
        dataset={"name": "sample"},
        protocol={},
        cutoffs=(10,),
        modes=tuple(mode(i) for i in range(4)),
        curves=CURVES,
        features=cloud,
        scores={"MARec": cloud, "+CA+UA+GE": cloud},
        neighbour_distance=np.array([0.5]),
        correction="Holm",
        seconds=12.5,
    )


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture(scope="module")
def batches():
    """The sizes of the calls that metrics were sent by."""
    return []


def started(tracking_uri, name, folder):
    tracker = AblationTracker(tracking_uri, name, artifact_location=folder / "artifacts")
    tracker.study_started(CONFIG, sample_dataset(0, 120, 100), "ablation-sample-1", {"split": "notebook"})
    return tracker


@pytest.fixture(scope="module")
def logged(tracking_uri, tmp_path_factory, batches):
    """An ablation, logged once, five metrics a call."""
    folder = tmp_path_factory.mktemp("ablation")
    paths = [folder / "export.zip", folder / "report.html"]
    for path in paths:
        path.write_text(path.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "METRICS_LIMIT", 5)
        with started(tracking_uri, "whole ablation", folder) as tracker:
            send = tracker.server.client.log_batch

            def counted(run_id, metrics=(), params=(), tags=()):
                batches.append(len(metrics))
                send(run_id, metrics=metrics, params=params, tags=tags)

            patch.setattr(tracker.server.client, "log_batch", counted)
            tracker.log_ablation(result(), paths)
    return tracker


def nested(client, tracker):
    runs = client.search_runs([tracker.experiment_id], "tags.`coldray.kind` = 'mode'")
    return {run.info.run_name: run for run in runs}


def test_an_ablation_is_one_parent_with_one_nested_run_a_mode(client, logged):
    (parent,) = client.search_runs([logged.experiment_id], "tags.`coldray.kind` = 'ablation'")
    assert parent.info.run_id == logged.run_id
    assert parent.data.tags["coldray.study_id"] == "ablation-sample-1"
    runs = nested(client, logged)
    assert set(runs) == set(MODES)
    for name, run in runs.items():
        assert run.data.tags["mlflow.parentRunId"] == logged.run_id
        assert run.data.tags["coldray.mode"] == name
    assert len(client.search_runs([logged.experiment_id])) == 5


def test_all_runs_have_ended(client, logged):
    assert {run.info.status for run in client.search_runs([logged.experiment_id])} == {"FINISHED"}


def test_a_mode_has_its_parameters_metrics_and_lifts(client, logged):
    runs = nested(client, logged)
    for number, name in enumerate(MODES):
        data = runs[name].data
        assert set(data.params) == set(MARecPlusConfig.model_fields)
        assert (data.params["lambda_1"], data.params["ca_weight"]) == ("2.0", f"{float(number)}")
        assert data.metrics["test_ndcg_at_10"] == pytest.approx(0.25 + 0.01 * number)
        assert data.metrics["test_ndcg_at_10_std"] == pytest.approx(np.std([0, 0.1], ddof=1))
        history = client.get_metric_history(runs[name].info.run_id, "test_ndcg_at_10_split")
        assert sorted((entry.step, round(entry.value, 9)) for entry in history) == [
            (0, round(0.2 + 0.01 * number, 9)),
            (1, round(0.3 + 0.01 * number, 9)),
        ]
        lifts = {key: value for key, value in data.metrics.items() if key.startswith("lift_")}
        assert lifts == ({"lift_ndcg_at_10": 0.01 * number, "lift_ndcg_at_10_p": 0.012} if number else {})


def test_the_parent_has_baseline_and_full_stack_side_by_side(client, logged):
    metrics = client.get_run(logged.run_id).data.metrics
    assert metrics["baseline_test_ndcg_at_10"] == pytest.approx(0.25)
    assert metrics["full_test_ndcg_at_10"] == pytest.approx(0.28)
    assert metrics["ablation_seconds"] == 12.5


def test_curves_are_logged_by_epoch(client, logged):
    curves = {
        "InfoNCE/seed_42_split_0": [(0, 3.0), (1, math.nan), (2, 1.0)],  # what is no number is there as such
        "InfoNCE/seed_43_split_1": [(0, 2.5)],
        "Gaussian_NLL/seed_42_split_0": [(0, -1.0), (1, -2.0)],
    }
    for key, expected in curves.items():
        history = client.get_metric_history(logged.run_id, key)
        steps, values = zip(*sorted((entry.step, entry.value) for entry in history), strict=True)
        assert steps == tuple(step for step, _ in expected)
        assert values == pytest.approx([value for _, value in expected], nan_ok=True)


def test_metrics_are_sent_many_a_call_and_never_too_many(logged, batches):
    assert max(batches) == 5
    per_mode, lifts, parent = 2 * 4, 2 * 3, 2 * 2 * 4 + 1 + 6
    assert sum(batches) == 4 * per_mode + lifts + parent
    assert 0 not in batches[1:]  # parameters of the modes go with their metrics, those of the study alone


def test_files_lie_with_the_parent(client, logged, tmp_path):
    paths = [entry.path for entry in client.list_artifacts(logged.run_id, "ablation")]
    assert paths == ["ablation/export.zip", "ablation/report.html"]
    copy = client.download_artifacts(logged.run_id, "ablation/report.html", str(tmp_path))
    assert Path(copy).read_text() == "report.html"


def test_an_ablation_that_fails_leaves_no_run_running(client, tracking_uri, tmp_path):
    def interrupted():
        with started(tracking_uri, "failing", tmp_path) as tracker:
            trackers.append(tracker)
            raise KeyboardInterrupt

    trackers = []
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (run,) = client.search_runs([trackers[0].experiment_id])
    assert (run.info.run_id, run.info.status) == (trackers[0].run_id, "KILLED")


def test_a_failure_between_the_modes_leaves_no_run_running(client, tracking_uri, tmp_path, monkeypatch):
    trackers = []

    def broken():
        with started(tracking_uri, "half logged", tmp_path) as tracker:
            trackers.append(tracker)
            calls = iter([None, ZeroDivisionError])
            log = tracker.spool.log

            def second_breaks(*values):
                if next(calls):
                    raise ZeroDivisionError
                log(*values)

            monkeypatch.setattr(tracker.spool, "log", second_breaks)
            tracker.log_ablation(result(), [])

    with pytest.raises(ZeroDivisionError):
        broken()
    runs = nested(client, trackers[0])
    assert {name: run.info.status for name, run in runs.items()} == {"MARec": "FINISHED", "+CA": "KILLED"}
    assert client.get_run(trackers[0].run_id).info.status == "FAILED"
    assert client.search_runs([trackers[0].experiment_id], "attributes.status = 'RUNNING'") == []
