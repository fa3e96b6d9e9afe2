"""Features that an item has at a moment, as a ranker reads them.

They are how popular it was, how it was rated, since when it is there, and what the graph of users and items says of it,
by itself and for who asks. Each is spread over bumps as other numbers are, by the mean and the spread that it has of
clicked items and of others.

Notation used for shapes: b who ask, w items of each, I items, f features, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.data.dataset import rows_of
from coldray.data.moments import Moments
from coldray.features.graph.item_graph import GRAPH_WORDS, ItemGraph
from coldray.features.item_moments import ITEM_WORDS, ItemMoments
from coldray.features.known_clicks import KnownClicks
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import N_BUMPS, bumps, mean_and_spread
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

_SCALES, _PAST, _GRAPH = "scales", "past.", "graph.past."
"""What the names of arrays are, or begin with."""
_MOST, _MOST_OF_GRAPH = 100_000, 10_000
"""Clicks by which means and spreads are told; fewer of the graph, as each of them has a history."""


@dataclass(frozen=True, eq=False)
class ItemMomentInputs:
    """The encoding of features of items at moments, and the clicks that these are made of."""

    past: ItemMoments
    graph: ItemGraph | None
    """None where no word of the graph is asked for."""
    scales: npt.NDArray[np.float32]
    """Mean and standard deviation of each ``[f, 2]``, those of the graph behind the others."""

    @classmethod
    def of(cls, train: TrainingSet, seed: int) -> Self | None:
        """Read the clicks of a training set, and fit the encoding; None where no such feature is asked for.

        Raises
        ------
        CatalogTooLargeError
            If what is asked for of the graph does not fit in memory.
        """
        if train.moments is None or not train.moments.of_items:
            return None
        clicks, generator, words = train.interactions, np.random.default_rng(seed), train.moments.of_items
        rows = clicks.data.astype(np.intp) - 1
        times, n_items = train.moments.times[rows], clicks.shape[1]
        known = KnownClicks(rows_of(clicks), clicks.indices.astype(np.intp), times, train.moments.ratings[rows])
        past = ItemMoments.of(known, n_items, [word for word in words if word in ITEM_WORDS])
        drawn = generator.permutation(clicks.nnz)[:_MOST]
        others = generator.integers(0, n_items, len(drawn))
        values = past.values(np.concatenate([clicks.indices[drawn], others]), np.tile(times[drawn], 2))  # [2c, f]
        scales = [mean_and_spread(column) for column in values.T]
        of_graph = [word for word in words if word in GRAPH_WORDS]
        if not of_graph:
            return cls(past, None, np.stack(scales))
        graph = ItemGraph.of(known, n_items, of_graph)
        some = np.isfinite(times[drawn])  # what was before the others nobody knows
        drawn, others = drawn[some][:_MOST_OF_GRAPH], others[some][:_MOST_OF_GRAPH]
        earlier = known.items_before(Moments(known.users[drawn], times[drawn], {}), n_items)
        both = graph.values(np.stack([clicks.indices[drawn], others], axis=1), times[drawn], earlier)  # [c, 2, f]
        scales += [mean_and_spread(column) for column in both.reshape(-1, len(of_graph)).T]
        return cls(past, graph, np.stack(scales))

    def encode(
        self,
        items: npt.NDArray[np.integer[Any]],
        times: npt.NDArray[np.float64],
        earlier: sp.csr_array,
    ) -> npt.NDArray[np.float32]:
        """Return the inputs of items for those who ask ``[b, w, F]``.

        Parameters
        ----------
        items
            Indices ``[b, w]``, or the same ``[w]`` of all.
        times
            Of the moments ``[b]``.
        earlier
            What had been clicked before, see :meth:`~coldray.features.known_clicks.KnownClicks.items_before`
            ``[b, I]``.
        """
        values = self.past.values(items, times[:, None])
        if self.graph is not None:
            values = np.concatenate([values, self.graph.values(items, times, earlier)], axis=-1)
        found = bumps(values, self.scales)  # [b, w, f, bumps]
        lengths = np.sqrt(np.square(found).sum(axis=-1, keepdims=True))
        unit = found / np.where(lengths > 0, lengths, 1)
        return np.asarray(unit.reshape(*unit.shape[:-2], self.n_inputs), np.float32)

    @property
    def n_inputs(self) -> int:
        """F."""
        return len(self.scales) * N_BUMPS

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        graph = {} if self.graph is None else {_GRAPH + name: values for name, values in self.graph.state().items()}
        return {_SCALES: self.scales, **{_PAST + name: one for name, one in self.past.state().items()}, **graph}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self | None:
        """Rebuild it; None of no arrays."""
        if not arrays:
            return None
        of_graph = arrays_under(_GRAPH, arrays)
        graph = ItemGraph.from_state(of_graph) if of_graph else None
        return cls(ItemMoments.from_state(arrays_under(_PAST, arrays)), graph, arrays[_SCALES])
