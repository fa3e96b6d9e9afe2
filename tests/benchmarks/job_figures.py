"""How soon a job says something."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import figure

JOBS = Path(__file__).resolve().parents[2] / "jobs"
ARGUMENTS = {"tune_neural": ("--model", "vae"), "recommend_all": ("--histories", "clicks", "--output", "lists")}
"""What a job does not begin without."""
RUNS = 5


@figure("job_first_line_seconds", bar=1.5)
def first_line() -> float:
    """From the start of a job to its first line, on either stream: the median of 5 starts of the slowest job."""
    with tempfile.TemporaryDirectory() as folder:
        medians = {job.stem: _median(job, folder) for job in sorted(JOBS.glob("*.py"))}
    for name, seconds in medians.items():
        print(f"{name}: {seconds:.2f} s", file=sys.stderr)
    return max(medians.values())


def _median(job: Path, folder: str) -> float:
    return statistics.median(
        _seconds([sys.executable, str(job), *ARGUMENTS.get(job.stem, ())], folder) for _ in range(RUNS)
    )


def _seconds(command: list[str], folder: str) -> float:
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    with process, process.stdout:
        said, seconds = process.stdout.readline(), time.perf_counter() - started
        process.kill()
    if not said.strip():
        raise RuntimeError(f"{command[1]} ended without a word")
    return seconds
