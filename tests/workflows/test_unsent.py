"""A job whose experiment is deleted meanwhile ends with a status of its own, and loses nothing."""

from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from coldray.workflows import tune as job
from coldray.workflows.command import main, sync_main

STUDY = Path(__file__).parents[2] / "tune_spaces" / "marec.yaml"
SMALL = ("search.trials=1", "search.algorithm=random", "splits.n_splits=1", "space.order=1", "space.delta=5")


@pytest.fixture
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


def run(tracking_uri, folder, experiment):
    arguments = ["--output-dir", folder / "runs", "--tracking-uri", tracking_uri, "--experiment", experiment]
    arguments += [part for field in SMALL for part in ("--set", field)]
    return main("Tune.", STUDY, [str(argument) for argument in arguments])


def test_an_experiment_deleted_in_mid_study_is_the_exit_status(
    tmp_path, tracking_uri, client, ray_cluster, monkeypatch, capsys
):
    deleted, real = [], job.run_study

    def meddled(*values, listener, **named):
        deleted.append(client.get_experiment_by_name("meddled").experiment_id)
        client.delete_experiment(deleted[0])
        return real(*values, listener=listener, **named)

    monkeypatch.setattr(job, "run_study", meddled)
    monkeypatch.chdir(tmp_path)
    assert run(tracking_uri, tmp_path, "meddled") == 3
    printed = capsys.readouterr()
    assert "Report: runs/" in printed.out
    (line,) = printed.err.splitlines()
    assert line.startswith("error: The job has come to its end, but missing on the tracking server: 2 runs (marec on ")
    assert f"mlflow experiments restore --experiment-id {deleted[0]}" in line
    sync = ["--output-dir", str(tmp_path / "runs"), "--tracking-uri", tracking_uri, "--experiment", "meddled"]
    assert sync_main("Sync.", sync) == 3
    assert "missing on the tracking server: 2 runs" in capsys.readouterr().err
    client.restore_experiment(deleted[0])
    assert sync_main("Sync.", sync) == 0
    runs = client.search_runs([deleted[0]])
    assert sorted(run.data.tags["coldray.kind"] for run in runs) == ["study", "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_a_deleted_experiment_is_refused_before_anything_starts(tmp_path, tracking_uri, client, monkeypatch, capsys):
    def never(*_):
        raise AssertionError("work was begun")

    monkeypatch.setattr(job, "read_data", never)
    client.delete_experiment(client.create_experiment("deleted before"))
    assert run(tracking_uri, tmp_path, "deleted before") == 1
    assert "is deleted. Bring it back by" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
