"""The two towers: what a user has clicked, and what an item is, as vectors whose cosine says how well they go together.

An item is ``v_j = unit(a_j + e_j)``: a tower over its attributes and, for an item with clicks, a vector of its own. A
user is ``u = unit(t(h))`` with the history ``h = Σ (a_j + g_j)`` over the clicked items, scaled to unit length, and a
tower t that adds to it. In training e_j is left out by chance, so that an item is scored well by attributes alone.

Source: Yi et al., *Sampling-bias-corrected neural modeling for large corpus item recommendations*, RecSys 2019; the
attributes that are learned by leaving the items' own vectors out, Volkovs et al. (DropoutNet), NeurIPS 2017.

Notation used for shapes: b users of a batch, m positives of each, n distinct items of a batch, I items, W of them with
clicks, F inputs, d dimensions.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items, Scores
from coldray.models.neural.base import Network, NeuralConfig
from coldray.models.neural.inputs import bag
from coldray.models.neural.item_attributes import ItemAttributes
from coldray.models.transfer.networks import AttributeTower, dense_tower
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch

ID_SCALE = 0.05
"""Standard deviation of the first vectors of items."""
LEAST_TEMPERATURE = 0.01
"""A learned temperature goes no lower: below it, rounding decides."""


class TwoTowerConfig(NeuralConfig):
    """Parameters of `TwoTower`; some of those of the training have other defaults."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 1e-2
    clip_norm: PositiveFloat | None = 5.0
    batch_size: PositiveInt = 256
    """Users of a step over all workers together; all of them where there are fewer."""
    schedule: Literal["constant", "cosine", "plateau"] = "cosine"
    epochs: PositiveInt = 16
    patience: PositiveInt | None = None
    embedding_dim: PositiveInt = 64
    """d, dimensions of the vectors of users and items."""
    hidden_dim: PositiveInt = 128
    """Units of the hidden layers."""
    n_layers: int = Field(default=1, ge=1, le=8)
    """Hidden layers of each tower."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    id_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the positives whose own vector is left out in training, as that of a new item is missing. 0 learns
    nothing for those."""
    history_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the clicks left out of the histories in training."""
    positives: PositiveInt = 4
    """m, clicks of a user that a step learns to find, drawn from all of his; each is left out of its own history."""
    temperature: PositiveFloat = 0.1
    """τ, what cosines are divided by; where it is learned, what it begins with."""
    learn_temperature: bool = False
    """Learn the temperature with the weights."""
    correction: float = Field(default=1.0, ge=0, le=1)
    """How much of the logarithm of its sampling probability is taken off the logit of an item, which comes into the
    batch the more often the more it is clicked: 1 all of it (logQ), 0 nothing, so that popular items are held down."""
    stop_by: Literal["items", "clicks"] = "items"
    """What is held out to stop by: all clicks of some items, as if these were new, or single clicks. Without attributes
    it is clicks, as a new item could not be told from another."""


class TwoTowers(Network):
    """Vectors of users and items.

    Parameters
    ----------
    config
        Sizes and dropout.
    attributes
        Of all I items.
    warm
        Items with a vector of their own, int ``[W]``.
    """

    def __init__(self, config: TwoTowerConfig, attributes: ItemAttributes, warm: npt.NDArray[np.integer[Any]]) -> None:
        super().__init__()
        dim = config.embedding_dim
        self.attributes = attributes
        self.tower = (
            AttributeTower(attributes.n_inputs, config.hidden_dim, dim, config.dropout, config.n_layers)
            if attributes.n_inputs
            else None
        )
        self.own = _vectors(len(warm), dim)  # e
        self.clicked = _vectors(len(warm), dim)  # g
        self.user = dense_tower(dim, config.hidden_dim, dim, config.dropout, config.n_layers)
        self.id_dropout = RowDropout(config.id_dropout)
        self.log_temperature = nn.Parameter(
            torch.tensor([float(np.log(config.temperature))]), requires_grad=config.learn_temperature
        )
        places = torch.full((attributes.n_items,), len(warm))
        places[torch.from_numpy(np.asarray(warm, np.int64))] = torch.arange(len(warm))
        self.register_buffer("places", places, persistent=False)  # [I], row of each item's own vectors

    places: torch.Tensor

    @property
    def temperature(self) -> torch.Tensor:
        """τ ``[1]``."""
        return self.log_temperature.exp().clamp(min=LEAST_TEMPERATURE)

    def forward(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return unit vectors of users, one for each positive, which is not in their history; of the positives; and τ.

        Parameters
        ----------
        batch
            What :meth:`~coldray.models.neural.two_tower_training.TwoTowerTask.batch` makes.

        Returns
        -------
        tuple
            Two of ``[b, m, d]``, and ``[1]``.
        """
        listed, positives = batch["listed"], batch["positives"]  # [n], [b, m]
        told = self.told(listed, batch)  # [n, d]
        clicked = told + self.clicked(self.places[listed])  # [n, d]
        summed = _sums(clicked, batch["history"], batch["history_offsets"])  # [b, d]
        known = batch["known"]
        without = known.to(clicked.dtype)[..., None] * clicked[positives]  # [b, m, d]
        # Of a history of the positive alone rounding would be left: any direction, and gradients beyond bounds.
        read = torch.diff(batch["history_offsets"], append=known.new_tensor([len(batch["history"])], dtype=torch.int64))
        others = torch.where((read[:, None] > known)[..., None], summed[:, None] - without, 0)
        kept = (self.id_dropout(torch.ones_like(without[..., 0])) > 0)[..., None]  # [b, m, 1]
        items = told[positives] + kept * self.own(self.places[listed])[positives]
        return self.users(others), functional.normalize(items, dim=-1), self.temperature

    def told(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return what the attributes of items say ``[n, d]``; `rows` are those of their bags."""
        if self.tower is None:
            return self.own.weight.new_zeros(len(items), self.own.weight.shape[1])
        out: torch.Tensor = self.tower(rows, items)
        return out

    def users(self, histories: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of users from what their clicks add up to ``[…, d]``."""
        directions = functional.normalize(histories, dim=-1)
        return functional.normalize(directions + self.user(directions * directions.shape[-1] ** 0.5), dim=-1)

    def all_items(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit vectors of all items, and what a click on each adds to a history, ``[I, d]`` both."""
        every = torch.arange(len(self.places), device=self.places.device)
        rows = {name: values.to(self.places.device) for name, values in bag(self.attributes.rows).items()}
        told = self.told(every, rows)
        vectors = functional.normalize(told + self.own(self.places), dim=-1)
        return vectors, told + self.clicked(self.places)

    def user_vectors(self, histories: sp.csr_array, clicked: torch.Tensor) -> torch.Tensor:
        """Return unit vectors of users ``[b, d]``, given what a click on each item adds ``[I, d]``."""
        device = clicked.device
        items = torch.from_numpy(histories.indices.astype(np.int64)).to(device)
        starts = torch.from_numpy(histories.indptr[:-1].astype(np.int64)).to(device)
        return self.users(_sums(clicked, items, starts))

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to cosines with `items`."""
        vectors, clicked = self.all_items()
        wanted = vectors[torch.from_numpy(np.array(items, np.int64)).to(vectors.device)].T  # [d, n]

        def scores(histories: sp.csr_array) -> Scores:
            found: Scores = (self.user_vectors(histories, clicked) @ wanted).float().cpu().numpy()
            return found

        return scores


def _vectors(n_rows: int, dim: int) -> nn.Embedding:
    """Return a vector for each row, and one of zeros after them for items that have none."""
    table = nn.Embedding(n_rows + 1, dim, padding_idx=n_rows)
    nn.init.normal_(table.weight[:-1], std=ID_SCALE)
    return table


def _sums(rows: torch.Tensor, items: torch.Tensor, starts: torch.Tensor) -> torch.Tensor:
    if len(starts) == 0:
        return rows.new_zeros(0, rows.shape[1]) + 0 * rows.sum()
    return functional.embedding_bag(items, rows, starts, mode="sum")
