"""A real MLflow server for tests."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from contracts.service import free_port


class TrackingServer:
    """A real MLflow server on its database, which can be killed and started again.

    It sets one up, for seconds, if there is none in its folder.
    """

    DATABASE = "server.db"

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self.folder / self.DATABASE}", "--workers", "1"),
            *("--artifacts-destination", str(self.folder / "artifacts"), "--serve-artifacts"),
        ]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # seven processes that nobody needs
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.uri}/health", timeout=2).close()
                return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            time.sleep(0.2)
        pytest.fail("the MLflow server did not start")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
