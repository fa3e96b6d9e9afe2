"""How near predicted ratings come to the truth on a published split."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from figures import data_folder, figure

import coldray
from coldray.data.sources.registry import SourceConfig, load_predefined
from coldray.evaluation.ratings import rating_metrics
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender, TrainingSet
from coldray.models.ratings.knn import RatingKNN, RatingKNNConfig
from coldray.models.ratings.mf import MF
from coldray.models.ratings.svd import RatingSVD

NEIGHBOURS, LEAST = 10, 20
"""Neighbours of an item, and the ratings that it and they have at least: factors of fewer say little."""


@figure("mf_u1_rmse", unit="stars", bar=0.95, better="lower")
def mf_u1_rmse() -> float:
    """RMSE of biased matrix factorisation on all test ratings of the u1 split of MovieLens 100K, nothing tuned.

    Ratings of the items that nobody rated in train are among them, predicted by what is known of their users. The other
    models, and the errors over known items alone, are printed beside it.
    """
    split = load_predefined(SourceConfig(name="ml-100k", data_dir=data_folder("ml-100k")), "u1")
    train, test = split.ratings("train"), split.ratings("test")
    training = TrainingSet(train, FeatureSet({}, train.shape[1]), "u1")
    models: dict[str, Recommender[Any]] = {
        "biased MF": MF(),
        "kNN by items": RatingKNN(),
        "kNN by users": RatingKNN(RatingKNNConfig(by="users", measure="pearson")),
        "SVD": RatingSVD(),
    }
    print("| model | RMSE | RMSE, known items | MAE | within half a star |\n|---|---|---|---|---|", file=sys.stderr)
    rmse = {}
    for name, model in models.items():
        predict = model.fit(training).predict_ratings
        known = rating_metrics(predict, train=train, histories=train, held_out=test)
        # Held against the test itself, every item of it is known.
        every = rating_metrics(predict, train=test, histories=train, held_out=test).means()
        rmse[name] = every["rmse"]
        means = known.means()
        print(
            f"| {name} | {every['rmse']:.4f} | {means['rmse']:.4f} | {means['mae']:.4f} | {means['accuracy']:.4f} |",
            file=sys.stderr,
        )
    print(f"{known.n_unknown_items} test ratings are of items without a train rating.", file=sys.stderr)
    return rmse["biased MF"]


@figure("mf_genre_share_over_chance", unit="×", bar=1.34, better="higher")
def mf_genre_share() -> float:
    """How often an item of ml-100k and the ten nearest to it by MF's factors share a genre, over any two items.

    Nothing is tuned, and MF reads no genre. Beside it are printed the ten that EASE, which reads none either, and
    KernelAlign, which does, score highest for who has clicked that item alone.
    """
    data = coldray.load_dataset("ml-100k", data_dir=data_folder("ml-100k"))
    kept = np.flatnonzero(np.bincount(data.interactions.indices, minlength=data.n_items) >= LEAST)
    genres = data.attributes["genres"].matrix[kept].toarray() > 0  # type: ignore[union-attr]
    shared = genres.astype(np.int64) @ genres.T.astype(np.int64) > 0
    np.fill_diagonal(shared, False)
    chance = shared.sum() / (len(kept) * (len(kept) - 1))
    factors = coldray.fit("mf", data).model.state()["factors"][kept]
    factors = factors / np.linalg.norm(factors, axis=1, keepdims=True)
    near = {"mf": factors @ factors.T}
    alone = sp.csr_array((np.ones(len(kept), np.float32), (range(len(kept)), kept)), shape=(len(kept), data.n_items))
    for name in ("ease", "kernel_align"):
        near[name] = coldray.fit(name, data).model.score(alone, kept.astype(np.int32))
    found = {name: _shared_by_nearest(values, shared) for name, values in near.items()}
    for name, share in found.items():
        print(f"{name}: {share:.3f} over {chance:.3f}, {share / chance:.2f} ×", file=sys.stderr)
    return found["mf"] / float(chance)


def _shared_by_nearest(near: npt.NDArray[np.floating[Any]], shared: npt.NDArray[np.bool_]) -> float:
    near = near.copy()
    np.fill_diagonal(near, -np.inf)
    nearest = np.argpartition(-near, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    return float(np.take_along_axis(shared, nearest, axis=1).mean())
