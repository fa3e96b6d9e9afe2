"""The network of SessionGRU: a gated recurrent unit that reads clicks in their order and predicts the next one.

Sessions of different lengths are packed, so that nothing is computed for padding. The score of an item is the inner
product of its vector with what the unit holds after the last click, ``o_t · w_j + b_j``.

Source: Hidasi et al., *Session-based recommendations with recurrent neural networks* (GRU4Rec), ICLR 2016; the loss is
the cross-entropy of Hidasi and Karatzoglou, CIKM 2018.

Notation used for shapes: b sessions of a batch, L the longest of them, s steps of all, I items, n of them, w negatives,
d dimensions, h hidden units.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network, NeuralConfig
from coldray.training.histories import Histories
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch

BLOCK_SESSIONS = 256
"""Sessions that are read at once for their scores."""


class SessionGRUConfig(NeuralConfig):
    """Parameters of `SessionGRU`; some of those of the training have other defaults.

    `validation_share` 0 holds nothing out; any other holds out the last click of `validation_users`.
    """

    embedding_dim: PositiveInt = 64
    """d, dimensions of the vectors of items."""
    hidden_dim: PositiveInt = 128
    """h, units of each layer."""
    n_layers: PositiveInt = 1
    """Layers of units."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Share of the inputs and of the outputs left out in training."""
    longest: PositiveInt = 200
    """Clicks of a session that are read, the last ones."""
    negatives: PositiveInt | None = None
    """Items each step is told from, drawn once a session; None takes all items, which is best but slow for many."""
    learning_rate: PositiveFloat = 3e-3
    batch_size: PositiveInt = 64
    """Sessions of a step over all workers together; all of them where there are fewer."""
    clip_norm: PositiveFloat | None = 5.0
    epochs: PositiveInt = 40
    patience: PositiveInt | None = 5


class SessionNetwork(Network):
    """The unit, and two vectors of each item: as it is read, and as it is predicted.

    Parameters
    ----------
    config
        Sizes and dropout.
    n_items
        I.
    """

    def __init__(self, config: SessionGRUConfig, n_items: int) -> None:
        super().__init__()
        self.longest = config.longest
        self.read = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=n_items)
        self.unit = nn.GRU(config.embedding_dim, config.hidden_dim, config.n_layers, batch_first=True)
        self.written = nn.Linear(config.hidden_dim, config.embedding_dim)
        self.wanted = nn.Linear(config.embedding_dim, n_items)
        self.dropout = RowDropout(config.dropout)
        nn.init.normal_(self.read.weight[:-1], std=0.1)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        """Return what the unit holds after each click, as a vector among those of items, and these.

        Parameters
        ----------
        batch
            ``history`` int64 ``[b, L]``, I for padding, with ``lengths`` int64 ``[b]`` on the CPU, all positive.

        Returns
        -------
        tuple
            ``[b, L, d]``, zeros at the padding; weights ``[I, d]`` and biases ``[I]`` of the items.
        """
        outputs = self.outputs(batch["history"], batch["lengths"])
        return self.dropout(outputs), self.wanted.weight, self.wanted.bias

    def outputs(self, history: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return what the unit holds after each click ``[b, L, d]``."""
        if len(history) == 0:
            return self.written.weight.new_zeros(0, history.shape[1], self.written.out_features)
        inputs, length = self.dropout(self.read(history)), history.shape[1]
        if torch.is_grad_enabled() and inputs.device.type == "cpu":
            # The way back through a packed sequence takes a gradient of all steps for each of them there: six times as
            # long as steps of padding, which come last and so change nothing.
            states: torch.Tensor = self.unit(inputs)[0]
            read = torch.arange(length) < lengths.cpu()[:, None]
            read_out: torch.Tensor = self.written(states) * read[:, :, None]
            return read_out
        packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
        units: PackedSequence = self.unit(packed)[0]
        rows = PackedSequence(self.written(units.data), *units[1:])
        padded: torch.Tensor = pad_packed_sequence(rows, batch_first=True, total_length=length)[0]
        return padded

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories, places or ones, to scores of `items`.

        A history without a click is read as one of padding.
        """
        chosen = torch.from_numpy(np.array(items, np.int64)).to(self.wanted.weight.device)
        weights, biases = self.wanted.weight[chosen].T, self.wanted.bias[chosen]

        def scores(histories: sp.csr_array) -> Scores:
            sessions = Histories.in_order(histories)
            found = np.empty((len(sessions), len(items)), np.float32)
            for start in range(0, len(sessions), BLOCK_SESSIONS):
                rows = torch.arange(start, min(start + BLOCK_SESSIONS, len(sessions)))
                batch = sessions.padded(rows, longest=self.longest)
                lengths = batch["history_mask"].sum(dim=1).clamp(min=1)
                outputs = self.outputs(batch["history"].to(chosen.device), lengths)
                last = outputs[torch.arange(len(rows)), lengths - 1]  # [b, d]
                found[start : start + len(rows)] = (last @ weights + biases).float().cpu().numpy()
            return found

        return scores
