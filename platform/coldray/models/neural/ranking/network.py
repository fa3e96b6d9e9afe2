"""The network of the context-aware rankers: tables of features, and how their fields are crossed.

Who asks are three fields, their history, their attributes and the moment; an item is two, itself and its
attributes, and a third where features of it depend on the moment. A
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
from coldray.models.neural.ranking.askers import AskerEncoder, Asking
from coldray.models.neural.ranking.config import DCNConfig, DeepFMConfig, FMConfig
from coldray.models.neural.ranking.crosses import Cross, CrossLayers, Factorisation, Fields, Layers, block_of
from coldray.models.neural.ranking.item_moments import ItemMomentInputs
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch

_SCALE = 0.05
"""Standard deviation of the first vectors."""
USER, MOMENT, ITEM = "user_", "moment_", "item_"
"""What the names of a field's tensors begin with in a batch: the rows that :func:`~coldray.models.neural.inputs.bag`
makes of it."""
BAG = ("indices", "offsets", "weights")
AT = "at"
"""The tensor of a batch that has what items have at a moment."""
AskerScorer: TypeAlias = Callable[[sp.csr_array, Asking], Scores]
"""From histories ``[b, I]`` and who asks to scores ``[b, n]``."""
_Against: TypeAlias = Callable[[Fields, npt.NDArray[np.float64], sp.csr_array], torch.Tensor]
"""From the fields of who asks, the times of their moments ``[b]`` and what was clicked before to scores ``[b, n]``."""


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
    encoder
        Of who asks.
    """

    places: torch.Tensor

    def __init__(
        self,
        config: FMConfig,
        attributes: ItemAttributes,
        warm: npt.NDArray[np.integer[Any]],
        encoder: AskerEncoder,
    ) -> None:
        super().__init__()
        self.attributes, self.of_items, self.power = attributes, encoder.of_items, config.history_power
        size = 1 + config.embedding_dim
        self.clicked = _table(len(warm), size)
        self.users, self.moments = (_table(one.n_inputs, size) for one in (encoder.users, encoder.moments))
        self.own = _table(len(warm) + 1, size, padding=len(warm))
        self.told = _table(attributes.n_inputs, size)
        self.at = None if encoder.of_items is None else _table(encoder.of_items.n_inputs, size)
        self.id_dropout, self.context_dropout = RowDropout(config.id_dropout), RowDropout(config.context_dropout)
        self.crosses = nn.ModuleList(_crosses(config, items=2 if self.at is None else 3))
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
        items = self._items(self.places[listed[chosen]], kept, (told[chosen], squares[chosen]), batch.get(AT))
        known = self.context_dropout(told.new_ones(len(chosen), 2)) > 0  # [b, 2]
        bags = _bag_of(batch, USER), _bag_of(batch, MOMENT)
        askers = self._askers(self.places[batch["history"]], batch["history_offsets"], *bags, known)
        return _added([cross.pairs(askers, items) for cross in self.each_cross()])

    def _items(
        self,
        places: torch.Tensor,
        kept: torch.Tensor,
        told: tuple[torch.Tensor, torch.Tensor],
        at: torch.Tensor | None = None,
    ) -> Fields:
        """Return the fields of items ``[…]``.

        Parameters
        ----------
        places, kept
            Rows of their own features, and which of these are read.
        told
            What their attributes say.
        at
            What they have at the moment ``[…, F]``, where anything is read of that.
        """
        own = self.own(places) * kept[..., None]
        parts = [(own, own[..., 1:].square().sum(dim=-1)), told]
        if self.at is not None and at is not None:
            weight = self.at.weight
            said, squares = at @ weight, at.square() @ weight[:, 1:].square().sum(dim=1)
            parts = [(one.expand(said.shape), square.expand(squares.shape)) for one, square in parts]
            parts.append((said, squares))
        return Fields.beside(parts)

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
        """Return the function from histories and who asks to scores of items."""
        device, wanted = self.places.device, np.array(items, np.int64)
        told = _read(self.told, *_moved(sp.csr_array(self.attributes.rows[wanted]), device))
        against = self._against(wanted, told) if self.of_items is None else self._at(wanted, told, self.of_items)

        def scores(histories: sp.csr_array, asking: Asking) -> Scores:
            rows = self.places.cpu().numpy()[histories.indices]
            kept = np.flatnonzero(rows < len(self.clicked.weight))  # nothing was learned of the others
            clicked = torch.from_numpy(rows[kept]).to(device)
            offsets = torch.from_numpy(np.searchsorted(kept, histories.indptr[:-1]).astype(np.int64)).to(device)
            askers = self._askers(clicked, offsets, _moved(asking.users, device), _moved(asking.moments, device))
            found = against(askers, asking.times, asking.clicked(histories))
            return np.asarray(found.float().cpu().numpy(), np.float32)

        return scores

    def _against(self, wanted: npt.NDArray[np.int64], told: tuple[torch.Tensor, torch.Tensor]) -> _Against:
        """Return the function that scores who ask against the same items at any moment, which is computed once."""
        places = self.places[torch.from_numpy(wanted).to(self.places.device)]
        fields = self._items(places, torch.ones_like(places, dtype=torch.bool), told)
        scorers = [cross.against(fields) for cross in self.each_cross()]

        def scores(askers: Fields, times: npt.NDArray[np.float64], earlier: sp.csr_array) -> torch.Tensor:
            return _added([scorer(askers) for scorer in scorers])

        return scores

    def _at(
        self, wanted: npt.NDArray[np.int64], told: tuple[torch.Tensor, torch.Tensor], of_items: ItemMomentInputs
    ) -> _Against:
        """Return the function that scores who ask, some at a time, against items as each is at their moments."""
        places = self.places[torch.from_numpy(wanted).to(self.places.device)]
        every, crosses = torch.ones_like(places, dtype=torch.bool), self.each_cross()
        numbers = of_items.n_inputs + 4 * self.own.weight.shape[1] + sum(cross.units for cross in crosses)
        step = block_of(len(wanted) * numbers)

        def scores(askers: Fields, times: npt.NDArray[np.float64], earlier: sp.csr_array) -> torch.Tensor:
            found = askers.weights.new_empty(len(times), len(wanted))
            for start in range(0, len(times), step):
                chosen = slice(start, start + step)
                encoded = of_items.encode(wanted, times[chosen], sp.csr_array(earlier[chosen]))  # [step, n, F]
                at = torch.from_numpy(encoded).to(places.device)
                items, asking = self._items(places, every, told, at), askers.rows(chosen)
                found[chosen] = _added([cross.pairs(asking, items) for cross in crosses])
            return found

        return scores

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories alone to scores of items."""
        scorer = self.asker_scorer(items)

        def scores(histories: sp.csr_array) -> Scores:
            nothing: sp.csr_array = sp.csr_array((histories.shape[0], 1), dtype=np.float32)
            return scorer(histories, Asking(nothing, nothing, np.full(histories.shape[0], np.nan), None))

        return scores


def _added(parts: list[torch.Tensor]) -> torch.Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _crosses(config: FMConfig, items: int) -> list[Cross]:
    """Return how a configuration crosses fields: three of who asks, and so many of an item."""
    if not isinstance(config, DeepFMConfig):
        return [Factorisation()]
    asked, offered = 3 * config.embedding_dim, items * config.embedding_dim
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
