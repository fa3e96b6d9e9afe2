"""Ratings with a planted structure."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from coldray.data.sources.sample import sample_dataset


def rated_by_tastes(n_users, n_items):
    """Return the sample with ratings of two tastes, which a model without neighbours or factors misses."""
    data = sample_dataset(0, n_users, n_items)
    clicks, rng = data.interactions, np.random.default_rng(1)
    rows = np.repeat(np.arange(n_users), np.diff(clicks.indptr))
    tastes = rng.choice([-1.5, 1.5], n_users)[rows] * rng.choice([-1.0, 1.0], n_items)[clicks.indices]
    ratings = np.clip(np.round(3 + tastes + rng.normal(0, 0.3, clicks.nnz)), 1, 5).astype(np.float32)
    return replace(data, ratings=sp.csr_array((ratings, clicks.indices, clicks.indptr), shape=clicks.shape))
