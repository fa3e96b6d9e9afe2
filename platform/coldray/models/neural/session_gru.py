"""SessionGRU: the next click from the clicks before it, in their order, by a gated recurrent unit.

An example is a session, all clicks of a user: each click but the first is predicted from those before it, against all
other items or some drawn ones. Sessions of different lengths are packed, so that nothing is computed for padding. The
score of an item is the inner product of its vector with what the unit holds after the last click, ``o_t · w_j + b_j``.

Source: Hidasi et al., *Session-based recommendations with recurrent neural networks* (GRU4Rec), ICLR 2016; the loss is
the cross-entropy of Hidasi and Karatzoglou, CIKM 2018.

Notation used for shapes: b sessions of a batch, L the longest of them, s steps of all, I items, n of them, w negatives,
d dimensions, h hidden units.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from coldray.data.signals import Reads
from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.base import Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.sequences.order import hold_out_next, require_order
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig, summed_powers
from coldray.training.options import FitOptions
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch, Loss, Step

_BLOCK_SESSIONS = 256
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


class _SessionNetwork(Network):
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
            for start in range(0, len(sessions), _BLOCK_SESSIONS):
                rows = torch.arange(start, min(start + _BLOCK_SESSIONS, len(sessions)))
                batch = sessions.padded(rows, longest=self.longest)
                lengths = batch["history_mask"].sum(dim=1).clamp(min=1)
                outputs = self.outputs(batch["history"].to(chosen.device), lengths)
                last = outputs[torch.arange(len(rows)), lengths - 1]  # [b, d]
                found[start : start + len(rows)] = (last @ weights + biases).float().cpu().numpy()
            return found

        return scores


class _SessionTask(NeuralTask):
    """The training of a session network.

    Parameters
    ----------
    config
        Of the network.
    train
        Places of clicks; each user with two or more is an example.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "SessionGRU"

    def __init__(self, config: SessionGRUConfig, train: TrainingSet, validation: Validation | None) -> None:
        super().__init__(validation)
        self.config, self.n_items = config, train.interactions.shape[1]
        self.histories = Histories.in_order(train.interactions)
        read = np.diff(train.interactions.indptr) > 1
        self.negatives = None
        if config.negatives is not None:
            self.negatives = DrawnNegatives(NegativesConfig(count=config.negatives), train.interactions)
            read &= self.negatives.possible.numpy()
        self.users = torch.from_numpy(np.flatnonzero(read))

    def build(self) -> _SessionNetwork:
        """Return a new network."""
        return _SessionNetwork(self.config, self.n_items)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return sessions without their last click, what comes next, and ``negatives`` ``[b, w]`` if any are drawn."""
        users = self.users[examples]
        batch = _next_clicks(self.histories, users, self.config.longest)
        if self.negatives is None:
            return batch
        return {**batch, "negatives": self.negatives.candidates(users, generator, rows=examples)}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the cross-entropy of the next click, the mean over each session."""
        outputs, weights, biases = module(batch)  # [b, L, d], [I, d], [I]
        read = batch["next"] < self.n_items  # [b, L]
        rows = torch.nonzero(read)[:, 0]
        states, wanted = outputs[read], batch["next"][read]  # [s, d], [s]
        own = (states * weights[wanted]).sum(dim=1) + biases[wanted]
        if self.negatives is None:
            total, highest = summed_powers(torch.addmm(biases, states, weights.T).float(), own)
            losses = total.log() + highest - own
        else:
            drawn = batch["negatives"]
            others = torch.einsum("bld,bwd->blw", outputs, weights[drawn])[read] + biases[drawn][rows]
            losses = torch.cat([own[:, None], others], dim=1).logsumexp(dim=1) - own
        summed = losses.new_zeros(len(read)).index_add(0, rows, losses)
        return Loss(summed / read.sum(dim=1).clamp(min=1))


def _next_clicks(histories: Histories, users: torch.Tensor, longest: int) -> Batch:
    """Return the last clicks of sessions, `longest` of each at most, and what comes next.

    Returns
    -------
    Batch
        ``history`` and ``next`` int64 ``[b, L]``, I for padding; ``lengths`` int64 ``[b]``.
    """
    sessions = histories.padded(users, longest=longest + 1)
    lengths = sessions["history_mask"].sum(dim=1) - 1
    read = torch.arange(max(sessions["history"].shape[1] - 1, 0)) < lengths[:, None]  # [b, L]
    return {
        "history": sessions["history"][:, :-1].masked_fill(~read, histories.n_items),
        "next": sessions["history"][:, 1:],
        "lengths": lengths,
    }


class SessionGRU(NeuralModel[SessionGRUConfig]):
    """What is clicked next."""

    name: ClassVar[str] = "session_gru"
    config_type: ClassVar[type[ModelConfig]] = SessionGRUConfig
    way_out: ClassVar[str] = (
        "Use a smaller batch_size, longest or embedding_dim, set negatives, or use fewer items through the "
        "filters (min_item_interactions)."
    )

    @property
    def reads(self) -> Reads:
        """The order of clicks."""
        return Reads(order=True)

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return nothing: the weights are all there is."""
        return {}

    def network(self, inputs: Arrays, n_items: int) -> _SessionNetwork:
        """Return a new network."""
        return _SessionNetwork(self.config, n_items)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _SessionTask:
        """Return the training on `train`."""
        return _SessionTask(self.config, train, validation)

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Hold out the last clicks; nothing where too few are left to learn from."""
        return hold_out_next(train, self.config)

    def fit(
        self, train: TrainingSet, computations: Computations | None = None, options: FitOptions = FitOptions()
    ) -> Self:
        """Train the network.

        Raises
        ------
        EmptyDatasetError
            If no user has two clicks.
        DataError
            If the clicks have no order.
        CatalogTooLargeError
            If the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        require_order(train)
        return super().fit(train, computations, options)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what weights with their moments, the steps of a batch and their logits take."""
        config = self.config
        weights = 5 * (
            (2 * config.embedding_dim + 1) * n_items
            + config.n_layers * 3 * config.hidden_dim * (config.embedding_dim + config.hidden_dim + 2)
        )
        steps = min(config.batch_size, n_users) * min(config.longest, n_items)
        units = 3 * (2 * config.embedding_dim + 6 * config.n_layers * config.hidden_dim)
        logits = 3 * (n_items if config.negatives is None else config.negatives + config.embedding_dim)
        scored = min(_BLOCK_SESSIONS, n_users) * min(config.longest, n_items) * units // 3
        return 4 * (weights + max(steps * (units + logits), scored))
