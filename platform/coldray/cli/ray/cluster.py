"""The Ray cluster of a job: one that runs already, or one of this machine for as long as the job lasts."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

from coldray.cli.ray.address import usable_address
from coldray.cli.ray.local import EMBEDDED, ray_folder, readable_commands, worker_environment
from coldray.cli.ray.machines import check_machines, tell_what_is_free
from coldray.cli.ray.watch import RayWatch
from coldray.core.environment import variable
from coldray.core.errors import ClusterError, ColdrayError
from coldray.experiments.listeners import StudyListener

_SHUTDOWN_SECONDS = 5.0
_IDLE_WORKERS = 6
"""Processes that wait for the next task; by itself, Ray ends those beyond the number of CPUs after a second, and what
they have loaded is loaded again."""
_MEMORY_RETRIES = 3
"""So often a task is begun again after memory was short; by itself, Ray does so for ever."""


def start_ray(cpus: int | None = None, say: Callable[[str], None] = lambda _: None) -> Path:
    """Start Ray on this machine, guarded by a token that lives and dies with this process; return its session's folder.

    Left alone, Ray writes a token to the user's home when it starts locally; from then on `ray start --head` asks for
    it and a plain `ray job submit` is refused. Whoever has chosen a mode through RAY_AUTH_MODE keeps it.

    Parameters
    ----------
    say
        Told where Ray keeps its files, if not in the folder of temporary files.

    Raises
    ------
    ClusterError
        If no folder will do for its files.
    """
    if not variable("RAY_AUTH_MODE"):
        os.environ.pop("RAY_AUTH_MODE", None)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # It would announce, at every start, the mode that Ray takes by itself.
        logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences a warning
    os.environ.setdefault("RAY_num_workers_soft_limit", str(_IDLE_WORKERS))
    os.environ.setdefault("RAY_task_oom_retries", str(_MEMORY_RETRIES))
    folder, note = ray_folder()
    if note:
        say(note)
    os.environ[EMBEDDED] = "1"
    try:
        with readable_commands():
            context = ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.WARNING,
                runtime_env=worker_environment() or None,
                _temp_dir=str(folder),
            )
    finally:
        del os.environ[EMBEDDED]  # a cluster that is started from here later is no such one
    return _session(context)


def _session(context: Any) -> Path:
    return Path(context.address_info["session_dir"])


@contextmanager
def connected_ray(address: str, cpus: int | None, listener: StudyListener) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine, and end what was begun; an existing connection is used.

    Raises
    ------
    ClusterError
        If no cluster answers, or Ray does not start.
    """
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    address = usable_address(address)
    os.environ.pop("RAY_ADDRESS", None)  # Ray would take it before the address that it is given
    session = _begin(address, cpus, listener)
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray has put its own in the place of the job's
    watch = RayWatch(session, address, listener.stage)
    try:
        with watch:
            if address != "local":
                check_machines(listener.stage)
                tell_what_is_free(listener.stage)
            yield
    except BaseException as error:
        if watch.failure is not None:
            raise watch.failure from error
        raise
    finally:
        _shut_down()


def _begin(address: str, cpus: int | None, listener: StudyListener) -> Path:
    """Start Ray, or connect to it; return the folder of its session. Whatever goes wrong is an error of the cluster.

    Raises
    ------
    ClusterError
        If it goes wrong.
    """
    try:
        if address == "local":
            listener.stage("starting Ray on this machine")
            return start_ray(cpus, listener.stage)
        listener.stage(f"connecting to the Ray cluster at {address}")
        return _session(ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING))
    except ColdrayError:
        raise
    except Exception as error:  # Ray has no common error for it
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        if address == "local":
            raise ClusterError(f"Ray does not start on this machine: {first}") from error
        raise ClusterError(
            f"No Ray cluster can be used at {address!r}: {first}. Use --ray-address local, or the Python and the Ray "
            "that it was started with."
        ) from error


def _shut_down() -> None:
    """End Ray, or leave it to the end of the process when it does not answer: a signal may have ended its parts."""
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    ending.start()
    ending.join(_SHUTDOWN_SECONDS)
