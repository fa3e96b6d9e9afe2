"""Where dense algebra runs, and when torch is asked."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from coldray.core import device
from coldray.core.errors import ConfigError


@pytest.fixture
def asked(monkeypatch):
    """Return the list of times that torch was asked for CUDA, which it claims to find."""
    times = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: times.append(1) or True)
    device.has_driver.cache_clear()
    yield times
    device.has_driver.cache_clear()


def test_without_a_driver_there_is_no_device_and_torch_is_not_asked(monkeypatch, asked):
    monkeypatch.setattr(device, "_DRIVERS", ("libnothing-of-that-name.so",))
    assert device.resolve_device("auto") == "cpu"
    assert not asked


def test_with_a_driver_torch_decides(monkeypatch, asked):
    loaded = []
    monkeypatch.setattr(ctypes, "CDLL", loaded.append)
    assert device.resolve_device("auto") == "cuda"
    assert loaded == ["libcuda.so.1"]
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert device.resolve_device("auto") == "cpu"


def test_the_cpu_is_taken_when_asked_for(asked):
    assert device.resolve_device("cpu") == "cpu"
    assert not asked


def test_cuda_asked_for_and_absent_is_an_error_whatever_drivers_there_are(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch finds no CUDA device"):
        device.resolve_device("cuda")


def test_torch_finds_nothing_where_there_is_no_driver():
    """What ``auto`` relies on."""
    assert device.has_driver() or not torch.cuda.is_available()


def test_the_product_is_that_of_numpy():
    generator = np.random.default_rng(0)
    left, right = generator.normal(size=(5, 4)), generator.normal(size=(4, 3))
    np.testing.assert_allclose(device.matmul(left, right, "cpu"), left @ right, rtol=1e-6)


def test_where_the_system_does_not_say_which_cpus_a_process_has_they_are_those_of_the_machine(monkeypatch):
    monkeypatch.delattr("os.sched_getaffinity")
    monkeypatch.setattr("os.cpu_count", lambda: 6)
    assert device.cpu_count() == 6


MEASURED = """
import sys
import numpy as np
from coldray.core.device import symmetric_eigen
def kilobytes(name):
    with open("/proc/self/status") as file:
        return int(next(line.split()[1] for line in file if line.startswith(name)))
symmetric_eigen(np.eye(100), "cpu")
rows = np.random.default_rng(0).normal(size=(2000, 2000)).astype(np.float32)
matrix = np.asarray(rows @ rows.T, np.float64, order=sys.argv[1])
del rows
before = kilobytes("VmRSS")
symmetric_eigen(matrix, "cpu")
print((kilobytes("VmHWM") - before) * 1024 / 2000**2)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_eigendecomposition_takes_what_is_reckoned_whatever_the_order_of_the_matrix(order):
    done = subprocess.run([sys.executable, "-c", MEASURED, order], capture_output=True, text=True, check=True)
    beside_the_matrix = float(done.stdout)
    assert 15 < beside_the_matrix < 18  # bytes a cell, where 24 are reckoned with the 8 of the matrix; a copy is 8 more


def test_eigenvectors_are_those_of_numpy():
    rows = np.random.default_rng(1).normal(size=(6, 6))
    matrix = rows @ rows.T
    expected, vectors = np.linalg.eigh(matrix)
    values, found = device.symmetric_eigen(matrix.copy(), "cpu")
    np.testing.assert_allclose(values, expected, rtol=1e-10)
    np.testing.assert_allclose(np.abs(found), np.abs(vectors), rtol=1e-8)


def test_a_large_decomposition_has_all_cpus_and_a_small_one_what_it_had():
    with threadpool_limits(1, user_api="blas"):
        assert blas_threads(100) == {1}
        assert blas_threads(device._WIDE) == {device.cpu_count()}
        assert blas_threads(0) == {1}


def blas_threads(n_rows):
    with device.eigen_threads(n_rows):
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
