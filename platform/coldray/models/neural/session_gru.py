"""SessionGRU: the next click from the clicks before it, in their order.

The network is in :mod:`~coldray.models.neural.session_gru_network`. An example is a session, all clicks of a user:
each click but the first is predicted from those before it, against all other items or some drawn ones.

Notation used for shapes: b sessions of a batch, L the longest of them, I items, w negatives, d dimensions.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import torch
from torch import nn

from coldray.core.errors import DataError, EmptyDatasetError
from coldray.data.signals import Reads
from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.computations import Computations
from coldray.models.neural.base import NeuralModel, NeuralTask
from coldray.models.neural.session_gru_network import BLOCK_SESSIONS, SessionGRUConfig, SessionNetwork
from coldray.models.neural.validation import Validation, hold_out_last
from coldray.models.state import Arrays
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.softmax import summed_powers
from coldray.training.task import Batch, Loss, Step


class SessionTask(NeuralTask):
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

    @property
    def n_examples(self) -> int:
        """Number of users with two clicks or more."""
        return len(self.users)

    def build(self) -> SessionNetwork:
        """Return a new network."""
        return SessionNetwork(self.config, self.n_items)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return sessions without their last click, what comes next, and ``negatives`` ``[b, w]`` if any are drawn."""
        users = self.users[examples]
        batch = next_clicks(self.histories, users, self.config.longest)
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


def next_clicks(histories: Histories, users: torch.Tensor, longest: int) -> Batch:
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

    @property
    def reads(self) -> Reads:
        """The order of clicks."""
        return Reads(order=True)

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return nothing: the weights are all there is."""
        return {}

    def network(self, inputs: Arrays, n_items: int) -> SessionNetwork:
        """Return a new network."""
        return SessionNetwork(self.config, n_items)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> SessionTask:
        """Return the training on `train`."""
        return SessionTask(self.config, train, validation)

    def hold_out(self, train: TrainingSet) -> tuple[TrainingSet, Validation | None]:
        """Hold out the last clicks; nothing where too few are left to learn from."""
        if self.config.validation_share == 0:
            return train, None
        generator = np.random.default_rng(self.config.train_seed)
        rest, validation = hold_out_last(train, self.config.validation_users, generator)
        if not (np.diff(rest.interactions.indptr) > 1).any():
            return train, None
        return rest, validation

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
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
        clicks = train.interactions
        if not (np.diff(clicks.indptr) > 1).any():
            raise EmptyDatasetError(
                f"{train.key}: nobody has clicked twice, so there is no click that follows another. Use a model that "
                "reads no order, or filter less."
            )
        if clicks.data.max() == clicks.data.min():
            raise DataError(
                f"{train.key}: all {clicks.nnz:,} clicks have the same place, so nobody knows what came after what. "
                "Give the model places (with_order of a dataset with timestamps)."
            )
        return super().fit(train, computations)

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
        scored = min(BLOCK_SESSIONS, n_users) * min(config.longest, n_items) * units // 3
        return 4 * (weights + max(steps * (units + logits), scored))

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"Sessions of {n_items:,} items",
            way_out="Use a smaller batch_size, longest or embedding_dim, set negatives, or use fewer items through the "
            "filters (min_item_interactions).",
        )
