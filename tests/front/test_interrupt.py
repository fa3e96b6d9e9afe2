"""A study that is interrupted in a notebook leaves no worker behind, and the same call goes on with it."""

import os
import signal
import subprocess
import time

import pytest

from contracts.forked_workers import forking

pytestmark = pytest.mark.long
PROGRAM = """
import os, psutil, coldray
films = coldray.load_dataset("sample")
space = {"name": "films", "model": "vae", "space": {"epochs": 100000, "latent_dim": 8},
         "splits": {"protocol": "holdout", "n_splits": 1}, "candidates": "all", "search": {"trials": 1}}
try:
    coldray.tune(space, films, cpus=1)
except KeyboardInterrupt:
    print("interrupted", flush=True)
workers, _ = psutil.wait_procs(psutil.Process().children(recursive=True), timeout=30)
print("left:", [one.name() for one in psutil.Process().children(recursive=True)], flush=True)
"""


def test_an_interrupt_ends_ray_and_says_how_to_go_on(tmp_path, ray_cluster):
    log, program = tmp_path / "said.txt", tmp_path / "program.py"
    program.write_text(PROGRAM, encoding="utf-8")
    with log.open("w") as said:
        process = subprocess.Popen(
            forking(program), cwd=tmp_path, stdout=said, stderr=subprocess.STDOUT, env={**os.environ}
        )
        try:
            while "searching" not in log.read_text() and process.poll() is None:
                time.sleep(0.1)
            time.sleep(3)  # the trial is at work
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
        finally:
            process.kill()
    text = log.read_text()
    assert process.returncode == 0, text
    assert text.splitlines()[-2:] == ["interrupted", "left: []"]
    assert "to go on: coldray.tune(…) with the same arguments" in " ".join(text.split())
