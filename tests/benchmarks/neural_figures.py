"""The networks on real data: against closed forms and content kNN, the time of an epoch, and retrieval by an index."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from figures import data_folder, figure

from coldray.data.dataset import keep_entries
from coldray.data.sources.hetrec import read_hetrec
from coldray.data.sources.registry import SourceConfig, load_dataset, load_predefined
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.items import cold_item_splits
from coldray.experiments.evaluation import Candidates, EvaluationFold, evaluate
from coldray.experiments.folds import prepare_task
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.base import Recommender, TrainingSet
from coldray.models.linalg.vector_index import VectorIndex
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.neighbours.content import ContentKNN, ContentKNNConfig
from coldray.models.neighbours.item import ItemKNN
from coldray.models.neural.lightgcn import LightGCN, LightGCNConfig
from coldray.models.neural.ncf import NCF
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.model import TextGraph
from coldray.models.neural.two_tower import TwoTower, TwoTowerConfig
from coldray.models.neural.vae import VAE, VAEConfig
from coldray.models.popularity.model import Popularity
from coldray.training.history import EpochRecord
from coldray.training.options import FitOptions
from coldray.training.progress import TrainingListener

NDCG = "ndcg@10"
LAMBDAS = (127.0, 336.0, 546.0, 886.0, 1438.0, 2336.0)
"""Of EASE, those of tune_spaces/ease.yaml that may be best here."""
WARM_VAE = VAEConfig(schedule="cosine", epochs=50, validation_share=0.0)
WARM_GRAPH = LightGCNConfig(validation_share=0.0)
LAST_TOWERS = TwoTowerConfig(
    batch_size=64, epochs=30, positives=8, validation_share=0.0, dropout=0.1, id_dropout=0.1, stop_by="clicks"
)
"""For each user's last click on data of this size. These three were chosen on validation data."""
COLD_TOWERS = TwoTowerConfig(temperature=0.15)
"""The best on validation items of seven settings, of the temperature above all."""
COLD_GRAPH = TextGraphConfig(epochs=2, validation_share=0.0)
"""The epochs were chosen on validation items; to find them anew on each split would take three times as long."""
POSITIVE = 4
"""Ratings from here on are clicks, of u1."""
U1_GRAPH = TextGraphConfig(epochs=30, patience=3, stop_by="clicks")
NEIGHBOURS = [
    ContentKNNConfig(k=k, weights=weights, normalisation=normalisation)
    for k in (100, 200, 400)
    for weights in ("equal", "correlation")
    for normalisation in (0.0, 0.25)
]
"""Among which content kNN is tuned on validation items."""
ASKED = 500
"""Users whose retrieval is timed."""


def metric(
    model: Recommender[Any],
    task: EvaluationFold,
    candidates: Candidates = "all",
    name: str = NDCG,
    options: FitOptions = FitOptions(),
) -> float:
    """Fit a model, and return a metric of its lists; tell both."""
    started = time.perf_counter()
    cutoff = int(name.partition("@")[2])
    value = evaluate(model.fit(task.train, options=options), task, candidates=candidates, cutoffs=(cutoff,)).means()[
        name
    ]
    seconds = time.perf_counter() - started
    print(
        f"{type(model).__name__}, split {task.split}: {name} {value:.4f} ({seconds:.0f} s)", file=sys.stderr, flush=True
    )
    return value


def tuned(
    models: Iterable[Recommender[Any]], tasks: Sequence[EvaluationFold], candidates: Candidates
) -> Recommender[Any]:
    """Return the model with the best mean over the validation tasks."""
    return max(models, key=lambda model: statistics.fmean(metric(model, task, candidates) for task in tasks))


@figure("vae_over_ease", unit="×", bar=0.95, better="higher")
@figure("lightgcn_over_ease", unit="×", bar=0.88, better="higher")
@figure("neumf_over_popularity", unit="×", bar=1.5, better="higher")
def warm() -> dict[str, float]:
    """Test ndcg@10 on ml1m-hetrec, a random 20 % of each user's clicks held out; EASE is tuned on validation."""
    torch.set_num_threads(2)
    data = read_hetrec(data_folder("ml1m-hetrec"), name="ml1m-hetrec")
    split = next(interaction_splits(data, protocol="holdout", seeds=(42,)))
    validation, test = (prepare_task(fold, FeatureConfig()) for fold in (split.for_tuning().fold, split.test_fold))
    ease = metric(tuned([EASE(EASEConfig(regularization=value)) for value in LAMBDAS], [validation], "all"), test)
    return {
        "vae_over_ease": metric(VAE(WARM_VAE), test) / ease,
        "lightgcn_over_ease": metric(LightGCN(WARM_GRAPH), test) / ease,
        "neumf_over_popularity": metric(NCF(), test) / metric(Popularity(), test),
    }


