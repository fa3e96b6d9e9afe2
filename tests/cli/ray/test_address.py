"""Addresses of Ray clusters, and what people give in their place."""

import os
import socket
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from coldray.cli.ray import address as ray_address
from coldray.cli.ray.address import _GREETING, FRAME_BYTES, SETTINGS, usable_address
from coldray.cli.ray.local import EMBEDDED
from coldray.core.errors import ClusterError


@contextmanager
def answering(answer):
    """Listen on a port; answer a greeting with these bytes, or never."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                kept.append(connection)
                if answer and connection.recv(len(_GREETING)):
                    connection.sendall(answer)

        kept = []
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


CLUSTER = bytes([0, 0, 0, SETTINGS]).ljust(FRAME_BYTES, b"\0")


@pytest.mark.parametrize("given", ["", "  ", "local", " local "])
def test_nothing_given_is_this_machine(given):
    assert usable_address(given) == "local"


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("http://10.0.0.1:8265", "ray job submit --address http://10.0.0.1:8265"),
        ("HTTPS://ray.example.com/", "ray job submit --address HTTPS://ray.example.com/"),
        ("10.0.0.1:8265", "ray job submit --address http://10.0.0.1:8265"),
        ("ray://10.0.0.1:10001", "ray job submit --address http://10.0.0.1:8265"),
        ("ray://10.0.0.1:10001", "--ray-address 10.0.0.1:6379"),
        ("http://10.0.0.1:8265", "its address is 10.0.0.1:6379"),
        ("http://joe:s3cret@10.0.0.1:8265/jobs?x=1", "its address is 10.0.0.1:6379"),
        ("https://[fd00::1]", "its address is [fd00::1]:6379"),
        ("ray://joe:s3cret@10.0.0.1:10001", "ray job submit --address http://10.0.0.1:8265"),
        ("redis://10.0.0.1:6379", "HOST:6379"),
        ("head-node", "HOST:6379"),
        ("head-node:", "HOST:6379"),
        ("head-node:99999", "HOST:6379"),
        (":::", "HOST:6379"),
    ],
)
def test_what_is_no_address_of_a_cluster_is_refused_at_once_with_the_way_out(given, way_out):
    started = time.monotonic()
    with pytest.raises(ClusterError) as refused:
        usable_address(given)
    assert way_out in str(refused.value)
    assert "s3cret" not in str(refused.value)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("argv", "sent"),
    [
        (["jobs/ablation.py", "--cpus", "2"], "--runtime-env jobs/ray-env.yaml -- jobs/ablation.py`"),
        (["/somewhere/bin/coldray", "compare", "coldstart"], "10.0.0.1:8265 -- coldray compare`"),
        (["/somewhere/bin/coldray"], "10.0.0.1:8265 -- coldray tune`"),
        (["/somewhere/ipykernel_launcher.py", "-f"], "10.0.0.1:8265 -- coldray tune`"),
    ],
)
@pytest.mark.parametrize("given", ["http://10.0.0.1:8265", "ray://10.0.0.1:10001"])
def test_what_runs_is_what_is_to_be_sent_to_a_job_server(monkeypatch, given, argv, sent):
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(ClusterError) as refused:
        usable_address(given)
    assert sent in str(refused.value)


def test_a_cluster_is_known_by_its_answer(monkeypatch):
    monkeypatch.setattr(ray_address, "_CONNECT_SECONDS", 0.3)
    with answering(CLUSTER) as address:
        assert usable_address(f" {address} ") == address
    with answering(b"SSH-2.0-OpenSSH_9.7\r\n") as address, pytest.raises(ClusterError, match="is no Ray cluster"):
        usable_address(address)
    with answering(b"") as address, pytest.raises(ClusterError, match="timed out"):
        usable_address(address)  # one that hangs
    with pytest.raises(ClusterError, match="refused"):
        usable_address(address)


def test_a_job_server_is_known_by_its_answer_on_any_port():
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ClusterError, match=f"ray job submit --address http://127.0.0.1:{server.server_port}"):
            usable_address(f"127.0.0.1:{server.server_port}")
        server.shutdown()


class Quiet(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def raylet(address, **options):
    """Run a process that looks like that which leads a machine of a cluster."""
    command = ["/somewhere/raylet", "-c", "echo; read answer", f"--gcs-address={address}"]
    with subprocess.Popen(
        command, executable="/bin/sh", stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options
    ) as process:
        process.stdout.readline()
        yield
        process.stdin.close()


@pytest.fixture
def own_machine(monkeypatch, tmp_path):
    """Only those clusters that a test has made: a machine is shared."""
    made = []
    everything = ray_address._raylets
    monkeypatch.setattr(ray_address, "_raylets", lambda: (one for one in everything() if one[1] in made))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    return made


def test_auto_is_the_cluster_of_this_user(own_machine, tmp_path):
    with answering(CLUSTER) as first, answering(CLUSTER) as second, raylet(first):
        own_machine += [first, second]
        assert usable_address("auto") == first
        with raylet(second), pytest.raises(ClusterError, match="Several Ray clusters"):
            usable_address("auto")
        (tmp_path / "ray").mkdir()
        (tmp_path / "ray" / "ray_current_cluster").write_text(second)
        assert usable_address("auto") == first  # the latest has ended
        with raylet(second):
            assert usable_address("auto") == second


def test_auto_joins_no_ray_that_a_job_started_for_itself(own_machine):
    with answering(CLUSTER) as address, raylet(address, env={**os.environ, EMBEDDED: "1"}):
        own_machine.append(address)
        with pytest.raises(ClusterError, match=r"No Ray cluster of yours runs on this machine\. Start one"):
            usable_address("auto")


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone becomes another user")
def test_auto_joins_no_ray_of_another_user(own_machine):
    with answering(CLUSTER) as address, raylet(address, user=65534):
        own_machine.append(address)
        with pytest.raises(ClusterError, match=f"That at {address} is .*'s: --ray-address {address} uses it"):
            usable_address("auto")


def test_auto_does_not_wait_for_a_cluster_that_hangs(own_machine, monkeypatch):
    monkeypatch.setattr(ray_address, "_CONNECT_SECONDS", 0.3)
    with answering(b"") as address, raylet(address):
        own_machine.append(address)
        with pytest.raises(ClusterError, match="timed out"):
            usable_address("auto")
