"""Heater: a mixture of experts makes factors of attributes, and takes the place of the real ones by chance in training.

The experts give ``c_j = Σ_e g_e(a_j) h_e(a_j)``. A user is ``u = t_U(x_u)`` and an item ``z_j = t_V(w_j)`` with
w_j = v_j or, of a share of the pairs in training and of every item without clicks, w_j = c_j. The loss is
``(u · z_j − x_u · v_j)² + α ‖c_j − v_j‖² / d`` over clicked and other items.

Source: Zhu et al., *Recommendation for New Users and New Items via Randomized Training and Mixture-of-Experts
Transformation*, SIGIR 2020, for cold items. The mixture has no tanh around it, as factors are not bounded.

Notation used for shapes: E experts, h hidden units; the others as in :mod:`~coldray.models.neural.cold.base`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import nn

from coldray.models.base import ModelConfig
from coldray.models.neural.cold.base import ColdNetwork, ColdStartConfig, ColdStartModel, dot
from coldray.models.state import Arrays
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch


class HeaterConfig(ColdStartConfig):
    """Parameters of `Heater`."""

    n_experts: PositiveInt = 5
    """E."""
    content_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of the pairs whose item is told by what the experts make of its attributes."""
    similarity_weight: NonNegativeFloat = 0.1
    """α, what the distance between that and the factors weighs."""


class _Experts(nn.Module):
    """A mixture of experts over sparse attributes; its first layers are embedding bags, which are linear for those."""

    def __init__(self, n_inputs: int, n_experts: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.shape = (n_experts, hidden)
        self.first = nn.EmbeddingBag(n_inputs, n_experts * hidden, mode="sum")
        self.gate = nn.EmbeddingBag(n_inputs, n_experts, mode="sum")
        for layer in (self.first, self.gate):
            nn.init.normal_(layer.weight, std=0.05)
        self.bias = nn.Parameter(torch.zeros(n_experts * hidden))
        self.gate_bias = nn.Parameter(torch.zeros(n_experts))
        self.norm, self.dropout = nn.LayerNorm(hidden), RowDropout(dropout)
        self.second = nn.Parameter(torch.randn(n_experts, hidden, out) / hidden**0.5)

    def forward(self, rows: Batch, items: torch.Tensor) -> torch.Tensor:
        """Return c ``[n, d]`` of items ``[n]``."""
        bags = (rows["indices"], rows["offsets"])
        inner = self.first(*bags, per_sample_weights=rows["weights"]) + self.bias  # [n, E h]
        inner = torch.tanh(self.norm(inner.view(len(items), *self.shape)))  # [n, E, h]
        inner = self.dropout(inner.flatten(1), items).view_as(inner)
        gate = torch.tanh(self.gate(*bags, per_sample_weights=rows["weights"]) + self.gate_bias)  # [n, E]
        return torch.einsum("ne,neh,ehd->nd", gate, inner, self.second)


class _HeaterNetwork(ColdNetwork):
    terms = ("error", "similarity")

    def __init__(self, config: HeaterConfig, inputs: Arrays) -> None:
        super().__init__(config, inputs)
        hidden = config.hidden_dim
        self.weight = config.similarity_weight
        self.content = _Experts(self.attributes.n_inputs, config.n_experts, hidden, self.dim, config.dropout)
        self.item = nn.Sequential(nn.Linear(self.dim, hidden), nn.Tanh(), nn.Linear(hidden, self.dim))
        self.kept = RowDropout(config.content_share)

    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return ``t_V(v)``, or ``t_V(c)`` without clicks."""
        told = torch.where(self.known[items, None], self.factors[items], self.content(rows, items))
        placed: torch.Tensor = self.item(told)
        return placed

    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the squared difference from the product of factors, and that of the experts from the factors."""
        places, factors = batch["places"], self.factors[listed]
        made = self.content(batch, listed)
        kept = self.kept(torch.ones_like(places, dtype=users.dtype)) > 0  # [b, 2m]
        items = torch.where(kept[..., None], self.item(factors)[places], self.item(made)[places])
        error = dot(self.user_vectors(users)[:, None], items) - dot(users[:, None], factors[places])
        apart = (made - factors).square().mean(dim=1)[places]
        return error.square().mean(dim=1), self.weight * apart.mean(dim=1)


class Heater(ColdStartModel[HeaterConfig]):
    """Factors made by experts."""

    name: ClassVar[str] = "heater"
    config_type: ClassVar[type[ModelConfig]] = HeaterConfig
    network_type: ClassVar[type[ColdNetwork]] = _HeaterNetwork

    @property
    def first_layers(self) -> int:
        """One for each expert."""
        return self.config.n_experts
