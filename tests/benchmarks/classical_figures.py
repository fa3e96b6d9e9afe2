"""Models on clicks alone: as fast as, and as good as, what there is; sweeps that cost one fit; reading in bounds."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from classical_peers import (
    implicit_als,
    implicit_knn,
    implicit_lists,
    our_lists,
    plain_ease_lists,
    plain_svd_lists,
    side_by_side,
    training_set,
)
from figures import data_folder, figure
from marec_figures import dataset, running_ray

from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.evaluation.metrics import ranking_metrics
from coldray.evaluation.ranking import Ranking
from coldray.experiments.evaluation import EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.space import load_study
from coldray.experiments.study import prepare_study, run_study
from coldray.models.base import Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linear.als import ALS, ALSConfig
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.svd import SVD, SVDConfig
from coldray.models.neighbours.item import ItemKNN, ItemKNNConfig
from coldray.tracking.runs import StudyTracker

SPACES = Path(__file__).resolve().parents[2] / "tune_spaces"
METRIC = "ndcg@10"
N_FACTORS = (10, 20, 30, 50, 75, 100)
"""The sweep of tune_spaces/svd.yaml."""
SOLVER = {"n_factors": 64, "regularization": 50.0, "alpha": 3.0, "iterations": 10}
NEIGHBOURS = 100
LARGE = {"n_users": 20_000, "n_items": 10_000, "clicks": 2_000_000}
GRID = {"n_factors": (16, 32, 64), "regularization": (1.0, 3.0, 10.0, 30.0), "alpha": (0.25, 0.5, 1.0, 2.0, 4.0)}
"""What implicit's ALS and ours are tuned over: 60 configurations."""
LAMBDAS = np.geomspace(1, 10_000, 60)
"""What EASE is tuned over: as many."""
ITERATIONS = 15
SEEDS = (0, 1, 2)
"""Starts of ALS, which move its metric; their mean is compared."""


def all_clicks() -> TrainingSet:
    """Return all interactions of ml1m-hetrec."""
    return training_set(dataset().interactions, "ml1m-hetrec")


@figure("als_speed_ratio", unit="×", bar=1.0, better="higher")
def als_speed() -> float:
    """implicit's seconds over ours: ALS of ml1m-hetrec and the top 10 of all users."""
    train = all_clicks()
    clicks = train.interactions
    seconds = side_by_side(
        {
            "ALS": lambda: our_lists(ALS(ALSConfig(**SOLVER)), train),
            "implicit ALS": lambda: implicit_lists(implicit_als(clicks, **SOLVER), clicks)[0],
        }
    )
    return seconds["implicit ALS"] / seconds["ALS"]


@figure("knn_speed_ratio", unit="×", bar=1.0, better="higher")
def knn_speed() -> float:
    """implicit's seconds over ours: item-kNN of ml1m-hetrec and the top 10 of all users; truncated SVD beside it."""
    train = all_clicks()
    clicks = train.interactions
    seconds = side_by_side(
        {
            "item-kNN": lambda: our_lists(ItemKNN(ItemKNNConfig(k=NEIGHBOURS)), train),
            "implicit item-kNN": lambda: implicit_lists(implicit_knn(clicks, k=NEIGHBOURS), clicks)[0],
        }
    )
    side_by_side(
        {
            "SVD": lambda: our_lists(SVD(SVDConfig(n_factors=50, alpha=0)), train),
            "scikit-learn TruncatedSVD": lambda: plain_svd_lists(clicks, n_factors=50),
        },
        runs=3,
    )
    return seconds["implicit item-kNN"] / seconds["item-kNN"]


@figure("ease_10k_speed_ratio", unit="×", bar=5.0, better="higher")
def ease_10k_speed() -> float:
    """The seconds of EASE by numpy's inverse over ours: 10,000 items, 20,000 users, and the top 10 of all of them."""
    clicks = generated_clicks(np.random.default_rng(0), **LARGE)
    train = training_set(clicks, "generated")
    seconds = side_by_side(
        {
            "EASE": lambda: our_lists(EASE(EASEConfig(regularization=500.0)), train),
            "EASE by numpy.linalg.inv": lambda: plain_ease_lists(clicks, regularization=500.0),
        },
        runs=1,
        warm_up=False,
    )
    return seconds["EASE by numpy.linalg.inv"] / seconds["EASE"]


def generated_clicks(generator: np.random.Generator, *, n_users: int, n_items: int, clicks: int) -> sp.csr_array:
    """Return clicks of users of 50 tastes, each a distribution over items of unequal popularity."""
    popularity = (np.arange(n_items) + 50.0) ** -0.8
    taste = generator.integers(0, 50, n_users)
    sizes = np.maximum(5, generator.gamma(1.0, clicks / n_users, n_users)).astype(np.int64)
    rows, columns = [], []
    for one in range(50):
        shares = np.cumsum(popularity * np.exp(generator.standard_normal(n_items)))
        members = np.flatnonzero(taste == one)
        rows.append(np.repeat(members, sizes[members]))
        columns.append(np.searchsorted(shares, shares[-1] * generator.random(len(rows[-1]))))
    cells = np.concatenate(rows).astype(np.int32), np.concatenate(columns).astype(np.int32)
    matrix = sp.csr_array((np.ones(len(cells[0]), np.float32), cells), (n_users, n_items))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix


