"""How near predicted ratings come to the truth on a published split."""

from __future__ import annotations

import sys
from typing import Any

from figures import data_folder, figure

from coldray.data.sources.registry import SourceConfig, load_predefined
from coldray.evaluation.ratings import rating_metrics
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender, TrainingSet
from coldray.models.ratings.knn import RatingKNN, RatingKNNConfig
from coldray.models.ratings.mf import MF
from coldray.models.ratings.svd import RatingSVD


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
