"""Where dense algebra runs, and when torch is asked."""

import ctypes

import numpy as np
import pytest
import torch

from coldray.core import device
from coldray.core.errors import ConfigError
from coldray.evaluation.topk import available_threads


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
    assert device.cpu_count() == available_threads() == 6
