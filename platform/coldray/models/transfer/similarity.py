"""Similarities between items that a network learns from their attributes.

A *transfer* carries the tastes of users from warm items to items known by attributes alone. A network is trained on
the warm items; from then on ``sim(w, j) = k_w · q_j · c_j``: unit keys k of the warm items, unit queries q made of the
attributes of any item, and how far the network trusts its query, the confidence c. Users score ``X_w · sim``.

Notation used for shapes: W warm items, n items, I all items, F inputs, p profile dimensions, d dimensions of a key.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import nn

from coldray.features.feature_set import FeatureSet
from coldray.models.base import ModelConfig
from coldray.models.neural.inputs import AttributeInputs, bag
from coldray.models.profiles import Profiles
from coldray.training.config import TrainingConfig
from coldray.training.task import Batch, Loss, Step

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]
Matrix: TypeAlias = npt.NDArray[np.float32]
Outputs: TypeAlias = Mapping[str, torch.Tensor]


class TransferConfig(TrainingConfig, ModelConfig):
    """Parameters that all learned transfers share; those of the training have other defaults here."""

    optimizer: Literal["adam", "adamw"] = "adamw"
    learning_rate: PositiveFloat = 3e-3
    weight_decay: NonNegativeFloat = 1e-2
    clip_norm: PositiveFloat | None = 5.0
    batch_size: PositiveInt = 128
    epochs: PositiveInt = 60
    patience: PositiveInt | None = 8
    hidden_dim: PositiveInt = 256
    """Units of the hidden layers."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    profile_dim: PositiveInt = 64
    """Dimensions of the interaction profile of an item."""
    validation_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the warm items held out as if they were cold, to stop training by; 0 trains for all epochs."""
    refit: bool = True
    """Train again on all warm items for as many epochs as were best, so that the held-out ones are not lost. Not with
    the plateau schedule, which needs a validation."""

    @property
    def confidence_exponent(self) -> float:
        """The power of the confidence in the transfer; 0 leaves it out."""
        return 0.0

    def learning(self) -> Self:
        """Return the configuration without what changes nothing in the training, so that trials can share it."""
        return self


class TransferNetwork(nn.Module):
    """A network that learns keys and queries; a subclass adds its layers, its outputs and its objective."""

    @classmethod
    @abstractmethod
    def of(cls, config: Any, n_inputs: int, n_profile: int) -> Self:
        """Return a new network for F inputs and p profile dimensions."""

    @abstractmethod
    def forward(self, batch: Batch) -> Outputs:
        """Return what the objective needs."""

    @staticmethod
    @abstractmethod
    def objective(outputs: Outputs, batch: Batch, step: Step, config: Any) -> Loss:
        """Return the loss of each example."""

    @abstractmethod
    def keys(self, items: Batch, profiles: torch.Tensor) -> torch.Tensor:
        """Return unit vectors ``[W, d]`` of warm items from their attributes and profiles ``[W, p]``."""

    @abstractmethod
    def queries(self, items: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit vectors ``[n, d]`` and confidences ``[n]``, positive, from attributes alone."""


@dataclass(frozen=True, eq=False)
class LearnedSimilarity:
    """A trained network with the keys of the warm items."""

    network: TransferNetwork
    encoder: AttributeInputs
    keys: Matrix
    """Unit vectors of the warm items ``[W, d]``."""
    mean_confidence: float
    """Of the warm items: what the confidence is relative to."""
    sizes: tuple[int, int]
    """F and p."""
    exponent: float
    """The power of the confidence."""

    @classmethod
    def of(
        cls,
        network: TransferNetwork,
        encoder: AttributeInputs,
        inputs: sp.csr_array,
        profiles: Profiles,
        exponent: float,
    ) -> LearnedSimilarity:
        """Compute the keys of the warm items, whose attributes are `inputs` ``[W, F]``."""
        network.eval()
        with torch.no_grad():
            keys = network.keys(bag(inputs), torch.from_numpy(profiles)).numpy()
            confidence = network.queries(bag(inputs))[1].numpy()
        sizes = (inputs.shape[1], profiles.shape[1])
        return cls(network, encoder, keys.astype(np.float32), float(confidence.mean()), sizes, exponent)

    def between(self, features: FeatureSet) -> Matrix:
        """Return the similarity of each warm item to items known by their attributes, float32 ``[W, n]``."""
        queries, confidence = self._ask(features)
        weighted = queries * (confidence**self.exponent)[:, None]
        return np.asarray(self.keys @ weighted.T.astype(np.float32), np.float32)

    def confidence(self, features: FeatureSet) -> npt.NDArray[np.float64]:
        """Return how far the network trusts its query of each item ``[n]``; 1 is the mean of the warm items."""
        return self._ask(features)[1]

    def _ask(self, features: FeatureSet) -> tuple[Matrix, npt.NDArray[np.float64]]:
        with torch.no_grad():
            queries, confidence = self.network.queries(bag(self.encoder.encode(features)))
        return queries.numpy(), confidence.double().numpy() / self.mean_confidence

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return everything but the exponent, by name."""
        return {
            "keys": self.keys,
            "mean_confidence": np.array([self.mean_confidence]),
            "sizes": np.array(self.sizes),
            **{f"network.{name}": value.numpy() for name, value in self.network.state_dict().items()},
            **{f"inputs.{name}": values for name, values in self.encoder.parameters.items()},
        }

    @classmethod
    def from_arrays(cls, network: type[TransferNetwork], config: TransferConfig, arrays: Arrays) -> LearnedSimilarity:
        """Rebuild it."""
        n_inputs, n_profile = map(int, arrays["sizes"])
        with torch.random.fork_rng(devices=[]):  # first weights are drawn, to be overwritten
            module = network.of(config, n_inputs, n_profile)
        weights = {name: torch.from_numpy(np.array(value)) for name, value in arrays_under("network.", arrays).items()}
        module.load_state_dict(weights)
        module.eval()
        encoder = AttributeInputs(arrays_under("inputs.", arrays))
        mean = float(arrays["mean_confidence"][0])
        return cls(module, encoder, arrays["keys"], mean, (n_inputs, n_profile), config.confidence_exponent)


def arrays_under(prefix: str, arrays: Arrays) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
