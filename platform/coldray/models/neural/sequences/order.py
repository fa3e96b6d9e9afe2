"""What models of clicks in their order ask of what they are fitted on, and what they hold out of it."""

from __future__ import annotations

import numpy as np

from coldray.core.errors import DataError, EmptyDatasetError
from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralConfig
from coldray.models.neural.validation import Validation, hold_out_last


def require_order(train: TrainingSet) -> None:
    """Refuse clicks that say nothing of what comes next.

    Raises
    ------
    EmptyDatasetError
        If no user has two clicks.
    DataError
        If the clicks have no order.
    """
    clicks = train.interactions
    if not (np.diff(clicks.indptr) > 1).any():
        raise EmptyDatasetError(
            f"{train.key}: nobody has clicked twice, so there is no click that follows another. Use a model that "
            "reads no order, or filter less."
        )
    if clicks.data.max() == clicks.data.min():
        raise DataError(
            f"{train.key}: all {clicks.nnz:,} clicks have the same place, so nobody knows what came after what. "
            "Give the model places (with_order of a dataset with timestamps)."
        )


def hold_out_next(train: TrainingSet, config: NeuralConfig) -> tuple[TrainingSet, Validation | None]:
    """Hold out the last click of some users; nothing where it is not asked for, or too few are left to learn from."""
    if config.validation_share == 0:
        return train, None
    generator = np.random.default_rng(config.seed)
    rest, validation = hold_out_last(train, config.validation_users, generator)
    if not (np.diff(rest.interactions.indptr) > 1).any():
        return train, None
    return rest, validation
