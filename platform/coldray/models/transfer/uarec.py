"""UA-Rec: predict an item's interaction profile from its attributes, and how far the prediction can be trusted.

A shared trunk has two heads, the mean μ and log σ² of every dimension of the profile; the loss is the Gaussian negative
log-likelihood. Items are similar as the cosine of warm profiles and predicted ones says; the precision 1/σ² weighs
the transfer.

Source of the loss: Nix and Weigend, *Estimating the mean and variance of the target probability distribution*, 1994.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pydantic import NonNegativeFloat
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.transfer.model import LearnedTransfer
from coldray.models.transfer.networks import AttributeTower
from coldray.models.transfer.similarity import Outputs, TransferConfig, TransferNetwork
from coldray.training.task import Batch, Loss, Step

_LOG_VARIANCE = 4.0
"""log σ² is kept within ± this, so that no single dimension rules the loss."""


class UARecConfig(TransferConfig):
    """Parameters of :class:`UARec`."""

    confidence_power: NonNegativeFloat = 0.5
    """The power of the relative precision in the transfer; 0 trusts all items alike."""

    @property
    def confidence_exponent(self) -> float:
        """`confidence_power`."""
        return self.confidence_power

    def learning(self) -> Self:
        """Leave out the power, which is applied after the training."""
        return self.model_copy(update={"confidence_power": 0.0})


class GaussianHeads(TransferNetwork):
    """The trunk and its two heads, side by side in one output layer."""

    def __init__(self, config: UARecConfig, n_inputs: int, n_profile: int) -> None:
        super().__init__()
        self.tower = AttributeTower(n_inputs, config.hidden_dim, 2 * n_profile, config.dropout)

    @classmethod
    def of(cls, config: Any, n_inputs: int, n_profile: int) -> Self:
        """Return a new network."""
        return cls(config, n_inputs, n_profile)

    def forward(self, batch: Batch) -> Outputs:
        """Return ``mean`` and ``log_variance`` ``[b, p]``."""
        mean, log_variance = self.tower(batch).chunk(2, dim=1)
        return {"mean": mean, "log_variance": log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)}

    @staticmethod
    def objective(outputs: Outputs, batch: Batch, step: Step, config: Any) -> Loss:
        """Return ``(t − μ)²/σ² + log σ²``, the mean over dimensions."""
        loss = _gaussian_nll(batch["profiles"], outputs["mean"], outputs["log_variance"])
        return Loss(loss, {"Gaussian NLL": loss.detach()})

    def keys(self, items: Batch, profiles: torch.Tensor) -> torch.Tensor:
        """Return the directions of the profiles themselves."""
        return functional.normalize(profiles, dim=1)

    def queries(self, items: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the directions of the predicted profiles, and their mean precision."""
        outputs = self(items)
        return functional.normalize(outputs["mean"], dim=1), torch.exp(-outputs["log_variance"]).mean(dim=1)


def _gaussian_nll(target: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Return ``(t − μ)²/σ² + log σ²`` ``[b]``, the mean over dimensions of ``[b, p]``; constants are left out."""
    return ((target - mean) ** 2 * torch.exp(-log_variance) + log_variance).mean(dim=1)


class UARec(LearnedTransfer[UARecConfig]):
    """Items are similar as warm profiles and profiles predicted from attributes are, weighed by confidence."""

    name: ClassVar[str] = "uarec"
    config_type: ClassVar[type[ModelConfig]] = UARecConfig
    network: ClassVar[type[TransferNetwork]] = GaussianHeads
