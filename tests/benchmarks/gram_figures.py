"""What outgrows one machine: Gram matrices by shards of users on a cluster of two nodes, and models in blocks.

Notation used for shapes: U users, I items.
"""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import ray
import scipy.sparse as sp
from figures import figure
from marec_figures import dataset, split_0_task
from matplotlib.figure import Figure
from ray.cluster_utils import Cluster

from coldray.data.splits.interactions import interaction_splits
from coldray.experiments.evaluation import Candidates, EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.models.base import Recommender
from coldray.models.linalg.gram_shards import gram
from coldray.models.linalg.sharded import ParquetShard, parquet_shards
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.reports.style import BLUE, HALF_WIDTH, VERMILION, new_figure, save_figure, set_title, styled

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "img" / "gram-scale.png"
N_ITEMS = 3_000
CLICKS_PER_USER = 10
"""Some fewer are left where an item is drawn twice."""
USERS_PER_SHARD = 5_000
N_USERS = (10_000, 100_000, 1_000_000)
"""10⁵, 10⁶ and 10⁷ interactions."""
METRIC = "ndcg@10"
EXACT = MARecConfig(lambda_1=1000, delta=20, order=1)


def sharded(folder: Path, n_users: int) -> list[ParquetShard]:
    """Write clicks of unequal items, a file for every 5,000 users, and return the shards."""
    popularity = np.cumsum((np.arange(N_ITEMS) + 20.0) ** -0.7)
    files = []
    for number, start in enumerate(range(0, n_users, USERS_PER_SHARD)):
        generator = np.random.default_rng(number)
        users = np.repeat(np.arange(start, min(start + USERS_PER_SHARD, n_users)), CLICKS_PER_USER)
        items = np.searchsorted(popularity, popularity[-1] * generator.random(len(users)))
        files.append(folder / f"{n_users}-{number}.parquet")
        pl.DataFrame({"user": users, "item": items.astype(np.int32)}).write_parquet(files[-1])
    return parquet_shards(files, n_items=N_ITEMS)


@figure("distributed_gram_error", unit="", bar=1e-5)
@figure("gram_worker_memory_growth", unit="×", bar=1.05)
def distributed_gram() -> dict[str, float]:
    """The largest error of ``XᵀX`` against one machine; time and memory as users grow."""
    seconds: dict[tuple[int, int], float] = {}
    with two_nodes(), tempfile.TemporaryDirectory() as folder:
        shards = {n_users: sharded(Path(folder), n_users) for n_users in N_USERS}
        error = largest_error(shards[N_USERS[1]])
        peaks = {}
        for n_users in N_USERS:
            for workers in (1, 2):
                if workers == 2:
                    forget_peaks()
                start = time.perf_counter()
                gram(shards[n_users], N_ITEMS, workers=workers)
                seconds[n_users, workers] = time.perf_counter() - start
            peaks[n_users] = peak_of_workers()
            print(
                f"{n_users * CLICKS_PER_USER:,} clicks of {n_users:,} users, {N_ITEMS:,} items: 1 worker "
                f"{seconds[n_users, 1]:.2f} s, 2 workers {seconds[n_users, 2]:.2f} s; peak memory of a worker "
                f"{peaks[n_users] / 1e6:.0f} MB",
                file=sys.stderr,
            )
    save_figure(drawn(seconds, peaks), PICTURE)
    # From 10⁵ users on, ten times the shards of the same size.
    return {"distributed_gram_error": error, "gram_worker_memory_growth": peaks[N_USERS[2]] / peaks[N_USERS[1]]}


def largest_error(shards: list[ParquetShard]) -> float:
    """Return the largest error by two workers, relative to the largest entry of what one machine finds by scipy."""
    clicks = sp.csr_array(sp.vstack([shard.read() for shard in shards]), dtype=np.float64)
    expected = (clicks.T @ clicks).toarray()
    return float(np.abs(gram(shards, N_ITEMS, workers=2) - expected).max() / expected.max())


@contextmanager
def two_nodes() -> Iterator[None]:
    """Run a Ray cluster of two nodes with a CPU each on this machine, and connect to it."""
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    node = {"num_cpus": 1, "object_store_memory": 2**30, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    try:
        cluster.add_node(**node)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)
        print(f"{len(ray.nodes())} nodes, {ray.cluster_resources()['CPU']:.0f} CPUs", file=sys.stderr)
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


