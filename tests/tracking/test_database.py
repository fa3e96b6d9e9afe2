"""A tracking database that is new, locked, damaged, cut off, full, deleted or of another version of MLflow."""

import multiprocessing
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric
from mlflow.tracking import MlflowClient

from coldray.core.errors import TrackingError
from coldray.tracking import database as databases
from coldray.tracking import spool as spools
from coldray.tracking.access import check_reachable, open_client
from coldray.tracking.receiver import UnavailableError
from coldray.tracking.runs import StudyTracker
from coldray.tracking.server import MlflowServer
from coldray.tracking.spool import Spool


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(spools, "LONGEST_PAUSE", 1.0)
    monkeypatch.setattr(spools, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(databases, "_LOCKED_SECONDS", 0.2)
    monkeypatch.setattr(databases, "_SET_UP_PAUSE", 0.0)


@pytest.fixture(scope="module")
def whole(tracking_uri, tmp_path_factory):
    """A database that is set up, and has pages of its own."""
    client = open_client(tracking_uri)
    client.create_experiment("tests of databases")
    path = tmp_path_factory.mktemp("whole") / "mlflow.db"
    with closing(sqlite3.connect(tracking_uri.removeprefix("sqlite:///"))) as source:
        source.execute("VACUUM INTO ?", [str(path)])
    return path


@pytest.fixture
def database(whole, tmp_path):
    return shutil.copy(whole, tmp_path / "mlflow.db")


def uri_of(path):
    return f"sqlite:///{path}"


def log(spool, *values):
    spool.add("run", "study", name="study", tags={}, parent=None)
    for value in values:
        spool.log("study", [Metric("loss", value, 1000, 0)])


def logged(path):
    client = MlflowClient(uri_of(path), uri_of(path))
    runs = client.search_runs([client.get_experiment_by_name("any").experiment_id])
    return [run.data.metrics for run in runs]


def test_a_database_that_is_well_is_taken(database):
    check_reachable(uri_of(database))
    assert sorted(path.name for path in database.parent.iterdir()) == [".mlflow.db.lock", "mlflow.db"]


@given(cut=st.integers(1, 10**6), damage=st.tuples(st.integers(100, 10**6), st.binary(min_size=200, max_size=9000)))
@settings(max_examples=20)
def test_what_is_cut_off_or_damaged_is_told_or_harmless(whole, tmp_path_factory, cut, damage):
    """Nothing but our error: what the check of sqlite itself lets pass is in pages that are free."""
    path = tmp_path_factory.mktemp("damaged") / "mlflow.db"
    content = whole.read_bytes()
    path.write_bytes(content[: cut % len(content)])
    with pytest.raises(TrackingError, match=r"cannot be used: .*(cut off|only \d+ bytes)|is not an sqlite database"):
        check_reachable(uri_of(path))
    place = damage[0] % len(content)
    path.write_bytes((content[:place] + damage[1] + content[place + len(damage[1]) :])[: len(content)])
    with closing(sqlite3.connect(path)) as opened:
        try:
            well = opened.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        except sqlite3.DatabaseError:
            well = False
    if not well:
        with pytest.raises(TrackingError, match=r"--offline"):
            check_reachable(uri_of(path))


def test_a_database_of_another_version_is_told_with_the_way_out(database):
    before = "75868b020152"
    for version, expected in ((before, r"older version .*`mlflow db upgrade sqlite:"), ("f" * 12, "newer version")):
        with closing(sqlite3.connect(database)) as opened:
            opened.execute("UPDATE alembic_version SET version_num = ?", [version])
            opened.commit()
        with pytest.raises(TrackingError, match=expected) as told:
            StudyTracker(uri_of(database), "any")
        assert "--offline" in str(told.value)


def test_a_locked_database_does_not_stop_a_study_and_gets_everything_when_it_is_free(database, tmp_path):
    said = []
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="is locked by another process"):
            check_reachable(uri_of(database))
        tracker = StudyTracker(uri_of(database), "any", path=tmp_path / "tracking.jsonl", say=said.append)
        log(tracker.spool, 0.5)
        assert tracker.close(failed=False) == 2
        other.rollback()
    assert any("is locked by another process" in line for line in said)
    spool = Spool(tmp_path / "tracking.jsonl", MlflowServer(uri_of(database), "any"))
    assert spool.close() == 0
    assert logged(database) == [{"loss": 0.5}]


