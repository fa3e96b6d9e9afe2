"""The network of the context-aware rankers: tables of features, and how their fields are crossed.

Who asks are three fields, their history, their attributes and the moment; an item is two, itself and its attributes. A
feature i has a weight w_i and a vector v_i. A history of n clicks has a feature for each of them, worth n^−ρ, so that a
user has no weights of their own.

Notation used for shapes: b who ask, w items of each, n items asked for or distinct items of a batch, I items, W of them
with clicks, F inputs of a field, d dimensions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.neural.ranking.config import DCNConfig, DeepFMConfig, FMConfig
from coldray.models.neural.ranking.crosses import Cross, CrossLayers, Factorisation, Fields, Layers
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch

_SCALE = 0.05
"""Standard deviation of the first vectors."""
USER, MOMENT, ITEM = "user_", "moment_", "item_"
"""What the names of a field's tensors begin with in a batch: the rows that :func:`~coldray.models.neural.inputs.bag`
makes of it."""
BAG = ("indices", "offsets", "weights")
AskerScorer: TypeAlias = Callable[[sp.csr_array, sp.csr_array, sp.csr_array], Scores]
"""From histories ``[b, I]``, attributes of users ``[b, F]`` and moments ``[b, F]`` to scores ``[b, n]``."""


class RankingNetwork(Network):
    """Scores of who asks and items.

    Parameters
    ----------
    config
        Sizes and dropout; its type says how fields are crossed.
    attributes
        Of all I items.
    warm
        Items with a feature of their own, int ``[W]``.
    n_users, n_moments
        F, of the attributes of users and of moments.
    """

    places: torch.Tensor

    def __init__(
        self,
        config: FMConfig,
        attributes: ItemAttributes,
        warm: npt.NDArray[np.integer[Any]],
        n_users: int,
        n_moments: int,
    ) -> None:
        super().__init__()
        self.attributes, self.power = attributes, config.history_power
        size = 1 + config.embedding_dim
        self.clicked = _table(len(warm), size)
        self.users, self.moments = _table(n_users, size), _table(n_moments, size)
        self.own = _table(len(warm) + 1, size, padding=len(warm))
        self.told = _table(attributes.n_inputs, size)
        self.id_dropout, self.context_dropout = RowDropout(config.id_dropout), RowDropout(config.context_dropout)
        self.crosses = nn.ModuleList(_crosses(config))
        places = torch.full((attributes.n_items,), len(warm))
        places[torch.from_numpy(np.asarray(warm, np.int64))] = torch.arange(len(warm))
        self.register_buffer("places", places, persistent=False)  # [I], row of each item's own feature

    def each_cross(self) -> list[Cross]:
        """Return those whose scores are added up."""
        return [cross for cross in self.crosses if isinstance(cross, Cross)]

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return scores ``[b, w]``.

        Parameters
        ----------
        batch
            What :meth:`~coldray.models.neural.ranking.task.RankingTask.batch` makes.
        """
        listed, chosen = batch["listed"], batch["chosen"]  # [n], [b, w]
        told, squares = _read(self.told, *_bag_of(batch, ITEM))  # [n, 1 + d], [n]
        kept = self.id_dropout(told.new_ones(chosen.shape)) > 0
        items = self._items(self.places[listed[chosen]], kept, (told[chosen], squares[chosen]))
        known = self.context_dropout(told.new_ones(len(chosen), 2)) > 0  # [b, 2]
        bags = _bag_of(batch, USER), _bag_of(batch, MOMENT)
        askers = self._askers(self.places[batch["history"]], batch["history_offsets"], *bags, known)
        scores: torch.Tensor = sum(cross.pairs(askers, items) for cross in self.each_cross())  # type: ignore[assignment]
        return scores

    def _items(self, places: torch.Tensor, kept: torch.Tensor, told: tuple[torch.Tensor, torch.Tensor]) -> Fields:
        """Return the fields of items ``[…]`` by rows of their own features, which of these to keep, and attributes."""
        own = self.own(places) * kept[..., None]
        return Fields.beside([(own, own[..., 1:].square().sum(dim=-1)), told])

    def _askers(
        self,
        history: torch.Tensor,
        offsets: torch.Tensor,
        user: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        moment: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        known: torch.Tensor | None = None,
    ) -> Fields:
        """Return the fields of who asks ``[b]``.

        Parameters
        ----------
        history, offsets
            Rows of what they clicked, and where those of each begin ``[b]``.
        user, moment
            Their attributes and the moments.
        known
            Which of the last two are read ``[b, 2]``; both by default.
        """
        lengths = torch.diff(offsets, append=offsets.new_tensor([len(history)]))
        worth = lengths.clamp(min=1) ** -self.power  # [b]
        clicked, squares = _read(self.clicked, history, offsets)
        parts = [(clicked * worth[:, None], squares * worth.square())]
        for place, (table, rows) in enumerate(((self.users, user), (self.moments, moment))):
            said, squares = _read(table, *rows)
            read = torch.ones_like(squares) if known is None else known[:, place].to(squares.dtype)
            parts.append((said * read[:, None], squares * read))
        return Fields.beside(parts)

    def asker_scorer(self, items: Items) -> AskerScorer:
        """Return the function from histories, attributes of users and moments to scores of items."""
        device = self.places.device
        wanted = torch.from_numpy(np.array(items, np.int64))
        told = _read(self.told, *_moved(sp.csr_array(self.attributes.rows[wanted.numpy()]), device))
        places = self.places[wanted.to(device)]
        fields = self._items(places, torch.ones_like(places, dtype=torch.bool), told)
        scorers = [cross.against(fields) for cross in self.each_cross()]

        def scores(histories: sp.csr_array, users: sp.csr_array, moments: sp.csr_array) -> Scores:
            rows = self.places.cpu().numpy()[histories.indices]
            kept = np.flatnonzero(rows < len(self.clicked.weight))  # nothing was learned of the others
            clicked = torch.from_numpy(rows[kept]).to(device)
            offsets = torch.from_numpy(np.searchsorted(kept, histories.indptr[:-1]).astype(np.int64)).to(device)
            askers = self._askers(clicked, offsets, _moved(users, device), _moved(moments, device))
            total: torch.Tensor = sum(scorer(askers) for scorer in scorers)  # type: ignore[assignment]
            return np.asarray(total.float().cpu().numpy(), np.float32)

        return scores

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories alone to scores of items."""
        scorer = self.asker_scorer(items)

        def scores(histories: sp.csr_array) -> Scores:
            nothing: sp.csr_array = sp.csr_array((histories.shape[0], 1), dtype=np.float32)
            return scorer(histories, nothing, nothing)

        return scores


def _crosses(config: FMConfig) -> list[Cross]:
    """Return how a configuration crosses fields: three of who asks, two of an item."""
    if not isinstance(config, DeepFMConfig):
        return [Factorisation()]
    asked, offered = 3 * config.embedding_dim, 2 * config.embedding_dim
    layers = Layers(asked, offered, config.hidden_dim, config.n_layers, config.dropout)
    if not isinstance(config, DCNConfig):
        return [Factorisation(), layers]
    return [CrossLayers(asked, offered, config.cross_layers, config.cross_rank), layers]


def _table(n_features: int, size: int, padding: int | None = None) -> nn.Embedding:
    """Return a weight, 0 at first, and a vector for each feature; a row of zeros where there is no feature."""
    table = nn.Embedding(max(n_features, 1), size, padding_idx=padding)
    nn.init.normal_(table.weight, std=_SCALE)
    with torch.no_grad():
        table.weight[:, 0] = 0
        if padding is not None:
            table.weight[padding] = 0
    return table


def _read(
    table: nn.Embedding, indices: torch.Tensor, offsets: torch.Tensor, values: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what rows of features add up to ``[n, 1 + d]``, and the sums of ``x² |v|²`` ``[n]``."""
    weight = table.weight
    lengths = weight[:, 1:].square().sum(dim=1, keepdim=True)  # [F, 1]
    if len(offsets) == 0:
        return weight.new_zeros(0, weight.shape[1]) + 0 * weight.sum(), weight.new_zeros(0)
    summed = functional.embedding_bag(indices, weight, offsets, mode="sum", per_sample_weights=values)
    squared = None if values is None else values.square()
    squares = functional.embedding_bag(indices, lengths, offsets, mode="sum", per_sample_weights=squared)
    return summed, squares[:, 0]


def _bag_of(batch: Batch, field: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    indices, offsets, weights = (batch[field + name] for name in BAG)
    return indices, offsets, weights


def _moved(rows: sp.csr_array, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    found = bag(rows)
    indices, offsets, weights = (found[name].to(device) for name in BAG)
    return indices, offsets, weights
