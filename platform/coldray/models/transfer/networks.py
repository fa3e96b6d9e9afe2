"""The networks that the learned refinements are built from."""

from __future__ import annotations

import torch
from torch import nn

from coldray.training.row_random import RowDropout
from coldray.training.task import Batch


class AttributeTower(nn.Module):
    """From the attributes of an item to a vector: Linear, LayerNorm and GELU, as often as there are layers, Linear.

    The first layer is an embedding bag, which is a linear layer for sparse rows.

    Parameters
    ----------
    n_inputs, hidden, out
        Sizes F, h and o.
    dropout
        Share of the hidden units left out in training.
    n_layers
        Hidden layers.
    """

    def __init__(self, n_inputs: int, hidden: int, out: int, dropout: float, n_layers: int = 1) -> None:
        super().__init__()
        self.first = nn.EmbeddingBag(n_inputs, hidden, mode="sum")
        # Small, since the normalisation that follows makes the step relative to the size of the weights.
        nn.init.normal_(self.first.weight, std=0.05)
        self.bias = nn.Parameter(torch.zeros(hidden))
        self.rest = nn.Sequential(*_after_first(hidden, out, dropout, n_layers))

    def forward(self, batch: Batch, keys: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``[b, o]``; `keys` ``[b]`` tell rows that are items, and no examples, from each other."""
        rows = self.first(batch["indices"], batch["offsets"], per_sample_weights=batch["weights"]) + self.bias  # [b, h]
        out: torch.Tensor = rows
        for layer in self.rest:
            out = layer(out, keys) if isinstance(layer, RowDropout) else layer(out)
        return out


def dense_tower(n_inputs: int, hidden: int, out: int, dropout: float, n_layers: int = 1) -> nn.Sequential:
    """Return the same for dense rows ``[b, n_inputs]``."""
    return nn.Sequential(nn.Linear(n_inputs, hidden), *_after_first(hidden, out, dropout, n_layers))


def _after_first(hidden: int, out: int, dropout: float, n_layers: int) -> list[nn.Module]:
    """Return what follows the first linear layer."""
    layers: list[nn.Module] = []
    for layer in range(n_layers):
        last = layer == n_layers - 1
        layers += [nn.LayerNorm(hidden), nn.GELU(), RowDropout(dropout), nn.Linear(hidden, out if last else hidden)]
    return layers