@figure("two_tower_over_content_knn", unit="×", bar=1.0, better="higher")
@figure("text_graph_over_content_knn", unit="×", bar=1.0, better="higher")
def cold() -> dict[str, float]:
    """Mean test ndcg@10 of cold items on three notebook splits of ml1m-hetrec; content kNN is tuned on validation."""
    torch.set_num_threads(2)
    data = read_hetrec(data_folder("ml1m-hetrec"), name="ml1m-hetrec")
    splits = list(cold_item_splits(data, n_splits=3, seed=42))
    validation = [prepare_task(split.for_tuning().fold, FeatureConfig()) for split in splits]
    test = [prepare_task(split.test_fold, FeatureConfig()) for split in splits]
    neighbours = tuned([ContentKNN(config) for config in NEIGHBOURS], validation, "cold")
    print(f"content kNN: {neighbours.config}", file=sys.stderr)
    by_neighbours, towers, graph = (
        statistics.fmean(metric(model, task, "cold") for task in test)
        for model in (neighbours, TwoTower(COLD_TOWERS), TextGraph(COLD_GRAPH))
    )
    return {
        "two_tower_over_content_knn": towers / by_neighbours,
        "text_graph_over_content_knn": graph / by_neighbours,
    }


@figure("two_tower_hr100", unit="hr@100", bar=0.5, better="higher")
@figure("two_tower_retrieval_ms", unit="ms", bar=10.0)
def last_clicks() -> dict[str, float]:
    """Each user's last click of ml-100k among all unseen items, and how long the index takes for one user."""
    torch.set_num_threads(1)
    data = load_dataset(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")))
    task = prepare_task(next(interaction_splits(data, protocol="leave-last")).test_fold, FeatureConfig())
    towers = TwoTower(LAST_TOWERS)
    found = metric(towers, task, name="hr@100")
    for peer in (ItemKNN(), Popularity()):
        metric(peer, task, name="hr@100")
    index, taken = VectorIndex(towers, np.arange(towers.n_items)), []
    for user in task.users[:ASKED]:
        history, started = task.histories[[user]], time.perf_counter()
        index.nearest(towers.user_vectors(history), 100 + history.nnz)
        taken.append(1000 * (time.perf_counter() - started))
    return {"two_tower_hr100": found, "two_tower_retrieval_ms": statistics.median(taken[ASKED // 10 :])}


class Epochs(TrainingListener):
    """Keeps the seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def epoch_done(self, record: EpochRecord) -> None:
        self.seconds.append(record.seconds)


@figure("text_graph_epoch_seconds", bar=20.0)
def epoch_of_text_graph() -> float:
    """An epoch on u1 of ml-100k, ratings of 4 and 5 as clicks; its ndcg@10 is told beside that of EASE.

    EASE is tuned on a fifth of the train clicks, held out at random.
    """
    torch.set_num_threads(2)
    split = load_predefined(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")), "u1")
    clicks, ratings = split.dataset.interactions, split.dataset.ratings
    if ratings is None:
        raise ValueError("u1 of ml-100k has ratings.")

    def part(number: int) -> sp.csr_array:
        kept = (ratings.data >= POSITIVE) & (split.parts == number)
        cells = kept.astype(np.float32), clicks.indices, clicks.indptr
        found = sp.csr_array(cells, shape=clicks.shape, copy=True)
        found.eliminate_zeros()
        return found

    train, test = part(0), part(2)
    features = FeatureEncoder().fit(split.dataset).transform(split.dataset.attributes, split.dataset.n_items)

    def task_of(known: sp.csr_array, wanted: sp.csr_array, key: str) -> EvaluationFold:
        users = np.flatnonzero((np.diff(known.indptr) > 0) & (np.diff(wanted.indptr) > 0)).astype(np.int32)
        return EvaluationFold(TrainingSet(known, features, key), wanted, np.zeros(0, np.int32), users, split=1, seed=0)

    held = np.random.default_rng(0).random(train.nnz) < 0.2
    task = task_of(train, test, "u1")
    tuning = task_of(keep_entries(train, ~held), keep_entries(train, held), "u1 / validation")
    metric(tuned([EASE(EASEConfig(regularization=value)) for value in LAMBDAS], [tuning], "all"), task)
    epochs = Epochs()
    metric(TextGraph(U1_GRAPH), task, options=FitOptions(listener=epochs))
    return statistics.median(epochs.seconds)
