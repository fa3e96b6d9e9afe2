"""What keeps workers from starting is told with its cause, and ends a job; what is only slow or busy does not."""

import os
import subprocess
import sys
import time

import psutil
import pytest
import ray

from coldray.cli.ray import watch as ray_watch
from coldray.cli.ray.logs import RayLogs
from coldray.cli.ray.watch import _CAUSE_SECONDS, _LAST_SECONDS, _SLOW_SECONDS, RayWatch
from coldray.core.errors import ClusterError
from contracts.jobs import end

pytestmark = pytest.mark.long
STATE = "NodeManager:\nnum_waiting_for_resource: 7\nnum_tasks_waiting_for_workers: {}\n"
STARTED = "[2026-11-29 10:37:22,765 I 14836 14836] (raylet) worker_pool.cc:564: Started worker process with pid {}"
LINES = {
    "the shell": ("raylet.err", "bash: line 1: /home/ada/my: No such file or directory"),
    "the disk is full": ("raylet.out", "[2026-11-29 10:37 E 1 1] (raylet) x.cc:1: write: No space left on device"),
    "memory is short": ("raylet.out", "[2026-11-29 10:37 I 1 1] (raylet) n.cc:1: Killing 1 worker(s), kill details: …"),
    "versions differ": ("worker-a-01000000-12.err", "RuntimeError: Version mismatch: The cluster was started with:"),
    "a package is missing": ("worker-a-01000000-12.err", "ModuleNotFoundError: No module named 'coldray'"),
    "a limit of the machine": ("raylet.err", "bash: fork: retry: Resource temporarily unavailable"),
    "runtime environment": ("runtime_env_setup-01000000.log", "Failed to create runtime env: no such archive"),
    "somebody else": ("raylet.out", "[2026-11-29 10:37 E 1 1] (raylet) x.cc:1: /tmp/ray/x: Permission denied"),
}


@pytest.fixture
def session(tmp_path):
    (tmp_path / "logs").mkdir()
    return tmp_path


@pytest.fixture
def watch(session, monkeypatch):
    """A watch of such a session, and what it has said; the cluster it asks has one machine."""
    monkeypatch.setattr(ray, "nodes", lambda: [{"NodeID": "a", "NodeManagerAddress": "10.0.0.1", "Alive": True}])
    said = []
    made = RayWatch(session, "local", said.append)
    made.said = said
    made._leaders = []
    return made


def write(session, name, text):
    with (session / "logs" / name).open("a") as file:
        file.write(text + "\n")


def waits(session, count):
    (session / "logs" / "debug_state.txt").write_text(STATE.format(count))


@pytest.mark.parametrize("cause", LINES)
def test_a_cause_that_a_log_names_ends_the_job_within_a_minute(cause, session, watch):
    name, line = LINES[cause]
    waits(session, 0)
    write(session, "raylet.out", STARTED.format(2**22 + 1))
    write(session, name, line)
    watch.look(0.0)  # it is written down later that somebody waits
    waits(session, 1)
    watch.look(5.0)
    with pytest.raises(
        ClusterError, match=rf"No worker of Ray starts: .*{cause}.*\. .*\. What was done before is kept"
    ):
        watch.look(5.0 + _CAUSE_SECONDS + 1)
    assert 10 + _CAUSE_SECONDS + 2 * ray_watch._LOOK_SECONDS < 60


def test_without_a_cause_it_is_told_and_a_slow_machine_is_given_time(session, watch):
    waits(session, 2)
    write(session, "raylet.out", "[2026-11-29 10:37 W 1 1] (raylet) worker_pool.cc:9: something new")
    for now in (0.0, 20.0, _SLOW_SECONDS + 1, _SLOW_SECONDS + 50):
        watch.look(now)
    assert len(watch.said) == 1
    assert "no worker of Ray has started for 41 s: raylet.out: " in watch.said[0]
    assert "something new" in watch.said[0]
    with pytest.raises(ClusterError, match="something new"):
        watch.look(_LAST_SECONDS + 1)


def test_a_worker_that_is_still_starting_is_given_time(session, watch):
    write(session, *LINES["the shell"])
    write(session, "raylet.out", STARTED.format(os.getpid()))
    waits(session, 1)
    for now in (0.0, 30.0):
        watch.look(now)
    waits(session, 0)
    watch.look(31.0)
    waits(session, 1)
    watch.look(60.0)
    assert watch.said == []


