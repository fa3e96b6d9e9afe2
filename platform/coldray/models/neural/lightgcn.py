"""LightGCN: items that the same users click drawn together along the graph of clicks.

The network is in :mod:`~coldray.models.neural.lightgcn_network`. It is trained to find a click among items that the
user has not clicked: by a softmax over many that all clicks of a step share, or by pairs (BPR, Rendle et al., UAI
2009). What a click itself adds to the vector of its user is taken out of it, or each click would be found by itself.

Notation used for shapes: b clicks of a batch, w negatives of each, m items of the softmax, U users, I items, d
dimensions.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from coldray.core.memory import require_memory
from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, Scores, TrainingSet
from coldray.models.computations import Computations
from coldray.models.linalg.products import click_products
from coldray.models.neural.base import HISTORY, INPUTS, NeuralModel, NeuralTask
from coldray.models.neural.lightgcn_network import LightGCNConfig, PropagatedItems, graph_bytes, inverse_roots
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, InBatchNegatives, NegativesConfig
from coldray.training.softmax import summed_powers
from coldray.training.task import Batch, Loss, Step

SOFTMAX_ARRAYS = 3
"""Arrays of a number for each click of a batch and each candidate that the check of memory reckons with: logits, their
gradient, and what else is made of them meanwhile."""
CLICKS = 200
"""Clicks of a user that the check of memory reckons with, before it is known how many there are."""


class LightGCNTask(NeuralTask):
    """The training of propagated items.

    Parameters
    ----------
    config
        Of the network.
    train
        Clicks, along which items are mixed, and each of which is an example, unless its user clicked all items.
    validation
        What is validated on; None trains for all epochs.
    """

    name = "LightGCN"

    def __init__(self, config: LightGCNConfig, train: TrainingSet, validation: Validation | None) -> None:
        super().__init__(validation)
        self.config, self.clicks = config, train.interactions
        self.histories = Histories.of(self.clicks)
        wanted = NegativesConfig(kind=config.negatives_kind, count=config.negatives)
        softmax = config.loss == "softmax"
        self.rivals = InBatchNegatives(self.clicks) if softmax else None
        self.negatives = None if softmax else DrawnNegatives(wanted, self.clicks, items=train.warm_items)
        possible = (self.rivals or self.negatives).possible  # type: ignore[union-attr]  # one of them is made
        users = self.histories.users
        self.places = torch.nonzero(possible[users])[:, 0]
        self.users = users[self.places]
        self.counts = torch.bincount(self.histories.items, minlength=self.histories.n_items)

    @property
    def n_examples(self) -> int:
        """Number of clicks that something can be told from."""
        return len(self.places)

    def build(self) -> PropagatedItems:
        """Return a new network."""
        return PropagatedItems(self.config, self.clicks)

    def batch(self, examples: torch.Tensor, generator: torch.Generator) -> Batch:
        """Return clicks and the items that they are to be told from.

        Returns
        -------
        Batch
            ``users`` and ``items`` int64 ``[b]``, ``weights`` float32 ``[b]``, what each click has in R,
            ``has_others`` bool ``[b]``, whether its user has another; and
            ``negatives``, int64 ``[b, w]`` of BPR, or ``candidates`` int64 ``[m]`` of the softmax, the same for all
            workers.
        """
        users, items = self.users[examples], self.histories.items[self.places[examples]]
        lengths = self.histories.starts[users + 1] - self.histories.starts[users]
        batch = {
            "users": users,
            "items": items,
            "weights": (lengths * self.counts[items]).float().rsqrt(),
            "has_others": lengths > 1,
        }
        if self.negatives is not None:
            return {**batch, "negatives": self.negatives.candidates(users, generator, rows=examples)}
        n_items = self.histories.n_items
        drawn = torch.randperm(n_items, generator=generator) if n_items > self.config.candidates else None
        every = torch.arange(n_items) if drawn is None else drawn[: self.config.candidates]
        return {**batch, "candidates": every}

    def loss(self, module: nn.Module, batch: Batch, step: Step) -> Loss:
        """Return how far each click is above what it is to be told from, on a log scale."""
        of_users, of_items = module(batch)  # [U, d], [I, d]
        found = of_items[batch["items"]]  # [b, d]
        # Of a user of one click rounding would be left, of any direction.
        users = of_users[batch["users"]] - batch["weights"][:, None] * found
        users = torch.where(batch["has_others"][:, None], users, 0)
        if self.negatives is None:
            return self._softmax(users, found, of_items, batch)
        scores = torch.einsum("bd,bwd->bw", users, of_items[batch["negatives"]])
        kept = self.negatives.kept(batch["negatives"], scores, step.progress)
        margins = (users * found).sum(dim=1, keepdim=True) - scores.gather(1, kept)
        return Loss(functional.softplus(-margins).mean(dim=1))

    def _softmax(self, users: torch.Tensor, found: torch.Tensor, of_items: torch.Tensor, batch: Batch) -> Loss:
        """Return the cross-entropy of each click among the candidates that its user has not clicked."""
        if self.rivals is None:  # pragma: no cover  the constructor makes it for this loss
            raise TypeError("There is no softmax.")
        candidates, temperature = batch["candidates"], self.config.temperature
        users, found = functional.normalize(users.float(), dim=1), functional.normalize(found.float(), dim=1)
        rivals = functional.normalize(of_items[candidates].float(), dim=1)  # [m, d]
        own = (users * found).sum(dim=1) / temperature  # [b]
        logits = ((users / temperature) @ rivals.T).float()  # [b, m]
        with torch.no_grad():
            logits[self.rivals.positives(batch["users"], candidates)] = -torch.inf
        others, highest = summed_powers(logits, own)
        # Each of those drawn stands for as many of all.
        others = others * (self.histories.n_items / len(candidates))
        return Loss((others + (own - highest).exp()).log() + highest - own)


class LightGCN(NeuralModel[LightGCNConfig]):
    """Inner products of what a user's clicks give and of items, both mixed along the clicks of all users.

    After a softmax items have the length 1 in them: cosines, but for the length of the user.

    Only the mixed vectors are kept: neither the graph nor the users are needed to serve.
    """

    name: ClassVar[str] = "lightgcn"
    config_type: ClassVar[type[ModelConfig]] = LightGCNConfig

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the clicks along which items are mixed."""
        clicks = train.interactions
        return {"starts": clicks.indptr, "items": clicks.indices, "size": np.array(clicks.shape)}

    def network(self, inputs: Arrays, n_items: int) -> PropagatedItems:
        """Return a new network."""
        ones = np.ones(len(inputs["items"]), np.float32)
        shape = tuple(map(int, inputs["size"]))
        return PropagatedItems(self.config, sp.csr_array((ones, inputs["items"], inputs["starts"]), shape=shape))

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> LightGCNTask:
        """Return the training on `train`."""
        return LightGCNTask(self.config, train, validation)

    def fit(self, train: TrainingSet, computations: Computations | None = None) -> Self:
        """Train the vectors of items, and mix them.

        Raises
        ------
        DataError
            If there is no click, or a user has clicked all there is.
        CatalogTooLargeError
            If the graph or the training does not fit in memory.
        DivergedError
            If the loss is not finite any more.
        """
        (n_users, n_items), n_clicks = train.interactions.shape, train.interactions.nnz
        require_memory(
            graph_bytes(n_users, n_items, n_clicks),
            purpose=f"The graph of {n_clicks:,} clicks",
            way_out="Use fewer users or items through the filters, or a machine with more memory.",
        )
        super().fit(train, computations)
        with torch.no_grad():
            vectors = self.fitted_network.vectors().numpy()
        counts = np.bincount(self._state[f"{INPUTS}items"], minlength=len(vectors))
        course = {name: value for name, value in self._state.items() if name.startswith(HISTORY)}
        self._state = {"clicks": self._state["clicks"], "vectors": vectors, "scales": inverse_roots(counts), **course}
        self._network = None
        return self

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what the graph, the layers with their gradients, weights with their moments, and a batch take."""
        config, clicks = self.config, n_users * min(CLICKS, n_items)
        layers = 4 * config.embedding_dim * (2 * (config.n_layers + 1) * (n_users + n_items) + 5 * n_items)
        rows = min(config.batch_size, clicks)
        if config.loss == "softmax":
            batch = rows * (4 * SOFTMAX_ARRAYS * min(config.candidates, n_items) + 4 * 8 * config.embedding_dim)
        else:
            drawn = 8 if config.negatives_kind != "hard" else 8 + 4 * NegativesConfig().pool
            batch = 4 * rows * config.embedding_dim * 3 * (drawn + config.negatives)
        return graph_bytes(n_users, n_items, clicks) + 40 * clicks + layers + batch

    def check_size(self, n_users: int, n_items: int) -> None:
        """Check :meth:`memory_bytes`."""
        self.require_size(
            n_users,
            n_items,
            purpose=f"The graph of {n_users:,} users and {n_items:,} items",
            way_out="Use a smaller embedding_dim, n_layers or batch_size, or fewer users or items through the filters.",
        )

    @property
    def fitted_network(self) -> PropagatedItems:
        """The trained network, while the model is fitted."""
        network = super().fitted_network
        if not isinstance(network, PropagatedItems):  # pragma: no cover  network() makes no other
            raise TypeError("This is no graph of items.")
        return network

    def item_vectors(self, items: Items) -> Scores:
        """Return the vectors of items, float32 ``[n, d]``: scores are their inner products with those of users."""
        self.check_fitted()
        vectors: Scores = self._state["vectors"][items]
        if self.config.loss == "softmax":  # as PropagatedItems.compared
            lengths: Scores = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
            return vectors / lengths
        return vectors

    def user_vectors(self, histories: sp.csr_array) -> Scores:
        """Return what the clicks of users give, float32 ``[b, d]``."""
        self.check_fitted()
        scaled = self._state["scales"][:, None] * self._state["vectors"]
        return inverse_roots(np.diff(histories.indptr))[:, None] * click_products(histories, scaled)

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to inner products with `items`."""
        wanted = np.ascontiguousarray(self.item_vectors(items).T)

        def scores(histories: sp.csr_array) -> Scores:
            return self.user_vectors(histories) @ wanted

        return scores
