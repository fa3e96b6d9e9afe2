"""How long it takes to find ten items among 100,000, without the service around it, by one thread.

Notation used for shapes: U users, I items.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable

import numpy as np
import scipy.sparse as sp
import torch
from figures import figure
from threadpoolctl import threadpool_limits

from coldray.bundle.model import Bundle
from coldray.bundle.similar import SimilaritySearch
from coldray.data.dataset import Dataset, LabelAttribute
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.features.feature_set import FeatureSet
from coldray.models.linear.svd import SVD, SVDConfig
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query

N_USERS, N_ITEMS, N_FACTORS = 20_000, 100_000, 64
TASTES = 50
"""Items of a taste are clicked by the same users and have the same labels, more or less."""
CLICKS, LABELS, LABELS_OF_TASTE = 100, 6, 40
"""Clicks of a user, labels of an item, and of all items of a taste."""
ASKED = 500


def median_ms(ask: Callable[[int], object], numbers: Iterable[int]) -> float:
    """Return the median of how long an answer takes, in milliseconds, after some that are not counted."""
    taken = []
    for number in numbers:
        start = time.perf_counter()
        ask(number)
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken[len(taken) // 10 :])


def catalogue(rng: np.random.Generator) -> Bundle:
    """Return SVD of drawn factors, and clicks: those of a user are of one taste mostly, popular items more often."""
    taste = rng.permutation(np.arange(N_ITEMS) % TASTES)
    by_taste = np.argsort(taste, kind="stable").reshape(TASTES, -1)
    rank = (by_taste.shape[1] * rng.random((N_USERS, CLICKS)) ** 2).astype(np.intp)
    own, other = np.arange(N_USERS)[:, None] % TASTES, rng.integers(0, TASTES, (N_USERS, CLICKS))
    clicks = _cells(by_taste[np.where(rng.random((N_USERS, CLICKS)) < 0.8, own, other), rank], N_ITEMS)
    labels = taste[:, None] * LABELS_OF_TASTE + rng.integers(0, LABELS_OF_TASTE, (N_ITEMS, LABELS))
    names = np.array([f"label {number:05d}" for number in range(TASTES * LABELS_OF_TASTE)])
    attributes = {"genres": LabelAttribute(_cells(labels, len(names)), names)}
    users, items = np.arange(N_USERS), np.arange(N_ITEMS)
    dataset = Dataset("generated", users, items, clicks, attributes, ("genres",))
    encoder = FeatureEncoder(FeatureConfig()).fit(dataset)
    features = encoder.transform(dataset.attributes, N_ITEMS)
    return Bundle(_svd(rng, features), encoder, users, items, attributes, features, clicks)


def _svd(rng: np.random.Generator, features: FeatureSet) -> SVD:
    """Return the model that a fit leaves, but for what the numbers are: a product takes no longer for that."""
    state = {
        "vectors": rng.standard_normal((N_ITEMS, N_FACTORS), np.float32) / np.float32(np.sqrt(N_ITEMS)),
        "damping": np.full(N_ITEMS, 0.5, np.float32),
        "means": np.zeros(N_ITEMS, np.float32),
        "values": np.ones(N_FACTORS, np.float32),
        "n_factors": np.array([N_FACTORS]),
    }
    return SVD.from_state(SVDConfig(n_factors=N_FACTORS), state, features)


def _cells(columns: np.ndarray, n_columns: int) -> sp.csr_array:
    """Return ones in the given columns of each row."""
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    cells = sp.csr_array((np.ones(columns.size, np.float32), (rows, columns.ravel())), shape=(len(columns), n_columns))
    cells.sum_duplicates()
    cells.data[:] = 1
    return cells


@figure("retrieval_100k_ms", unit="ms", bar=5.0, better="lower")
@figure("similar_100k_ms", unit="ms", bar=10.0, better="lower")
@figure("hnsw_100k_recall", unit="", bar=0.95, better="higher")
def retrieval() -> dict[str, float]:
    """Ten items for a user by SVD, those they clicked left out; ten like an item; and how many of them HNSW finds."""
    bundle = catalogue(np.random.default_rng(0))
    torch.set_num_threads(1)
    with threadpool_limits(1):
        engine, search, indexed = Engine(bundle), SimilaritySearch(bundle), SimilaritySearch(bundle, index_from=0)
        indexed.wait()
        for made in (search, indexed):
            found = made.similar(bundle, 0, 10)
            print(f"similar items by {found.search}, recall {found.recall:.3f}", file=sys.stderr)
        return {
            "retrieval_100k_ms": median_ms(lambda user: engine.answer([Query(user_id=user)]), range(ASKED)),
            "similar_100k_ms": median_ms(lambda item: search.similar(bundle, item, 10), range(ASKED)),
            "hnsw_100k_recall": indexed.measured_recall or 0.0,
        }
