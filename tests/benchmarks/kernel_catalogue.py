"""A generated catalogue on which the form of KernelAlign shows: many labels, few of them common, and planted tastes.

An item has labels of a short list, of a long one, and of a very long one whose labels are drawn by a power law: most
are of two or three items. Each label has a direction of taste and a fame; an item's are sums over its labels, with a
part of its own. A user clicks items by the fit of the taste and the fame, drawn by the Gumbel trick without repeats;
what nobody clicked is given to somebody.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet

TASTES = 8
"""Dimensions of taste."""
SHARES = {"genre": 0.3, "theme": 1.5, "person": 0.3}
"""How much of an item's taste its labels make; what they do not explain has OWN."""
OWN = 0.1
"""Taste and fame of an item that its labels do not tell of."""
FIT, FAME = 3.0, 0.6
"""What the fit of the taste and the fame are worth to a user, against a Gumbel draw of 1."""
USERS_PER_BLOCK = 256
"""Users whose fits to all items are held at once."""


def catalogue(
    n_items: int, n_labels: int, n_users: int, n_clicks: int, *, seed: int = 0
) -> tuple[sp.csr_array, FeatureSet]:
    """Return clicks ``[U, I]``, float32 ones, and the features of the items."""
    generator = np.random.default_rng(seed)
    sizes = {"genre": (24, 2.5, 0.5), "theme": (max(n_labels // 20, 25), 4.0, 0.6)}
    sizes["person"] = (n_labels - sum(width for width, _, _ in sizes.values()), 6.0, 0.75)
    features: dict[str, VectorFeature | ScalarFeature] = {}
    taste = OWN * generator.standard_normal((n_items, TASTES))
    fame = OWN * generator.standard_normal(n_items)
    for name, (width, mean, slope) in sizes.items():
        labels = _labels(generator, n_items, width, mean, slope)
        features[name] = VectorFeature(labels, tuple(f"{name} {i}" for i in range(width)))
        shares = SHARES[name] * labels / np.sqrt(np.maximum(np.diff(labels.indptr), 1))[:, None]
        taste += shares @ generator.standard_normal((width, TASTES))
        fame += 0.5 * shares @ generator.standard_normal(width)
    years = generator.integers(1950, 2024, n_items).astype(np.float64)
    features["year"] = ScalarFeature(years, float(np.ptp(years)))
    fame += (years - 1990) / 60
    return _clicks(generator, taste / np.sqrt(TASTES), fame, n_users, n_clicks), FeatureSet(features, n_items)


def cold_split(
    clicks: sp.csr_array, features: FeatureSet, share: float = 0.2, *, seed: int = 0
) -> tuple[TrainingSet, npt.NDArray[np.intp]]:
    """Return a training set without the clicks of a `share` of the items, and those items."""
    n_items = clicks.shape[1]
    cold = np.sort(np.random.default_rng(seed).permutation(n_items)[: int(share * n_items)])
    keep = np.ones(n_items, np.float32)
    keep[cold] = 0
    warm = sp.csr_array(clicks @ sp.diags_array(keep), dtype=np.float32)
    warm.eliminate_zeros()
    return TrainingSet(warm, features, f"catalogue of {n_items} without {len(cold)}"), cold


def _labels(generator: np.random.Generator, n_items: int, width: int, mean: float, slope: float) -> sp.csr_array:
    """Return a multi-hot matrix ``[I, width]``, every label in at least one item."""
    chance = np.arange(1, width + 1) ** -slope
    lengths = 1 + generator.poisson(mean - 1, n_items)
    rows = np.concatenate([np.repeat(np.arange(n_items), lengths), generator.integers(0, n_items, width)])
    drawn = generator.choice(width, int(lengths.sum()), p=chance / chance.sum())
    columns = np.concatenate([drawn, np.arange(width)])
    labels = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=(n_items, width))
    labels.sum_duplicates()
    labels.data[:] = 1
    return labels


def _clicks(
    generator: np.random.Generator,
    taste: npt.NDArray[np.float64],
    fame: npt.NDArray[np.float64],
    n_users: int,
    n_clicks: int,
) -> sp.csr_array:
    n_items = len(fame)
    lengths = np.clip(np.round(generator.lognormal(0, 0.8, n_users)), 1, None)
    lengths = np.clip(lengths * n_clicks / lengths.sum(), 1, n_items // 4).astype(np.intp)
    columns = []
    for start in range(0, n_users, USERS_PER_BLOCK):
        block = lengths[start : start + USERS_PER_BLOCK]
        users = generator.standard_normal((len(block), TASTES))
        fits = FIT * users @ taste.T + FAME * fame + generator.gumbel(size=(len(block), n_items))
        order = np.argpartition(-fits, int(block.max()), axis=1)[:, : int(block.max())]
        order = np.take_along_axis(order, np.argsort(-np.take_along_axis(fits, order, axis=1), axis=1), axis=1)
        columns.extend(np.sort(row[:length]) for row, length in zip(order, block, strict=True))
    indptr = np.concatenate([[0], np.cumsum([len(row) for row in columns])])
    indices = np.concatenate(columns).astype(np.int32)
    clicks = sp.csr_array((np.ones(len(indices), np.float32), indices, indptr), shape=(n_users, n_items))
    blank = np.flatnonzero(np.bincount(indices, minlength=n_items) == 0)
    rows = generator.integers(0, n_users, len(blank))
    return sp.csr_array(clicks + sp.csr_array((np.ones(len(blank), np.float32), (rows, blank)), shape=clicks.shape))
