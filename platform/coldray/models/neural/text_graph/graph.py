"""Items and their attributes as a graph: what an item is comes to it from its attributes, and to these from warm items.

Only warm items send: what an attribute means is learnt from items that have clicks, and a new item, whose edges lead
to known attributes, changes nothing for the others.

A graph too large to go over in each step is seen in parts: the items of a batch and some of their neighbours.

Notation used for shapes: I items, n of them, A labels of an attribute, E edges, s of them asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch_geometric.data import HeteroData

from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import MIN_ITEMS
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch

ITEM = "item"
"""The node type of items; that of a label is the attribute's name after :data:`_LABEL`."""
_LABEL = "label:"
BOUNDS, BUCKET, STARTS, EDGES, KEPT = "bounds.", "bucket.", "starts.", "edges.", "kept."
"""What the names of arrays begin with, and the attribute ends them: where buckets of a number begin, the bucket of each
item; where the edges of each item begin, the labels they lead to, the columns that are nodes."""
_SENDERS = "senders"
EdgeType: TypeAlias = tuple[str, str, str]


@dataclass(frozen=True, eq=False)
class ItemGraph:
    """The graph of some items, encoded as it was fitted on the warm ones."""

    buckets: Mapping[str, npt.NDArray[np.int64]]
    """By number: the bucket of each item ``[n]``, 0 where it is unknown."""
    bounds: Mapping[str, npt.NDArray[np.float64]]
    """By number: the least value of each bucket but the first."""
    starts: Mapping[str, npt.NDArray[np.int64]]
    """By attribute: where the edges of each item begin ``[n + 1]``."""
    edges: Mapping[str, npt.NDArray[np.int64]]
    """By attribute: the label at the other end of each edge ``[E]``."""
    kept: Mapping[str, npt.NDArray[np.int64]]
    """By attribute: which columns of the feature are nodes ``[A]``, ascending."""
    senders: npt.NDArray[np.bool_]
    """Whether labels hear of an item ``[n]``."""

    @classmethod
    def of(cls, train: TrainingSet, *, context: Sequence[str], n_buckets: int) -> Self:
        """Fit the graph on the warm items and return that of all items.

        Labels of fewer than two warm items are no nodes: they would be numbers of items. An attribute without any other
        label is left out.

        Parameters
        ----------
        context
            Numbers to be read; others, and those that are not there, are not.
        n_buckets
            Buckets of a number, of equally many warm items; fewer where values repeat.
        """
        warm = train.features.take(train.warm_items)
        bounds, kept = {}, {}
        for name, feature in warm.features.items():
            if isinstance(feature, ScalarFeature) and name in context:
                known = feature.values[np.isfinite(feature.values)]
                shares = np.arange(1, n_buckets) / n_buckets
                bounds[name] = np.unique(np.quantile(known, shares)) if len(known) else np.zeros(0)
            elif isinstance(feature, VectorFeature) and is_label(feature):
                frequency = np.bincount(feature.matrix.indices, minlength=feature.matrix.shape[1])
                kept[name] = np.flatnonzero(frequency >= MIN_ITEMS)
        graph = cls._encoded(train.features, bounds, {name: nodes for name, nodes in kept.items() if len(nodes)})
        graph.senders[train.warm_items] = True
        return graph

    @classmethod
    def _encoded(
        cls,
        features: FeatureSet,
        bounds: Mapping[str, npt.NDArray[np.float64]],
        kept: Mapping[str, npt.NDArray[np.int64]],
    ) -> Self:
        buckets, starts, edges = {}, {}, {}
        for name, limits in bounds.items():
            feature = features.features[name]
            if not isinstance(feature, ScalarFeature):
                raise TypeError(f"The attribute {name!r} is no number.")
            known = np.isfinite(feature.values)
            buckets[name] = np.where(known, np.searchsorted(limits, feature.values, side="right") + 1, 0)
        for name, columns in kept.items():
            feature = features.features[name]
            if not isinstance(feature, VectorFeature):
                raise TypeError(f"The attribute {name!r} has no labels.")
            rows = feature.matrix[:, columns]
            starts[name], edges[name] = rows.indptr.astype(np.int64), rows.indices.astype(np.int64)
        return cls(buckets, dict(bounds), starts, edges, dict(kept), np.zeros(features.n_items, bool))

    def extended(self, features: FeatureSet) -> Self:
        """Return the graph with the items of `features` appended; they send nothing."""
        new = self._encoded(features, self.bounds, self.kept)
        return type(self)(
            {name: np.concatenate([rows, new.buckets[name]]) for name, rows in self.buckets.items()},
            self.bounds,
            {name: np.concatenate([s, s[-1] + new.starts[name][1:]]) for name, s in self.starts.items()},
            {name: np.concatenate([ends, new.edges[name]]) for name, ends in self.edges.items()},
            self.kept,
            np.concatenate([self.senders, new.senders]),
        )

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.senders)

    @property
    def n_nodes(self) -> int:
        """Number of items and labels."""
        return self.n_items + sum(map(len, self.kept.values()))

    @property
    def n_edges(self) -> int:
        """Number of edges from labels to items; those of warm items also lead the other way."""
        return sum(map(len, self.edges.values()))

    @property
    def unconnected(self) -> int:
        """Number of items without an edge."""
        degree = sum((np.diff(starts) for starts in self.starts.values()), np.zeros(self.n_items, np.int64))
        return int((degree == 0).sum())

    def hetero(self) -> HeteroData:
        """Return it as PyTorch Geometric reads it.

        Returns
        -------
        HeteroData
            Node type ``item`` with ``x`` int64 ``[I, numbers]``, the buckets, and a node type an attribute; edges
            ``(item, tells, label:…)`` from warm items to their labels, and ``(label:…, describes, item)`` to all.
        """
        data = HeteroData()
        columns = [torch.from_numpy(self.buckets[name]) for name in sorted(self.buckets)]
        data[ITEM].x = torch.stack(columns, dim=1) if columns else torch.zeros(self.n_items, 0, dtype=torch.int64)
        for name in sorted(self.edges):
            data[_LABEL + name].num_nodes = len(self.kept[name])
            items = np.repeat(np.arange(self.n_items), np.diff(self.starts[name]))
            down = np.stack([self.edges[name], items])
            up = down[::-1, self.senders[items]]
            up = up[:, np.argsort(up[1], kind="stable")]  # those of a label beside each other
            to_label, to_item = _edge_types(name)
            data[to_label].edge_index = torch.from_numpy(up.copy())
            data[to_item].edge_index = torch.from_numpy(down)
        return data

    def arrays(self) -> Arrays:
        """Return all of it, by name."""
        parts = {BOUNDS: self.bounds, BUCKET: self.buckets, STARTS: self.starts, EDGES: self.edges, KEPT: self.kept}
        named = {prefix + name: values for prefix, part in parts.items() for name, values in part.items()}
        return {**named, _SENDERS: self.senders}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it."""
        given = dict(arrays)
        buckets, bounds = arrays_under(BUCKET, given), arrays_under(BOUNDS, given)
        starts, edges, kept = (arrays_under(prefix, given) for prefix in (STARTS, EDGES, KEPT))
        return cls(buckets, bounds, starts, edges, kept, given[_SENDERS])


def _edge_types(attribute: str) -> tuple[EdgeType, EdgeType]:
    """Return the edges from items to the labels of an attribute, and those back."""
    return (ITEM, "tells", _LABEL + attribute), (_LABEL + attribute, "describes", ITEM)


def is_label(feature: Any) -> bool:
    """Return whether a feature holds labels: ones, where words and embeddings have weights."""
    return isinstance(feature, VectorFeature) and feature.is_label


NODES, LABELS, UP, DOWN = "nodes", "labels.", "up.", "down."
"""Names in a batch: the items of the part; by number of the attribute, its labels, and the edges to and from them."""


class NeighbourSampler:
    """Draws neighbours from the lists of a graph.

    Parameters
    ----------
    graph
        The whole graph.
    neighbours
        How many labels of an attribute an item hears of at most, and how many warm items a label.
    """

    def __init__(self, graph: ItemGraph, neighbours: int) -> None:
        self.neighbours = neighbours
        self.to_labels: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.to_items: list[tuple[torch.Tensor, torch.Tensor]] = []
        for name in sorted(graph.edges):
            starts, labels = graph.starts[name], graph.edges[name]
            self.to_labels.append((torch.from_numpy(starts), torch.from_numpy(labels)))
            items = np.repeat(np.arange(graph.n_items), np.diff(starts))
            sent = graph.senders[items]
            order = np.argsort(labels[sent], kind="stable")
            counts = np.bincount(labels[sent], minlength=len(graph.kept[name]))
            ends = np.concatenate([[0], np.cumsum(counts)])
            self.to_items.append((torch.from_numpy(ends), torch.from_numpy(items[sent][order])))

    def part(self, items: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the part of the graph from which `items`, int64 ``[s]``, each once, are computed.

        Returns
        -------
        Batch
            ``nodes`` int64 ``[n]``, `items` first; by attribute ``labels.k`` int64, and, numbered within the part,
            ``up.k`` int64 ``[2, E]`` from items to labels, ``down.k`` int64 ``[2, E]`` from labels to `items`.
        """
        batch, senders = {}, []
        for k, (down, up) in enumerate(zip(self.to_labels, self.to_items, strict=True)):
            item, label = self._drawn(*down, items, generator)
            labels, label = torch.unique(label, return_inverse=True)
            receiver, sender = self._drawn(*up, labels, generator)
            batch[f"{LABELS}{k}"] = labels
            batch[f"{DOWN}{k}"] = torch.stack([label, item])
            batch[f"{UP}{k}"] = torch.stack([sender, receiver])
            senders.append(sender)
        # Numbers of items in the part: those asked for, then the other senders.
        everybody = torch.unique(torch.cat([items[:0], *senders]))
        nodes = torch.cat([items, everybody[~torch.isin(everybody, items)]])
        ordered, order = nodes.sort()
        for k, sender in enumerate(senders):
            batch[f"{UP}{k}"][0] = order[torch.searchsorted(ordered, sender)]
        return {NODES: nodes, **batch}

    def _drawn(
        self, starts: torch.Tensor, ends: torch.Tensor, rows: torch.Tensor, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the place among `rows` and the other end of edges: all of a short list, some of a long one.

        Of a long list as many are drawn, with replacement: the mean that attention takes is that of all, on average,
        and no list is gone through.
        """
        first, degree = starts[rows], starts[rows + 1] - starts[rows]
        counts = degree.clamp(max=self.neighbours)
        places = torch.repeat_interleave(torch.arange(len(rows)), counts)
        offsets = torch.arange(len(places)) - (counts.cumsum(0) - counts)[places]
        drawn = (row_uniforms(generator, rows[places], offsets) * degree[places]).long()
        offsets = torch.where(degree[places] > self.neighbours, drawn, offsets)
        return places, ends[first[places] + offsets]
