"""What a study needs goes away while it runs: the tracking server, room on the disk, a node of the cluster."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool
from contracts.jobs import N_TRIALS, ROOT, STUDY, StudyJob, check, check_trials, end
from contracts.tracking_server import TrackingServer


@pytest.fixture
def server(tmp_path, new_database):
    new_database(tmp_path / TrackingServer.DATABASE)
    made = TrackingServer(tmp_path)
    made.start()
    yield made
    end(made.process)


def all_is_logged(job, uri):
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("chaos")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    kinds = [run.data.tags["coldray.kind"] for run in runs]
    assert sorted(kinds) == ["study", *["trial"] * N_TRIALS]
    assert {run.info.status for run in runs} == {"FINISHED"}
    results = job.results()
    for run in runs:
        if run.data.tags["coldray.kind"] == "trial":
            values = [metrics["ndcg@10"] for metrics in results[int(run.data.tags["coldray.trial"])][1]]
            history = client.get_metric_history(run.info.run_id, "val_ndcg_at_10_split")
            assert sorted((point.step, point.value) for point in history) == list(enumerate(values))
    (parent,) = (run for run in runs if run.data.tags["coldray.kind"] == "study")
    assert client.get_model_version_by_alias("coldray-sample-marec", "champion").run_id == parent.info.run_id


def test_a_tracking_server_that_is_away_for_a_while_gets_everything_once(tmp_path, server, undisturbed):
    job = StudyJob(tmp_path, server.uri, slow_seconds=0.7)
    process = job.start()
    try:
        job.wait_for(lambda: len(job.events("trial_ended")) >= 2, process)
        server.kill()
        before = len(job.events("trial_ended"))
        job.wait_for(lambda: len(job.events("trial_ended")) >= before + 4, process)  # nobody waits for the server
        server.start()
        assert process.wait(300) == 0, job.log.read_text()
    finally:
        end(process)
    printed = job.log.read_text()
    assert "The study goes on; what is to be logged waits in" in printed
    assert "the tracking server answers again" in printed
    all_is_logged(job, server.uri)
    check(job, undisturbed)


class LossyProxy(ThreadingHTTPServer):
    """Forwards requests to a server; the answers to those that make a run are lost, each once."""

    def __init__(self, port):
        super().__init__(("127.0.0.1", 0), Forward)
        self.behind, self.lost = f"http://127.0.0.1:{port}", []
        self.uri = f"http://127.0.0.1:{self.server_port}"


class Forward(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {"Content-Type": self.headers.get("Content-Type", "application/json")}
        request = urllib.request.Request(self.server.behind + self.path, body or None, headers, method=self.command)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, content = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, content = error.code, error.read()
        if self.path.endswith("/runs/create") and body not in self.server.lost:
            self.server.lost.append(body)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)  # it has been made, and nobody is told
            return
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PATCH = do_DELETE = do_POST  # noqa: N815 - what the library calls

    def log_message(self, *_):
        pass


@pytest.mark.chaos
def test_a_run_whose_making_was_not_answered_is_not_made_again(tmp_path, server):
    proxy = LossyProxy(server.port)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        spool = Spool(tmp_path / "tracking.jsonl", MlflowServer(proxy.uri, "lossy"))
        spool.add("run", "study", name="study", tags={}, parent=None)
        for key in ("study/0", "study/1"):
            spool.add("run", key, name=key, tags={}, parent="study")
            spool.log(key, [Metric("loss", 0.5, 1000, 0)], {"x": key})
            spool.end(key, "FINISHED")
        spool.end("study", "FINISHED")
        assert spool.close() == 0
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert len(proxy.lost) == 3
    client = MlflowClient(server.uri, server.uri)
    runs = client.search_runs([client.get_experiment_by_name("lossy").experiment_id])
    assert sorted(run.data.tags["coldray.key"] for run in runs) == ["study", "study/0", "study/1"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.data.params["x"] for run in runs if run.data.params} == {"study/0", "study/1"}


@pytest.mark.chaos
def test_a_study_offline_is_sent_later_by_its_own_command(tmp_path, server, undisturbed):
    server.kill()
    job = StudyJob(tmp_path, server.uri)
    status, printed = job.run()
    assert status == 1
    assert "--offline" in printed
    assert not (job.output / "records").exists()
    status, printed = job.run("--offline")
    assert status == 0, printed
    (line,) = (line for line in printed.splitlines() if "jobs/sync_runs.py" in line)
    name = line.rpartition("sync_runs.py ")[2].split()[0]
    sync = [sys.executable, str(ROOT / "jobs" / "sync_runs.py"), name, "--output-dir", str(job.output)]
    sync += ["--tracking-uri", server.uri, "--experiment", "chaos"]
    away = subprocess.run(sync, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert away.returncode == 1
    assert "cannot be reached" in away.stderr
    server.start()
    for expected in ("sending", "nothing waits"):
        sent = subprocess.run(sync, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert sent.returncode == 0, sent.stderr
        assert expected in sent.stdout
    all_is_logged(job, server.uri)
    check(job, undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.chaos
def test_a_full_disk_costs_what_is_at_work_and_nothing_that_has_ended(tmp_path, small_disk, tracking_uri, undisturbed):
    job = StudyJob(tmp_path, tracking_uri, slow_seconds=0.5)
    job.output = small_disk / "runs"
    process = job.start()
    ballast = small_disk / "ballast"
    try:
        job.wait_for(lambda: len(job.events("trial_ended")) >= 3, process)
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 512)
        assert process.wait(120) == 1, job.log.read_text()
    finally:
        end(process)
    printed = job.log.read_text()
    assert "No space left on device" in printed
    assert "Traceback" not in printed
    kept = {event["trial"] for event in job.events("trial_ended")}
    assert len(kept) >= 3
    ballast.unlink()
    job.slow_seconds = 0.0
    # Pictures and a bundle need more room than this disk has: the search alone goes on here.
    process = job.start("--resume")
    try:
        job.wait_for(lambda: job.events("search_ended") and len(job.results()) == N_TRIALS, process)
    finally:
        end(process)
    started = [event["trial"] for event in job.events("trial_started")]
    assert all(started.count(number) == 1 for number in kept)
    check_trials(job, undisturbed)


NODES = """
import json, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from coldray.data.sources.sample import sample_dataset
from coldray.experiments.listeners import StudyListener
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from coldray.training.cluster.distributed import _require_shared
from coldray.core.errors import OutputError
from pathlib import Path
import os, tempfile

