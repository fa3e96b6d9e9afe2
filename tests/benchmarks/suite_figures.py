"""How long the tests take."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from figures import figure

ROOT = Path(__file__).resolve().parents[2]


@figure("test_suite_seconds", bar=540)
def suite_seconds() -> float:
    """``make test``, with what it needs installed."""
    subprocess.run(["make", "install-test"], cwd=ROOT, check=True)
    start = time.perf_counter()
    subprocess.run(["make", "test"], cwd=ROOT, check=True)
    return time.perf_counter() - start