def test_who_waits_for_a_place_is_no_failure(session, watch):
    waits(session, 0)  # though seven wait for a place: others have all CPUs
    for now in range(0, 4000, 100):
        watch.look(float(now))
    assert watch.said == []


def test_workers_ended_for_memory_are_told_once(session, watch):
    waits(session, 0)
    for now in (0.0, 2.0):
        write(session, *LINES["memory is short"])
        watch.look(now)
    assert len(watch.said) == 1
    assert "memory is short" in watch.said[0]
    assert "--cpus" in watch.said[0]


def test_a_full_disk_is_told_once(session, watch, monkeypatch):
    waits(session, 0)
    watch.look(0.0)
    assert watch.said == []
    monkeypatch.setattr(ray_watch, "_FULL_BYTES", 2**80)
    for now in (1.0, 2.0):
        watch.look(now)
    (told,) = watch.said
    assert f"the disk with {session} is full" in told
    assert "RAY_TMPDIR" in told


def test_a_lost_machine_is_told_once(watch, monkeypatch):
    nodes = [{"NodeID": name, "NodeManagerAddress": name, "Alive": name != "c"} for name in "abc"]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    watch.look(0.0)  # what was lost before is nobody's concern
    nodes[1] = {**nodes[1], "Alive": False}
    for now in (1.0, 20.0, 40.0):
        watch.look(now)
    assert watch.said == ["the machine b of the cluster is lost; what it was at is done again (1 are left)"]


def test_a_cluster_that_answers_no_more_ends_the_job(watch):
    watch.address = "127.0.0.1:1"
    watch.look(0.0)
    with pytest.raises(ClusterError, match="has gone"):
        watch.look(20.0)


def test_logs_on_another_machine_are_not_looked_for(tmp_path):
    assert not RayLogs(tmp_path / "nowhere" / "logs").here


CODE = """
import sys, threading, time
import psutil, ray
from coldray.cli.ray import watch
from coldray.experiments.listeners import StudyListener
from coldray.cli.ray.cluster import connected_ray
from coldray.cli.reported import reported

watch._LOOK_SECONDS, watch._CAUSE_SECONDS = 0.5, 3.0  # the second is longer than between two looks of Ray at itself

@ray.remote
def task():
    time.sleep(300)

def kill():
    next(child for child in psutil.Process().children() if child.name() == "raylet").kill()

def work():
    with connected_ray("local", 1, StudyListener()):
        print("begun", flush=True)
        if sys.argv[1] == "raylet":
            threading.Timer(3, kill).start()
            ray.get(task.remote())
        ray.get(task.options(runtime_env={"py_executable": "/no such/python"}).remote())

sys.exit(reported(work))
"""


@pytest.mark.parametrize(
    ("what", "told"),
    [
        pytest.param("raylet", "The process raylet of Ray has ended", marks=pytest.mark.chaos),
        ("python", "No worker of Ray starts: the command of a worker is refused by the shell"),
    ],
)
def test_a_job_that_waits_for_ever_ends_with_the_cause_and_a_status(what, told, tmp_path):
    log, environment = tmp_path / "log.txt", {**os.environ, "RAY_debug_dump_period_milliseconds": "1000"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, what],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            while "begun" not in log.read_text() and process.poll() is None:
                time.sleep(0.1)
            begun = time.monotonic()
            assert process.wait(90) == 1, log.read_text()
            assert time.monotonic() - begun < 60
        finally:
            end(process)
    printed = log.read_text()
    assert f"error: {told}" in printed
    assert "Traceback" not in printed
    assert not psutil.pid_exists(process.pid)


TASK = """
import sys, time
import ray
from coldray.cli.ray.cluster import start_ray

start_ray(1)
print(ray.get(ray.remote(lambda: "done").options(runtime_env={"env_vars": {"A": "1"}}).remote(), timeout=120))
"""


@pytest.mark.chaos
def test_three_jobs_at_once_have_a_ray_each():
    started = [subprocess.Popen([sys.executable, "-c", TASK], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=150)[0] for process in started] == ["done\n"] * 3
