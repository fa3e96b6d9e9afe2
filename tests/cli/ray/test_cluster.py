"""The Ray that a job starts on this machine."""

import os
import time

import psutil
import ray

from coldray.cli.ray.local import EMBEDDED

AT_ONCE, TASK_SECONDS = 4, 2.0
IDLE_SECONDS = 3.0
"""Beyond the second after which Ray by itself ends idle processes."""


@ray.remote(num_cpus=0)
def _process():
    time.sleep(TASK_SECONDS)
    return os.getpid()


def test_processes_wait_for_the_next_task(ray_cluster):
    """What a worker has loaded serves the next step of a study, more of them than there are CPUs."""
    processes = set(ray.get([_process.remote() for _ in range(AT_ONCE)]))
    assert len(processes) > 2
    time.sleep(IDLE_SECONDS)
    assert all(map(psutil.pid_exists, processes))


def test_its_processes_alone_are_marked_as_a_jobs_own(ray_cluster):
    """A cluster that this process starts later is one that others may join."""
    (raylet,) = (child for child in psutil.Process().children() if child.name() == "raylet")
    assert EMBEDDED in raylet.environ()
    assert EMBEDDED not in os.environ
