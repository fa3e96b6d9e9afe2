"""The training of SASRec.

Notation used for shapes: b sessions of a batch, L the longest of them, s clicks of all that are read, m of them to be
predicted, n listed items, w negatives, I items, W of them with clicks.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from coldray.core.errors import EmptyDatasetError
from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.sequences.config import SASRecConfig
from coldray.models.neural.sequences.losses import gbce_loss, power_of, softmax_loss
from coldray.models.neural.sequences.network import SASRecNetwork
from coldray.models.neural.validation import Validation
from coldray.training.histories import Histories
from coldray.training.negatives import InBatchNegatives
from coldray.training.row_random import row_uniforms
from coldray.training.task import Batch, Loss, Step


class SASRecTask(NeuralTask):
    """The training of a SASRec network.

    Parameters
    ----------
    config
        Of the network.
    train
        Places of clicks; each user with two or more is an example.
    attributes
        Of all items.
    validation
        What is validated on; None trains for all epochs.

    Raises
    ------
    EmptyDatasetError
        If no user has two clicks, or of those who have all have clicked everything.
    """

    name = "SASRec"

    def __init__(
        self, config: SASRecConfig, train: TrainingSet, attributes: ItemAttributes, validation: Validation | None
    ) -> None:
        super().__init__(validation)
        clicks = train.interactions
        self.config, self.attributes, self.warm = config, attributes, train.warm_items
        self.histories, self.rows = Histories.in_order(clicks), Histories.of(attributes.rows)
        read = np.diff(clicks.indptr) > 1
        self.negatives = None
        if config.n_negatives is not None or config.loss == "gbce":
            self.negatives = InBatchNegatives(clicks, items=self.warm)
            read &= self.negatives.possible.numpy()
        self.users = torch.from_numpy(np.flatnonzero(read))
        if len(self.users) == 0:
            raise EmptyDatasetError(
                f"{train.key}: nobody with two clicks has left an item to be told from. Use n_negatives: null with "
                "loss: softmax, or filter less."
            )
        lengths = np.minimum(np.diff(clicks.indptr)[self.users], config.max_length + int(self._next))
        # So that each click weighs as much as any other, and the loss of an example is about that of a click.
        self.asked = float(np.mean(lengths - 1) if self._next else max(config.mask_share * np.mean(lengths), 1))

    @property
    def _next(self) -> bool:
        return self.config.objective == "next"

    def build(self) -> SASRecNetwork:
        """Return a new network."""
        return SASRecNetwork(self.config, self.attributes, self.warm)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return the clicks of sessions one after the other, the shorter ones first, and what is to be predicted.

        Returns
        -------
        Batch
            ``items``, ``at`` and ``keys`` ``[s]`` and ``lengths`` ``[b]`` as
            :meth:`~coldray.models.neural.sequences.network.SASRecNetwork.states` takes them; ``asked`` ``[m]``, at
            which clicks it is predicted, ``wanted``, which of the ``listed`` items is right, and ``rows``, whose
            example it is; the ``listed`` items ``[n]`` with the bags of their attributes; and, where a click competes
            with some items, ``rivals`` ``[w]`` among the listed ones and ``is_rival`` ``[b, w]``. All are int64 but the
            last one, bool.
        """
        users, last = self.users[examples], self.config.max_length + int(self._next)
        sessions = self.histories.padded(users, longest=last)["history"]  # [b, L]
        lengths, order = ((sessions < self.histories.n_items).sum(dim=1) - int(self._next)).sort(stable=True)
        sessions = sessions[order]
        cells = torch.arange(sessions.shape[1]).expand_as(sessions)
        read = cells < lengths[:, None]
        if self._next:
            asked, wanted = read, sessions.roll(-1, dims=1)
            items = sessions
        else:
            asked, wanted = self._left_out(examples[order], lengths, cells, generator), sessions
            items = sessions.masked_fill(asked, self.histories.n_items)
        rows = order[:, None].expand_as(sessions)
        clicks = {
            "at": cells[read],
            "lengths": lengths,
            "keys": (examples[order, None] * (self.config.max_length + 1) + cells)[read],
            "asked": asked[read].nonzero()[:, 0],
            "rows": rows[asked],
        }
        return {**clicks, **self._listed(users, items[read], wanted[asked], generator)}

    def _left_out(
        self, examples: torch.Tensor, lengths: torch.Tensor, cells: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Return which clicks are left out, bool ``[b, L]``: by chance, or the last one alone.

        That is of sessions where chance takes none, and of as large a share of the others, as lists are asked for that.
        """
        places = torch.arange(self.config.max_length + 1)
        drawn = row_uniforms(generator, examples[:, None], places) < self.config.mask_share
        by_chance = drawn[:, : cells.shape[1]] & (cells < lengths[:, None])
        alone = drawn[:, -1:] | ~by_chance.any(dim=1, keepdim=True)
        return torch.where(alone, cells == lengths[:, None] - 1, by_chance)

    def _listed(
        self, users: torch.Tensor, items: torch.Tensor, wanted: torch.Tensor, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """Return the items whose vectors a step needs, and where those of its clicks and their rivals are among them.

        Parameters
        ----------
        users
            Of the batch ``[b]``.
        items, wanted
            Clicked ones, I for one that is left out ``[s]``, and those that are right ``[m]``.
        """
        n_items, warm = self.histories.n_items, torch.from_numpy(self.warm.astype(np.int64))
        rivals = warm
        if self.config.n_negatives is not None:  # the same for all workers
            drawn = row_uniforms(generator, torch.zeros(1, dtype=torch.int64), torch.arange(self.config.n_negatives))
            rivals = warm[(drawn * len(warm)).long()]
        listed = warm
        if self.config.n_negatives is not None:
            listed = torch.unique(torch.cat([items[items < n_items], wanted, rivals]))
        place = torch.full((n_items + 1,), len(listed))
        place[listed] = torch.arange(len(listed))
        bags = self.rows.bags(listed)
        found = {"listed": listed, "items": place[items], "wanted": place[wanted]}
        if self.negatives is not None:
            found |= {"rivals": place[rivals], "is_rival": self.negatives.mask(users, rivals)}
        named = {"indices": "history", "offsets": "history_offsets", "weights": "history_values"}
        return {**found, **{name: bags[stored] for name, stored in named.items()}}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the sum over the predicted clicks of each session, by how many these are on average."""
        states, vectors = module(batch)  # [m, d], [n, d]
        rows, own = batch["rows"], (states * vectors[batch["wanted"]]).sum(dim=1).float()
        if self.negatives is None:
            losses = softmax_loss(own, (states @ vectors.T).float(), among=True)
        else:
            # Rivals whose item the user has clicked are none: that includes what is to be predicted.
            others = (states @ vectors[batch["rivals"]].T).float().masked_fill(~batch["is_rival"][rows], -torch.inf)
            losses = self._told_apart(own, others)
        summed = losses.new_zeros(len(batch["lengths"])).index_add(0, rows, losses)
        return Loss(summed / self.asked)

    def _told_apart(self, own: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        if self.config.loss == "softmax":
            return softmax_loss(own, others, among=False)
        return gbce_loss(own, others, power_of(others.shape[1], len(self.warm), self.config.calibration))
