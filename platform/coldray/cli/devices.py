"""Whether ``fit.device: cuda`` can be had: in this process, which fits the winner in the end, and in Ray's workers."""

from __future__ import annotations

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldray.core.device import resolve_device
from coldray.core.errors import ConfigError
from coldray.experiments.space import StudyConfig
from coldray.training.options import TRAINING_OPTIONS


def _asks_for_cuda(config: StudyConfig) -> bool:
    """Tell whether fits compute on a CUDA device themselves; the workers of a training have GPUs of their own."""
    return config.fit.device == "cuda" and config.kind.fit_options != TRAINING_OPTIONS


def check_this_process(config: StudyConfig) -> None:
    """Find out before Ray starts what the fit of the winner for its bundle would find out after the search.

    Raises
    ------
    ConfigError
        If the study asks for CUDA and this process finds no such device, whatever the cluster has.
    """
    if not _asks_for_cuda(config):
        return
    try:
        resolve_device("cuda")
    except ConfigError as error:
        raise ConfigError(f"fit.device: {error} The winner is fitted for its bundle where the job runs.") from error


def check_workers(config: StudyConfig) -> None:
    """Find out before the search what every trial would find out; Ray must be connected.

    Raises
    ------
    ConfigError
        If a trial reserves more GPUs than a node of the cluster has, or the study asks for CUDA and no node has a
        worker that finds such a device.
    """
    wanted = config.search.gpus_per_trial
    if wanted > 0:
        most = max(node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"])  # type: ignore[no-untyped-call]
        if wanted > most:
            raise ConfigError(
                f"search.gpus_per_trial is {wanted:g}, but no node of the Ray cluster has more than {most:g} GPUs. "
                "Leave it out to run on CPUs."
            )
    elif _asks_for_cuda(config) and not any(_workers_with_cuda()):
        raise ConfigError(
            "fit.device is 'cuda', but no worker of the Ray cluster finds a CUDA device. Ray hides GPUs from workers "
            "that reserve none: set search.gpus_per_trial, or use 'auto' or 'cpu'."
        )


def _workers_with_cuda() -> list[bool]:
    """Return for each node of the cluster whether a worker without a GPU of its own, as a trial is, finds CUDA."""
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
    return ray.get(
        [
            _finds_cuda.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True)).remote()
            for node in nodes
        ]
    )


@ray.remote(num_cpus=0)
def _finds_cuda() -> bool:
    import torch  # here, as a job of other models does without it

    return torch.cuda.is_available()
