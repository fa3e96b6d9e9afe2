"""The network of the text + graph recommender.

Notation used for shapes: I items, b rows of a batch or of histories, n items asked for or in a part of the graph, p
items scored in a row, d dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.attention import Clicks, HistoryAttention
from coldray.models.neural.base import Network
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.fusion import ViewFusion
from coldray.models.neural.text_graph.graph import ItemGraph
from coldray.models.neural.text_graph.graph_view import GraphView
from coldray.models.neural.text_graph.sampling import NODES
from coldray.models.neural.text_graph.text_view import TextView
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.task import Batch

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
        self.text_users = HistoryAttention(dim, 1, len(self.levels))
        self.graph_users = HistoryAttention(dim, heads, len(self.levels), config.time_buckets)
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
