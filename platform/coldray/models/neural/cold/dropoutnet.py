"""DropoutNet: the factors of an item are left out by chance in training, so that its attributes learn to do without.

A user is ``u = t_U(x_u)`` and an item ``z_j = t_V(v_j, a_j)``, of which v_j is 0 for an item without clicks. The loss
is ``(u · z_j − x_u · v_j)²`` over clicked and other items: what the factors would have said.

Source: Volkovs, Yu and Poutanen, *DropoutNet: Addressing Cold Start in Recommender Systems*, NeurIPS 2017, for cold
items. Its Algorithm 1 leaves out the factors of whole items of a batch, here those of a share of the pairs.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from coldray.models.base import ModelConfig
from coldray.models.neural.cold.base import ColdNetwork, ColdStartConfig, ColdStartModel, dot
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch


class DropoutNetConfig(ColdStartConfig):
    """Parameters of `DropoutNet`."""

    factor_dropout: float = Field(default=0.5, ge=0, lt=1)
    """Share of the pairs whose item is told by its attributes alone."""


class _DropoutNetwork(ColdNetwork):
    terms = ("error",)

    def __init__(self, config: DropoutNetConfig, inputs: Arrays) -> None:
        super().__init__(config, inputs)
        hidden = config.hidden_dim
        self.content = AttributeTower(self.attributes.n_inputs, hidden, hidden, config.dropout)
        self.clicked = nn.Linear(self.dim, hidden)
        self.last = nn.Sequential(nn.GELU(), nn.Linear(hidden, self.dim))
        self.kept = RowDropout(config.factor_dropout)

    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return ``t_V(v, a)``, v being 0 without clicks."""
        placed: torch.Tensor = self.last(self.content(rows, items) + self.clicked(self.factors[items]))
        return placed

    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the squared difference from the product of factors."""
        places, factors = batch["places"], self.factors[listed]
        told = self.content(batch, listed)
        versions = [self.last(told + self.clicked(some))[places] for some in (torch.zeros_like(factors), factors)]
        kept = self.kept(torch.ones_like(places, dtype=users.dtype)) > 0  # [b, 2m]
        items = torch.where(kept[..., None], versions[1], versions[0])
        error = dot(self.user_vectors(users)[:, None], items) - dot(users[:, None], factors[places])
        return (error.square().mean(dim=1),)


class DropoutNet(ColdStartModel[DropoutNetConfig]):
    """Factors that attributes stand in for."""

    name: ClassVar[str] = "dropoutnet"
    config_type: ClassVar[type[ModelConfig]] = DropoutNetConfig
    network_type: ClassVar[type[ColdNetwork]] = _DropoutNetwork
