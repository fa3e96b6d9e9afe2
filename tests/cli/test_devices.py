"""``fit.device: cuda`` is refused where no trial, or no bundle, could be fitted with it."""

import pytest
import torch

from coldray.cli import devices
from coldray.cli.devices import _asks_for_cuda, _workers_with_cuda, check_this_process, check_workers
from coldray.core.errors import ConfigError
from coldray.experiments.space import StudyConfig


def study(device, model="marec", space=None):
    space = space or {"lambda_1": {"log_uniform": [1, 100]}}
    return StudyConfig.model_validate({"name": "small", "model": model, "space": space, "fit": {"device": device}})


def test_cuda_that_this_process_does_not_find_is_refused(monkeypatch):
    assert _asks_for_cuda(study("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    check_this_process(study("cuda"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"fit\.device: .*no CUDA device.*Use device='auto'.*winner"):
        check_this_process(study("cuda"))


@pytest.mark.parametrize("config", [study("auto"), study("cpu"), study("cuda", "carec", {"temperature": 0.2})])
def test_a_study_that_does_not_insist_on_cuda_or_has_workers_with_it_asks_nobody(config, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    asked = []
    monkeypatch.setattr(devices, "_workers_with_cuda", lambda: asked.append(True) or [])
    check_this_process(config)
    check_workers(config)
    assert asked == []


def test_cuda_that_no_worker_finds_is_refused_and_one_is_enough(monkeypatch):
    monkeypatch.setattr(devices, "_workers_with_cuda", lambda: [False, True])
    check_workers(study("cuda"))
    monkeypatch.setattr(devices, "_workers_with_cuda", lambda: [False, False])
    with pytest.raises(ConfigError, match=r"no worker .* finds a CUDA device.*gpus_per_trial"):
        check_workers(study("cuda"))


@pytest.mark.usefixtures("ray_cluster")
def test_the_workers_themselves_are_asked(monkeypatch):
    """A driver's own view, patched here, is not that of its workers."""
    found = torch.cuda.is_available()
    monkeypatch.setattr("torch.cuda.is_available", lambda: not found)
    assert _workers_with_cuda() == [found]


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("gpus", [0.5, 2])
def test_more_gpus_than_a_node_has_are_refused_before_the_search_waits_for_them(gpus):
    config = StudyConfig.model_validate(
        {"name": "small", "model": "marec", "space": {"lambda_1": 1.0}, "search": {"gpus_per_trial": gpus}}
    )
    with pytest.raises(ConfigError, match=rf"search\.gpus_per_trial is {gpus}, but no node .* more than 0 GPUs"):
        check_workers(config)
