"""The demonstration, as a process in an empty folder: every step of it comes to its end."""

import os
import re
import subprocess
import sys

import pytest

from contracts.service import free_port

pytestmark = pytest.mark.long


def test_the_demonstration_tells_every_step_and_ends_by_itself(tmp_path):
    command = [sys.executable, "-m", "coldray", "demo", "--once", "--port", str(free_port())]
    environment = {**os.environ, "RAY_ADDRESS": ""}
    finished = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    told = finished.stdout
    assert re.findall(r"\d\d:\d\d:\d\d (\d)\. ", told) == ["1", "2", "3", "4", "5"]
    for command in ("datasets sample", "tune marec", "compare compare_cold", "serve --bundle"):
        assert f"coldray {command}" in told
    assert re.search(r"the list of user-\d+ it is number (\d+) of 50", told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]
    (bundle,) = tmp_path.glob("runs/marec-*/bundle")
    assert (bundle / "manifest.json").is_file()
