"""How many factors a matrix of clicks can have."""

from __future__ import annotations

import logging

import numpy as np

from coldray.core.errors import DataError
from coldray.models.base import TrainingSet

logger = logging.getLogger(__name__)


def most_factors(train: TrainingSet) -> int:
    """Return how many factors the clicks can have: the users or the items with clicks, whichever are fewer.

    Raises
    ------
    DataError
        If fewer than two users or two items have clicks: one row or column has no structure to be found.
    """
    n_users = int(np.count_nonzero(np.diff(train.interactions.indptr)))
    n_items = len(train.warm_items)
    if min(n_users, n_items) < 2:
        raise DataError(
            f"Clicks of {n_users} users on {n_items} items cannot be factorised; at least 2 of each are needed. "
            "Filter less, or check the split."
        )
    return min(n_users, n_items)


def usable_factors(model: str, wanted: int, train: TrainingSet) -> int:
    """Return `wanted`, or :func:`most_factors` if those are fewer, which is logged."""
    used = min(wanted, most_factors(train))
    warn_of_reduced(model, wanted, used, train)
    return used


def warn_of_reduced(model: str, wanted: int, used: int, train: TrainingSet) -> None:
    """Log that fewer factors are used than were asked for, if so."""
    if used < wanted:
        n_users, n_items = train.interactions.shape
        logger.warning(
            "%s: n_factors is %s, but the clicks of %s (%s users, %s items) have no more than %s; %s are used.",
            *(model, f"{wanted:,}", train.key, f"{n_users:,}", f"{n_items:,}", f"{used:,}", f"{used:,}"),
        )
