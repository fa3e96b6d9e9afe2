"""Reading and splitting 5 million ratings: the peak memory of a process that does nothing else."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import figure

RATINGS, USERS, ITEMS = 5_000_000, 400_000, 60_000

GENERATE = """
import sys
from pathlib import Path
import numpy as np
import polars as pl
folder, n, n_users, n_items = Path(sys.argv[1]), *map(int, sys.argv[2:])
generator = np.random.default_rng(0)
popularity = np.cumsum((np.arange(n_items) + 20.0) ** -0.8)
activity = np.cumsum((np.arange(n_users) + 1000.0) ** -0.5)
user = np.searchsorted(activity, activity[-1] * generator.random(n + n // 4))
item = np.searchsorted(popularity, popularity[-1] * generator.random(len(user)))
pairs = np.unique(user * n_items + item)
pairs = generator.permutation(pairs)[:n]
assert len(pairs) == n, len(pairs)
table = pl.DataFrame({
    "user_id": pairs // n_items,
    "parent_asin": pairs % n_items,
    "rating": generator.integers(1, 6, n).astype(np.float32),
    "timestamp": generator.integers(1_300_000_000, 1_700_000_000, n),
}).with_columns(user_id=pl.format("AE{}XZQ", pl.col("user_id")), parent_asin=pl.format("B{}", pl.col("parent_asin")))
table.write_parquet(folder / "ratings.parquet")
table.write_csv(folder / "ratings.csv")
"""

READ = """
import sys
from pathlib import Path
from coldray.data.sources.amazon.core import FiveCoreConfig, write_five_core
from coldray.data.sources.amazon.layout import read_amazon
from coldray.data.splits.interactions import interaction_splits
from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.sources.tabular import TabularConfig
folder, layout = Path(sys.argv[1]), sys.argv[2]
if layout == "amazon":
    report = write_five_core(folder / "ratings.csv", folder / "amazon", "Books", FiveCoreConfig())
    found = read_amazon(folder / "amazon", "Books")
    print(f"{report.ratings_read:,} read, {found.dataset.interactions.nnz:,} in the core", file=sys.stderr)
else:
    columns = {"user_column": "user_id", "item_column": "parent_asin"}
    columns |= {"rating_column": "rating", "timestamp_column": "timestamp"}
    tables = TabularConfig(interactions=folder / f"ratings.{layout}", **columns)
    dataset = load_dataset(SourceConfig(name=layout, tabular=tables))
    split = next(interaction_splits(dataset, protocol="leave-last"))
    counts = split.counts()
    print(f"{dataset.interactions.nnz:,} read, {counts}", file=sys.stderr)
"""


@figure("ingest_5m_peak_gb", unit="GB", bar=2.0)
def ingest() -> float:
    """The highest peak of three ways: to the 5-core layout and back, and a parquet and a csv table split by leave-last.

    Each is measured in a process of its own, with all that the library loads.
    """
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        _run(GENERATE, folder, RATINGS, USERS, ITEMS)
        size = {path.name: path.stat().st_size / 1e6 for path in sorted(Path(folder).iterdir())}
        print(", ".join(f"{name} {megabytes:.0f} MB" for name, megabytes in size.items()), file=sys.stderr)
        for layout in ("amazon", "parquet", "csv"):
            start = time.perf_counter()
            peaks[layout] = _run(READ, folder, layout)
            print(f"{layout}: {peaks[layout]:.2f} GB, {time.perf_counter() - start:.1f} s", file=sys.stderr)
    return max(peaks.values())


def _run(code: str, *arguments: object) -> float:
    """Run `code` in a process of its own and return its peak memory in GB."""
    tail = "\nimport resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [sys.executable, "-c", code + tail, *map(str, arguments)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(finished.stdout.split()[-1]) * 1024 / 1e9
