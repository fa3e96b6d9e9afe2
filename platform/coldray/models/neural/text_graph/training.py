"""Training the text + graph recommender: some clicks of a user are predicted from the others.

Sources: BPR, Rendle et al., UAI 2009; InfoNCE, van den Oord et al., *Representation Learning with Contrastive
Predictive Coding*, 2018.

Notation used for shapes: b examples of a batch, B of all workers, t clicks to be predicted at most, w items drawn, c
negatives, d dimensions.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from coldray.models.base import TrainingSet
from coldray.models.neural.base import NeuralTask
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.graph import ItemGraph
from coldray.models.neural.text_graph.network import GRAPH, TextGraphNetwork
from coldray.models.neural.text_graph.sampling import NeighbourSampler
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.task import Batch, Loss, Step

LARGEST_SHARE = 4
"""At most one click in so many is predicted, so that a history is left."""


class TextGraphTask(NeuralTask):
    """The training of :class:`TextGraphNetwork`.

    An example is a user with some clicks that are drawn to be predicted. A user has as many examples as it takes to
    draw each click once in an epoch, on average.

    Parameters
    ----------
    config
        Of the model.
    train
        What is trained on.
    inputs
        What the network is built of.
    validation
        What is validated on; None trains for all epochs.
    neighbours
        Neighbours sampled for each node of the graph; None goes over the whole graph.
    """

    name = "TextGraph"

    def __init__(
        self,
        config: TextGraphConfig,
        train: TrainingSet,
        inputs: Arrays,
        validation: Validation | None,
        neighbours: int | None,
    ) -> None:
        super().__init__(validation)
        self.config, self.inputs = config, inputs
        self.histories = Histories.of(train.interactions)
        negatives = NegativesConfig(kind=config.negatives_kind, count=config.negatives, pool=2 * config.negatives)
        self.negatives = DrawnNegatives(negatives, train.interactions, items=train.warm_items)
        counts = np.where(self.negatives.possible.numpy(), np.diff(train.interactions.indptr), 0)
        predicted = np.clip(-(-counts // LARGEST_SHARE), 1, config.targets)
        self.predicted = torch.from_numpy(predicted.astype(np.int64))
        self.users = torch.from_numpy(np.repeat(np.arange(len(counts)), -(-counts // predicted)))
        self.mean_predicted = float(self.predicted[self.users].double().mean())
        graph = ItemGraph.from_arrays(arrays_under(GRAPH, inputs))
        self.sampler = None if neighbours is None else NeighbourSampler(graph, neighbours)

    @property
    def n_examples(self) -> int:
        """Number of examples of an epoch."""
        return len(self.users)

    def build(self) -> TextGraphNetwork:
        """Return a new network."""
        return TextGraphNetwork(self.config, self.inputs)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return histories without what is to be predicted or masked, these clicks, and negatives.

        Returns
        -------
        Batch
            ``history``, ``history_offsets`` and ``history_values`` as :meth:`Histories.bags` returns them; ``items``
            int64 ``[b, t + w]``, the clicks to be predicted, any item where there are fewer, then the negatives;
            ``is_target`` bool ``[b, t]``; ``users`` int64 ``[b]``. With a sampler, the part of the graph, in which
            items are numbered.
        """
        users = self.users[examples]
        predicted, hidden = self.predicted[users], self.config.hidden_share
        parts = self.histories.parted(users, predicted, hidden=hidden, generator=generator, rows=examples)
        drawn = self.negatives.candidates(users, generator, rows=examples)
        items = torch.cat([parts["targets"], drawn], dim=1)
        batch = {**{name: parts[name] for name in parts if name != "targets"}, "items": items, "users": users}
        if self.sampler is None:
            return batch
        asked = torch.unique(torch.cat([items.flatten(), batch["history"]]))
        numbered = {name: torch.searchsorted(asked, batch[name]) for name in ("items", "history")}
        return {**batch, **numbered, **self.sampler.part(asked, generator)}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return the BPR of the clicks of each example, and its InfoNCE.

        Every click weighs the same: an example of more clicks weighs more.
        """
        outputs = module(batch)
        is_target = batch["is_target"]
        positive, drawn = outputs.scores.split([is_target.shape[1], self.negatives.width], dim=1)
        columns = self.negatives.kept(batch["items"][:, is_target.shape[1] :], drawn, step.progress)
        margins = positive[:, :, None] - drawn.gather(1, columns)[:, None, :]  # [b, t, c]
        ranking = (functional.softplus(-margins).mean(dim=2) * is_target).sum(dim=1) / self.mean_predicted
        parts = {"bpr": ranking.detach()}
        if self.config.contrast_weight == 0:
            return Loss(ranking, parts)
        contrast = self._contrast(outputs.text, outputs.graph, batch, step)
        parts["info_nce"] = contrast.detach()
        return Loss(ranking + self.config.contrast_weight * contrast, parts)

    def _contrast(self, text: torch.Tensor, graph: torch.Tensor, batch: Batch, step: Step) -> torch.Tensor:
        """Return the InfoNCE of each example, both ways, among the users of all workers ``[b]``.

        The same user in another example is no negative, and one without a history says nothing.
        """
        text, graph = functional.normalize(text.float(), dim=1), functional.normalize(graph.float(), dim=1)
        texts, first = step.workers.gather(text)  # [B, d]
        graphs, _ = step.workers.gather(graph)
        lengths = torch.diff(
            batch["history_offsets"], append=batch["history_offsets"].new_tensor([len(batch["history"])])
        )
        users, _ = step.workers.gather(torch.where(lengths > 0, batch["users"], -1))
        own = torch.arange(first, first + len(text), device=text.device)
        others = (users[None, :] != batch["users"][:, None]) & (users[None, :] >= 0)
        others[torch.arange(len(own)), own] = True
        total = text.new_zeros(len(text))
        for left, right in ((text, graphs), (graph, texts)):
            logits = (left @ right.T / self.config.temperature).masked_fill(~others, -torch.inf)
            total = total + functional.cross_entropy(logits, own, reduction="none")
        return total / 2 * (lengths > 0)
