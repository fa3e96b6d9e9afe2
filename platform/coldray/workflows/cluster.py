"""The Ray cluster of a job: one that runs already, or one of this machine for as long as the job lasts."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from coldray.errors import ClusterError
from coldray.tuning.listeners import StudyListener

CONNECT_SECONDS = 5.0
SHUTDOWN_SECONDS = 5.0
IDLE_WORKERS = 6
"""Processes that wait for the next task; by itself, Ray ends those beyond the number of CPUs after a second, and what
they have loaded is loaded again."""


def start_ray(cpus: int | None = None) -> None:
    """Start Ray on this machine, guarded by a token that lives and dies with this process.

    Left alone, Ray writes a token to the user's home when it starts locally; from then on `ray start --head` asks for
    it and a plain `ray job submit` is refused. Whoever has chosen a mode through RAY_AUTH_MODE keeps it.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # It would announce, at every start, the mode that Ray takes by itself.
        logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray's coming default; silences a warning
    os.environ.setdefault("RAY_num_workers_soft_limit", str(IDLE_WORKERS))
    ray.init(
        address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.WARNING
    )


@contextmanager
def connected_ray(address: str, cpus: int | None, listener: StudyListener) -> Iterator[None]:
    """Connect to a cluster, or start Ray on this machine, and end what was begun; an existing connection is used.

    Raises
    ------
    ClusterError
        If no cluster answers.
    """
    if ray.is_initialized():
        yield
        return
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if address == "local":
            listener.stage("starting Ray on this machine")
            start_ray(cpus)
        else:
            listener.stage(f"connecting to the Ray cluster at {address}")
            check_cluster(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ClusterError(f"No Ray cluster answers at {address!r}: {error}. Use --ray-address local.") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            signal.signal(number, handler)  # Ray has put its own in the place of the job's
    try:
        yield
    finally:
        _shut_down()


def _shut_down() -> None:
    """End Ray, or leave it to the end of the process when it does not answer: a signal may have ended its parts."""
    ending = threading.Thread(target=ray.shutdown, daemon=True)
    ending.start()
    ending.join(SHUTDOWN_SECONDS)


def check_cluster(address: str) -> None:
    """Fail within seconds when nothing listens at ``host:port``; Ray itself would try for minutes.

    Raises
    ------
    ClusterError
        If the connection is refused or not answered.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`, or use "
            "--ray-address local."
        ) from error