config = StudyConfig.model_validate(json.loads(sys.argv[1]))
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200_000_000})
second = cluster.add_node(num_cpus=2, object_store_memory=200_000_000)
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()

with tempfile.TemporaryDirectory() as folder:
    _require_shared(Path(folder))
    mine = os.open(folder, os.O_RDONLY)
    try:
        _require_shared(Path(f"/proc/self/fd/{mine}"))  # a path that each process understands in its own way
    except OutputError as error:
        print(json.dumps({"refused": str(error)}), flush=True)

class Killer(StudyListener):
    done = 0
    def trial_ended(self, trial):
        self.done += 1
        if self.done == 2:
            cluster.remove_node(second, allow_graceful=False)
            print(json.dumps({"killed": True}), flush=True)

result = run_study(prepare_study(config, sample_dataset()), study_id="nodes", listener=Killer())
print(json.dumps({
    "statuses": [trial.status for trial in result.trials],
    "validation": [[fold.metrics["ndcg@10"] for fold in trial.folds] for trial in result.trials],
    "winner": result.selection.winner.number,
    "test": [fold.metrics["ndcg@10"] for fold in result.test],
}), flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.chaos
def test_a_lost_node_costs_nothing_but_time(tmp_path, undisturbed):
    config = {**STUDY, "failures": {"max_failed_trials": 0}}
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", NODES, json.dumps(config)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.wait(280) == 0, log.read_text()
        finally:
            end(process)
    told = {}
    for line in log.read_text().splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    assert told["killed"]
    assert "is not shared by the nodes of the cluster" in told["refused"]
    assert told["statuses"] == ["finished"] * N_TRIALS
    assert told["winner"] == undisturbed.selection.winner.number
    assert told["validation"] == [
        pytest.approx([fold.metrics["ndcg@10"] for fold in trial.folds]) for trial in undisturbed.trials
    ]
    assert told["test"] == pytest.approx([fold.metrics["ndcg@10"] for fold in undisturbed.test])


SHARDS = """
import json, sys, threading
from pathlib import Path
import numpy as np
import polars as pl
import ray
from ray.cluster_utils import Cluster
from coldray.models.linalg import sharded as shard_sums
from coldray.models.linalg.sharded import ParquetShard
from coldray.models.linalg.gram_shards import gram

N_ITEMS = 1500
folder, generator, clicks, shards = Path(sys.argv[1]), np.random.default_rng(0), [], []
for number in range(8):
    rows = np.sort(generator.integers(0, 20_000, 200_000))
    pairs = np.unique(np.stack([rows, generator.integers(0, N_ITEMS, len(rows))], axis=1), axis=0)
    path = folder / f"{number}.parquet"
    pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1]}).write_parquet(path)
    shards.append(ParquetShard((str(path),), N_ITEMS))
alone = gram(shards, N_ITEMS)

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200_000_000})
add_node = lambda: cluster.add_node(num_cpus=2, object_store_memory=200_000_000)
second = add_node()
ray.init(address=cluster.address, log_to_driver=False)
cluster.wait_for_nodes()
gram(shards, N_ITEMS, workers=2)  # workers are there

def kill(node):
    cluster.remove_node(node, allow_graceful=False)
    print(json.dumps({"killed": True}), flush=True)

timer = threading.Timer(0.3, kill, [second])  # while shards are read
timer.start()
found = gram(shards, N_ITEMS, workers=2)
timer.join()
print(json.dumps({"while reading": bool((found == alone).all())}), flush=True)

third, finished, calls = add_node(), shard_sums._finished, []
cluster.wait_for_nodes()

def lossy(parts):
    ended = finished(parts)
    calls.append(None)
    if len(calls) == 1:
        kill(third)  # with the sums that it has made
    return ended

shard_sums._finished = lossy
found = gram(shards, N_ITEMS, workers=3)
print(json.dumps({"after reading": bool((found == alone).all())}), flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.chaos
def test_sums_over_shards_survive_the_loss_of_a_node(tmp_path):
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", SHARDS, str(tmp_path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        try:
            assert process.wait(280) == 0, log.read_text()
        finally:
            end(process)
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    assert lines == [{"killed": True}, {"while reading": True}, {"killed": True}, {"after reading": True}]
