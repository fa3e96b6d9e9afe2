"""MARec on ``ml1m-hetrec``: right, fast, and better when tuned."""

from __future__ import annotations

import itertools
import resource
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import numpy as np
import ray
from figures import data_folder, figure

from coldray.cli.ray.cluster import start_ray
from coldray.data.dataset import Dataset, LabelAttribute, binary_matrix
from coldray.data.sources.hetrec import read_hetrec
from coldray.data.splits.items import cold_item_splits
from coldray.experiments.evaluation import Candidates, EvaluationFold, RankingCache, evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.results import FoldMetrics, Selection, TrialResult, mean_metric
from coldray.experiments.search.run import search
from coldray.experiments.space import StudyConfig, load_study
from coldray.experiments.study import prepare_study, run_study
from coldray.experiments.winner import measure_winner
from coldray.features.builder import FeatureConfig
from coldray.models.computations import Computations
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec

STUDY = Path(__file__).resolve().parents[2] / "tune_spaces" / "marec.yaml"
CUTOFFS = (10, 25, 50)
MEASURED = MARecConfig(lambda_1=1000, delta=20, w0=0.2, order=2, learner="regression")
"""The configuration whose figures are known."""
FIXED = MARecConfig(lambda_1=1, alpha=1, beta=100, delta=20, w0=0.2, order=2, learner="regression")
"""The paper's settings for HetRec."""
LAMBDAS = (1.0, 10.0, 100.0, 1000.0, 5000.0)
BETAS = (1.0, 10.0, 50.0, 100.0, 200.0)
ALPHAS = (0.1, 0.5, 1.0, 2.0)


@cache
def dataset() -> Dataset:
    """Return the benchmark dataset: no rating threshold, no k-core."""
    return read_hetrec(data_folder("ml1m-hetrec"), name="ml1m-hetrec")


def split_0_task() -> EvaluationFold:
    """Return split 0 of seed 42, ready to fit on train and to measure on test."""
    split = next(cold_item_splits(dataset(), n_splits=1, seed=42))
    return prepare_task(split.test_fold, FeatureConfig())


def fit_and_measure(config: MARecConfig, candidates: Candidates = "cold") -> tuple[dict[str, float], float]:
    """Go from the loaded dataset to test metrics; return the metrics and the seconds."""
    start = time.perf_counter()
    task = split_0_task()
    model = MARec(config).fit(task.train)
    metrics = evaluate(model, task, candidates=candidates, cutoffs=CUTOFFS).means()
    return metrics, time.perf_counter() - start


@figure("marec_split0_hr10", unit="hr@10", better=("within", 0.2944, 0.003))
@figure("marec_split0_ndcg10", unit="ndcg@10", better=("within", 0.3076, 0.003))
@figure("marec_fit_seconds", bar=8.0)
@figure("marec_fit_peak_gb", unit="GB", bar=2.5)
def one_fit() -> dict[str, float]:
    """Second order, cold candidates: from a loaded dataset to test metrics, and the peak of the whole process."""
    dataset()
    metrics, seconds = fit_and_measure(MEASURED)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {
        "marec_split0_hr10": metrics["hr@10"],
        "marec_split0_ndcg10": metrics["ndcg@10"],
        "marec_fit_seconds": seconds,
        "marec_fit_peak_gb": peak,
    }


@figure("marec_first_order_hr10", unit="hr@10", better=("within", 0.2678, 0.003))
@figure("marec_first_order_ndcg10", unit="ndcg@10", better=("within", 0.2750, 0.003))
def first_order_fit() -> dict[str, float]:
    """First order, cold candidates."""
    metrics, _ = fit_and_measure(MEASURED.model_copy(update={"order": 1}))
    return {"marec_first_order_hr10": metrics["hr@10"], "marec_first_order_ndcg10": metrics["ndcg@10"]}


