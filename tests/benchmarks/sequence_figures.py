"""The next item of the sequences of Amazon Beauty: each user's last item among all that they have not bought."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from figures import data_folder, figure

from coldray.data.sources.registry import SourceConfig, load_dataset
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.parts import InteractionSplit
from coldray.experiments.evaluation import EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.features.builder import FeatureConfig
from coldray.models.base import Recommender
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.neighbours.item import ItemKNN, ItemKNNConfig
from coldray.models.neural.sequences.config import SASRecConfig
from coldray.models.neural.sequences.model import SASRec
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig

SOURCE = "amazon-beauty-sequences"
NDCG, HR = "ndcg@10", "hr@10"
LAMBDAS = (50.0, 200.0, 800.0)
"""Of EASE; all lie inside the range of tune_spaces/ease.yaml."""
NEIGHBOURS = (50, 200)
"""k of the items' neighbours."""

EPOCHS = 10
"""Of both networks. On validation items SASRec was still rising after eight of twenty; to find how many are best takes
a training of its own."""
OURS = SASRecConfig(epochs=EPOCHS, validation_share=0.0)
GRU = SessionGRUConfig(epochs=EPOCHS, validation_share=0.0, schedule="cosine")


@figure("sasrec_beauty_ndcg10", unit="", bar=0.036, better="higher")
@figure("sequence_over_best_plain", unit="×", bar=1.0, better="higher")
def beauty() -> dict[str, float]:
    """Test ndcg@10 of SASRec, and that over the best of the GRU, EASE and item kNN; the last two are tuned."""
    torch.set_num_threads(1)
    data = load_dataset(SourceConfig(name=SOURCE, data_dir=data_folder(SOURCE)))
    split = next(interaction_splits(data, protocol="leave-last"))
    found = _measured(SASRec(OURS), split.test_fold)
    ease = _best([lambda value=value: EASE(EASEConfig(regularization=value)) for value in LAMBDAS], split)
    knn = _best([lambda k=k: ItemKNN(ItemKNNConfig(k=k)) for k in NEIGHBOURS], split)
    plain = [_measured(model, split.test_fold) for model in (ease(), knn(), SessionGRU(GRU))]
    return {"sasrec_beauty_ndcg10": found, "sequence_over_best_plain": found / max(plain)}


@figure("sasrec_beauty_as_published", unit="", bar=0.0327, better="higher")
def beauty_as_published() -> float:
    """The same, fitted on all but the last two items: the one before the last is in the history, and not learned."""
    torch.set_num_threads(1)
    data = load_dataset(SourceConfig(name=SOURCE, data_dir=data_folder(SOURCE)))
    split = next(interaction_splits(data, protocol="leave-last"))
    model = SASRec(OURS)
    learned, asked = (
        prepare_task(fold, FeatureConfig(), reads=model.reads) for fold in (split.for_tuning().fold, split.test_fold)
    )
    means = evaluate(model.fit(learned.train), asked, candidates="all", cutoffs=(10,)).means()
    print(f"{NDCG} {means[NDCG]:.4f}, {HR} {means[HR]:.4f}", file=sys.stderr, flush=True)
    return float(means[NDCG])


def _best(models: list[Callable[[], Recommender[Any]]], split: InteractionSplit) -> Callable[[], Recommender[Any]]:
    fold = split.for_tuning().fold
    return max(models, key=lambda model: _measured(model(), fold))


def _measured(model: Recommender[Any], fold: Any) -> float:
    """Fit on a fold and return ndcg@10 on it; that and the time of the fit are told."""
    features = FeatureConfig() if model.reads_items() else None
    task: EvaluationFold = prepare_task(fold, features, reads=model.reads)
    started = time.perf_counter()
    model.fit(task.train)
    seconds = time.perf_counter() - started
    means = evaluate(model, task, candidates="all", cutoffs=(10,)).means()
    print(f"{fold.name}: {model.name} {model.config!r:.300}", file=sys.stderr)
    print(f"  {NDCG} {means[NDCG]:.4f}, {HR} {means[HR]:.4f}, fit {seconds:.0f} s", file=sys.stderr, flush=True)
    return float(means[NDCG])
