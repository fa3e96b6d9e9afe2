"""EASE on clicks that no machine has to hold: parquet files, or shards in the object store of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coldray.core.errors import ConfigError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.linalg.gram_shards import gram
from coldray.models.linalg.sharded import Shard
from coldray.models.linear.ease import EASE, EASEConfig, weights_of


def fit_ease_on_shards(shards: Sequence[Shard], config: EASEConfig, *, n_items: int, workers: int = 1) -> EASE:
    """Fit EASE, exactly as on all clicks at once: they are counted by `workers`, shard by shard.

    Parameters
    ----------
    shards
        As of :func:`~coldray.models.linalg.gram_shards.gram`:
        :class:`~coldray.models.linalg.sharded.ParquetShard` reads files where they lie.
    config
        Its solver must be ``exact``, or ``auto``, which is taken for it: blocks are chosen by looking at all clicks.
    n_items
        I; what is kept in memory is ``I × I``.
    workers
        Of the Ray cluster; 1 counts in this process.

    Raises
    ------
    ConfigError
        If the solver is another, or the cluster has fewer CPUs than there are to be workers.
    DataError
        If a shard cannot be read, or no item has a click.
    CatalogTooLargeError
        If the matrices do not fit in memory.
    SingularMatrixError
        If ``XᵀX + λI`` is not positive definite to working precision.
    ClusterError, TrainingFailedError
        As of :func:`~coldray.models.linalg.gram_shards.gram`.
    """
    if config.solver == "blocks":
        raise ConfigError(f"solver is {config.solver!r}; shards are counted for solver='exact' alone.")
    config = config.model_copy(update={"solver": "exact"})
    EASE(config).check_size(1, n_items)
    counts = gram(shards, n_items, workers=workers, kind=np.float32)
    warm = np.flatnonzero(counts.diagonal()).astype(np.int32)
    if len(warm) == 0:
        raise DataError("No item has a click, so there are no weights to learn. Check the files.")
    if len(warm) < n_items:
        counts = counts[np.ix_(warm, warm)]
    state = {"weights": weights_of(counts, config.regularization), "warm_items": warm, "n_items": np.array([n_items])}
    return EASE.from_state(config, state, FeatureSet({}, n_items))
