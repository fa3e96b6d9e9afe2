"""The share of users who find at least one of their items in the list."""

from collections.abc import Sequence

import numpy as np

from coldray.evaluation.metrics import Doubles, Hits


def hit_rate(hits: Hits, cutoffs: Sequence[int]) -> dict[int, Doubles]:
    """Return 1 for a user with a hit among the first k places and 0 for another, by k."""
    return {k: (hits.counts[:, k - 1] > 0).astype(np.float64) for k in cutoffs}
