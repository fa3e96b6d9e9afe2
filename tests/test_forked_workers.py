"""Workers of the tests' Ray are forked with the libraries of others loaded, and with nothing of this package."""

import os
import sys
from contextlib import suppress

import psutil
import pytest
import ray

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")


@ray.remote(num_cpus=0, runtime_env={"env_vars": {"COLDRAY_TESTS_FORK": "one"}})
def _seen():
    """Tell of a worker that nobody has used before: its environment is that of no other."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    family = [" ".join(one.cmdline()) for one in psutil.Process().parents()]
    return loaded, os.environ["COLDRAY_TESTS_FORK"], ray.get_runtime_context().get_job_id(), family


@ray.remote(num_cpus=0)
class _Drawn:
    """A worker of its own."""

    def ids(self):
        return [ray.ObjectID.from_random().hex() for _ in range(3)]

    def pid(self):
        return os.getpid()


def test_a_worker_is_forked_in_an_environment_of_its_own(ray_cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    loaded, own, job, family = ray.get(_seen.remote())
    assert {"torch", "scipy", "ray"} <= loaded
    assert not {"coldray", "polars", "mlflow"} & loaded
    assert (own, job) == ("one", ray.get_runtime_context().get_job_id())
    assert any("--fork-from" in command for command in family)
    assert "COLDRAY_TESTS_FORK" not in os.environ


def test_no_two_workers_draw_the_same_ids(ray_cluster):
    """Two that try the store with an object of the same id at the same moment die, and Ray waits for them for ever."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    workers = [_Drawn.remote() for _ in range(3)]
    drawn = ray.get([worker.ids.remote() for worker in workers])
    assert len({one for ids in drawn for one in ids}) == 9
    for worker in workers:
        ray.kill(worker)


def test_whoever_ends_the_program_that_ray_has_started_ends_its_worker(ray_cluster):
    """Tests look for what a job has left by what Ray has started below it."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    before = _launched()
    drawn = _Drawn.options(runtime_env={"env_vars": {"COLDRAY_TESTS_FORK": "two"}}).remote()
    worker = psutil.Process(ray.get(drawn.pid.remote()))
    assert os.getpgid(worker.pid) == worker.pid, "Ray ends the process group of a worker that has gone"
    for process in _launched() - before:
        process.kill()
    assert psutil.wait_procs([worker], timeout=30)[1] == []


def _launched():
    """Return the processes that Ray has started in the place of workers."""
    found = set()
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # or one that has just ended
            if any(part.startswith("--node-ip-address") for part in one.cmdline()):
                found.add(one)
    return found
