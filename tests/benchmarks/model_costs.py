"""What one fit of each model takes, for the pages of the models: ``python tests/benchmarks/model_costs.py [MODEL...]``.

Each model is fitted by its defaults to all of ``ml-100k`` (943 users, 1,682 items, 100,000 clicks, or ratings where it
reads them), in a process of its own that has loaded all it needs and has one core. Times are those of its CPU, which
other processes of the machine hardly change. The rows of docs/models/costs.csv are those of the models named, or of
all; the others stay.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
from figures import data_folder, machine

import coldray
from coldray.core.memory import peak_bytes
from coldray.models.registry import MODELS, model_type

COSTS = Path(__file__).resolve().parents[2] / "docs" / "models" / "costs.csv"
COLUMNS = ("model", "CPU seconds of a fit", "MiB at its peak", "MiB reckoned", "CPU ms a list")
USERS = 100
"""Users who are asked for one by one; the time is the median."""


def costs(name: str) -> dict[str, str]:
    """Fit a model in this process; return its row."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    data = coldray.load_dataset("ml-100k", data_dir=data_folder("ml-100k").parent)
    kind = model_type(name)
    short = {"epochs": 1} if "epochs" in kind.config_type.model_fields else {}
    small = data if kind(kind.config_type()).reads or kind.reads_users else coldray.load_dataset("sample")
    coldray.fit(name, small, **short)  # whatever is imported late is there now
    before = psutil.Process().memory_info().rss
    start = time.process_time()
    bundle = coldray.fit(name, data)
    seconds = time.process_time() - start
    peak = max(peak_bytes() - before, 0)
    maker, times = bundle.list_maker(), []
    for row in range(USERS):
        start = time.process_time()
        list(maker.in_blocks(bundle.interactions[[row]], 10))
        times.append(time.process_time() - start)
    values = (
        name,
        f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2f}",
        f"{peak / 2**20:.0f}",
        f"{bundle.model.memory_bytes(data.n_users, data.n_items) / 2**20:.0f}",
        f"{1000 * statistics.median(times):.1f}",
    )
    return dict(zip(COLUMNS, values, strict=True))


def main(names: list[str]) -> None:
    """Measure the models named, or all."""
    known = {}
    if COSTS.exists():
        with COSTS.open(encoding="utf-8", newline="") as file:
            known = {row["model"]: row for row in csv.DictReader(file)}
    for name in names or MODELS:
        command = [sys.executable, __file__, "--one", name]
        one_thread = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        printed = subprocess.run(command, env=one_thread, stdout=subprocess.PIPE, text=True, check=True).stdout
        known[name] = json.loads(printed.splitlines()[-1])
        print(known[name], flush=True)
        with COSTS.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(known[one] for one in MODELS if one in known)
    print(machine())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(costs(sys.argv[2])))
    else:
        main(sys.argv[1:])