@figure("ease_over_implicit_ndcg10", unit="×", bar=1.0, better="higher")
@figure("als_over_implicit_ndcg10", unit="×", bar=1.0, better="higher")
def quality() -> dict[str, float]:
    """EASE and ALS over implicit's ALS in test ndcg@10, all tuned on validation: ml-100k, each user's last click."""
    data = load_dataset(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")))
    split = next(interaction_splits(data, protocol="leave-last"))
    validation, test = (prepare_task(fold, None) for fold in (split.for_tuning().fold, split.test_fold))
    best_lambda = max(LAMBDAS, key=lambda value: ours(EASE(EASEConfig(regularization=value)), validation))
    ease = ours(EASE(EASEConfig(regularization=best_lambda)), test)
    print(f"EASE, λ = {best_lambda:.0f}: test {METRIC} {ease:.4f}", file=sys.stderr)
    means = {}
    for name, measure in (("ALS", our_als), ("implicit ALS", peer_als)):
        best = max(configurations(), key=lambda config: measure(validation, config, SEEDS[0]))
        found = [measure(test, best, seed) for seed in SEEDS]
        means[name] = statistics.fmean(found)
        starts = ", ".join(f"{one:.4f}" for one in found)
        print(f"{name}, {best}: test {METRIC} {means[name]:.4f} ({starts})", file=sys.stderr)
    peer = means["implicit ALS"]
    return {"ease_over_implicit_ndcg10": ease / peer, "als_over_implicit_ndcg10": means["ALS"] / peer}


def configurations() -> Iterator[dict[str, Any]]:
    """Yield the cells of the grid of ALS."""
    for values in itertools.product(*GRID.values()):
        yield {**dict(zip(GRID, values, strict=True)), "iterations": ITERATIONS}


def ours(model: Recommender[Any], task: EvaluationFold) -> float:
    """Fit on the task and return ndcg@10 of the held-out clicks."""
    return evaluate(model.fit(task.train), task, candidates="all", cutoffs=(10,)).means()[METRIC]


def our_als(task: EvaluationFold, config: dict[str, Any], seed: int) -> float:
    """Return ndcg@10 of ALS."""
    return ours(ALS(ALSConfig(**config, seed=seed)), task)


def peer_als(task: EvaluationFold, config: dict[str, Any], seed: int) -> float:
    """Return ndcg@10 of implicit's own lists, measured as ours are."""
    clicks = task.train.interactions
    items, scores = implicit_lists(implicit_als(clicks, **config, seed=seed), clicks, task.users)
    ranking = Ranking(items.astype(np.int32), scores.astype(np.float32), task.users)
    return ranking_metrics(ranking, task.held_out, (10,), n_candidates=clicks.shape[1]).means()[METRIC]


@figure("ease_search_seconds", bar=20.0)
def ease_search() -> float:
    """A study of 20 EASE regularisations on ml1m-hetrec, 20 % of each user's items held out, recorded in MLflow."""
    config = load_study(SPACES / "ease.yaml")
    data = dataset()
    with running_ray() as storage:
        database = f"sqlite:///{storage / 'mlflow.db'}"
        with StudyTracker(database, "ease-search", artifact_location=storage / "mlartifacts") as tracker:
            start = time.perf_counter()
            result = run_study(prepare_study(config, data), study_id="ease-search", listener=tracker)
            tracker.finish(result, [])
            seconds = time.perf_counter() - start
    winner = result.selection.winner
    print(
        f"{len(result.trials)} trials, of which the search took {result.seconds:.1f} s; λ = "
        f"{winner.config['regularization']}, validation {METRIC} {winner.mean(METRIC):.4f}",
        file=sys.stderr,
    )
    return seconds


@figure("svd_sweep_ratio", unit="×", bar=1.3)
def svd_sweep() -> float:
    """Six fits with 10 to 100 factors, as a study shares them, over the fit with 100 alone."""
    train = all_clicks()
    sweeps, fits = [], []
    for _ in range(5):
        start = time.perf_counter()
        SVD(SVDConfig(n_factors=max(N_FACTORS))).fit(train)
        fits.append(time.perf_counter() - start)
        start, shared = time.perf_counter(), Computations()
        for n_factors in N_FACTORS:
            SVD(SVDConfig(n_factors=n_factors, max_factors=max(N_FACTORS))).fit(train, shared)
        sweeps.append(time.perf_counter() - start)
    sweep, fit = statistics.median(sweeps), statistics.median(fits)
    print(f"sweep {sweep:.2f} s, largest fit {fit:.2f} s", file=sys.stderr)
    return sweep / fit
