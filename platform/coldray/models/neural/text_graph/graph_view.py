"""The graph view of items: attention from warm items to labels, and from labels to items.

Two layers of graph attention (Velickovic et al., *Graph Attention Networks*, ICLR 2018), one after the other: labels
learn from the warm items that have them, items from their labels. Each adds ``LeakyReLU`` of what it hears to what the
node was, and normalises.

Notation used for shapes: I items, n of them, A labels of an attribute, d dimensions, E edges.
"""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.nn import functional
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv, HeteroConv

from coldray.models.neural.text_graph.graph import ITEM, EdgeType
from coldray.models.neural.text_graph.sampling import DOWN, LABELS, NODES, UP
from coldray.training.row_random import SharedDropout
from coldray.training.task import Batch

NODES_PER_BLOCK = 1 << 16
"""Nodes whose edges are held at once where no gradient is asked for."""
START_SCALE = 0.1
"""Standard deviation of the first vectors of nodes."""


class GraphView(nn.Module):
    """A vector for each item, from its context and its labels.

    Parameters
    ----------
    data
        The graph; see :meth:`~coldray.models.neural.text_graph.graph.ItemGraph.hetero`.
    sizes
        Buckets of each number, the one of unknown values included.
    heads, dim
        Heads and dimensions d of the attention.
    dropout
        Share of the units of labels left out in training.
    """

    context: torch.Tensor

    def __init__(self, data: HeteroData, sizes: list[int], heads: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.types = [name for name in data.node_types if name != ITEM]
        self.register_buffer("context", data[ITEM].x, persistent=False)
        self.start = nn.Parameter(torch.randn(dim) * START_SCALE)
        self.numbers = nn.ModuleList(_vectors(size, dim) for size in sizes)
        self.labels = nn.ModuleList(_vectors(data[name].num_nodes, dim) for name in self.types)
        self.up_types: list[EdgeType] = [(ITEM, "tells", name) for name in self.types]
        self.down_types: list[EdgeType] = [(name, "describes", ITEM) for name in self.types]
        for k, (up, down) in enumerate(zip(self.up_types, self.down_types, strict=True)):
            self.register_buffer(f"up_{k}", data[up].edge_index, persistent=False)
            self.register_buffer(f"down_{k}", data[down].edge_index, persistent=False)
        self.up_layer = _layer(self.up_types, heads, dim)
        self.down_layer = _layer(self.down_types, heads, dim)
        self.label_norms = nn.ModuleList(nn.LayerNorm(dim) for _ in self.types)
        self.item_norm = nn.LayerNorm(dim)
        self.dropout = SharedDropout(dropout)

    def forward(self, part: Batch | None = None) -> torch.Tensor:
        """Return the vectors of all items ``[I, d]``, or of the nodes of a part of the graph ``[n, d]``.

        Where no gradient is asked for, the edges of a block of nodes are held at once, with the same result.
        """
        items = self._items(None if part is None else part[NODES])
        if part is None and not torch.is_grad_enabled():
            return self._by_blocks(items)
        labels = {name: self._labels(k, part) for k, name in enumerate(self.types)}
        heard = self._heard(self.up_layer, self.up_types, {ITEM: items, **labels}, self._edges(UP, part))
        for name, norm in zip(self.types, self.label_norms, strict=True):
            labels[name] = norm(labels[name] + functional.leaky_relu(heard[name]))
        heard = self._heard(self.down_layer, self.down_types, {ITEM: items, **labels}, self._edges(DOWN, part))
        return self._item_vectors(items, heard.get(ITEM, torch.zeros_like(items)))

    def _items(self, nodes: torch.Tensor | None) -> torch.Tensor:
        """Return what items are before they hear of their labels: the sum of the vectors of their buckets."""
        context = self.context if nodes is None else self.context[nodes]
        items = self.start.expand(len(context), -1)
        for column, number in enumerate(self.numbers):
            items = items + number(context[:, column])
        return items

    def _labels(self, k: int, part: Batch | None) -> torch.Tensor:
        vectors, labels = self._vectors_of(k), None if part is None else part[f"{LABELS}{k}"]
        chosen: torch.Tensor = self.dropout(vectors if labels is None else vectors[labels], labels)
        return chosen

    def _vectors_of(self, k: int) -> torch.Tensor:
        return self.labels[k].get_parameter("weight")

    def _edges(self, way: str, part: Batch | None) -> list[torch.Tensor]:
        if part is None:
            return [self._all_edges(way, k) for k in range(len(self.types))]
        return [part[f"{way}{k}"] for k in range(len(self.types))]

    def _all_edges(self, way: str, k: int) -> torch.Tensor:
        return self.get_buffer(f"{way.removesuffix('.')}_{k}")

    @staticmethod
    def _heard(
        layer: HeteroConv | None, types: list[EdgeType], nodes: dict[str, torch.Tensor], edges: list[torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {} if layer is None else layer(nodes, dict(zip(types, edges, strict=True)))
        return found

    def _by_blocks(self, items: torch.Tensor) -> torch.Tensor:
        labels = []
        for k, (kind, norm) in enumerate(zip(self.up_types, self.label_norms, strict=True)):
            before = self._vectors_of(k)
            heard = _convolved(self.up_layer, kind, items, before, self._all_edges(UP, k))
            labels.append(norm(before + functional.leaky_relu(heard)))
        heard = torch.zeros_like(items)
        for k, kind in enumerate(self.down_types):
            heard = heard + _convolved(self.down_layer, kind, labels[k], items, self._all_edges(DOWN, k))
        return self._item_vectors(items, heard)

    def _item_vectors(self, items: torch.Tensor, heard: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.item_norm(items + functional.leaky_relu(heard))
        return found


def _vectors(count: int, dim: int) -> nn.Embedding:
    vectors = nn.Embedding(count, dim)
    nn.init.normal_(vectors.weight, std=START_SCALE)
    return vectors


def _layer(types: list[EdgeType], heads: int, dim: int) -> HeteroConv | None:
    if not types:
        return None
    convolutions = {kind: GATConv((dim, dim), dim // heads, heads=heads, add_self_loops=False) for kind in types}
    with warnings.catch_warnings():
        # That the senders of a layer hear nothing in it is meant.
        warnings.filterwarnings("ignore", message="There exist node types")
        return HeteroConv(convolutions, aggr="sum")


def _convolved(
    layer: HeteroConv, kind: EdgeType, senders: torch.Tensor, receivers: torch.Tensor, edges: torch.Tensor
) -> torch.Tensor:
    """Return what `receivers` hear, block after block; the edges of a receiver are beside each other."""
    found = []
    for start in range(0, len(receivers), NODES_PER_BLOCK):
        block = receivers[start : start + NODES_PER_BLOCK]
        bounds = torch.tensor([start, start + len(block)], device=edges.device)
        first, last = torch.searchsorted(edges[1].contiguous(), bounds).tolist()
        part = edges[:, first:last] - torch.tensor([[0], [start]], device=edges.device)
        found.append(layer.convs[kind]((senders, block), part))
    return torch.cat(found) if found else torch.zeros_like(receivers)
