"""Features that an item has at a moment, as a ranker reads them: how popular it was, how it was rated, since when.

Each is spread over bumps as other numbers are, by the mean and the spread that it has of clicked items and of others.

Notation used for shapes: f features, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coldray.data.dataset import rows_of
from coldray.features.item_moments import ItemMoments
from coldray.features.known_clicks import KnownClicks
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import N_BUMPS, bumps, mean_and_spread
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

_SCALES, _PAST = "scales", "past."
"""What the names of arrays are, or begin with."""
_MOST = 100_000
"""Clicks by which means and spreads are told."""


@dataclass(frozen=True, eq=False)
class ItemMomentInputs:
    """The encoding of features of items at moments, and the clicks that these are made of."""

    past: ItemMoments
    scales: npt.NDArray[np.float32]
    """Mean and standard deviation of each ``[f, 2]``."""

    @classmethod
    def of(cls, train: TrainingSet, seed: int) -> Self | None:
        """Read the clicks of a training set, and fit the encoding; None where no such feature is asked for."""
        if train.moments is None or not train.moments.of_items:
            return None
        clicks, generator = train.interactions, np.random.default_rng(seed)
        rows = clicks.data.astype(np.intp) - 1
        times, n_items = train.moments.times[rows], clicks.shape[1]
        known = KnownClicks(rows_of(clicks), clicks.indices.astype(np.intp), times, train.moments.ratings[rows])
        past = ItemMoments.of(known, n_items, train.moments.of_items)
        drawn = generator.permutation(clicks.nnz)[:_MOST]
        others = generator.integers(0, n_items, len(drawn))
        values = past.values(np.concatenate([clicks.indices[drawn], others]), np.tile(times[drawn], 2))  # [2c, f]
        return cls(past, np.stack([mean_and_spread(column) for column in values.T]))

    def encode(self, items: npt.NDArray[np.integer[Any]], times: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
        """Return the inputs of items at moments ``[…, F]``; both are ``[…]``, or of shapes that go together."""
        found = bumps(self.past.values(items, times), self.scales)  # [..., f, bumps]
        lengths = np.sqrt(np.square(found).sum(axis=-1, keepdims=True))
        unit = found / np.where(lengths > 0, lengths, 1)
        return np.asarray(unit.reshape(*unit.shape[:-2], self.n_inputs), np.float32)

    @property
    def n_inputs(self) -> int:
        """F."""
        return len(self.scales) * N_BUMPS

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        return {_SCALES: self.scales, **{_PAST + name: values for name, values in self.past.state().items()}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self | None:
        """Rebuild it; None of no arrays."""
        return cls(ItemMoments.from_state(arrays_under(_PAST, arrays)), arrays[_SCALES]) if arrays else None