def workers_of_ray() -> list[psutil.Process]:
    """Return the processes that tasks of this cluster run in."""
    return [one for one in psutil.Process().children(recursive=True) if one.name().startswith("ray::")]


def forget_peaks() -> None:
    """Let the peaks of the workers begin anew."""
    for one in workers_of_ray():
        Path(f"/proc/{one.pid}/clear_refs").write_text("5")


def peak_of_workers() -> int:
    """Return the largest peak of a worker's resident memory, in bytes; pages of the object store count."""
    statuses = [Path(f"/proc/{one.pid}/status").read_text() for one in workers_of_ray()]
    return max(int(status.split("VmHWM:")[1].split()[0]) * 1024 for status in statuses)


@styled()
def drawn(seconds: dict[tuple[int, int], float], peaks: dict[int, int]) -> Figure:
    """Return the figure: seconds by interactions and workers, and memory by users."""
    picture = new_figure(2 * HALF_WIDTH, 3.6)
    times, memory = picture.subplots(1, 2)
    clicks = [n_users * CLICKS_PER_USER for n_users in N_USERS]
    for workers, colour, marker in ((1, BLUE, "o"), (2, VERMILION, "s")):
        label = "1 worker, in this process" if workers == 1 else f"{workers} workers of the cluster"
        values = [seconds[n_users, workers] for n_users in N_USERS]
        times.loglog(clicks, values, color=colour, marker=marker, label=label)
    times.set(title=f"XᵀX of {N_ITEMS:,} items", xlabel="interactions", ylabel="seconds")
    times.yaxis.set_major_formatter("{x:g}")
    times.legend()
    largest = max(peaks.values()) / 1e6
    memory.semilogx(N_USERS, [peaks[n_users] / 1e6 for n_users in N_USERS], color=VERMILION, marker="s")
    memory.set(title="Peak memory of a worker", xlabel="users", ylabel="MB", ylim=(0, 1.2 * largest))
    for axes, values in ((times, clicks), (memory, N_USERS)):
        axes.set_xticks(values, [f"{value:,}" for value in values])
    set_title(picture, "Gram matrix by shards of users, on a local Ray cluster of two nodes", synthetic=True)
    return picture


# ---- models beyond an item × item matrix


@figure("marec_blocks_error", unit="", bar=1e-4)
def marec_blocks() -> float:
    """MARec in blocks: the largest error of a cold score, relative to the largest, given the same weights μ."""
    task = split_0_task()
    every = {"solver": "blocks", "learning_items": len(task.train.warm_items)}
    exact, blocks, sampled = (
        MARec(EXACT.model_copy(update=update)).fit(task.train) for update in ({}, every, {"solver": "blocks"})
    )
    clicks, cold = task.train.interactions, task.train.cold_items
    expected = exact.score(clicks, cold)
    error = float(np.abs(blocks.score(clicks, cold) - expected).max() / np.abs(expected).max())
    told = {"exact": exact, "blocks": blocks, f"blocks, {EXACT.learning_items:,} items to learn from": sampled}
    tell("MARec, cold items", told, task, "cold")
    return error


@figure("ease_blocks_error", unit="share of ndcg@10", bar=0.02)
def ease_blocks() -> float:
    """EASE in blocks of 1,000: the loss of test ndcg@10 against the exact solution; the error of its scores beside."""
    split = next(interaction_splits(dataset(), protocol="holdout"))
    task = prepare_task(split.test_fold, None)
    exact, blocks = (EASE(EASEConfig(solver=solver)).fit(task.train) for solver in ("exact", "blocks"))
    clicks, warm = task.train.interactions, task.train.warm_items
    expected = exact.score(clicks, warm)
    error = float(np.linalg.norm(blocks.score(clicks, warm) - expected) / np.linalg.norm(expected))
    print(f"EASE, {len(warm):,} warm items: root mean square error of scores {error:.2g} of theirs", file=sys.stderr)
    metrics = tell("EASE", {"exact": exact, "blocks": blocks}, task, "all")
    return 1 - metrics["blocks"] / metrics["exact"]


def tell(what: str, models: dict[str, Recommender], task: EvaluationFold, candidates: Candidates) -> dict[str, float]:
    """Return the metric of the models on the held-out clicks, and print it."""
    found = {}
    for name, model in models.items():
        found[name] = evaluate(model, task, candidates=candidates, cutoffs=(10,)).means()[METRIC]
        print(f"{what}, {name}: test {METRIC} {found[name]:.4f}", file=sys.stderr)
    return found
