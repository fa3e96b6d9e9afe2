"""The variational autoencoder whose logits of cold items come from their similarity to the warm ones.

The last layer of a plain one has a row for each item. Here the row of a cold item c is ``v_c = Σ_w g_wc a_w``, with a_w
learnt for each warm item and g the mixture of attribute similarities: an item that comes later has one too. Its bias is
the mean of the warm ones, and the same sum of learnt numbers.

Notation used for shapes: b users of a batch, W warm items, C cold ones, J aligned ones, h hidden units, n items asked
for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn
from torch.nn import functional

from coldray.evaluation.ranking import Scorer
from coldray.models.base import Items
from coldray.models.marec.mixture import Learner
from coldray.models.marec.similarity import Delta, Order
from coldray.models.neural.vae_network import (
    COPIES,
    Encoded,
    VAEConfig,
    VariationalAutoencoder,
    last_width,
    training_bytes,
    weight_bytes,
)
from coldray.models.state import Arrays
from coldray.training.task import Batch


class VAEMARecConfig(VAEConfig):
    """Parameters of `VAEMARec`; those of the mixture are named as MARec's are."""

    alpha: NonNegativeFloat = 1.0
    """α, weight of the aligned clicks beside the true ones; 0 teaches nothing of cold items."""
    delta: PositiveFloat | dict[str, PositiveFloat] = 20.0
    """δ, smoothing of the cosine: one number, or one for each attribute."""
    w0: float = Field(default=0.2, gt=0, le=1)
    """w₀, weight of a cell without a click while the similarity weights are learned."""
    order: Order = 2
    """1: attributes alone. 2: products of two attributes too."""
    learner: Learner = "regression"
    """How the similarity weights μ are found: ``regression``, ``nonnegative`` (μ ≥ 0) or ``correlation``."""
    batch_size: PositiveInt = 500
    """Users of a step over all workers together; all of them where there are fewer."""

    @property
    def smoothing(self) -> Delta:
        """δ in a hashable form."""
        return tuple(sorted(self.delta.items())) if isinstance(self.delta, dict) else self.delta


@dataclass(frozen=True, eq=False)
class AlignedItems:
    """Which items are warm and which are aligned, and how similar these are."""

    warm: npt.NDArray[np.int64]
    """Items with clicks, ascending ``[W]``."""
    aligned: npt.NDArray[np.int64]
    """Items with few clicks or none, ascending ``[J]``."""
    strength: npt.NDArray[np.float32]
    """``max(p − r_j, 0) / p`` of each of these ``[J]``."""
    similarity: npt.NDArray[np.float32]
    """g ``[W, J]``."""
    mixture: npt.NDArray[np.float64]
    """μ, a weight a term."""
    scale: npt.NDArray[np.float32]
    """What makes a column of g about as long as one, ``[1]``; it stays what it was when items are added."""

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Self:
        """Read the fields from arrays of their names."""
        return cls(**{name: arrays[name] for name in cls.__dataclass_fields__})

    def arrays(self) -> Arrays:
        """Return the fields by name."""
        return dict(vars(self))

    @property
    def n_items(self) -> int:
        """Number of items that are warm, cold or both aligned and warm."""
        return len(np.union1d(self.warm, self.aligned))

    @property
    def cold(self) -> npt.NDArray[np.int64]:
        """Items without a click, ascending ``[C]``: all of them are aligned."""
        return np.setdiff1d(self.aligned, self.warm)

    @property
    def places(self) -> npt.NDArray[np.int64]:
        """Where the logits of each item are, ``[I]``: the warm ones come first, then the cold ones."""
        places = np.empty(self.n_items, np.int64)
        places[np.concatenate([self.warm, self.cold])] = np.arange(self.n_items)
        return places


class AlignedAutoencoder(VariationalAutoencoder):
    """A variational autoencoder of the warm items that also has logits of the cold ones.

    Parameters
    ----------
    clicks
        Clicks of each warm item ``[W]``.
    items
        What the alignment knows of all items.
    config
        Sizes of the layers.
    """

    similarity: torch.Tensor

    def __init__(self, clicks: npt.NDArray[np.integer[Any]], items: AlignedItems, config: VAEConfig) -> None:
        super().__init__(clicks, config)
        self.alignment = nn.Linear(self.items.in_features, len(clicks))  # a, and what gives a cold item its bias
        nn.init.xavier_uniform_(self.alignment.weight)
        nn.init.zeros_(self.alignment.bias)
        cold = np.isin(items.aligned, items.warm, invert=True)
        similarity = torch.from_numpy(np.ascontiguousarray(items.similarity[:, cold].T) * items.scale)
        self.register_buffer("similarity", similarity, persistent=False)  # [C, W]
        self.warm, self.places = items.warm, items.places

    def rows(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weights ``[W + C, h]`` and biases ``[W + C]`` of the last layer."""
        mean = self.items.bias.mean()
        return (
            torch.cat([self.items.weight, self.similarity @ self.alignment.weight]),
            torch.cat([self.items.bias, mean + self.similarity @ self.alignment.bias]),
        )

    def forward(self, batch: Batch) -> tuple[torch.Tensor, Encoded]:
        """Return logits ``[b, W + C]`` of z drawn once for each user, and what it is drawn from."""
        hidden, encoded = self.sample(batch)
        return functional.linear(hidden, *self.rows()), encoded

    def scorer(self, items: Items) -> Scorer:
        """Return the function from histories to the logits of items."""
        weights, biases = self.rows()
        places = torch.from_numpy(self.places[items]).to(weights.device)
        weight, bias = weights[places], biases[places]  # [n, h], [n]

        def scores(histories: sp.csr_array) -> npt.NDArray[np.float32]:
            hidden = self.hidden(sp.csr_array(histories[:, self.warm]))
            return functional.linear(hidden, weight, bias).float().cpu().numpy()

        return scores


def aligned_weight_bytes(n_items: int, config: VAEConfig) -> int:
    """Return what the weights take at most: those of a plain one, and what each item says of the cold ones."""
    return weight_bytes(n_items, config) + 4 * n_items * (last_width(config) + 1)


def aligned_training_bytes(n_users: int, n_items: int, config: VAEConfig) -> int:
    """Return what a training holds at its peak, with the similarities.

    Half of the items are taken to be cold, when the similarities of warm and cold ones are the most; the network holds
    them too, and their target is of the size of a batch of logits.
    """
    similarities = 2 * 4 * (n_items // 2) * (n_items - n_items // 2)
    more = COPIES * (aligned_weight_bytes(n_items, config) - weight_bytes(n_items, config))
    target = 3 * 4 * min(config.batch_size, n_users) * n_items
    return training_bytes(n_users, n_items, config) + more + similarities + target
