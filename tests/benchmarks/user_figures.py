"""Figures of people who have just arrived, of whom nothing is known but their attributes."""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
from figures import data_folder, figure

from coldray.data.dataset import Dataset
from coldray.data.filters import FilterConfig
from coldray.data.sources.registry import SourceConfig, load_filtered
from coldray.data.splits.items import Fold
from coldray.data.splits.warming import warming_splits
from coldray.evaluation.metrics import RankingMetrics
from coldray.evaluation.significance import bootstrap_interval
from coldray.experiments.folds import prepare_task
from coldray.experiments.tasks.warming import evaluate_warming
from coldray.features.builder import OF_USERS, FeatureConfig
from coldray.models.computations import Computations
from coldray.models.registry import model_type

METRIC = "ndcg@10"
SPLITS = 3
DATA = {"ml-100k": None, "ml1m-hetrec": None, "coat": FilterConfig(min_rating_exclusive=3)}
"""Of coats those that people like are to be found: some are rated because they were drawn."""
ALPHAS, RIDGES = (0.0, 0.2, 0.5), (1.0, 6.0, 30.0)
"""All lie inside the ranges of tune_spaces/kernel_align_users.yaml, or at an end where the parameter ends."""


@figure("user_cold_over_popularity", unit="×", bar=1.0, better="higher")
def newcomers() -> float:
    """KernelAlign over users, tuned on validation, over popularity in test ndcg@10: the lowest of three datasets."""
    ratios = []
    for name, filters in DATA.items():
        data = load_filtered(SourceConfig(name=name, data_dir=data_folder(name)), filters)  # type: ignore[arg-type]
        ratios.append(_ratio(data))
    return min(ratios)


def _ratio(data: Dataset) -> float:
    ours, popular = [], []
    for split in warming_splits(data, protocol="user-cold", n_splits=SPLITS, seeds=(42,)):
        fold, shared, reached = split.for_tuning().fold, Computations(), {}
        for alpha, ridge in itertools.product(ALPHAS, RIDGES):
            config = {"alpha": alpha, "ridge": ridge}
            reached[alpha, ridge] = _measured("kernel_align_users", fold, config, shared).means()[METRIC]
        alpha, ridge = max(reached, key=lambda pair: reached[pair])
        shared = Computations()
        config = {"alpha": alpha, "ridge": ridge}
        ours.append(_measured("kernel_align_users", split.test_fold, config, shared).per_user[METRIC])
        popular.append(_measured("popularity", split.test_fold, {}, shared).per_user[METRIC])
        print(f"{split.split}: alpha {alpha:g}, ridge {ridge:g}", file=sys.stderr)
    mean, other = np.concatenate(ours), np.concatenate(popular)
    low, high = bootstrap_interval(mean - other, generator=np.random.default_rng(0))
    print(
        f"{data.name}: {METRIC} {mean.mean():.4f}, popularity {other.mean():.4f}, difference "
        f"{mean.mean() - other.mean():.4f} [{low:.4f}, {high:.4f}], {len(mean):,} users",
        file=sys.stderr,
    )
    return float(mean.mean() / other.mean())


def _measured(name: str, fold: Fold, config: dict[str, Any], shared: Computations) -> RankingMetrics:
    kind = model_type(name)
    features = FeatureConfig() if kind.scores_cold_items else None
    task = prepare_task(fold, features, profiles=OF_USERS if kind.reads_users else None)
    model = kind(kind.config_type.model_validate(config)).fit(task.train, shared)
    return evaluate_warming(model, task, candidates="all", cutoffs=(10,))
