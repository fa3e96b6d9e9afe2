"""A user as what attention takes from the items of a history.

What a click says depends on its item and its mark, such as its rating, alone, not on its user. So it is computed once
for each item, or each pair of item and mark, of a batch, and the weighted sums over histories are embedding bags: no
``[b, L, d]`` array is made, and no history has to be cut.

Notation used for shapes: b users, c clicks of all of them, n items, m different tokens among the clicks (a token is an
item, with its mark where there are marks), d dimensions, h heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Clicks:
    """Histories, one after the other."""

    items: torch.Tensor
    """Rows of a table of items, int64 ``[c]``."""
    offsets: torch.Tensor
    """Where each history begins, int64 ``[b]``."""
    marks: torch.Tensor | None = None
    """Mark of each click, int64 ``[c]``, from 1; 0 is none."""

    @property
    def users(self) -> torch.Tensor:
        """User of each click, int64 ``[c]``."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([len(self.items)])])
        rows = torch.arange(len(self.offsets), device=self.offsets.device)
        return torch.repeat_interleave(rows, ends - self.offsets)


class HistoryAttention(nn.Module):
    """Attention of each head over the clicks of a user.

    Parameters
    ----------
    dim
        d.
    heads
        h, which divides d. A single head weighs a click by a small network, several by dot products with what each has
        learnt to look for.
    n_marks
        Marks that clicks can have; 0 for none.
    """

    def __init__(self, dim: int, heads: int, n_marks: int) -> None:
        super().__init__()
        self.heads = heads
        self.marks = nn.Embedding(n_marks + 1, dim, padding_idx=0) if n_marks else None
        if heads == 1:
            self.logits = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1))
        else:
            self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.queries = nn.Parameter(torch.randn(heads, dim // heads))
            self.out = nn.Linear(dim, dim)
        self.empty = nn.Parameter(torch.zeros(dim))

    def forward(self, items: torch.Tensor, clicks: Clicks) -> torch.Tensor:
        """Return the users ``[b, d]``, given vectors of items ``[n, d]``; a learnt one without a click."""
        tokens, places = self._tokens(items, clicks)  # [m, d], [c]
        logits, values = self._read(tokens)  # [m, h], [m, d]
        users = clicks.users
        weights = self._softmax(logits[places], users, len(clicks.offsets))  # [c, h]
        width = values.shape[1] // self.heads
        pooled = [
            functional.embedding_bag(
                places, values[:, h * width : (h + 1) * width], clicks.offsets, mode="sum",
                per_sample_weights=weights[:, h],
            )
            for h in range(self.heads)
        ]  # fmt: skip
        found = torch.cat(pooled, dim=1)
        if self.heads > 1:
            found = self.out(found)
        clicked = torch.bincount(users, minlength=len(found))[:, None] > 0
        return torch.where(clicked, found, self.empty)

    def _tokens(self, items: torch.Tensor, clicks: Clicks) -> tuple[torch.Tensor, torch.Tensor]:
        if self.marks is None or clicks.marks is None:
            return items, clicks.items
        base = self.marks.num_embeddings
        codes, places = torch.unique(clicks.items * base + clicks.marks, return_inverse=True)
        return items[codes // base] + self.marks(codes % base), places

    def _read(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how much each head looks at tokens, and what it takes from them."""
        if self.heads == 1:
            return self.logits(tokens), tokens
        keys = self.keys(tokens).reshape(len(tokens), self.heads, tokens.shape[1] // self.heads)  # [m, h, d / h]
        return (keys * self.queries).sum(dim=2) / keys.shape[2] ** 0.5, self.values(tokens)

    @staticmethod
    def _softmax(logits: torch.Tensor, users: torch.Tensor, n_users: int) -> torch.Tensor:
        """Return the weights of clicks, which add up to 1 for each user and head: ``[c, h]``."""
        rows = users[:, None].expand_as(logits)
        largest = logits.new_full((n_users, logits.shape[1]), -torch.inf)
        largest = largest.scatter_reduce(0, rows, logits.detach(), "amax")
        powers = (logits - largest[users]).exp()
        total = torch.zeros_like(largest).index_add(0, users, powers)
        return powers / total[users]
