"""ALDI: a student that reads attributes learns the scores, the rankings and the identities of a teacher of factors.

The teacher scores ``x_u · v_j``, the student ``u · c_j`` with ``u = t_U(x_u)`` and c_j made of attributes. For a
clicked item i and another k of a user, with ``Δ = s_i − s_k`` and the cross-entropy H of logistic probabilities, the
loss is

``H(1, Δ) + γ (|s_i − s'_i| + |s_k − s'_k|) + w_i (α H(σ(Δ'), Δ) + β H(σ(Γ'), Γ))``,

where a prime marks the teacher, and ``Γ = c_i · c_i − mean_k c_i · c_k`` tells an item from others. The teacher is
trusted less on items with few clicks n_i: ``w_i = tanh(κ n_i / n̄)``, at most ``tanh(3)``, n̄ being the mean. Items with
clicks are scored by the teacher, those without by the student.

Source: Huang et al., *Aligning Distillation For Cold-Start Item Recommendation*, CIKM 2023. The others of an item's
identity are those of its user, there of the batch.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.neural.cold.base import COUNTS, ColdNetwork, ColdStartConfig, ColdStartModel, dot
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower
from coldray.training.task import Batch

_MOST_TRUST = float(np.tanh(3.0))


class ALDIConfig(ColdStartConfig):
    """Parameters of `ALDI`."""

    ranking_weight: NonNegativeFloat = 0.5
    """α, what the rankings of the teacher weigh."""
    identity_weight: NonNegativeFloat = 0.05
    """β, what telling an item from others as the teacher does weighs."""
    rating_weight: NonNegativeFloat = 0.1
    """γ, what the scores of the teacher weigh."""
    trust: PositiveFloat = 1.0
    """κ, how soon the teacher is trusted as an item has more clicks."""


class _ALDINetwork(ColdNetwork):
    terms = ("clicks", "ratings", "rankings", "identities")

    def __init__(self, config: ALDIConfig, inputs: Arrays) -> None:
        super().__init__(config, inputs)
        self.config = config
        self.content = AttributeTower(self.attributes.n_inputs, config.hidden_dim, self.dim, config.dropout)
        counts = torch.from_numpy(inputs[COUNTS].astype(np.float32))
        trusted = torch.tanh(config.trust * counts / counts[self.known].mean()).clamp(max=_MOST_TRUST)
        self.register_buffer("trusted", trusted, persistent=False)  # [I]

    trusted: torch.Tensor

    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return the factors and zeros, or zeros and what is made without clicks ``[n, 2d]``."""
        known = self.known[items, None]
        made = self.content(rows, items).masked_fill(known, 0)
        return torch.cat([self.factors[items].masked_fill(~known, 0), made], dim=1)

    def user_vectors(self, factors: torch.Tensor) -> torch.Tensor:
        """Return the teacher's and the student's ``[b, 2d]``."""
        return torch.cat([factors, self.user(factors)], dim=1)

    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return what clicks, scores, rankings and identities say."""
        config, places = self.config, batch["places"]
        half = places.shape[1] // 2
        made, real = self.content(batch, listed)[places], self.factors[listed][places]  # [b, 2m, d]
        student, teacher = dot(self.user(users)[:, None], made), dot(users[:, None], real)
        apart, apart_there = (one[:, :half] - one[:, half:] for one in (student, teacher))
        weight = self.trusted[listed][places[:, :half]]
        clicks = functional.softplus(-apart)
        ratings = (teacher - student).abs().view(len(users), 2, half).sum(dim=1)
        rankings = weight * _cross_entropy(apart, apart_there)
        identities = weight * _cross_entropy(*(_identity(one, half) for one in (made, real)))
        return (
            clicks.mean(dim=1),
            config.rating_weight * ratings.mean(dim=1),
            config.ranking_weight * rankings.mean(dim=1),
            config.identity_weight * identities.mean(dim=1),
        )


def _cross_entropy(logits: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(teacher), reduction="none")


def _identity(items: torch.Tensor, half: int) -> torch.Tensor:
    """Return Γ of the clicked items ``[b, m]``."""
    clicked, others = items[:, :half], items[:, half:].mean(dim=1, keepdim=True)
    return dot(clicked, clicked) - dot(clicked, others)


class ALDI(ColdStartModel[ALDIConfig]):
    """A teacher of factors and a student of attributes."""

    name: ClassVar[str] = "aldi"
    config_type: ClassVar[type[ModelConfig]] = ALDIConfig
    network_type: ClassVar[type[ColdNetwork]] = _ALDINetwork
