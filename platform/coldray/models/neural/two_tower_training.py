"""Training two towers: each user of a batch is to be nearer to his clicks than to those of the others.

For a positive i of user u, and the positives j of the whole batch that u has not clicked, the loss is
``−log exp(l_i) / (exp(l_i) + Σ_j exp(l_j))``, ``l_j = u · v_j / τ − c log Q_j``: a softmax over all items, estimated by
those of the batch. Q_j is how often an item comes into a batch, ``Σ_u x_uj / n_u / U``, as each user brings as many of
his clicks, drawn alike (Yi et al., RecSys 2019, Eq. 5; there Q is estimated, here it is known).

Notation used for shapes: b users of this worker, B of all, m positives of a user, I items.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn

from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.two_tower_network import TwoTowerConfig, TwoTowers
from coldray.models.neural.validation import Validation
from coldray.training.histories import Histories
from coldray.training.negatives import InBatchNegatives
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch, Loss, Step


class TwoTowerTask(NeuralTask):
    """The training of two towers.

    Parameters
    ----------
    config
        Of the towers.
    train
        Clicks, and which items are warm.
    attributes
        Of all items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "TwoTower"

    def __init__(
        self,
        config: TwoTowerConfig,
        train: TrainingSet,
        attributes: ItemAttributes,
        validation: Validation | None,
    ) -> None:
        super().__init__(validation)
        clicks = train.interactions
        self.config, self.attributes, self.warm = config, attributes, train.warm_items
        self.histories, self.rows = Histories.of(clicks), Histories.of(attributes.rows)
        self.users = torch.from_numpy(np.flatnonzero(np.diff(clicks.indptr)))
        self.negatives = InBatchNegatives(clicks)
        self.log_shares = torch.from_numpy(log_shares(clicks))

    @property
    def n_examples(self) -> int:
        """Number of users with clicks."""
        return len(self.users)

    def build(self) -> TwoTowers:
        """Return new towers."""
        return TwoTowers(self.config, self.attributes, self.warm)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return what users clicked, some of it to be found, and the attributes of all items in that.

        Items are told by their place among the distinct ones of the batch, ``listed``, but for ``items``, the positives
        ``[b, m]``. ``known`` says which of these are in the history that is read.
        """
        users = self.users[examples]
        starts, lengths = self.histories.starts[users], self.histories.starts.diff()[users]
        drawn = row_uniforms(generator, users[:, None], torch.arange(self.config.positives))
        items = self.histories.items[starts[:, None] + (drawn * lengths[:, None]).long()]  # [b, m]
        history = self.histories.bags(users, hidden=self.config.history_dropout, generator=generator, rows=users)
        clicked, offsets = history["history"], history["history_offsets"]
        listed, places = torch.unique(torch.cat([clicked, items.ravel()]), return_inverse=True)
        bags = self.rows.bags(listed)
        return {
            "users": users,
            "items": items,
            "listed": listed,
            "history": places[: len(clicked)],
            "history_offsets": offsets,
            "positives": places[len(clicked) :].view_as(items),
            "known": _present(items, clicked, offsets, self.histories.n_items),
            "indices": bags["history"],
            "offsets": bags["history_offsets"],
            "weights": bags["history_values"],
        }

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the mean over the positives of each user."""
        users, own, temperature = module(batch)  # [b, m, d] twice
        vectors, _ = step.workers.gather(own)  # [B, m, d]
        items, _ = step.workers.gather(batch["items"])  # [B, m]
        rivals = vectors.flatten(0, 1)  # [Bm, d]
        shares = self.config.correction * self.log_shares.to(rivals.device)
        negatives = self.negatives.mask(batch["users"], items.ravel())  # [b, Bm]
        logits = users @ rivals.T / temperature - shares[items.ravel()]  # [b, m, Bm]
        positive = (users * own).sum(dim=-1) / temperature - shares[batch["items"]]  # [b, m]
        others = logits.masked_fill(~negatives[:, None], -torch.inf)
        every = torch.cat([positive[..., None], others], dim=-1)
        return Loss((every.logsumexp(dim=-1) - positive).mean(dim=1))


def log_shares(clicks: sp.csr_array) -> np.ndarray:
    """Return log Q, float32 ``[I]``: of how often an item is drawn if each user draws among his clicks; 0 if never."""
    lengths = np.diff(clicks.indptr)
    weights = np.repeat(1 / np.maximum(lengths, 1), lengths)
    drawn = np.bincount(clicks.indices, weights, minlength=clicks.shape[1]) / max((lengths > 0).sum(), 1)
    return np.log(np.where(drawn > 0, drawn, 1)).astype(np.float32)


def _present(items: torch.Tensor, clicked: torch.Tensor, offsets: torch.Tensor, n_items: int) -> torch.Tensor:
    """Return which items ``[b, m]`` are among the clicked ones of their row, bool."""
    ends = torch.cat([offsets[1:], offsets.new_tensor([len(clicked)])])[: len(offsets)]
    rows = torch.repeat_interleave(torch.arange(len(offsets)), ends - offsets)
    return torch.isin(torch.arange(len(offsets))[:, None] * n_items + items, rows * n_items + clicked)
