"""The two views of users and items made one, and a score for each pair of them.

Notation used for shapes: b users, n items, d dimensions, h heads; … any dimensions that broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from coldray.training.row_random import RowDropout

PAIRS_PER_BLOCK = 1 << 15
"""Pairs of a user and an item whose vectors are held at once in scoring."""


@dataclass(frozen=True, eq=False)
class _FusedItems:
    """Items ready to be paired with users."""

    mixed: torch.Tensor
    """Both views mixed by the gate, with the value of the graph view ``[…, d]``."""
    keys: torch.Tensor
    """By how much the key of the text view exceeds that of the graph view ``[…, d]``."""
    values: torch.Tensor
    """The same of the values ``[…, d]``."""

    def take(self, items: torch.Tensor | slice) -> Self:
        """Return some of ``[n, d]``: rows in the shape of an index."""
        return type(self)(self.mixed[items], self.keys[items], self.values[items])


class ViewFusion(nn.Module):
    """Gates, cross-attention of the user on the two views of an item, Hadamard product, and a network for the score.

    The attention is over two keys, so that its softmax is a sigmoid of their difference, which is computed once an
    item.

    Parameters
    ----------
    dim, heads
        d and h, which divides d.
    dropout
        Share of the hidden units left out in training.
    """

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.user_gate, self.item_gate = nn.Linear(2 * dim, dim), nn.Linear(2 * dim, dim)
        self.query = nn.Linear(dim, dim)
        self.key, self.value = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.hidden = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), RowDropout(dropout), nn.Linear(dim, 1))
        self.straight = nn.Linear(dim, 1, bias=False)
        nn.init.ones_(self.straight.weight)  # at first the score is about the dot product

    def users(self, text: torch.Tensor, graph: torch.Tensor) -> torch.Tensor:
        """Return users ``[b, d]`` mixed from their views."""
        return _gated(self.user_gate, text, graph)

    def items(self, text: torch.Tensor, graph: torch.Tensor) -> _FusedItems:
        """Return items ``[n, d]`` mixed from their views."""
        of_graph = self.value(graph)
        mixed = _gated(self.item_gate, text, graph) + of_graph
        return _FusedItems(mixed, self.key(text) - self.key(graph), self.value(text) - of_graph)

    def score(self, users: torch.Tensor, items: _FusedItems) -> torch.Tensor:
        """Return the scores ``[…]`` of users ``[…, d]`` and items ``[…, d]``, which broadcast."""
        queries = self._by_head(self.query(users))
        keys = self._by_head(items.keys)
        weights = torch.sigmoid((queries * keys).sum(dim=-1) / keys.shape[-1] ** 0.5)  # […, h]
        attended = self._by_head(items.values) * weights.unsqueeze(-1)
        product = users * (items.mixed + attended.flatten(-2))
        scores: torch.Tensor = (self.hidden(product) + self.straight(product)).squeeze(-1)
        return scores

    def _by_head(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors.reshape(*vectors.shape[:-1], self.heads, vectors.shape[-1] // self.heads)

    def all_scores(self, users: torch.Tensor, items: _FusedItems) -> torch.Tensor:
        """Return the scores ``[b, n]`` of all pairs; only so many pairs at once have vectors."""
        n_items = len(items.mixed)
        found = users.new_empty(len(users), n_items)
        width = min(n_items, PAIRS_PER_BLOCK)
        height = max(PAIRS_PER_BLOCK // max(width, 1), 1)
        for first in range(0, len(users), height):
            rows = slice(first, first + height)
            for start in range(0, n_items, PAIRS_PER_BLOCK):
                columns = slice(start, start + PAIRS_PER_BLOCK)
                found[rows, columns] = self.score(users[rows, None], items.take(columns))
        return found


def _gated(gate: nn.Linear, text: torch.Tensor, graph: torch.Tensor) -> torch.Tensor:
    share = torch.sigmoid(gate(torch.cat([text, graph], dim=-1)))
    return share * text + (1 - share) * graph
