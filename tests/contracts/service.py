"""A service that runs, as its callers see it, and the registry it follows."""

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager, suppress

from mlflow.tracking import MlflowClient


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.05)


def promote(uri, folder, name, alias="champion"):
    """Register the bundle in a folder and move the alias to it; return the version."""
    client = MlflowClient(uri, uri)
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    run = client.create_run("0")
    client.log_artifacts(run.info.run_id, str(folder), "bundle")
    version = client.create_model_version(name, f"{run.info.artifact_uri}/bundle", run.info.run_id).version
    if alias is not None:
        client.set_registered_model_alias(name, alias, version)
    return str(version)


class Client:
    """Calls a service; an error is a status like any other."""

    def __init__(self, address):
        self.address = address

    def __call__(self, path, body=None, method=None, raw=None):
        data = raw if raw is not None else None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.address + path, data=data, headers={"content-type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text else None

    def items(self, **body):
        status, answer = self("/v1/recommend", body)
        assert status == 200, answer
        return [place["item_id"] for place in answer["items"]]


class RedisServer:
    """A Redis on this machine that a test may stop, halt and start again; it keeps nothing on disk."""

    def __init__(self, executable):
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            executable,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        wait_for(self._answers)

    def _answers(self):
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"
        return False

    def stop(self):
        self.process.kill()
        self.process.wait()

    @contextmanager
    def halted(self):
        """Take connections, and answer none of them."""
        self.process.send_signal(19)
        try:
            yield
        finally:
            self.process.send_signal(18)
