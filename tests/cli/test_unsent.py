"""A job on a real server whose experiment is deleted meanwhile: it loses nothing, and shows nobody the password."""

import base64
import re
import shlex
from pathlib import Path
from urllib.parse import quote

import pytest
from mlflow.tracking import MlflowClient

import coldray
from coldray.cli.jobs import tune as job
from coldray.command.app import main
from contracts.jobs import end
from contracts.tracking_server import TrackingServer

STUDY = Path(__file__).parents[2] / "tune_spaces" / "marec.yaml"
SMALL = ("search.trials=1", "search.algorithm=random", "splits.n_splits=1", "space.order=1", "space.delta=5")
PASSWORD = "Zu9@geheim/wort"
SECRETS = [PASSWORD, quote(PASSWORD, safe=""), "geheim", base64.b64encode(f"me:{PASSWORD}".encode()).decode()]


def run(tracking_uri, folder, *more):
    arguments = ["--output-dir", folder / "runs", "--tracking-uri", tracking_uri, "--experiment", "meddled", *more]
    arguments += [part for field in SMALL for part in ("--set", field)]
    return main(["tune", *(str(argument) for argument in (STUDY, *arguments))])


def sync(tracking_uri, folder):
    options = ["--output-dir", folder / "runs", "--tracking-uri", tracking_uri, "--experiment", "meddled"]
    return main(["sync", *(str(option) for option in options)])


@pytest.fixture(scope="module")
def server(tmp_path_factory, new_database):
    folder = tmp_path_factory.mktemp("server")
    new_database(folder / TrackingServer.DATABASE)
    made = TrackingServer(folder)
    made.start()
    yield made
    end(made.process)


def holds_no_secret(*texts):
    return not [secret for text in texts for secret in SECRETS if secret in text]


def test_an_experiment_deleted_in_mid_study_is_the_exit_status(tmp_path, server, ray_cluster, monkeypatch, capsys):
    client, deleted, real = MlflowClient(server.uri, server.uri), [], job.run_study

    def meddled(*values, listener, **named):
        deleted.append(client.get_experiment_by_name("meddled").experiment_id)
        client.delete_experiment(deleted[0])
        return real(*values, listener=listener, **named)

    monkeypatch.setattr(job, "run_study", meddled)
    monkeypatch.chdir(tmp_path)
    uri = server.uri.replace("//", f"//me:{quote(PASSWORD, safe='')}@")
    assert run(uri, tmp_path) == 3
    printed = capsys.readouterr()
    assert "Report: runs/" in printed.out
    (command,) = re.findall(r"send them by (.*)", printed.out)
    assert shlex.split(command)[-4:] == [
        "--tracking-uri",
        uri.replace(quote(PASSWORD, safe=""), "***"),
        "--experiment",
        "meddled",
    ]
    line = printed.err.splitlines()[-1]
    assert line.startswith("error: The job has come to its end, but missing on the tracking server: 2 runs (marec on ")
    assert f"mlflow experiments restore --experiment-id {deleted[0]}" in line
    assert run(uri, tmp_path) == 1
    assert "is deleted. Bring it back by" in capsys.readouterr().err
    assert sync(uri, tmp_path) == 3
    refused = capsys.readouterr()
    assert "missing on the tracking server: 2 runs" in refused.err
    client.restore_experiment(deleted[0])
    assert sync(uri, tmp_path) == 0
    sent = capsys.readouterr()
    runs = client.search_runs([deleted[0]])
    assert sorted(run.data.tags["coldray.kind"] for run in runs) == ["study", "trial"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    for text in (printed.out, refused.out, sent.out):
        assert "http://me:***@127.0.0.1" in text
        assert holds_no_secret(text, printed.err, refused.err, sent.err)
    files = [path for folder in (tmp_path, server.folder) for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    shown = [str(path) for path in files if not holds_no_secret(path.read_bytes().decode("latin-1"))]
    assert shown == []


def test_a_notebook_has_it_as_a_warning_and_in_the_study(tmp_path, server, ray_cluster, monkeypatch, caplog):
    client, real = MlflowClient(server.uri, server.uri), job.run_study

    def meddled(*values, listener, **named):
        client.delete_experiment(client.get_experiment_by_name("coldray").experiment_id)
        return real(*values, listener=listener, **named)

    monkeypatch.setattr(job, "run_study", meddled)
    small = {"search.trials": 1, "splits.n_splits": 1, "space.order": 1, "space.delta": 5}
    study = coldray.tune(
        "marec", coldray.load_dataset("sample"), settings=small, quiet=True,
        output=tmp_path / "runs", tracking_uri=server.uri,
    )  # fmt: skip
    (missing,) = study.unsent
    assert missing.startswith("missing on the tracking server: 2 runs")
    assert missing in [record.getMessage() for record in caplog.records]
    assert "mlflow experiments restore" in study._repr_html_()
    assert study.winner.recommend(["user-0001"], k=3).height == 3


@pytest.mark.parametrize(
    "uri",
    [
        "http://me:{}@127.0.0.1:9",
        "http://me:{}@127.0.0.1:90000",
        "http://me:{}@[::1",
        "https://{}@127.0.0.1:9/?token={}",
        "postgresql://me:{}@127.0.0.1/mlflow",
        "s3://me:{}@bucket",
        "sqlite:////nowhere/mlflow.db?password={}",
    ],
)
@pytest.mark.parametrize("password", [PASSWORD, quote(PASSWORD, safe="")])
def test_no_refusal_and_no_help_shows_a_password(tmp_path, monkeypatch, capsys, uri, password):
    uri = uri.replace("{}", password if "?" not in uri else quote(PASSWORD, safe=""))
    assert run(uri, tmp_path) == 1
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert run(uri, tmp_path, "--help") == 0
    printed = capsys.readouterr()
    assert holds_no_secret(printed.out, printed.err)
    assert "***" in printed.err
    assert "env var: MLFLOW_TRACKING_URI" in printed.out
