"""The network of the text + graph recommender.

A user is what attention takes from the items of a history. What a click says depends on its item and its marks, such
as its rating, alone, not on its user. So it is computed once for each item, or each item with these marks, of a batch,
and the weighted sums over histories are embedding bags: no ``[b, L, d]`` array is made, and no history has to be cut.

Notation used for shapes: I items, b rows of a batch or of histories, n items asked for or in a part of the graph, p
items scored in a row, d dimensions, c clicks of all of them, m different tokens among the clicks (a token is an item,
with its marks where there are any), h heads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.fusion import ViewFusion
from coldray.models.neural.text_graph.graph import NODES, ItemGraph
from coldray.models.neural.text_graph.views import GraphView, TextView
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.task import Batch


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


class _HistoryAttention(nn.Module):
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


TEXT, GRAPH, RATINGS = "text.", "graph.", "ratings"
"""What the names of the network's arrays begin with; the rating levels, ascending, that a history tells apart."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the loss needs of a batch."""

    scores: torch.Tensor
    """``[b, p]``."""
    text: torch.Tensor
    """Users by their texts ``[b, d]``."""
    graph: torch.Tensor
    """Users by their graph vectors ``[b, d]``."""


class TextGraphNetwork(Network):
    """Two views of items, attention of users over both, and their fusion.

    Parameters
    ----------
    config
        Sizes and dropout.
    inputs
        What the views read, under ``text.`` and ``graph.``, and the levels of ratings.
    """

    levels: torch.Tensor

    def __init__(self, config: TextGraphConfig, inputs: Arrays) -> None:
        super().__init__()
        dim, heads, graph = config.dim, config.heads, ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
        sizes = [len(graph.bounds[name]) + 2 for name in sorted(graph.bounds)]
        self.text = TextView(arrays_under(TEXT, inputs), dim, config.dropout)
        self.graph = GraphView(graph.hetero(), sizes, heads, dim, config.dropout)
        self.register_buffer("levels", torch.from_numpy(np.array(inputs[RATINGS])), persistent=False)
        self.time_buckets = config.time_buckets
        self.text_users = _HistoryAttention(dim, 1, len(self.levels))
        self.graph_users = _HistoryAttention(dim, heads, len(self.levels), config.time_buckets)
        self.fusion = ViewFusion(dim, heads, config.dropout)

    def forward(self, batch: Batch) -> Outputs:
        """Return the scores of ``items`` ``[b, p]`` for users by their histories, and the users' two views.

        The items of a batch with ``nodes`` are numbered within that part of the graph.
        """
        sampled = NODES in batch
        text, graph = self.text(batch[NODES] if sampled else None), self.graph(batch if sampled else None)
        clicks = Clicks(batch["history"], batch["history_offsets"])
        by_text, by_graph = self._users(text, graph, clicks, batch["history_values"])
        items = self.fusion.items(text, graph).take(batch["items"])  # [b, p, d]
        users = self.fusion.users(by_text, by_graph)
        return Outputs(self.fusion.score(users[:, None], items), by_text, by_graph)

    def _users(
        self, text: torch.Tensor, graph: torch.Tensor, clicks: Clicks, values: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return users by their texts and by their graph vectors ``[b, d]``."""
        rated = (self.rating_marks(values.real),) if len(self.levels) else ()
        timed = (self.time_marks(clicks, values.imag if values.is_complex() else values),) if self.time_buckets else ()
        by_text = self.text_users(text, replace(clicks, marks=rated))
        return by_text, self.graph_users(graph, replace(clicks, marks=rated + timed))

    def rating_marks(self, ratings: torch.Tensor) -> torch.Tensor:
        """Return which of the levels is nearest to each rating, from 1; 0 where a rating is not known."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return torch.where(ratings.isnan(), 0, torch.bucketize(ratings.contiguous(), middles) + 1)

    def time_marks(self, clicks: Clicks, places: torch.Tensor) -> torch.Tensor:
        """Return the bucket of how many places each click lies before the last of its history.

        1 for the last, 2 for one or two places before, 3 for three to six, and so on; the last bucket for all others.
        """
        users = clicks.users
        last = places.new_full((len(clicks.offsets),), -torch.inf).scatter_reduce(0, users, places, "amax")
        ages = (last[users] - places).clamp(min=0)
        return (torch.log2(1 + ages).floor().long() + 1).clamp(max=self.time_buckets)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories ``[b, I]`` to scores ``[b, n]``; the views are computed here, once."""
        text, graph = self.text(), self.graph()
        where = text.device
        fused = self.fusion.items(text, graph).take(torch.from_numpy(np.array(items, np.int64)).to(where))

        def scores(histories: sp.csr_array) -> Scores:
            values = torch.from_numpy(np.array(histories.data)).to(where)
            clicked = torch.from_numpy(histories.indices.astype(np.int64)).to(where)
            clicks = Clicks(clicked, torch.from_numpy(histories.indptr[:-1].astype(np.int64)).to(where))
            users = self.fusion.users(*self._users(text, graph, clicks, values))
            found: Scores = self.fusion.all_scores(users, fused).float().cpu().numpy()
            return found

        return scores
