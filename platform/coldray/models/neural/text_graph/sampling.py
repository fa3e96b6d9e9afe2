"""Parts of a graph of items too large to go over in each step: the items of a batch and some of their neighbours.

Notation used for shapes: n items of a part, s of them asked for, E edges.
"""

from __future__ import annotations

import numpy as np
import torch

from coldray.models.neural.text_graph.graph import ItemGraph
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch

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