def grid(candidates: Candidates) -> float:
    """Measure 5 λ₁ × 5 β × 4 α from the loaded dataset; return the seconds."""
    start = time.perf_counter()
    task = split_0_task()
    shared, kept = Computations(), RankingCache()
    for lambda_1, beta, alpha in itertools.product(LAMBDAS, BETAS, ALPHAS):
        config = MEASURED.model_copy(update={"lambda_1": lambda_1, "beta": beta, "alpha": alpha})
        evaluate(MARec(config).fit(task.train, shared), task, candidates=candidates, cutoffs=CUTOFFS, cache=kept)
    return time.perf_counter() - start


@figure("grid_over_fit_ratio", unit="×", bar=2.0)
def grid_over_fit() -> float:
    """The larger of the two ratios, cold and mixed candidates; each against the fit with the same candidates."""
    dataset()
    ratios = {}
    for candidates in ("cold", "all"):
        fits, grids = zip(
            *((fit_and_measure(MEASURED, candidates)[1], grid(candidates)) for _ in range(2)), strict=True
        )
        ratios[candidates] = min(grids) / min(fits)
        print(f"{candidates}: fit {min(fits):.2f} s, grid of 100 {min(grids):.2f} s", file=sys.stderr)
    return max(ratios.values())


@figure("study_seconds", bar=240.0)
def study() -> float:
    """64 trials × 3 splits over λ₁, α and β, and the test of the winner, after Ray is up."""
    space = {
        "lambda_1": {"log_uniform": [1, 10000]},
        "alpha": {"log_uniform": [0.1, 10]},
        "beta": {"log_uniform": [1, 200]},
        "order": 2,
    }
    config = load_study(STUDY, {"space": space, "search.trials": 64})
    with running_ray():
        start = time.perf_counter()
        run_study(prepare_study(config, dataset()), study_id="study-seconds")
        return time.perf_counter() - start


@figure("tuned_over_fixed_ndcg10", unit="×", bar=1.0, better="higher")
def tuned_over_fixed() -> float:
    """The winner of ``tune_spaces/marec.yaml`` against the paper's fixed settings: mean test ndcg@10 of 3 splits."""
    config = load_study(STUDY)
    with running_ray():
        study = prepare_study(config, dataset())
        result = run_study(study, study_id="tuned-over-fixed")
        fixed = measure_winner(study, fixed_selection(config)).folds
    print(f"winner: {dict(result.selection.winner.config)}", file=sys.stderr)
    print_table(fixed, result.test)
    return mean_metric(result.test, "ndcg@10") / mean_metric(fixed, "ndcg@10")


def fixed_selection(config: StudyConfig) -> Selection:
    """Return a selection that holds the paper's settings, to be tested like a winner."""
    trial = TrialResult("fixed", 0, FIXED.model_dump(mode="json"), (), "finished")
    return Selection(trial, trial, (trial,), config.selection.metric, 0.0, ())


def print_table(fixed: tuple[FoldMetrics, ...], tuned: tuple[FoldMetrics, ...]) -> None:
    """Print the comparison, split by split, as a Markdown table."""
    print(
        "| split | fixed hr@10 | tuned hr@10 | fixed ndcg@10 | tuned ndcg@10 |\n|---|---|---|---|---|", file=sys.stderr
    )
    rows = [(f"{one.split}", one.metrics, two.metrics) for one, two in zip(fixed, tuned, strict=True)]
    means = [{name: mean_metric(folds, name) for name in ("hr@10", "ndcg@10")} for folds in (fixed, tuned)]
    for name, one, two in [*rows, ("mean", *means)]:
        cells = [f"{side[metric]:.4f}" for metric in ("hr@10", "ndcg@10") for side in (one, two)]
        print(f"| {name} | {' | '.join(cells)} |", file=sys.stderr)


LARGE = {"n_users": 3_000, "n_items": 14_000, "clicks": 200_000}
LARGE_STUDY = {
    "name": "marec-14k",
    "model": "marec",
    "space": {
        "lambda_1": {"log_uniform": [1, 10000]},
        "lambda_0": {"choice": [0, 1, 10]},
        "beta": {"log_uniform": [0.001, 0.3]},
        "learner": "nonnegative",
    },
    "search": {"algorithm": "random", "trials": 8, "seed": 0},
    "splits": {"n_splits": 3},
    "cutoffs": [10],
}
"""8 trials × 3 splits with three λ₀, over some 8,400 warm items."""


