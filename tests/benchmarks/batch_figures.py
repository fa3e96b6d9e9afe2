"""Lists of ten items for 1,000,000 generated users among 10,000 items, by the job that makes them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import polars as pl
import psutil
from figures import figure

USERS, ITEMS, CLICKS = 1_000_000, 10_000, 20
"""CLICKS of a user on average, in the histories and in what the model is fitted on."""
FITTED_USERS = 20_000
JOB = Path(__file__).resolve().parents[2] / "jobs" / "recommend_all.py"
SAMPLE_SECONDS = 0.2

GENERATE = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
import scipy.sparse as sp
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.linear.ease import EASE
from coldray.bundle.io import save_bundle
from coldray.bundle.fitting import fit_bundle
folder, n_users, n_items, clicks, n_fitted = Path(sys.argv[1]), *map(int, sys.argv[2:])
generator = np.random.default_rng(0)
popularity = np.cumsum((np.arange(n_items) + 20.0) ** -0.8)
(folder / "histories").mkdir()
for number in range(10):
    user = generator.integers(0, n_users, n_users * clicks // 10)
    user = np.concatenate([user, np.arange(number, n_users, 10)])  # everybody has one at least
    item = np.searchsorted(popularity, popularity[-1] * generator.random(len(user)))
    table = pl.DataFrame({"user_id": user, "item_id": item})
    table = table.with_columns(user_id=pl.format("AE{}XZQ", "user_id"), item_id=pl.format("B{}", "item_id"))
    table.write_parquet(folder / "histories" / f"{number}.parquet")
rows = np.repeat(np.arange(n_fitted, dtype=np.int32), clicks)
columns = np.searchsorted(popularity, popularity[-1] * generator.random(len(rows))).astype(np.int32)
matrix = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(n_fitted, n_items))
matrix.sum_duplicates()
matrix.data[:] = 1
ids = np.array([f"B{item}" for item in range(n_items)])
order = np.argsort(ids)
matrix = sp.csr_array(matrix[:, order])
matrix.sort_indices()
users = np.array([f"{user:06}" for user in range(n_fitted)])
label = sp.csr_array((np.ones(n_items, np.float32), (np.arange(n_items), np.arange(n_items) % 20)))
attributes = {"genres": LabelAttribute(label, np.array([f"{number:02}" for number in range(20)]))}
dataset = Dataset("generated", users, ids[order], matrix, attributes, ("genres",), synthetic=True)
save_bundle(fit_bundle(EASE(), dataset, FeatureEncoder(FeatureConfig()), {}), folder / "model")
"""


@figure("batch_million_peak_gb", unit="GB", bar=3.0)
def batch() -> float:
    """The highest sum, while the job runs with a Ray of its own, of the memory of its process and of all below it.

    Of each the proportional set size is taken: a page that several processes share, such as those of the object store,
    in which the model of 0.4 GB is, is divided among them and so counted once. It is read five times a second.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run(
            [sys.executable, "-c", GENERATE, folder, *map(str, (USERS, ITEMS, CLICKS, FITTED_USERS))], check=True
        )
        start = time.perf_counter()
        options = {"--histories": folder / "histories", "--model": folder / "model", "--output": folder / "lists"}
        command = [sys.executable, JOB, *(str(part) for option in options.items() for part in option)]
        with subprocess.Popen(command, stdout=sys.stderr) as job:
            peak = _peak(job.pid, job.poll)
        seconds = time.perf_counter() - start
        if job.returncode:
            raise RuntimeError(f"the job ended with status {job.returncode}")
        lists = pl.scan_parquet(folder / "lists" / "part-*.parquet")
        found = lists.select(pl.len(), pl.col("user_id").n_unique().alias("users")).collect(engine="streaming")
        if found.row(0) != (USERS, USERS):
            raise RuntimeError(f"{found.item(0, 'len'):,} rows of {found.item(0, 'users'):,} users for {USERS:,} users")
    print(f"{USERS:,} lists in {seconds:.0f} s, {USERS / seconds:,.0f} a second, Ray's start included", file=sys.stderr)
    return peak / 1e9


def _peak(pid, ended) -> float:
    """Return the most bytes that a process and those below it held together until it has ended."""
    peak = 0
    while ended() is None:
        try:
            process = psutil.Process(pid)
            peak = max(peak, sum(_proportional(one.pid) for one in (process, *process.children(recursive=True))))
        except psutil.NoSuchProcess:
            break
        time.sleep(SAMPLE_SECONDS)
    return peak


def _proportional(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
