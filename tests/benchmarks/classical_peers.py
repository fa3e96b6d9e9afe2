"""What the classical models are held against: implicit, scikit-learn, and EASE by a plain inverse."""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from implicit.nearest_neighbours import CosineRecommender
from implicit.utils import ParameterWarning
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

from coldray.evaluation.ranking import rank
from coldray.features.feature_set import FeatureSet
from coldray.models.base import Recommender, TrainingSet

LIST_LENGTH = 10
Lists = npt.NDArray[np.integer[Any]]


def training_set(clicks: sp.csr_array, key: str) -> TrainingSet:
    """Return clicks alone as what models are fitted on."""
    return TrainingSet(sp.csr_array(clicks, dtype=np.float32), FeatureSet({}, clicks.shape[1]), key)


def our_lists(model: Recommender[Any], train: TrainingSet) -> Lists:
    """Fit and return the top 10 of all users without what they clicked."""
    items = np.arange(train.interactions.shape[1])
    scorer = model.fit(train).scorer(items)
    return rank(scorer, train.interactions, items, k=LIST_LENGTH, exclude=train.interactions).items


def implicit_als(
    clicks: sp.csr_array, *, n_factors: int, regularization: float, alpha: float, iterations: int, seed: int = 0
) -> AlternatingLeastSquares:
    """Fit implicit's ALS with the confidence ``1 + α r``; its data are the confidences of the clicks."""
    confidence = sp.csr_matrix(clicks, dtype=np.float32)
    confidence.data = 1 + np.float32(alpha) * confidence.data
    # Its own advice: one thread of BLAS, as its solvers have theirs.
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(
            n_factors, regularization=regularization, alpha=1.0, iterations=iterations, random_state=seed
        )
        model.fit(confidence, show_progress=False)
    return model


def implicit_knn(clicks: sp.csr_array, *, k: int) -> CosineRecommender:
    """Fit implicit's item-kNN of cosines."""
    model = CosineRecommender(K=k)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ParameterWarning)  # of the form of a matrix that it makes itself
        model.fit(sp.csr_matrix(clicks, dtype=np.float32), show_progress=False)
    return model


def implicit_lists(
    model: AlternatingLeastSquares | CosineRecommender, clicks: sp.csr_array, users: npt.NDArray[np.int32] | None = None
) -> tuple[Lists, npt.NDArray[np.floating[Any]]]:
    """Return implicit's top 10 of users, all by default, without what they clicked, and the scores."""
    asked = np.arange(clicks.shape[0], dtype=np.int32) if users is None else users
    with threadpool_limits(1, "blas"):
        items, scores = model.recommend(asked, sp.csr_matrix(clicks)[asked], N=LIST_LENGTH)
    return items, scores


def plain_svd_lists(clicks: sp.csr_array, *, n_factors: int) -> Lists:
    """Return the top 10 of all users by scikit-learn's TruncatedSVD."""
    model = TruncatedSVD(n_factors, random_state=0)
    users = model.fit_transform(sp.csr_matrix(clicks, dtype=np.float32))
    return _best(lambda start, end: users[start:end] @ model.components_, sp.csr_array(clicks))


def plain_ease_lists(clicks: sp.csr_array, *, regularization: float) -> Lists:
    """Return the top 10 of all users by EASE as the paper's code computes it, in numpy's float64."""
    counts = sp.csr_array(clicks, dtype=np.float64)
    gram = (counts.T @ counts).toarray()
    diagonal = np.diag_indices(gram.shape[0])
    gram[diagonal] += regularization
    inverse = np.linalg.inv(gram)
    weights = inverse / (-np.diag(inverse))
    weights[diagonal] = 0
    return _best(lambda start, end: counts[start:end] @ weights, counts)


def _best(score: Callable[[int, int], npt.NDArray[Any]], clicks: sp.csr_array, block: int = 1000) -> Lists:
    lists = []
    for start in range(0, clicks.shape[0], block):
        end = min(start + block, clicks.shape[0])
        scores = score(start, end)
        seen = clicks[start:end]
        scores[np.repeat(np.arange(end - start), np.diff(seen.indptr)), seen.indices] = -np.inf
        nearest = np.argpartition(-scores, LIST_LENGTH, axis=1)[:, :LIST_LENGTH]
        order = np.argsort(-np.take_along_axis(scores, nearest, axis=1), axis=1)
        lists.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(lists)


def side_by_side(sides: Mapping[str, Callable[[], Lists]], *, runs: int = 5, warm_up: bool = True) -> dict[str, float]:
    """Run the sides in turn, print the seconds of each and how much their lists agree; return the medians by name."""
    names = list(sides)
    lists = {name: sides[name]() for name in names} if warm_up else {}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(runs):
        for name in names if number % 2 == 0 else reversed(names):
            start = time.perf_counter()
            lists[name] = sides[name]()
            seconds[name].append(time.perf_counter() - start)
    for name in names:
        shared = np.mean([len(np.intersect1d(*rows)) for rows in zip(lists[names[0]], lists[name], strict=True)])
        every = ", ".join(f"{one:.2f}" for one in seconds[name])
        print(
            f"{name}: {statistics.median(seconds[name]):.2f} s ({every}); of the {LIST_LENGTH} items of a list "
            f"{shared:.1f} are those of {names[0]}",
            file=sys.stderr,
        )
    return {name: statistics.median(each) for name, each in seconds.items()}
