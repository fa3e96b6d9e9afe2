"""Workers of the tests' Ray are forked with the libraries of others loaded, and with nothing of this package."""

import os
import sys

import psutil
import pytest
import ray


@ray.remote(num_cpus=0, runtime_env={"env_vars": {"COLDRAY_TESTS_FORK": "one"}})
def _seen():
    """Tell of a worker that nobody has used before: its environment is that of no other."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    family = [" ".join(one.cmdline()) for one in psutil.Process().parents()]
    return loaded, os.environ["COLDRAY_TESTS_FORK"], ray.get_runtime_context().get_job_id(), family


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are not forked")
def test_a_worker_is_forked_in_an_environment_of_its_own(ray_cluster):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    loaded, own, job, family = ray.get(_seen.remote())
    assert {"torch", "scipy", "ray"} <= loaded
    assert not {"coldray", "polars", "mlflow"} & loaded
    assert (own, job) == ("one", ray.get_runtime_context().get_job_id())
    assert any("--fork-from" in command for command in family)
    assert "COLDRAY_TESTS_FORK" not in os.environ
