"""CA-Rec: contrastive alignment of what an item is with who clicks it.

Two projections, of attributes and of interaction profiles, are trained so that those of the same item meet (InfoNCE).
Items are then similar as the cosine of their projected attributes says.

Source of the loss: van den Oord et al., *Representation Learning with Contrastive Predictive Coding*, 2018, Eq. 4, in
both directions as in Radford et al., *Learning Transferable Visual Models from Natural Language Supervision*, 2021.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from pydantic import PositiveFloat, PositiveInt
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.transfer.model import LearnedTransfer
from coldray.models.transfer.networks import AttributeTower, dense_tower
from coldray.models.transfer.similarity import Outputs, TransferConfig, TransferNetwork
from coldray.training.task import Batch, Loss, Step


class CARecConfig(TransferConfig):
    """Parameters of :class:`CARec`."""

    temperature: PositiveFloat = 0.2
    """τ, what cosines are divided by: the lower, the more the nearest wrong item counts."""
    embedding_dim: PositiveInt = 64
    """Dimensions of the space both projections meet in."""


class ContrastiveTowers(TransferNetwork):
    """The two projections."""

    def __init__(self, config: CARecConfig, n_inputs: int, n_profile: int) -> None:
        super().__init__()
        hidden, out, dropout = config.hidden_dim, config.embedding_dim, config.dropout
        self.attributes = AttributeTower(n_inputs, hidden, out, dropout)
        self.interactions = dense_tower(n_profile, hidden, out, dropout)

    @classmethod
    def of(cls, config: Any, n_inputs: int, n_profile: int) -> Self:
        """Return new towers."""
        return cls(config, n_inputs, n_profile)

    def forward(self, batch: Batch) -> Outputs:
        """Return unit vectors of both sides ``[b, d]``."""
        return {
            "attributes": functional.normalize(self.attributes(batch), dim=1),
            "interactions": functional.normalize(self.interactions(batch["profiles"]), dim=1),
        }

    @staticmethod
    def objective(outputs: Outputs, batch: Batch, step: Step, config: Any) -> Loss:
        """Return InfoNCE: the other items of the batch, those of all workers, are the negatives."""
        loss = info_nce(outputs["attributes"], outputs["interactions"], config.temperature, step)
        return Loss(loss, {"InfoNCE": loss.detach()})

    def keys(self, items: Batch, profiles: torch.Tensor) -> torch.Tensor:
        """Return the projected attributes."""
        return self.queries(items)[0]

    def queries(self, items: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the projected attributes; all are trusted alike."""
        vectors = functional.normalize(self.attributes(items), dim=1)
        return vectors, torch.ones_like(vectors[:, 0])


def info_nce(left: torch.Tensor, right: torch.Tensor, temperature: float, step: Step) -> torch.Tensor:
    """Return the symmetric InfoNCE of each pair ``[b]``.

    Parameters
    ----------
    left, right
        Unit vectors ``[b, d]``; those in the same place belong together.
    temperature
        τ.
    step
        Knows the other workers, whose vectors are negatives too.
    """
    every_left, first = step.workers.gather(left)  # [B, d]
    every_right, _ = step.workers.gather(right)
    own = torch.arange(first, first + len(left), device=left.device)
    forth = functional.cross_entropy(left @ every_right.T / temperature, own, reduction="none")
    back = functional.cross_entropy(right @ every_left.T / temperature, own, reduction="none")
    return (forth + back) / 2


class CARec(LearnedTransfer[CARecConfig]):
    """Items are similar as their projected attributes are, trained against interaction profiles by contrast."""

    name: ClassVar[str] = "carec"
    config_type: ClassVar[type[ModelConfig]] = CARecConfig
    network: ClassVar[type[TransferNetwork]] = ContrastiveTowers
