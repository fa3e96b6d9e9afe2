"""NCF: neural collaborative filtering, of which NeuMF joins a factorisation and layers.

Source: He et al., *Neural Collaborative Filtering*, WWW 2017. There a user is a row of a table. Here users are their
histories: the sum of the embeddings of their clicks, as in Kabbur, Ning and Karypis (FISM), KDD 2013, so that one the
fit never saw is served like all others. In training a click is left out of the history that it is predicted from:
every click is predicted once an epoch, from the others of its user, beside drawn items without a click, by the binary
cross-entropy (He et al., Eq. 7).

Notation used for shapes: b histories or examples of a batch, I items, n items asked for, d dimensions of an embedding,
h units of a layer, t clicks of an example at most, w one click and the items drawn for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, ModelConfig, TrainingSet
from coldray.models.neural.base import Network, NeuralConfig, NeuralModel, NeuralTask
from coldray.models.neural.validation import Validation
from coldray.models.state import Arrays
from coldray.training.histories import Histories
from coldray.training.negatives import DrawnNegatives, NegativesConfig
from coldray.training.task import Batch, Loss, Step

_START_SCALE = 0.1
"""Standard deviation of the first embeddings."""
_BLOCK_FLOATS = 1 << 22
"""Hidden units held at once while all items are scored for a block of histories: 16 MiB, which caches still help."""
_COPIES = 5
"""Arrays of the size of the weights while these are trained: themselves, the best so far, gradients, two averages."""
_ACTIVATIONS = 3
"""Arrays of the size of what the towers compute for a batch: the values, and gradients of them on the way back."""
Against: TypeAlias = Callable[[torch.Tensor], torch.Tensor]
"""From users ``[b, d]`` to scores ``[b, n]`` of some items."""


class NCFConfig(NeuralConfig):
    """Parameters of :class:`~coldray.models.neural.ncf.NCF`; some of those of the training have other defaults here."""

    kind: Literal["neumf", "gmf", "mlp"] = "neumf"
    """``gmf``: the elementwise product of user and item, weighted. ``mlp``: layers over both. ``neumf``: both."""
    embedding_dim: PositiveInt = 64
    """d of the elementwise product."""
    mlp_dim: PositiveInt = 32
    """d of the layers."""
    hidden_dim: PositiveInt = 64
    """Units of the first layer; each one after it has half as many."""
    n_layers: PositiveInt = 2
    """Layers over user and item."""
    history_power: float = Field(default=0.5, ge=0, le=1)
    """A user is the sum of the embeddings of their n clicks over n to this power: 1 is their mean."""
    negatives: PositiveInt = 4
    """Items without a click of the user that are drawn for each click."""
    positives: PositiveInt = 32
    """t, the most clicks of a user that an example holds: the sum over their history is computed once for all."""
    learning_rate: PositiveFloat = 3e-3
    batch_size: PositiveInt = 128
    """Examples of a step, of `positives` clicks each, over all workers together; all of them where there are fewer."""
    epochs: PositiveInt = 30
    patience: PositiveInt | None = 3


class Tower(nn.Module, ABC):
    """A score of histories and items with embeddings of its own: an item has one as a click and one as a candidate."""

    def __init__(self, n_items: int, dim: int) -> None:
        super().__init__()
        self.clicks = nn.EmbeddingBag(n_items, dim, mode="sum")
        self.items = nn.Embedding(n_items, dim)
        for table in (self.clicks, self.items):
            nn.init.normal_(table.weight, std=_START_SCALE)

    @abstractmethod
    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return ``[…, w]`` of users ``[…, d]`` and the numbers of items ``[…, w]``."""

    @abstractmethod
    def against(self, items: torch.Tensor) -> Against:
        """Return the function that scores users against the same items ``[n]``."""


