"""CLCRec: vectors of items and what is made of their attributes are pulled together, and both towards their users.

An item with clicks has a vector e_j of its own, which is learnt, and every item one that its attributes give, c_j. A
user is ``u = t_U(x_u)``. Two contrasts are learnt, each of a clicked item i against the items k that the user has not
clicked: of the user with z, which is e or, for a share of the items, c; and of e_i with c. With the softmax over i and
its k, ``p(i | l) = exp(l_i) / Σ exp(l_k)``, the loss is

``−(1 − λ) log p(i | u · z / τ√d) − λ log p(i | cos(e_i, c) / τ)``.

An item without clicks is placed at c, all others at e.

Source: Wei et al., *Contrastive Learning for Cold-Start Recommendation*, ACM Multimedia 2021. There users have vectors
of their own; here they are made of the history, so that a new one has one too, and e begins as the factors.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field, PositiveFloat
from torch import nn
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.neural.cold.base import ColdNetwork, ColdStartConfig, ColdStartModel, dot
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower
from coldray.training.row_random import RowDropout
from coldray.training.task import Batch


class CLCRecConfig(ColdStartConfig):
    """Parameters of `CLCRec`."""

    content_share: float = Field(default=0.5, ge=0, lt=1)
    """Share of the items that are told by their attributes in the contrast with users."""
    item_weight: float = Field(default=0.5, ge=0, le=1)
    """λ, what the contrast of items with their attributes weighs."""
    temperature: PositiveFloat = 0.3
    """τ."""


class _CLCRecNetwork(ColdNetwork):
    terms = ("users", "items")

    def __init__(self, config: CLCRecConfig, inputs: Arrays) -> None:
        super().__init__(config, inputs)
        self.weight, self.temperature = config.item_weight, config.temperature
        self.content = AttributeTower(self.attributes.n_inputs, config.hidden_dim, self.dim, config.dropout)
        self.own = OwnVectors(self)
        self.kept = RowDropout(config.content_share)

    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return e, or c without clicks."""
        return torch.where(self.known[items, None], self.own(items), self.content(rows, items))

    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return both contrasts."""
        places, own, told = batch["places"], self.own(listed), self.content(batch, listed)
        kept = self.kept(torch.ones_like(places, dtype=users.dtype)) > 0  # [b, 2m]
        shown = torch.where(kept[..., None], own[places], told[places])
        of_users = contrast(dot(self.user_vectors(users)[:, None], shown) / self.temperature)
        unit, made = functional.normalize(own, dim=1)[places], functional.normalize(told, dim=1)[places]
        half = unit.shape[1] // 2
        with_own = (unit * made)[:, :half].sum(dim=-1)  # [b, m]
        with_others = unit[:, :half] @ made[:, half:].transpose(1, 2)  # [b, m, m]
        of_items = contrast_of(with_own / self.temperature, with_others / self.temperature)
        return (1 - self.weight) * of_users, self.weight * of_items


class OwnVectors(nn.Module):
    """A vector for each item with clicks, which begins as its factors; zeros for those without.

    Parameters
    ----------
    network
        Which has the factors.
    """

    def __init__(self, network: ColdNetwork) -> None:
        super().__init__()
        known = network.known
        self.vectors = nn.Parameter(network.factors[known].clone())
        places = torch.where(known, known.cumsum(0) - 1, len(self.vectors))
        self.register_buffer("places", places, persistent=False)  # [I]

    places: torch.Tensor

    def forward(self, items: torch.Tensor) -> torch.Tensor:
        """Return those of items ``[n]``, ``[n, d]``."""
        padded = functional.pad(self.vectors, (0, 0, 0, 1))
        return padded[self.places[items]]


def contrast(logits: torch.Tensor) -> torch.Tensor:
    """Return the mean over m clicked items of −log of their softmax, each against the m others ``[b]``.

    Parameters
    ----------
    logits
        The clicked ones first ``[b, 2m]``.
    """
    half = logits.shape[1] // 2
    return contrast_of(logits[:, :half], logits[:, None, half:].expand(-1, half, -1))


def contrast_of(positive: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the same, given each one's own ``[b, m]`` and those it is held against ``[b, m, k]``."""
    every = torch.cat([positive[..., None], others], dim=-1)
    return (every.logsumexp(dim=-1) - positive).mean(dim=1)


class CLCRec(ColdStartModel[CLCRecConfig]):
    """Contrasts of users, items and attributes."""

    name: ClassVar[str] = "clcrec"
    config_type: ClassVar[type[ModelConfig]] = CLCRecConfig
    network_type: ClassVar[type[ColdNetwork]] = _CLCRecNetwork
