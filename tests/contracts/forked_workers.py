"""Workers of Ray that are forked from a process which has loaded the libraries that each would load for seconds.

Ray starts this file in the place of its own program for workers; it has them forked, and stays for as long as they do.
The libraries are those of others: coldray is loaded by each worker for itself. Where tests start a job as a process,
its Ray starts workers as it does everywhere.
"""

import importlib
import importlib.util
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

SOCKET = "COLDRAY_TESTS_FORKED_WORKERS"
LIBRARIES = ("torch", "scipy.sparse.linalg", "scipy.stats", "sqlalchemy.orm", "safetensors.numpy", "pydantic", "yaml")
"""Not polars, and not MLflow, which loads it: its threads begin as it is loaded, and a fork has none of them."""
OF_RAY = ("ray.tune", "ray.train.torch", "ray.serve")
"""Loaded for the first worker, in its environment: Ray takes its settings from there."""
NO_JOB = {"RAY_JOB_ID": "ffffffff"}
"""Of a worker that Ray starts before it knows a job for it: it takes the job of its first task."""
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of pyarrow, which Ray loads, and of BLAS; what is to have more asks for them."""
NOT_FORKED = {"env_vars": {SOCKET: ""}}
"""The `runtime_env` of a worker that is to begin with nothing loaded, as everywhere."""


@contextmanager
def forked_workers():
    """Let the Ray that is started within the block fork its workers, for as long as the block lasts."""
    from ray._private.parameter import RayParams  # imported here, as workers are launched without it

    real = RayParams.update_if_absent

    def with_this_file(params, **values):
        real(params, **{**values, **({"worker_path": __file__} if "worker_path" in values else {})})

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="forks-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path, fd = str(Path(folder, "socket")), listener.fileno()
        listener.bind(path)
        listener.listen(64)
        command, environment = [sys.executable, __file__, "--fork-from", str(fd)], {**os.environ, **NO_THREADS}
        server = subprocess.Popen(command, env=environment, pass_fds=[fd])
        os.environ[SOCKET], RayParams.update_if_absent = path, with_this_file
        try:
            yield
        finally:
            del os.environ[SOCKET]
            RayParams.update_if_absent = real
            server.kill()
            server.wait()


def _launch():
    """Have a worker forked and wait for its end, as the connection is its, too; be one where nobody forks it."""
    if path := os.environ[SOCKET]:
        with suppress(ConnectionError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            connection.sendall(json.dumps([sys.argv[1:], str(Path.cwd()), dict(os.environ)]).encode() + b"\n")
            if connection.recv(1):
                connection.recv(1)
                return
    os.execv(sys.executable, [sys.executable, _program(), *sys.argv[1:]])


def _program():
    """Return Ray's own program for workers."""
    return str(Path(importlib.util.find_spec("ray").origin).parent / "_private" / "workers" / "default_worker.py")


def _asked(listener, starter):
    """Return the connection of the next who asks for a worker, and what it asks for; end with whoever started this."""
    while os.getppid() == starter:
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            connection.settimeout(None)
            return connection, *json.loads(connection.makefile("rb").readline())
    os._exit(0)


def _work(arguments, environment):
    """Be a worker."""
    os.environ.clear()
    os.environ.update(environment)
    program = _program()
    sys.argv, sys.path[0] = [program, *arguments], str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")


def _load_of_ray():
    """Load what is Ray's without a draw of its generator of random numbers: workers would all draw the same ones.

    With the same id, the objects by which two workers of one moment try the store are one, and one worker dies of it.
    """
    from ray import actor

    of_classes = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: of_classes(os.urandom(of_classes.size())))
    for name in OF_RAY:
        importlib.import_module(name)
    actor.ActorClassID = of_classes


def _fork(listener):
    """Fork a worker for each who asks; return what it is asked for, in the worker alone."""
    starter, _ = os.getppid(), listener.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for name in LIBRARIES:
        importlib.import_module(name)
    connection, arguments, folder, environment = _asked(listener, starter)
    os.environ.update({**environment, **NO_THREADS, **NO_JOB})
    _load_of_ray()
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "threads are not forked"
    while os.fork():
        connection.close()
        connection, arguments, folder, environment = _asked(listener, starter)
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    connection.sendall(b"1")
    return connection, arguments, environment


if __name__ == "__main__":
    if sys.argv[1:2] != ["--fork-from"]:
        sys.exit(_launch())
    kept, *wanted = _fork(socket.socket(fileno=int(sys.argv[2])))
    _work(*wanted)