class _GMFTower(Tower):
    """Generalised matrix factorisation: ``hᵀ(p_u ∘ q_i)`` (He et al., Eq. 9)."""

    def __init__(self, n_items: int, config: NCFConfig) -> None:
        super().__init__(n_items, config.embedding_dim)
        self.weight = nn.Parameter(torch.ones(config.embedding_dim))

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return ``[…, w]``."""
        products: torch.Tensor = self.items(items) @ (users * self.weight)[..., None]  # […, w, 1]
        return products[..., 0]

    def against(self, items: torch.Tensor) -> Against:
        """Return the function that scores users against the same items: one matrix product."""
        weighted = self.items(items) * self.weight

        def scores(users: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = users @ weighted.T
            return found

        return scores


class _MLPTower(Tower):
    """Layers over user and item, each half as wide as the one before (He et al., Eq. 10)."""

    def __init__(self, n_items: int, config: NCFConfig) -> None:
        super().__init__(n_items, config.mlp_dim)
        widths = [max(config.hidden_dim >> layer, 1) for layer in range(config.n_layers)]
        # The first layer reads both side by side: what each adds to it is computed once, not once a pair.
        self.of_user = nn.Linear(config.mlp_dim, widths[0])
        self.of_item = nn.Linear(config.mlp_dim, widths[0], bias=False)
        layers: list[nn.Module] = [nn.ReLU()]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.Linear(widths[-1], 1, bias=False))

    def pairs(self, users: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Return ``[…, w]``."""
        units = self.of_user(users)[..., None, :] + self.of_item(self.items(items))  # […, w, h]
        scores: torch.Tensor = self.rest(units)[..., 0]
        return scores

    def against(self, items: torch.Tensor) -> Against:
        """Return the function that scores users against the same items, some users at a time."""
        of_items = self.of_item(self.items(items))  # [n, h]
        step = max(1, _BLOCK_FLOATS // max(of_items.numel(), 1))

        def scores(users: torch.Tensor) -> torch.Tensor:
            found = users.new_empty(len(users), len(of_items))
            for start in range(0, len(users), step):
                units = self.of_user(users[start : start + step])[:, None] + of_items  # [step, n, h]
                found[start : start + step] = self.rest(units)[..., 0]
            return found

        return scores


class _NCFNetwork(Network):
    """One tower, or the sum of both, and a bias an item, which is what an empty history is answered by.

    Parameters
    ----------
    clicks
        Clicks of each item ``[I]``: a history is read as if it had no items without any, of which nothing was learnt.
    config
        Sizes of the towers.
    """

    def __init__(self, clicks: npt.NDArray[np.integer[Any]], config: NCFConfig) -> None:
        super().__init__()
        towers = {"gmf": _GMFTower, "mlp": _MLPTower}
        chosen = list(towers) if config.kind == "neumf" else [config.kind]
        self.towers = nn.ModuleDict({name: towers[name](len(clicks), config) for name in chosen})
        self.bias = nn.Embedding(len(clicks), 1)
        nn.init.zeros_(self.bias.weight)
        self.power, self.known = config.history_power, clicks > 0

    def each_tower(self) -> list[Tower]:
        """Return the towers whose scores are added up."""
        return [tower for tower in self.towers.values() if isinstance(tower, Tower)]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return scores ``[b, t, w]`` of ``items``, by the history without the first item of each t."""
        items, offsets = batch["items"], batch["history_offsets"]
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(batch["history"])]))
        scale = (lengths - 1).clamp(min=1)[:, None, None] ** -self.power
        scores: torch.Tensor = self.bias(items)[..., 0]
        for tower in self.each_tower():
            every = tower.clicks(batch["history"], offsets)[:, None]  # [b, 1, d]
            others = every - tower.clicks.weight[items[:, :, 0]]  # [b, t, d]
            scores = scores + tower.pairs(others * scale, items)
        return scores

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to scores of items."""
        where = self.bias.weight.device
        rows = torch.from_numpy(np.array(items, np.int64)).to(where)
        bias = self.bias(rows)[:, 0]
        towers = [(tower.clicks, tower.against(rows)) for tower in self.each_tower()]

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            kept = np.flatnonzero(self.known[histories.indices])
            offsets = torch.from_numpy(np.searchsorted(kept, histories.indptr).astype(np.int64)).to(where)
            clicked = torch.from_numpy(histories.indices[kept].astype(np.int64)).to(where)
            scale = offsets.diff().clamp(min=1)[:, None] ** -self.power
            total: torch.Tensor = bias.expand(histories.shape[0], -1)
            for pooled, against in towers:
                total = total + against(pooled(clicked, offsets[:-1]) * scale)
            return np.asarray(total.float().cpu().numpy(), np.float32)

        return scores


def _weight_bytes(n_items: int, config: NCFConfig) -> int:
    """Return what the weights take: two embeddings of each item in each tower, its bias, and at most the layers."""
    dims = {"gmf": config.embedding_dim, "mlp": config.mlp_dim, "neumf": config.embedding_dim + config.mlp_dim}
    layers = config.hidden_dim * (2 * config.mlp_dim + config.hidden_dim + 4)
    return 4 * (n_items * (2 * dims[config.kind] + 1) + config.embedding_dim + layers)


def _training_bytes(n_items: int, config: NCFConfig) -> int:
    """Return what a training holds at its peak: weights and what Adam keeps of them, a batch, and a block of scores."""
    wide = {"gmf": config.embedding_dim, "mlp": config.mlp_dim + 2 * config.hidden_dim}
    units = sum(wide.values()) if config.kind == "neumf" else wide[config.kind]
    pairs = config.batch_size * config.positives * (1 + config.negatives)
    batch = _ACTIVATIONS * pairs * (units + 2)
    return _COPIES * _weight_bytes(n_items, config) + 4 * (batch + 2 * max(_BLOCK_FLOATS, n_items * config.hidden_dim))


class _NCFTask(NeuralTask):
    """The training of :class:`_NCFNetwork`. An example is some clicks of a user; together these are all their clicks.

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

    def build(self) -> _NCFNetwork:
        """Return a new network."""
        return _NCFNetwork(self.clicks, self.config)

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


class NCF(NeuralModel[NCFConfig]):
    """NeuMF, or one of its two towers."""

    name: ClassVar[str] = "ncf"
    config_type: ClassVar[type[ModelConfig]] = NCFConfig
    way_out: ClassVar[str] = (
        "Use smaller embedding_dim, mlp_dim or batch_size, or fewer items through the filters (min_item_interactions)."
    )

    def inputs(self, train: TrainingSet) -> Arrays:
        """Return the clicks of each item."""
        return {"clicks": train.clicks}

    def network(self, inputs: Arrays, n_items: int) -> _NCFNetwork:
        """Return a new network."""
        return _NCFNetwork(inputs["clicks"], self.config)

    def task(self, train: TrainingSet, inputs: Arrays, validation: Validation | None) -> _NCFTask:
        """Return the training on `train`."""
        return _NCFTask(self.config, train, validation)

    def memory_bytes(self, n_users: int, n_items: int) -> int:
        """Return what a training takes."""
        return _training_bytes(n_items, self.config)