def test_a_database_deleted_in_mid_study_takes_nothing_for_sent(database, whole, tmp_path):
    """sqlite goes on writing to the file that has no name any more."""
    tracker = StudyTracker(uri_of(database), "any", path=tmp_path / "tracking.jsonl")
    log(tracker.spool, 0.5)
    tracker.spool.flush()
    database.unlink()
    tracker.spool.log("study", [Metric("later", 1.0, 1000, 0)])
    assert tracker.close(failed=False) == 1
    assert "was deleted or replaced" in tracker.spool.missing()
    assert "`coldray sync STUDY --again`" in tracker.spool.missing()
    assert not database.exists()


def test_a_full_disk_keeps_what_is_to_be_logged(whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = whole.stat().st_size + 400_000
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("a small disk can only be mounted by root")
    try:
        database, said = shutil.copy(whole, disk / "mlflow.db"), []
        tracker = StudyTracker(uri_of(database), "any", path=tmp_path / "tracking.jsonl", say=said.append)
        log(tracker.spool, 0.5)
        assert tracker.spool.flush() == 0
        with (disk / "ballast").open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(b"x" * 512)
            except OSError:
                pass
        tracker.spool.log("study", params={f"p{number}": "x" * 5000 for number in range(40)})
        assert tracker.spool.flush() > 0
        assert any("full" in line for line in said), said
        (disk / "ballast").unlink()
        deadline = time.monotonic() + 30
        while tracker.spool.waiting and time.monotonic() < deadline:
            time.sleep(0.1)
        assert tracker.close(failed=False) == 0
    finally:
        MlflowServer(uri_of(disk / "mlflow.db"), "any").client._tracking_client.store.engine.dispose()
        subprocess.run(["umount", "-l", disk], check=True)


def begin(path, folder, number, barrier):
    """Begin a study in a process of its own, as soon as the others do."""
    barrier.wait()
    said = []
    tracker = StudyTracker(uri_of(path), "any", path=folder / f"{number}.jsonl", say=said.append)
    tracker.spool.add("run", f"study {number}", name=f"study {number}", tags={}, parent=None)
    tracker.spool.log(f"study {number}", [Metric("loss", float(number), 1000, 0)])
    left = tracker.close(failed=False)
    os._exit(left or len(said))


def test_three_studies_at_once_set_up_a_new_database(tmp_path):
    processes = multiprocessing.get_context("fork")
    barrier = processes.Barrier(3)
    path = tmp_path / "mlflow.db"
    started = [processes.Process(target=begin, args=(path, tmp_path, number, barrier)) for number in range(3)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0, 0, 0]
    assert sorted(metrics["loss"] for metrics in logged(path)) == [0.0, 1.0, 2.0]


def test_a_database_that_another_program_sets_up_is_waited_for(database, monkeypatch):
    monkeypatch.setattr(databases, "_SET_UP_PAUSE", 3.0)
    with closing(sqlite3.connect(database)) as opened:
        (newest,) = opened.execute("SELECT version_num FROM alembic_version").fetchone()
        opened.execute("UPDATE alembic_version SET version_num = '75868b020152'")
        opened.commit()

    def finish():
        with closing(sqlite3.connect(database)) as opened:
            opened.execute("UPDATE alembic_version SET version_num = ?", [newest])
            opened.commit()

    timer = threading.Timer(1.0, finish)
    timer.start()
    check_reachable(uri_of(database))
    timer.join()


def test_empty_variables_of_mlflow_count_as_unset(database, monkeypatch):
    names = ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE")
    for name in names:
        monkeypatch.setenv(name, " ")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "")
    MlflowServer(uri_of(database), "any").check_experiment()
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_empty_variables_of_mlflow_do_not_stop_a_command(tmp_path):
    job = Path(__file__).parents[2] / "jobs" / "sync_runs.py"
    environment = {**os.environ, "MLFLOW_CONFIGURE_LOGGING": "", "MLFLOW_LOGGING_LEVEL": "", "MLFLOW_TRACKING_URI": " "}
    done = subprocess.run(
        [sys.executable, str(job)], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "nothing waits" in done.stdout


def test_a_working_directory_that_mlflow_cannot_write_down_is_refused(tmp_path, monkeypatch, tracking_uri):
    """Its own statement would fail for ever; a database that is set up is taken there as well."""
    folder = tmp_path / 'it\'s "odd" é#100% (b)'
    folder.mkdir()
    monkeypatch.chdir(folder)
    with pytest.raises(TrackingError, match=r"whose path has both ' and \"\. Rename the folder.*--offline"):
        check_reachable("sqlite:///mlflow.db")
    assert list(folder.iterdir()) == []
    check_reachable(tracking_uri)
    StudyTracker(tracking_uri, "odd").close(failed=False)
