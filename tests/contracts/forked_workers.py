"""Workers of Ray that are forked from a process which has loaded the libraries that each would load for seconds.

Ray starts this file in the place of its own program for workers; it has them forked, and stays for as long as they do.
The libraries are those of others: coldray is loaded by each worker for itself. A job that tests start as a process by
:func:`forking` has the workers of its own Ray forked by the same server; by itself, its Ray starts them as everywhere.
"""

# Each worker loads this file before it is forked: what takes more than a few milliseconds is loaded where it is used.
import json
import os
import socket
import sys
from contextlib import contextmanager, suppress

SOCKET = "COLDRAY_TESTS_FORKED_WORKERS"
LIBRARIES = ("torch", "scipy.sparse.linalg", "scipy.stats", "sqlalchemy.orm", "safetensors.numpy", "pydantic", "yaml")
"""Not polars, and not MLflow, which loads it: its threads begin as it is loaded, and a fork has none of them."""
OF_RAY = ("ray.tune", "ray.train.torch", "ray.serve")
"""Loaded for the first worker, in its environment: Ray takes its settings from there."""
NO_JOB = {"RAY_JOB_ID": "ffffffff"}
"""Of a worker that Ray starts before it knows a job for it: it takes the job of its first task."""
NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Of pyarrow, which Ray loads, and of BLAS; what is to have more asks for them."""
PROGRAMS = {"worker_path", "setup_worker_path"}
"""Of Ray, which this file is: the worker, and what is run before it where it has a `runtime_env`."""
QUIET = {"REPORTER_UPDATE_INTERVAL_MS": "60000"}
"""Of Ray's agent, which counts what each process uses every few seconds, for nobody."""
NOT_FORKED = {"env_vars": {SOCKET: ""}}
"""The `runtime_env` of a worker that is to begin with nothing loaded, as everywhere."""


@contextmanager
def forked_workers():
    """Let the Ray that is started within the block fork its workers, for as long as the block lasts."""
    import subprocess
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp", prefix="forks-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path, fd = os.path.join(folder, "socket"), listener.fileno()  # noqa: PTH118
        listener.bind(path)
        listener.listen(64)
        command, environment = [sys.executable, __file__, "--fork-from", str(fd)], {**os.environ, **NO_THREADS}
        environment.pop("PYTHONPATH", None)  # each worker has that of its own environment
        server = subprocess.Popen(command, env=environment, pass_fds=[fd])
        before = {name: os.environ.get(name) for name in (SOCKET, *QUIET)}
        os.environ |= {**QUIET, SOCKET: path}
        try:
            with _this_file_for_workers(include_log_monitor=False, no_monitor=True):  # nobody reads what those say
                yield
        finally:
            _restore(before)
            server.kill()
            server.wait()


def _restore(variables):
    for name, value in variables.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


@contextmanager
def _this_file_for_workers(**parameters):
    """Let Ray start this file in the place of its own program, and take these of its parameters."""
    from ray._private.parameter import RayParams  # imported here, as workers are launched without it

    real = RayParams.update_if_absent

    def with_this_file(params, **values):
        real(params, **{name: __file__ if name in PROGRAMS else value for name, value in values.items()})
        vars(params).update(parameters)

    RayParams.update_if_absent = with_this_file
    try:
        yield
    finally:
        RayParams.update_if_absent = real


def forking(job, *arguments):
    """Return the command of a Python program whose Ray has its workers forked, if a server for that runs here.

    To all that it and its workers can see of it, the program is started as ever.
    """
    return [sys.executable, *([__file__, "--job"] if os.environ.get(SOCKET) else []), str(job), *map(str, arguments)]


def _run_job():
    """Be the program that :func:`forking` names."""
    import runpy

    del sys.argv[:2]
    sys.path[0] = os.path.dirname(os.path.realpath(sys.argv[0]))  # noqa: PTH120
    with _this_file_for_workers():
        runpy.run_path(sys.argv[0], run_name="__main__")


