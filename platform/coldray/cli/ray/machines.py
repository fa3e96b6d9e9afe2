"""The machines of a cluster: what of them is free, and whether workers start on every one, of the same versions."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from coldray import __version__
from coldray.core.errors import ClusterError
from coldray.core.plugins import plugin_packages
from coldray.core.ray_errors import in_words

SLOW_SECONDS, LAST_SECONDS = 40.0, 300.0
"""So long a worker of a machine is waited for before it is told, and before the job ends: a busy machine is slow."""
_LOST = (ray.exceptions.NodeDiedError, ray.exceptions.TaskUnschedulableError, ray.exceptions.WorkerCrashedError)
_Versions: TypeAlias = Mapping[str, str]
"""Of Python, Ray, coldray, and of the packages that add to it, by name."""


def free_words() -> str:
    """Return what is free of all CPUs and GPUs that the cluster has now; nothing where none is connected."""
    if not ray.is_initialized():
        return ""
    has, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    kinds = ["CPU", *(["GPU"] if has.get("GPU") else [])]
    return " and ".join(f"{free.get(kind, 0.0):g} of {has.get(kind, 0.0):g} {kind}s" for kind in kinds)


def tell_what_is_free(say: Callable[[str], None]) -> None:
    """Say that a cluster has no CPU for a job now, before the job waits for one."""
    if ray.available_resources().get("CPU", 0.0) < 1:  # type: ignore[no-untyped-call]
        say(f"{free_words()} of the cluster are free: the job waits until others end, or a machine joins")


def check_machines(say: Callable[[str], None]) -> None:
    """Start a worker on every machine of the cluster, and hold its versions against those of this process.

    What is given to a machine on which none starts would be waited for without end, and Ray tells nobody.

    Raises
    ------
    ClusterError
        If none starts on a machine, or versions differ.
    """
    nodes = {
        node["NodeID"]: str(node["NodeManagerAddress"])
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    }
    asked = {
        _versions.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(): address
        for node, address in nodes.items()
    }
    started, told = time.monotonic(), False
    waiting = list(asked)
    while waiting:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=min(SLOW_SECONDS, LAST_SECONDS))
        waited = time.monotonic() - started
        if waiting and waited > SLOW_SECONDS:
            words = f"no worker of Ray has started for {waited:.0f} s on {', '.join(asked[one] for one in waiting)}"
            if waited > LAST_SECONDS:
                raise ClusterError(
                    f"{words[0].upper()}{words[1:]}. The cause is in the logs there (session_latest/logs/raylet.err "
                    "and worker-*.err in the folder of Ray). Mend it, or take the machine away by `ray stop` there. "
                    "What was done before is kept."
                )
            if not told:
                say(words)
                told = True
    _compare({address: _answer_of(one, address) for one, address in asked.items()})


def _own_versions() -> _Versions:
    """Return the versions of this process."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Python": python, "Ray": ray.__version__, "coldray": __version__, **plugin_packages()}


@ray.remote(num_cpus=0, max_retries=0)
def _versions() -> _Versions:
    return _own_versions()


def _answer_of(reference: ray.ObjectRef[_Versions], address: str) -> _Versions | None:
    """Return what a machine answered; None if it was lost meanwhile, which costs nothing yet.

    Raises
    ------
    ClusterError
        If a worker started there, and could not do as it was told.
    """
    try:
        return ray.get(reference)
    except _LOST:
        return None
    except ray.exceptions.RayError as error:  # most often, a package is missing
        raise ClusterError(
            f"The machine {address} of the cluster cannot work for this job: {in_words(error)}. Install the same "
            "packages there, or run the job by `ray job submit --runtime-env jobs/ray-env.yaml`."
        ) from error


def _compare(answers: Mapping[str, _Versions | None]) -> None:
    """Refuse machines of other versions than this process has.

    Raises
    ------
    ClusterError
        Naming the machines and the versions.
    """
    mine = _own_versions()
    for address, found in answers.items():
        if found is not None and found != mine:
            other = ", ".join(
                f"{name} {found.get(name, 'none')}, not {mine.get(name, 'none')}"
                for name in {**mine, **found}
                if found.get(name) != mine.get(name)
            )
            raise ClusterError(
                f"The machine {address} of the cluster has {other} as this process. Install the same there, or run "
                "the job by `ray job submit --runtime-env jobs/ray-env.yaml`."
            )
