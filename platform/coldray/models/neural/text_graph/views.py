"""The two views of items: their texts, pooled by attention, and the graph of warm items, labels and items.

The graph view has two layers of graph attention (Velickovic et al., *Graph Attention Networks*, ICLR 2018), one after
the other: labels learn from the warm items that have them, items from their labels. Each adds ``LeakyReLU`` of what it
hears to what the node was, and normalises.

Notation used for shapes: I items, n of them, R other texts, D embedding dim, d dimensions, F inputs, A labels of an
attribute, E edges.
"""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch_geometric.data import HeteroData
from torch_geometric.nn import GATConv, HeteroConv

from coldray.models.neural.text_graph.graph import DOWN, ITEM, LABELS, NODES, UP, EdgeType
from coldray.models.neural.text_graph.texts import ENCODED, OTHER, OVERVIEW, has_embeddings, present
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.row_random import SharedDropout
from coldray.training.task import Batch

_ENCODED_DIM = 128
"""D where no text is embedded: of the vector that encoded attributes are summed to."""


class TextView(nn.Module):
    """A vector for each item, from its texts.

    Attention pools the other texts. A learned gate mixes them with the overview; without other texts the mixture is the
    overview, without an overview it is the other texts, and without either it is a vector learnt for such items.

    Parameters
    ----------
    arrays
        What is read; see :mod:`~coldray.models.neural.text_graph.texts`.
    dim
        d.
    dropout
        Share of units left out in training.
    """

    overview: torch.Tensor
    has_overview: torch.Tensor
    texts: torch.Tensor
    mask: torch.Tensor

    def __init__(self, arrays: Arrays, dim: int, dropout: float) -> None:
        super().__init__()
        self.encoded = None if has_embeddings(arrays) else _EncodedAttributes(arrays, dropout)
        texts = [rows for _, rows in sorted(arrays_under(OTHER, arrays).items())]
        overviews = list(arrays_under(OVERVIEW, arrays).values())
        width = _ENCODED_DIM if self.encoded is not None else overviews[0].shape[1]
        if self.encoded is None:
            self.register_buffer("overview", _shared(overviews[0]), persistent=False)
            self.register_buffer("has_overview", torch.from_numpy(present(overviews[0])), persistent=False)
            self.missing = nn.Parameter(torch.zeros(width))
        if texts:
            self.register_buffer("texts", torch.from_numpy(np.stack(texts, axis=1)), persistent=False)  # [I, R, D]
            mask = np.stack([present(rows) for rows in texts], axis=1)
            self.register_buffer("mask", torch.from_numpy(mask), persistent=False)  # [I, R]
            self.query = nn.Sequential(nn.Linear(width, dim), nn.ReLU(), nn.Linear(dim, 1))
            self.gate = nn.Linear(2 * width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = SharedDropout(dropout)
        self.out = nn.Linear(width, dim)

    def forward(self, nodes: torch.Tensor | None = None) -> torch.Tensor:
        """Return the vectors of all items ``[I, d]``, or of some, int64 ``[n]``: ``[n, d]``."""
        mixed = self._mixed(nodes) if self.encoded is None else self.encoded(nodes)
        out: torch.Tensor = self.out(self.dropout(self.norm(mixed), nodes))
        return out

    def _mixed(self, nodes: torch.Tensor | None) -> torch.Tensor:
        overview, known = _rows(self.overview, nodes), _rows(self.has_overview, nodes)[:, None]
        if not hasattr(self, "texts"):
            return torch.where(known, overview, self.missing)
        texts, mask = _rows(self.texts, nodes), _rows(self.mask, nodes)
        pooled, some = self.pooled(texts, mask), mask.any(dim=1, keepdim=True)
        gate = torch.sigmoid(self.gate(torch.cat([overview, pooled], dim=1)))  # [n, D]
        gate = torch.where(some, torch.where(known, gate, 0), 1)
        return torch.where(known | some, gate * overview + (1 - gate) * pooled, self.missing)

    def pooled(self, texts: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return the mean of texts ``[n, R, D]`` weighted by attention: ``[n, D]``, zeros where there is none."""
        logits = self.query(texts).squeeze(-1)  # [n, R]
        # A row without any text has equal weights for nothing.
        weights = logits.masked_fill(~mask, torch.finfo(logits.dtype).min).softmax(dim=1) * mask
        return torch.einsum("nr,nrd->nd", weights, texts)


class _EncodedAttributes(nn.Module):
    """Encoded attributes summed to a vector, in place of an embedding.

    Parameters
    ----------
    arrays
        Rows of all items; see :mod:`~coldray.models.neural.text_graph.texts`.
    dropout
        Share of the terms of items left out in training.
    """

    indptr: torch.Tensor
    indices: torch.Tensor
    data: torch.Tensor

    def __init__(self, arrays: Arrays, dropout: float) -> None:
        super().__init__()
        for name in ("indptr", "indices", "data"):
            self.register_buffer(name, torch.from_numpy(np.array(arrays[ENCODED + name])), persistent=False)
        self.terms = nn.EmbeddingBag(int(arrays[ENCODED + "width"][0]), _ENCODED_DIM, mode="sum")
        # Small, since the normalisation that follows makes the step relative to the size of the weights.
        nn.init.normal_(self.terms.weight, std=0.05)
        self.bias = nn.Parameter(torch.zeros(_ENCODED_DIM))
        self.dropout = SharedDropout(dropout)

    def forward(self, nodes: torch.Tensor | None) -> torch.Tensor:
        """Return ``[n, D]``."""
        if nodes is None:
            offsets, indices, data, places = self.indptr[:-1], self.indices, self.data, None
        else:
            counts = self.indptr[nodes + 1] - self.indptr[nodes]
            offsets = counts.cumsum(0) - counts
            rows = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
            places = torch.arange(len(rows), device=nodes.device) + (self.indptr[nodes] - offsets)[rows]
            indices, data = self.indices[places], self.data[places]
        summed: torch.Tensor = self.terms(indices, offsets, per_sample_weights=self.dropout(data, places)) + self.bias
        return summed


def _shared(rows: npt.NDArray[np.float32]) -> torch.Tensor:
    """Return a tensor over the memory of `rows`, which is a view of a mapped file at times and is never written to."""
    return torch.from_numpy(rows if rows.flags.writeable else np.array(rows))


def _rows(table: torch.Tensor, nodes: torch.Tensor | None) -> torch.Tensor:
    return table if nodes is None else table[nodes]


_NODES_PER_BLOCK = 1 << 16
"""Nodes whose edges are held at once where no gradient is asked for."""
_START_SCALE = 0.1
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
        self.start = nn.Parameter(torch.randn(dim) * _START_SCALE)
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
    nn.init.normal_(vectors.weight, std=_START_SCALE)
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
    for start in range(0, len(receivers), _NODES_PER_BLOCK):
        block = receivers[start : start + _NODES_PER_BLOCK]
        bounds = torch.tensor([start, start + len(block)], device=edges.device)
        first, last = torch.searchsorted(edges[1].contiguous(), bounds).tolist()
        part = edges[:, first:last] - torch.tensor([[0], [start]], device=edges.device)
        found.append(layer.convs[kind]((senders, block), part))
    return torch.cat(found) if found else torch.zeros_like(receivers)