def _set_up():
    """Be Ray's program that makes the environment of a worker, which loads Ray for a second, and then the worker."""
    given, start = sys.argv[2:], "--serialized-runtime-env-context="
    context = next((json.loads(one.removeprefix(start)) for one in given if one.startswith(start)), {})
    more = {name for name, value in context.items() if value} - {"env_vars", "py_executable"}
    if more or context.get("py_executable", sys.executable) != sys.executable:
        os.execv(sys.executable, [sys.executable, _program("setup_worker.py"), *sys.argv[1:]])
    os.environ.update({name: os.path.expandvars(value) for name, value in (context.get("env_vars") or {}).items()})
    sys.argv[1:] = [one for one in given if not one.startswith((start, "--language="))]
    _launch()


def _launch():
    """Have a worker forked and wait for its end, as the connection is its, too; be one where nobody forks it.

    This ends, and its worker with it, when Ray has ended: by itself, a worker looks whether its parent has.
    """
    starter = os.getppid()
    if path := os.environ[SOCKET]:
        with suppress(ConnectionError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)
            asked = [sys.argv[1:], os.getcwd(), dict(os.environ)]  # noqa: PTH109
            connection.sendall(json.dumps(asked).encode() + b"\n")
            if connection.recv(1):
                connection.settimeout(1)
                while os.getppid() == starter:
                    with suppress(TimeoutError):
                        connection.recv(1)
                        break
                return
    os.execv(sys.executable, [sys.executable, _program(), *sys.argv[1:]])


def _program(name="default_worker.py"):
    """Return Ray's own program for workers, or another one of it."""
    import importlib.util
    from pathlib import Path

    return str(Path(importlib.util.find_spec("ray").origin).parent / "_private" / "workers" / name)


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
    import runpy

    os.environ.clear()
    os.environ.update(environment)
    program = _program()
    sys.argv, sys.path[0] = [program, *arguments], os.path.dirname(program)  # noqa: PTH120
    asked = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.path[1:1] = [os.path.abspath(folder) for folder in asked]  # noqa: PTH100
    runpy.run_path(program, run_name="__main__")


def _load_of_ray():
    """Load what is Ray's without a draw of its generator of random numbers: workers would all draw the same ones.

    With the same id, the objects by which two workers of one moment try the store are one, and one worker dies of it.
    """
    import importlib
    from types import SimpleNamespace

    from ray import actor

    of_classes = actor.ActorClassID
    actor.ActorClassID = SimpleNamespace(from_random=lambda: of_classes(os.urandom(of_classes.size())))
    for name in OF_RAY:
        importlib.import_module(name)
    actor.ActorClassID = of_classes


def _fork(listener):
    """Fork a worker for each who asks; return what it is asked for, in the worker alone."""
    import fcntl
    import importlib
    import signal

    starter, _ = os.getppid(), listener.settimeout(1)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended
    for name in LIBRARIES:
        importlib.import_module(name)
    connection, arguments, folder, environment = _asked(listener, starter)
    os.environ.update({**environment, **NO_THREADS, **NO_JOB})
    _load_of_ray()
    assert len(os.listdir("/proc/self/task")) == 1, "threads are not forked"  # noqa: PTH208
    while os.fork():
        connection.close()
        connection, arguments, folder, environment = _asked(listener, starter)
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.setpgid(0, 0)  # Ray ends the process group of a worker that has gone: it must not be that of the tests
    # Whoever ends the program that Ray has started ends this worker with it: SIGIO, when the connection is closed.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, fcntl.fcntl(connection, fcntl.F_GETFL) | os.O_ASYNC)
    connection.sendall(b"1")
    return connection, arguments, environment


if __name__ == "__main__":
    if sys.argv[1:2] == ["--job"]:
        sys.exit(_run_job())
    if sys.argv[1:2] == [__file__]:
        sys.exit(_set_up())
    if sys.argv[1:2] != ["--fork-from"]:
        sys.exit(_launch())
    kept, *wanted = _fork(socket.socket(fileno=int(sys.argv[2])))
    _work(*wanted)
