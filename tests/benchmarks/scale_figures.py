"""KernelAlign on a large catalogue: 50,000 generated items, a fifth of them new.

Notation used for shapes: U users, I items.
"""

from __future__ import annotations

import resource
import sys
import time

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from figures import figure

from coldray.evaluation.ranking import rank
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig

N_USERS, N_ITEMS, N_NEW = 100_000, 50_000, 10_000
CLICKS = 5_000_000
ASKED = 5_000
"""Users whose lists of new items are measured."""
LABELS = {"genres": (20, 2.2, 0.8), "directors": (6_000, 0.9, 0.5), "actors": (60_000, 14.0, 0.6)}
"""By attribute: how many labels there are, how many an item has on average, and the exponent of their Zipf law."""
TASTES = 2_000
"""Users of one taste draw their clicks from one distribution over the items."""


@figure("nystrom_peak_gb", unit="GB", bar=6.0)
def large_catalogue() -> float:
    """Fit on 40,000 warm items, then rank 10,000 new ones; the peak of the whole process, the data included."""
    train, truth = generated(np.random.default_rng(0))
    start = time.perf_counter()
    model = KernelAlign(KernelAlignConfig(form="inducing", inducing=1500)).fit(train)
    fitted = time.perf_counter()
    new = train.cold_items
    lists = rank(model.scorer(new), train.interactions[:ASKED], new, k=10).items
    seconds = fitted - start, time.perf_counter() - fitted
    hits = truth[np.repeat(np.arange(ASKED), 10), lists.ravel()]
    chance = truth[:, new].nnz / (ASKED * len(new))
    print(
        f"{len(train.warm_items):,} warm and {len(new):,} new items, {train.interactions.nnz:,} clicks: fit "
        f"{seconds[0]:.0f} s, lists of {ASKED:,} users {seconds[1]:.0f} s; precision@10 {hits.mean():.4f}, by chance "
        f"{chance:.4f}",
        file=sys.stderr,
    )
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def generated(generator: np.random.Generator) -> tuple[TrainingSet, sp.csr_array]:
    """Return what is trained on, and the clicks of the first users on all items ``[asked, I]``.

    A user's taste is a direction in the space that the labels of the items span.
    """
    labels = {name: _labels(generator, *law) for name, law in LABELS.items()}
    years = np.round(2015 - generator.exponential(15, N_ITEMS))
    clicks = _clicks(generator, labels)
    new = generator.permutation(N_ITEMS)[:N_NEW]
    kept = np.ones(N_ITEMS, np.float32)
    kept[new] = 0
    seen = sp.csr_array(clicks @ sp.diags_array(kept), dtype=np.float32)
    seen.eliminate_zeros()
    features = {name: VectorFeature(matrix, tuple(map(str, range(matrix.shape[1])))) for name, matrix in labels.items()}
    year = ScalarFeature(years, float(np.ptp(years)))
    train = TrainingSet(seen, FeatureSet({**features, "year": year}, N_ITEMS), "generated")
    return train, sp.csr_array(clicks[:ASKED])


def _labels(generator: np.random.Generator, count: int, mean: float, exponent: float) -> sp.csr_array:
    chance = (np.arange(count) + 1.0) ** -exponent
    rows = np.repeat(np.arange(N_ITEMS), np.minimum(generator.poisson(mean, N_ITEMS), count))
    return _binary(rows, generator.choice(count, len(rows), p=chance / chance.sum()), (N_ITEMS, count))


def _clicks(generator: np.random.Generator, labels: dict[str, sp.csr_array]) -> sp.csr_array:
    places = 0.3 * generator.standard_normal((N_ITEMS, 24)).astype(np.float32)
    for matrix in labels.values():
        directions = generator.standard_normal((matrix.shape[1], 24)).astype(np.float32)
        places += (matrix @ directions) / np.sqrt(np.maximum(matrix.sum(axis=1), 1))[:, None]
    places /= np.sqrt(np.mean(places**2))
    popularity = 0.9 * generator.standard_normal(N_ITEMS).astype(np.float32)
    sizes = generator.poisson(generator.gamma(1.0, 1.25 * CLICKS / N_USERS, N_USERS) + 4)
    taste = generator.integers(0, TASTES, N_USERS)
    rows: list[npt.NDArray[np.integer]] = []
    columns: list[npt.NDArray[np.integer]] = []
    for one in range(TASTES):
        users = np.flatnonzero(taste == one)
        likes = 0.45 * generator.standard_normal(24).astype(np.float32)
        shares = np.cumsum(np.exp(places @ likes + popularity), dtype=np.float64)
        rows.append(np.repeat(users, sizes[users]))
        columns.append(np.searchsorted(shares / shares[-1], generator.random(len(rows[-1]))))
    return _binary(np.concatenate(rows), np.concatenate(columns), (N_USERS, N_ITEMS))


def _binary(rows: npt.NDArray[np.integer], columns: npt.NDArray[np.integer], shape: tuple[int, int]) -> sp.csr_array:
    matrix = sp.csr_array((np.ones(len(rows), np.float32), (rows.astype(np.int32), columns.astype(np.int32))), shape)
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
