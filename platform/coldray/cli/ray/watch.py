"""Watches the Ray of a job: what keeps workers from starting is told, and ends the job instead of having it wait."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

import psutil
import ray

from coldray.cli.ray.address import check_cluster
from coldray.cli.ray.logs import KILLED, RayLogs, shown
from coldray.core.errors import ClusterError

_LOOK_SECONDS = 2.0
_CAUSE_SECONDS = 12.0
"""So long workers have to be waited for before a line of a log is taken for the cause; a worker starts in seconds."""
_SLOW_SECONDS = 40.0
"""So long they have to be waited for before it is told that none starts, though no log says why."""
_LAST_SECONDS = 300.0
"""So long they have to be waited for before the job ends though no log says why: a busy machine is slow."""
_MEMORY_SECONDS = 30.0
"""How old a line may be that tells why workers do not start; that they are waited for is written down later."""
_NODES_SECONDS = 10.0
_FULL_BYTES = 2**22
"""A disk with less room than that is full: a worker cannot even write its logs, and dies of it."""
_LEADERS = ("raylet", "gcs_server")
"""The processes without which nothing goes on."""
_WAY_OUT = "What was done before is kept."


class RayWatch:
    """Looks after the Ray of this process, from a thread, while the block lasts.

    Where it finds that nothing will go on, :attr:`failure` says why, and the main thread is interrupted as by Ctrl-C.
    Workers that wait for their turn, because others have all CPUs, are no failure.

    Parameters
    ----------
    session
        The folder of Ray's session; its logs are read if they are on this machine.
    address
        Of the cluster, which has to answer; ``local`` for one that this process has started.
    say
        Told what is to be known, though the job goes on.
    """

    def __init__(self, session: Path, address: str, say: Callable[[str], None]) -> None:
        self.logs, self.address, self.say = RayLogs(session / "logs"), address, say
        self.failure: ClusterError | None = None
        """Why nothing goes on any more."""
        self._leaders = [child for child in psutil.Process().children() if child.name() in _LEADERS]
        self._names = {child.pid: child.name() for child in self._leaders}
        self._lost: set[str] | None = None
        self._since: float | None = None
        self._told: set[str] = set()
        self._interrupts = threading.current_thread() is threading.main_thread()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._nodes_at = float("-inf")
        self._silent = False

    def __enter__(self) -> Self:
        self.logs.look()
        self.logs.forget(0)  # of a cluster that has run for long
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._look_for_disk()  # which may be why
        self._done.set()
        self._thread.join(_LOOK_SECONDS)

    def _watch(self) -> None:
        while not self._done.wait(_LOOK_SECONDS):
            try:
                self.look(time.monotonic())
            except ClusterError as failure:
                self._fail(failure)
                return
            except Exception as error:  # who watches is not who fails
                self.say(f"Ray is not watched over any more ({type(error).__name__}: {error})")
                return

    def look(self, now: float) -> None:
        """Look once.

        Raises
        ------
        ClusterError
            If nothing will go on.
        """
        self._look_for_leaders()
        self._look_for_nodes(now)
        if self.logs.here:
            self._look_for_disk()
            self._look_for_workers(now)

    def _look_for_leaders(self) -> None:
        for process in self._leaders:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                self.logs.look()
                name = self._names[process.pid]
                cause = self.logs.cause()
                because = f": {cause.what}. {cause.way_out}" if cause else ", most often for want of memory"
                raise ClusterError(f"The process {name} of Ray has ended{because}. {_WAY_OUT}")

    def _look_for_disk(self) -> None:
        if "disk" in self._told or not self.logs.here:
            return
        status = os.statvfs(self.logs.folder)
        if status.f_bavail * status.f_frsize < _FULL_BYTES:
            self._told.add("disk")
            self.say(
                f"the disk with {self.logs.folder.parent} is full, where Ray keeps its logs and what memory does not "
                "hold: workers die of that. Free space, or set RAY_TMPDIR to a folder on another disk"
            )

    def _look_for_nodes(self, now: float) -> None:
        if now - self._nodes_at < _NODES_SECONDS:
            return
        self._nodes_at = now
        if self.address != "local" and not self._answers():
            return
        nodes = ray.nodes()  # type: ignore[no-untyped-call]
        lost = {node["NodeID"]: node["NodeManagerAddress"] for node in nodes if not node["Alive"]}
        for node in set(lost) - (self._lost if self._lost is not None else set(lost)):
            left = sum(bool(node["Alive"]) for node in nodes)
            self.say(f"the machine {lost[node]} of the cluster is lost; what it was at is done again ({left} are left)")
        self._lost = set(lost)

    def _answers(self) -> bool:
        """Return whether the cluster answers.

        Raises
        ------
        ClusterError
            If it has not answered the last time either: Ray would end this process without a word of ours.
        """
        try:
            check_cluster(self.address)
        except ClusterError as error:
            if self._silent:
                raise ClusterError(f"The Ray cluster at {self.address!r} has gone: {error} {_WAY_OUT}") from error
            self._silent = True
            return False
        self._silent = False
        return True

    def _look_for_workers(self, now: float) -> None:
        for line in self.logs.look():
            if "Killing" in line and KILLED[1] not in self._told:
                self._told.add(KILLED[1])
                self.say(f"Ray ends workers: {KILLED[1]} ({shown(line)}). {KILLED[2]}")
        if not self.logs.waiting_for_workers():
            self._since = None
            self.logs.forget(_MEMORY_SECONDS)
            return
        self._since = self._since if self._since is not None else now
        waited = now - self._since
        cause = self.logs.cause() if waited > _CAUSE_SECONDS else None
        if cause is not None and not self._starting():
            raise ClusterError(f"No worker of Ray starts: {cause.what}. {cause.way_out}. {_WAY_OUT}")
        if waited > _SLOW_SECONDS:
            said = f"{cause.what}. {cause.way_out}" if cause else self.logs.last_words()
            if waited > _LAST_SECONDS:
                raise ClusterError(f"No worker of Ray has started for {waited:.0f} s: {said}. {_WAY_OUT}")
            if "slow" not in self._told:
                self._told.add("slow")
                self.say(f"no worker of Ray has started for {waited:.0f} s: {said}")

    def _starting(self) -> bool:
        """Return whether a process of a worker that was started last is still there, and may be but slow."""
        started = self.logs.started()
        return bool(started) and psutil.pid_exists(started[-1]) and psutil.Process(started[-1]).status() != "zombie"

    def _fail(self, failure: ClusterError) -> None:
        self.failure = failure
        self.say(str(failure))
        if self._interrupts and not self._done.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
