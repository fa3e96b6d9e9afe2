"""Which click of a user came first, for models that read sessions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from coldray.data.dataset import Dataset, rows_of
from coldray.errors import ConfigError


def with_order(dataset: Dataset) -> Dataset:
    """Return the dataset with places in place of clicks, for models that read their order.

    The first click of a user has place 1, his last one as many as he has clicks. Of clicks at the same time, that on
    the item of the lower index comes first.

    Raises
    ------
    ConfigError
        If it has no timestamps.
    """
    if dataset.timestamps is None:
        raise ConfigError(
            f"Dataset {dataset.name!r} has no timestamps, so nobody knows what came after what. Use a model that reads "
            "no order; of your own data, name the column with --timestamp-column."
        )
    clicks, times = dataset.interactions, dataset.timestamps.data
    order = np.lexsort((clicks.indices, times, rows_of(clicks)))
    places = np.empty(clicks.nnz, np.float32)
    places[order] = np.arange(clicks.nnz) - np.repeat(clicks.indptr[:-1], np.diff(clicks.indptr)) + 1
    return replace(dataset, interactions=sp.csr_array((places, clicks.indices, clicks.indptr), shape=clicks.shape))
