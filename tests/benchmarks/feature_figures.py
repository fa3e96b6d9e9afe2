"""What features bring: each alone on or off beside the default attributes, of items and of users."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping
from typing import Any

from figures import data_folder, figure
from kernel_figures import FIXED, sentence_model
from marec_figures import dataset

from coldray.data.dataset import Dataset
from coldray.data.sources.registry import SourceConfig, load_filtered
from coldray.data.splits.items import Fold, cold_item_splits
from coldray.data.splits.warming import warming_splits
from coldray.experiments.evaluation import evaluate
from coldray.experiments.folds import prepare_task
from coldray.experiments.tasks.warming import evaluate_warming
from coldray.features.builder import OF_USERS, FeatureConfig
from coldray.models.base import Recommender
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.neighbours.content import ContentKNN
from coldray.models.registry import model_type

METRIC = "ndcg@10"
MODELS: Mapping[str, type[Recommender[Any]]] = {"content_knn": ContentKNN, "kernel_align": KernelAlign}
"""As they come, but for α = 0.2 and λ = 6 of the kernel."""
SPLITS = 3
"""Of users: one tests 189 of ml-100k, of whom a difference of .01 may be chance."""


def _of_items(data: Dataset) -> dict[str, FeatureConfig]:
    """Return the default attributes, and these with one thing more each."""
    default = data.default_attributes
    overview = (*default, "overview")
    about = {"about": ("title", "genres", "overview")}
    embedding = {"embedding_model": sentence_model()}
    return {
        "default attributes": FeatureConfig(),
        "counts": FeatureConfig(counts=True),
        "overview, TF-IDF": FeatureConfig(attributes=overview),
        "the same without stop words": FeatureConfig(attributes=overview, stop_words=("english",)),
        "overview, embedded": FeatureConfig(attributes=overview, text={"overview": "embedding"}, **embedding),
        "title, genres and overview joined, TF-IDF": FeatureConfig(joined=about),
        "the same, embedded": FeatureConfig(joined=about, text={"about": "embedding"}, **embedding),
    }


def _model(name: str) -> Recommender[Any]:
    return MODELS[name](FIXED if name == "kernel_align" else None)


def _cold(name: str, fold: Fold, features: FeatureConfig) -> float:
    task = prepare_task(fold, features)
    return evaluate(_model(name).fit(task.train), task, candidates="cold", cutoffs=(10,)).means()[METRIC]


@figure("features_over_default", unit="×", bar=1.0, better="higher")
def of_items() -> float:
    """The features that do best on validation items over the default ones, in test ndcg@10: the lower of two models."""
    data = dataset()
    (split,) = cold_item_splits(data, n_splits=1, seed=42)
    ratios = []
    for model in MODELS:
        found = {}
        for name, features in _of_items(data).items():
            folds = split.for_tuning().fold, split.test_fold
            found[name] = tuple(_cold(model, fold, features) for fold in folds)
            print(f"{model}, {name}: validation {found[name][0]:.4f}, test {found[name][1]:.4f}", file=sys.stderr)
        best = max(found, key=lambda name: found[name][0])
        ratios.append(found[best][1] / found["default attributes"][1])
    return min(ratios)


@figure("fewer_profile_features_over_all", unit="×", bar=0.97, better="higher")
def of_users() -> float:
    """The attributes of users that do best on validation over all of them, in test ndcg@10, on ml-100k user-cold."""
    data = load_filtered(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")))
    names = list(data.user_attributes)
    chosen = {"all": OF_USERS} | {
        f"without {name}": FeatureConfig(attributes=tuple(one for one in names if one != name)) for name in names
    }
    found = {}
    for name, features in chosen.items():
        parts: tuple[list[float], list[float]] = ([], [])
        for split in warming_splits(data, protocol="user-cold", n_splits=SPLITS, seeds=(42,)):
            for reached, fold in zip(parts, (split.for_tuning().fold, split.test_fold), strict=True):
                reached.append(_newcomers(fold, features))
        found[name] = tuple(map(statistics.fmean, parts))
        print(f"{name}: validation {found[name][0]:.4f}, test {found[name][1]:.4f}", file=sys.stderr)
    best = max(found, key=lambda name: found[name][0])
    return found[best][1] / found["all"][1]


def _newcomers(fold: Fold, features: FeatureConfig) -> float:
    kind = model_type("kernel_align_users")
    task = prepare_task(fold, FeatureConfig() if kind.scores_cold_items else None, profiles=features)
    model = kind(kind.config_type.model_validate({"alpha": 0.2, "ridge": 6.0})).fit(task.train)
    return evaluate_warming(model, task, candidates="all", cutoffs=(10,)).means()[METRIC]
