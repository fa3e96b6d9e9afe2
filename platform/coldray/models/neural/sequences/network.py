"""The network of SASRec: vectors of items, and what stands at the end of a session.

Notation used for shapes: b sessions, s clicks of all of them, m clicks to be predicted, n listed items, I all items,
W of them with clicks, F inputs, d dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.sequences.attention import Block, Packing
from coldray.models.neural.sequences.config import SASRecConfig
from coldray.training.histories import Histories
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch

_BLOCK_SESSIONS = 256
"""Sessions that are read at once for their scores."""
_SCALE = 0.05
"""Standard deviation of the first vectors."""


class SASRecNetwork(Network):
    """Blocks of self-attention over the vectors of the clicked items and of their places.

    Parameters
    ----------
    config
        Sizes and dropout.
    attributes
        Of all I items.
    warm
        Items with a vector of their own, int ``[W]``.
    """

    def __init__(self, config: SASRecConfig, attributes: ItemAttributes, warm: npt.NDArray[np.integer[Any]]) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.attributes, self.max_length = attributes, config.max_length
        self.causal = config.objective == "next"
        self.own = nn.Embedding(len(warm) + 1, dim, padding_idx=len(warm))
        nn.init.normal_(self.own.weight[:-1], std=_SCALE)
        self.told = nn.EmbeddingBag(attributes.n_inputs, dim, mode="sum") if attributes.n_inputs else None
        if self.told is not None:
            nn.init.normal_(self.told.weight, std=_SCALE)
        self.left_out = nn.Parameter(_SCALE * torch.randn(1, dim))  # what stands for a click that is to be predicted
        self.places = nn.Embedding(config.max_length + int(not self.causal), dim)
        nn.init.normal_(self.places.weight, std=_SCALE)
        self.blocks = nn.ModuleList(Block(dim, config.n_heads, config.dropout) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(dim)
        self.dropout, self.id_dropout = RowDropout(config.dropout), RowDropout(config.id_dropout)
        rows = torch.full((attributes.n_items,), len(warm))
        rows[torch.from_numpy(np.asarray(warm, np.int64))] = torch.arange(len(warm))
        self.register_buffer("own_rows", rows, persistent=False)  # [I], row of each item's own vector

    own_rows: torch.Tensor

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what stands at the clicks that are predicted from, or left out, and the vectors of the listed items.

        Parameters
        ----------
        batch
            What :meth:`~coldray.models.neural.sequences.task.SASRecTask.batch` makes.

        Returns
        -------
        tuple
            ``[m, d]`` and ``[n, d]``.
        """
        vectors = self.vectors(batch["listed"], batch)
        states = self.states(vectors, batch["items"], batch["at"], batch["lengths"], batch["keys"])
        return states[batch["asked"]], vectors

    def vectors(self, listed: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return the vectors of items ``[n, d]``; `rows` are those of the bags of their attributes."""
        own: torch.Tensor = self.own(self.own_rows[listed])
        if self.told is None:
            return own
        kept = self.id_dropout(torch.ones_like(own[:, 0]), listed) > 0
        told: torch.Tensor = self.told(rows["indices"], rows["offsets"], per_sample_weights=rows["weights"])
        vectors: torch.Tensor = told + kept[:, None] * own
        return vectors

    def states(
        self, vectors: torch.Tensor, items: torch.Tensor, at: torch.Tensor, lengths: torch.Tensor, keys: torch.Tensor
    ) -> torch.Tensor:
        """Return what stands at each click ``[s, d]``.

        Parameters
        ----------
        vectors
            Of some items ``[n, d]``.
        items
            The clicked one among these ``[s]``; n for a click that is left out, n + 1 for none at all.
        at
            Place of each click in its session, from 0 ``[s]``.
        lengths
            Clicks of the sessions, ascending ``[b]``.
        keys
            What tells clicks from each other ``[s]``.
        """
        nothing = torch.zeros_like(self.left_out)
        read = torch.cat([vectors, self.left_out, nothing])  # [n + 2, d]
        clicks = self.dropout(read[items] + self.places(at), keys)
        packing = Packing(lengths)
        for block in self.blocks:
            clicks = block(clicks, packing, keys, causal=self.causal)
        out: torch.Tensor = self.norm(clicks)
        return out

    def all_items(self) -> torch.Tensor:
        """Return the vectors of all items ``[I, d]``; one of which nothing is known is a mean of those with clicks."""
        every = torch.arange(len(self.own_rows), device=self.own_rows.device)
        rows = {name: values.to(every.device) for name, values in bag(self.attributes.rows).items()}
        vectors = self.vectors(every, rows)
        own = self.own_rows < len(self.own.weight) - 1
        unknown = ~own & torch.from_numpy(np.diff(self.attributes.rows.indptr) == 0).to(own.device)
        # Scores are negative for most items, and zeros would be at the top.
        return torch.where(unknown[:, None], vectors[own].mean(dim=0), vectors)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories, places or ones, to scores of `items`."""
        return self.scorer_of(items, self.all_items())

    def scorer_of(self, items: Items, vectors: torch.Tensor) -> Scorer:
        """Return the same, given the vectors of all items ``[I, d]``."""
        wanted = vectors[torch.from_numpy(np.array(items, np.int64)).to(vectors.device)].T  # [d, n]

        def scores(histories: sp.csr_array) -> Scores:
            sessions = Histories.in_order(histories)
            found = np.empty((len(sessions), len(items)), np.float32)
            for start in range(0, len(sessions), _BLOCK_SESSIONS):
                rows = torch.arange(start, min(start + _BLOCK_SESSIONS, len(sessions)))
                found[rows.numpy()] = (self._last(sessions, rows, vectors) @ wanted).float().cpu().numpy()
            return found

        return scores

    def _last(self, sessions: Histories, rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
        """Return what stands at the end of sessions ``[b, d]``: at their last click, or at one left out after it."""
        read = sessions.padded(rows, longest=self.max_length)
        lengths, order = read["history_mask"].sum(dim=1).sort(stable=True)
        history = read["history"][order]
        if self.causal:
            # A session without a click is read as one of nothing.
            lengths = lengths.clamp(min=1)
            history = history.where(history < sessions.n_items, sessions.n_items + 1)
        else:  # padding is the number of what is left out
            lengths = lengths + 1
            history = torch.cat([history, torch.full((len(rows), 1), sessions.n_items)], dim=1)
        cells = torch.arange(history.shape[1]).expand_as(history)
        kept = cells < lengths[:, None]
        items, at = history[kept].to(vectors.device), cells[kept].to(vectors.device)
        states = self.states(vectors, items, at, lengths.to(vectors.device), at)
        last = states[(lengths.cumsum(0) - 1).to(vectors.device)]
        return torch.empty_like(last).index_copy(0, order.to(vectors.device), last)
