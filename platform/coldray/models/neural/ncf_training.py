"""Training neural collaborative filtering: clicks against drawn items, by the binary cross-entropy.

Every click is predicted once an epoch, from the others of its user, beside drawn items that he did not click (He et
al., Eq. 7).

Notation used for shapes: b examples of a batch, t clicks of an example at most, w one click and the items drawn for it.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.ncf_network import NCFConfig, NCFNetwork
from coldray.models.neural.validation import Validation
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.task import Batch, Loss, Step


class NCFTask(NeuralTask):
    """The training of :class:`NCFNetwork`. An example is some clicks of a user; together these are all his clicks.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "NCF"

    def __init__(self, config: NCFConfig, train: TrainingSet, validation: Validation | None) -> None:
        super().__init__(validation)
        self.config, self.clicks = config, train.clicks
        self.histories = Histories.of(train.interactions)
        # Items without a click are drawn like all others: they are to be scored low, as nobody clicked them.
        self.negatives = DrawnNegatives(NegativesConfig(count=config.negatives), train.interactions)
        counts = np.where(self.negatives.possible.numpy(), np.diff(train.interactions.indptr), 0)
        examples = -(-counts // config.positives)  # of each user
        of_users = np.repeat(np.arange(len(counts)), examples)
        numbers = np.arange(len(of_users)) - np.repeat(np.cumsum(examples) - examples, examples)
        self.users = torch.from_numpy(of_users)
        self.first = torch.from_numpy(train.interactions.indptr[of_users] + numbers * config.positives).long()
        self.mean_clicks = counts.sum() / max(len(of_users), 1)

    @property
    def n_examples(self) -> int:
        """Number of examples of an epoch."""
        return len(self.users)

    def build(self) -> NCFNetwork:
        """Return a new network."""
        return NCFNetwork(self.clicks, self.config)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return histories, clicks to be predicted, and items drawn for each of these.

        Returns
        -------
        Batch
            ``history`` and ``history_offsets`` as :meth:`Histories.bags` returns them; ``items`` int64 ``[b, t, w]``, a
            click and what is drawn for it; ``is_click`` bool ``[b, t]``, False where an example has fewer clicks and
            the items mean nothing.
        """
        users = self.users[examples]
        places = self.first[examples][:, None] + torch.arange(self.config.positives)  # [b, t]
        is_click = places < self.histories.starts[users + 1][:, None]
        clicks = self.histories.items[torch.where(is_click, places, self.first[examples][:, None])]
        several = self.config.positives
        rows = (examples[:, None] * several + torch.arange(several)).ravel()
        drawn = self.negatives.candidates(users.repeat_interleave(several), generator, rows=rows)
        items = torch.cat([clicks[..., None], drawn.view(*clicks.shape, self.config.negatives)], dim=2)
        return {**self.histories.bags(users), "items": items, "is_click": is_click}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the cross-entropy of clicks and drawn items.

        Every click weighs the same: an example of more clicks weighs more.
        """
        scores = module(batch).float()
        signs = scores.new_ones(scores.shape[2])
        signs[1:] = -1
        entropy = functional.softplus(-scores * signs).mean(dim=2)  # [b, t]
        return Loss((entropy * batch["is_click"]).sum(dim=1) / self.mean_clicks)
