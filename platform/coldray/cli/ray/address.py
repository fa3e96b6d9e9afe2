"""Addresses of Ray clusters: which of those that people give can run a job, and what to do with the others."""

from __future__ import annotations

import os
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from coldray.cli.ray.local import EMBEDDED
from coldray.core.commands import running
from coldray.core.environment import variable
from coldray.core.errors import ClusterError

_CONNECT_SECONDS = 5.0
JOB_SERVER_PORT, CLUSTER_PORT = "8265", "6379"
_GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
"""What gRPC begins with (RFC 9113, 3.4): a preface and empty settings, which the other side answers with its own."""
FRAME_BYTES, SETTINGS = 9, 4
_LOCAL = "Or use --ray-address local."


def usable_address(address: str) -> str:
    """Return the address of a cluster as Ray takes it: ``local``, or ``host:port`` of one that answers.

    Within seconds: Ray itself would try for minutes.

    Raises
    ------
    ClusterError
        If no cluster answers there, or a job cannot be run by that kind of address.
    """
    asked = address.strip() or "local"
    if asked == "local":
        return asked
    if asked == "auto":
        return _running_here()
    scheme, separator, rest = asked.rpartition("://")
    if separator:
        place = re.split(r"[/?#]", rest)[0].rpartition("@")[2]  # without a user, a password and a path
        host = place if place.endswith("]") else place.rpartition(":")[0] or place
        raise ClusterError(_way_of(scheme.lower(), asked, host))
    _, colon, port = asked.rpartition(":")
    if not (colon and port.isdigit() and 0 < int(port) < 2**16):
        raise ClusterError(
            f"{address!r} is no address of a Ray cluster: that is HOST:{CLUSTER_PORT}, as `ray start --head` prints "
            f"it, 'auto' for the one that runs on this machine, or 'local'."
        )
    check_cluster(asked)
    return asked


def _way_of(scheme: str, asked: str, host: str) -> str:
    """Return what to do with an address that is not that of a cluster."""
    if scheme in ("http", "https"):
        return (
            f"{asked!r} is the address of a job server (the dashboard), which is sent jobs from elsewhere: "
            f"`{_submitted(asked)}`. On a machine of the cluster itself its address is {host}:{CLUSTER_PORT}. {_LOCAL}"
        )
    if scheme == "ray":
        server = f"http://{host}:{JOB_SERVER_PORT}"
        return (
            f"{asked!r} is an address of Ray Client, through which Ray Tune and Ray Data do not run. Send the job to "
            f"the cluster: `{_submitted(server)}`; or run it on a machine of the cluster with --ray-address "
            f"{host}:{CLUSTER_PORT}. {_LOCAL}"
        )
    return f"{asked!r} is no address of a Ray cluster: that is HOST:{CLUSTER_PORT}, 'auto' or 'local'."


def _submitted(server: str) -> str:
    """Return the command that sends what runs here to a job server; its options follow."""
    command = running()
    packages = "--runtime-env jobs/ray-env.yaml " if command.startswith("jobs/") else ""
    return f"ray job submit --address {shlex.quote(server)} {packages}-- {command}"


def check_cluster(address: str) -> None:
    """Fail within seconds unless a Ray cluster answers at ``host:port``.

    Raises
    ------
    ClusterError
        If the connection is refused, or what answers is no cluster.
    """
    host, _, port = address.rpartition(":")
    if port == JOB_SERVER_PORT:
        raise ClusterError(_way_of("http", f"http://{address}", host))
    try:
        answer = _answer(host, int(port), _GREETING)
        if len(answer) == FRAME_BYTES and answer[3] == SETTINGS:
            return
        if _answer(host, int(port), b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/"):
            raise ClusterError(_way_of("http", f"http://{address}", host))
    except OSError as error:
        raise ClusterError(
            f"No Ray cluster answers at {address!r} ({error}). Start one with `ray start --head`. {_LOCAL}"
        ) from error
    raise ClusterError(
        f"What answers at {address!r} is no Ray cluster. Its address is that which `ray start --head` printed, with "
        f"port {CLUSTER_PORT} unless another was chosen. {_LOCAL}"
    )


def _answer(host: str, port: int, greeting: bytes) -> bytes:
    """Return the first bytes of what is answered to a greeting."""
    with socket.create_connection((host.strip("[]"), port), timeout=_CONNECT_SECONDS) as connection:
        connection.settimeout(_CONNECT_SECONDS)
        connection.sendall(greeting)
        return connection.recv(FRAME_BYTES)


def _running_here() -> str:
    """Return the address of this user's cluster on this machine, which is what ``auto`` stands for.

    Raises
    ------
    ClusterError
        If none runs, several run of which none was the last to be started, or none answers.
    """
    mine, others = _clusters()
    latest = _last_started()
    if latest in mine or len(mine) == 1:
        found = latest if latest in mine else mine[0]
        check_cluster(found)
        return found
    if mine:
        raise ClusterError(
            f"Several Ray clusters run on this machine: {', '.join(mine)}. Name one with --ray-address. {_LOCAL}"
        )
    foreign = "".join(
        f" That at {address} is {user}'s: --ray-address {address} uses it." for address, user in others.items()
    )
    raise ClusterError(
        f"No Ray cluster of yours runs on this machine.{foreign} Start one with `ray start --head`. {_LOCAL}"
    )


def _last_started() -> str:
    """Return what `ray start` has kept as the address of the last cluster, unless another user's did."""
    with suppress(OSError):
        file = Path(variable("RAY_TMPDIR") or variable("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
        if file.stat().st_uid == os.geteuid():
            return file.read_text(encoding="utf-8").strip()
    return ""


def _clusters() -> tuple[list[str], dict[str, str]]:
    """Return the addresses of this user's clusters on this machine, and those of others with the names of users.

    What jobs have started for themselves is neither: it ends with them.
    """
    mine: dict[str, None] = {}
    others: dict[str, str] = {}
    for process, address in _raylets():
        with suppress(psutil.Error):
            if process.uids().effective != os.geteuid():
                others[address] = process.username()
            elif EMBEDDED not in process.environ():
                mine[address] = None
    return list(mine), others


def _raylets() -> Iterator[tuple[psutil.Process, str]]:
    """Yield the processes that lead a machine of a cluster, each with the address of the cluster."""
    for process in psutil.process_iter(["cmdline"]):
        command = process.info["cmdline"] or [""]
        if Path(command[0]).name != "raylet":
            continue
        for argument in command:
            name, _, value = argument.partition("=")
            if name.lstrip("-").replace("-", "_") == "gcs_address" and value:
                yield process, value
