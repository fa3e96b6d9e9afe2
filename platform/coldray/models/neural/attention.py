"""A user as what attention takes from the items of a history.

What a click says depends on its item and its marks, such as its rating, alone, not on its user. So it is computed once
for each item, or each item with these marks, of a batch, and the weighted sums over histories are embedding bags: no
``[b, L, d]`` array is made, and no history has to be cut.

Notation used for shapes: b users, c clicks of all of them, n items, m different tokens among the clicks (a token is an
item, with its marks where there are any), d dimensions, h heads.
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
    marks: tuple[torch.Tensor, ...] = ()
    """Mark of each click, int64 ``[c]``, from 1; 0 is none. One tensor for each kind of marks."""

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
        Marks of each kind that clicks can have; kinds of 0 marks are left out.
    """

    def __init__(self, dim: int, heads: int, *n_marks: int) -> None:
        super().__init__()
        self.heads = heads
        self.n_marks = [count for count in n_marks if count]
        self.marks = nn.ModuleList(nn.Embedding(count + 1, dim, padding_idx=0) for count in self.n_marks)
        if heads == 1:
            self.logits = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, 1))
        else:
            self.keys, self.values = nn.Linear(dim, dim), nn.Linear(dim, dim)
            self.queries = nn.Parameter(torch.randn(heads, dim // heads))
            self.out = nn.Linear(dim, dim)
        self.empty = nn.Parameter(torch.zeros(dim))

    def forward(self, items: torch.Tensor, clicks: Clicks) -> torch.Tensor:
        """Return the users ``[b, d]``, given vectors of items ``[n, d]``; a learnt one without a click.

        In single precision, whatever the precision of the rest: sums over long histories need it.
        """
        with torch.autocast(items.device.type, enabled=False):
            return self._users(items.float(), clicks)

    def _users(self, items: torch.Tensor, clicks: Clicks) -> torch.Tensor:
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
        if not clicks.marks:
            return items, clicks.items
        codes = clicks.items
        for count, marks in zip(self.n_marks, clicks.marks, strict=True):
            codes = codes * (count + 1) + marks
        codes, places = torch.unique(codes, return_inverse=True)
        told = torch.zeros_like(items[:1])
        for count, table in reversed([*zip(self.n_marks, self.marks, strict=True)]):
            told = told + table(codes % (count + 1))
            codes = codes // (count + 1)
        return items[codes] + told, places

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
