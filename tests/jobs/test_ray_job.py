"""A job brings its code and its environment to a cluster by jobs/ray-env.yaml."""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest
import yaml

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / "jobs" / "ray-env.yaml"
TOOLS = Path(sys.executable).parent
LOOK = (
    "import coldray, json, os; "
    "print('SEEN', json.dumps([coldray.__file__, os.getcwd(), os.environ.get('POLARS_MAX_THREADS')]))"
)


def free_ports(count):
    """Return so many ports that were free at the same time."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def end(processes):
    """End processes of this test, and no others."""
    for send in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(send)
        _, processes = psutil.wait_procs(processes, timeout=10)


def belonging_to(folder):
    """Return the processes that have `folder` in their environment."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("COLDRAY_TEST_CLUSTER") == str(folder):
                found.append(process)
    return found


@pytest.fixture
def cluster():
    """Run a cluster with a token, its own ports and its own folder; yield its address and what a client needs."""
    folder = Path(tempfile.mkdtemp(prefix="rj-", dir="/tmp"))  # short: paths of sockets may have 107 bytes
    names = ("port", "dashboard-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")
    names += ("metrics-export-port", "runtime-env-agent-port", "ray-client-server-port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {
        "PATH": f"{TOOLS}{os.pathsep}{os.environ['PATH']}",  # where the first line of a job finds python
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "COLDRAY_TEST_CLUSTER": str(folder),
    }
    start = [TOOLS / "ray", "start", "--head", "--block", "--num-cpus=2", "--node-ip-address=127.0.0.1"]
    start += [f"--temp-dir={folder}", "--object-store-memory=200000000", "--min-worker-port=0", "--max-worker-port=0"]
    start += [f"--{name}={port}" for name, port in ports.items()]
    with (folder / "head.log").open("w") as log:
        head = subprocess.Popen(start, env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(ports["dashboard-port"], folder / "head.log")
        yield f"http://127.0.0.1:{ports['dashboard-port']}", environment
    finally:
        end(belonging_to(folder))
        head.wait(timeout=10)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port, log):
    """Wait until something listens."""
    for _ in range(240):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        time.sleep(0.25)
    pytest.fail(f"the cluster did not start: {log.read_text()}")


def test_a_job_runs_with_the_code_and_the_environment_that_it_brings(cluster, tmp_path):
    address, environment = cluster
    job = f"python -c {shlex.quote(LOOK)} && jobs/check_data.py --dataset sample --output-dir {tmp_path}"
    command = [TOOLS / "ray", "job", "submit", "--address", address, "--runtime-env", "jobs/ray-env.yaml", "--"]
    command += ["sh", "-c", job]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("SEEN "))
    package, folder, threads = json.loads(line.removeprefix("SEEN "))
    shipped = Path(environment["COLDRAY_TEST_CLUSTER"])
    assert shipped in Path(package).parents  # the code that came with it, not the one installed here
    assert shipped in Path(folder).parents
    assert threads == yaml.safe_load(ENVIRONMENT.read_text(encoding="utf-8"))["env_vars"]["POLARS_MAX_THREADS"]
    assert list(tmp_path.rglob("report.html"))
    refused = subprocess.run(
        [TOOLS / "ray", "job", "list", "--address", address],
        env=environment | {"RAY_AUTH_TOKEN": "another"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode != 0
