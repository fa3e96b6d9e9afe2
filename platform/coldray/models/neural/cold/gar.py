"""GAR: a generator makes vectors of attributes that a recommender is to take for those of items with clicks.

The recommender places a user at ``u = t_U(x_u)`` and an item at ``t_V(v_j)``; the generator makes g_j of attributes.
With ``r(a, b) = log(1 + exp(b − a))``, which is small where a is above b, the recommender learns to rank a clicked item
i above the made one and above another k,

``(1 − β) r(u · t_V(v_i), u · t_V(g_i)) + β r(u · t_V(v_i), u · t_V(v_k))``,

and the generator to be ranked above the real one while it stays near it,

``(1 − α) r(u · t_V(g_i), u · t_V(v_i)) + α ‖g_i − v_i‖² / d``.

Each is trained with the other held still, in one step. An item without clicks is placed at ``t_V(g_j)``.

Source: Chen et al., *Generative Adversarial Framework for Cold-Start Item Recommendation*, SIGIR 2022 (GAR-MLP). There
the two take turns, step by step.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import nn
from torch.func import functional_call
from torch.nn import functional

from coldray.models.base import ModelConfig
from coldray.models.neural.cold.base import ColdNetwork, ColdStartConfig, ColdStartModel, dot
from coldray.models.state import Arrays
from coldray.models.transfer.networks import AttributeTower
from coldray.training.task import Batch


class GARConfig(ColdStartConfig):
    """Parameters of `GAR`."""

    similarity_weight: float = Field(default=0.9, ge=0, le=1)
    """α, what the distance of made vectors from real ones weighs for the generator."""
    click_weight: float = Field(default=0.9, ge=0, le=1)
    """β, what clicked items above others weigh for the recommender, against clicked ones above made ones."""


class _GARNetwork(ColdNetwork):
    terms = ("recommender", "generator")

    def __init__(self, config: GARConfig, inputs: Arrays) -> None:
        super().__init__(config, inputs)
        hidden = config.hidden_dim
        self.alpha, self.beta = config.similarity_weight, config.click_weight
        self.content = AttributeTower(self.attributes.n_inputs, hidden, self.dim, config.dropout)
        self.item = nn.Sequential(nn.Linear(self.dim, hidden), nn.Tanh(), nn.Linear(hidden, self.dim))

    def item_vectors(self, items: torch.Tensor, rows: Batch) -> torch.Tensor:
        """Return where the recommender places factors, or what is made without clicks."""
        placed: torch.Tensor = self.item(
            torch.where(self.known[items, None], self.factors[items], self.content(rows, items))
        )
        return placed

    def losses(self, users: torch.Tensor, listed: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, ...]:
        """Return the losses of the recommender and of the generator."""
        places, factors = batch["places"], self.factors[listed]
        half = places.shape[1] // 2
        made, placed = self.content(batch, listed), self.user_vectors(users)[:, None]
        real = dot(placed, self.item(factors)[places])  # [b, 2m]
        shown = dot(placed, self.item(made.detach())[places[:, :half]])  # [b, m]
        above_made = functional.softplus(shown - real[:, :half])
        above_others = functional.softplus(real[:, half:] - real[:, :half])
        recommender = (1 - self.beta) * above_made + self.beta * above_others
        # The same scores with the recommender held still: gradients reach the generator alone.
        still = {name: value.detach() for name, value in self.item.named_parameters()}
        again = dot(placed.detach(), functional_call(self.item, still, (made,))[places[:, :half]])
        taken = functional.softplus(real[:, :half].detach() - again)
        apart = (made - factors).square().mean(dim=1)[places[:, :half]]
        generator = (1 - self.alpha) * taken + self.alpha * apart
        return recommender.mean(dim=1), generator.mean(dim=1)


class GAR(ColdStartModel[GARConfig]):
    """A generator and a recommender, trained against each other."""

    name: ClassVar[str] = "gar"
    config_type: ClassVar[type[ModelConfig]] = GARConfig
    network_type: ClassVar[type[ColdNetwork]] = _GARNetwork
