"""GE-Rec: generate an item's interaction profile from its attributes by a conditional variational autoencoder.

The encoder sees profile and attributes and gives z; the decoder sees z and attributes and gives the profile back. For
an item without clicks z is drawn from N(0, I), several times, and the decoded profiles are averaged. Items are similar
as the cosine of warm profiles and generated ones says.

Source of the objective: Sohn, Lee and Yan, *Learning Structured Output Representation using Deep Conditional Generative
Models*, NeurIPS 2015, Eq. 4; the weight of the divergence is warmed up as in Bowman et al., 2016.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.transfer.model import LearnedTransfer
from coldray.models.transfer.networks import AttributeTower, dense_tower
from coldray.models.transfer.similarity import Outputs, TransferConfig, TransferNetwork
from coldray.training.row_random import RowNormal
from coldray.training.task import Batch, Loss, Step

_LOG_VARIANCE = 8.0
"""log σ² of z is kept within ± this."""


_DRAWS = 16
"""Values of z averaged for an item, unless the configuration says otherwise."""


class GERecConfig(TransferConfig):
    """Parameters of :class:`GERec`."""

    latent_dim: PositiveInt = 16
    """Dimensions of z."""
    kl_weight: NonNegativeFloat = 1.0
    """Weight of the divergence of z from N(0, I), once it is warm."""
    kl_warmup: NonNegativeFloat = 10.0
    """Epochs over which that weight rises from 0."""
    draws: PositiveInt = _DRAWS
    """Values of z that are decoded and averaged for an item without clicks."""

    def learning(self) -> Self:
        """Leave out the draws, which are made after the training; it is stopped by the default number."""
        return self.model_copy(update={"draws": _DRAWS})


class ConditionalAutoencoder(TransferNetwork):
    """Encoder and decoder, both conditioned on the attributes."""

    noise: torch.Tensor

    def __init__(self, config: GERecConfig, n_inputs: int, n_profile: int) -> None:
        super().__init__()
        hidden, latent, dropout = config.hidden_dim, config.latent_dim, config.dropout
        self.condition = AttributeTower(n_inputs, hidden, hidden, dropout)
        self.encoder = dense_tower(n_profile + hidden, hidden, 2 * latent, 0.0)
        self.decoder = dense_tower(latent + hidden, hidden, n_profile, dropout)
        self.draws = RowNormal()
        # The same draws for all items: an item's profile depends neither on the others of a block nor on the call.
        generator = torch.Generator().manual_seed(config.seed)
        self.register_buffer("noise", torch.randn(config.draws, latent, generator=generator), persistent=False)

    @classmethod
    def of(cls, config: Any, n_inputs: int, n_profile: int) -> Self:
        """Return a new network."""
        return cls(config, n_inputs, n_profile)

    def forward(self, batch: Batch) -> Outputs:
        """Return the decoded ``profiles`` ``[b, p]`` with ``mean`` and ``log_variance`` of z ``[b, latent]``."""
        condition = self.condition(batch)  # [b, h]
        mean, log_variance = self.encoder(torch.cat([batch["profiles"], condition], dim=1)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)
        z = mean + self.draws(mean) * torch.exp(log_variance / 2)
        return {"profiles": self.decode(z, condition), "mean": mean, "log_variance": log_variance}

    def decode(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return profiles ``[…, p]`` from z ``[…, latent]`` and what is known of the items ``[…, h]``."""
        profiles: torch.Tensor = self.decoder(torch.cat([z, condition], dim=-1))
        return profiles

    @staticmethod
    def objective(outputs: Outputs, batch: Batch, step: Step, config: Any) -> Loss:
        """Return squared error and weighted divergence, both a profile dimension."""
        reconstruction = ((outputs["profiles"] - batch["profiles"]) ** 2).mean(dim=1)
        n_profile = batch["profiles"].shape[1]
        divergence = kl_divergence(outputs["mean"], outputs["log_variance"]) / n_profile
        warmth = 1.0 if config.kl_warmup == 0 else min(step.progress / config.kl_warmup, 1.0)
        loss = reconstruction + config.kl_weight * warmth * divergence
        return Loss(loss, {"reconstruction": reconstruction.detach(), "KL": divergence.detach()})

    def keys(self, items: Batch, profiles: torch.Tensor) -> torch.Tensor:
        """Return the directions of the profiles themselves."""
        return functional.normalize(profiles, dim=1)

    def queries(self, items: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the directions of the mean generated profiles; all are trusted alike."""
        # The decoder is linear before and after its hidden layer: what z and the attributes add to it is computed once
        # each, and the hidden units are averaged before the last layer.
        first, *hidden, last = self.decoder
        if not isinstance(first, nn.Linear):  # pragma: no cover  dense_tower begins with one
            raise TypeError("The decoder must begin with a linear layer.")
        latent = self.noise.shape[1]
        of_items = functional.linear(self.condition(items), first.weight[:, latent:], first.bias)  # [n, h]
        of_draws = functional.linear(self.noise, first.weight[:, :latent])  # [draws, h]
        units = [nn.Sequential(*hidden)(of_items + draw) for draw in of_draws]
        mean = last(torch.stack(units).mean(dim=0))
        return functional.normalize(mean, dim=1), torch.ones_like(mean[:, 0])


def kl_divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return the divergence of N(mean, σ²) from N(0, I) in nats ``[b]``, the sum over dimensions of ``[b, latent]``."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1)


class GERec(LearnedTransfer[GERecConfig]):
    """Items are similar as warm profiles and profiles generated from attributes are."""

    name: ClassVar[str] = "gerec"
    config_type: ClassVar[type[ModelConfig]] = GERecConfig
    network: ClassVar[type[TransferNetwork]] = ConditionalAutoencoder