def large_dataset() -> Dataset:
    """Return 14,000 items of two attributes (20 genres, 400 makers), with a click each and more by taste."""
    generator = np.random.default_rng(0)
    n_users, n_items = LARGE["n_users"], LARGE["n_items"]
    every = np.arange(n_items)
    genres, makers = generator.integers(0, 20, (n_items, 2)), generator.integers(0, 400, n_items)
    labels = {
        "genre": LabelAttribute(
            binary_matrix(np.repeat(every, 2), genres.ravel(), (n_items, 20)),
            np.array([f"g{i:02d}" for i in range(20)]),
        ),
        "maker": LabelAttribute(
            binary_matrix(every, makers, (n_items, 400)), np.array([f"m{i:03d}" for i in range(400)])
        ),
    }
    popularity, taste = np.exp(generator.standard_normal(n_items)), generator.integers(0, 50, n_users)
    sizes = np.maximum(8, generator.gamma(1.0, LARGE["clicks"] / n_users, n_users)).astype(np.int64)
    rows, columns = [generator.integers(0, n_users, n_items)], [every]
    for one in range(50):
        liked = 1.5 * generator.standard_normal(20)[genres].sum(axis=1) + generator.standard_normal(400)[makers]
        shares = np.cumsum(popularity * np.exp(liked))
        members = np.flatnonzero(taste == one)
        rows.append(np.repeat(members, sizes[members]))
        columns.append(np.searchsorted(shares, shares[-1] * generator.random(len(rows[-1]))))
    return Dataset(
        name="generated",
        user_ids=np.array([f"u{i:05d}" for i in range(n_users)]),
        item_ids=np.array([f"i{i:05d}" for i in range(n_items)]),
        interactions=binary_matrix(np.concatenate(rows), np.concatenate(columns), (n_users, n_items)),
        attributes=labels,
        default_attributes=tuple(labels),
        synthetic=True,
    )


@figure("marec_study_14k_ratio", unit="×", bar=1.2)
def large_study() -> float:
    """The search of 8 trials × 3 splits on 14,000 items over the same loop in one process with a factor for each fit.

    Both evaluate the same configurations. The loop shares what does not depend on a whole configuration, and has all
    CPUs for its products. Ray is up in both cases.
    """
    config, data = StudyConfig.model_validate(LARGE_STUDY), large_dataset()
    study = prepare_study(config, data)
    print(study.settled.forms[0].told, file=sys.stderr)
    splits = study.tuning
    with running_ray():
        start = time.perf_counter()
        trials = search(study.config, splits, study_id="marec-14k").trials
        platform = time.perf_counter() - start
    start, values = time.perf_counter(), []
    for split in splits:
        task, shared = prepare_task(split.fold, FeatureConfig()), Computations()
        for trial in trials:
            point = MARecConfig.model_validate({**trial.config, "solver": "cholesky"})
            found = evaluate(MARec(point).fit(task.train, shared), task, candidates="cold", cutoffs=(10,))
            values.append(found.means()["ndcg@10"])
    bare = time.perf_counter() - start
    reached = [fold.metrics["ndcg@10"] for i in range(len(splits)) for fold in [trial.folds[i] for trial in trials]]
    np.testing.assert_allclose(reached, values, atol=1e-3)
    print(f"bare {bare:.1f} s, study {platform:.1f} s", file=sys.stderr)
    return platform / bare


class running_ray:  # noqa: N801 - used as a context manager, like a function
    """An embedded Ray for one measurement, and a folder for its search."""

    def __enter__(self) -> Path:
        start_ray()
        self.folder = tempfile.TemporaryDirectory()
        return Path(self.folder.name)

    def __exit__(self, *_: object) -> None:
        ray.shutdown()
        self.folder.cleanup()
