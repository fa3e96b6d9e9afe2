"""MARec with learned refinements: similarities that networks learn from the attributes join its mixture.

The mixture g between warm and cold items becomes ``g + Σ_r w_r u_r sim_r`` over CA-Rec, UA-Rec and GE-Rec, each in the
unit of g (u) and with its own fusion weight w. Everything else is MARec: the sum is smoothed over users by the closed
form, and the warm side stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from coldray.core.device import Matrix
from coldray.core.errors import ConfigError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import ModelConfig, TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec, mixture_weights
from coldray.models.marec.similarity import Similarities, mix
from coldray.models.marec.weights import Refinement
from coldray.models.transfer.carec import CARec
from coldray.models.transfer.gerec import GERec
from coldray.models.transfer.model import LearnedTransfer
from coldray.models.transfer.similarity import LearnedSimilarity, TransferConfig
from coldray.models.transfer.training import shared_training
from coldray.models.transfer.uarec import UARec
from coldray.training.options import FitOptions

REFINEMENTS: dict[str, type[LearnedTransfer[Any]]] = {"ca": CARec, "ua": UARec, "ge": GERec}
"""By the prefix of their parameters."""
_UNIT_ITEMS = 500
"""Warm items whose similarities a refinement's unit is taken from where no item is aligned; about as many."""


class MARecPlusConfig(MARecConfig):
    """Parameters of :class:`MARecPlus`: MARec's, and of each refinement its fusion weight and what matters most.

    The rest of a refinement is as in its own configuration, :class:`~coldray.models.transfer.carec.CARecConfig` and
    its like.
    """

    ca_weight: NonNegativeFloat = 1.0
    """Fusion weight of CA-Rec in units of the mixture; 0 leaves it out, untrained."""
    ua_weight: NonNegativeFloat = 1.0
    """Fusion weight of UA-Rec."""
    ge_weight: NonNegativeFloat = 1.0
    """Fusion weight of GE-Rec."""
    ca_temperature: PositiveFloat = 0.2
    """τ of CA-Rec."""
    ca_embedding_dim: PositiveInt = 64
    """Dimensions CA-Rec projects to."""
    ua_confidence_power: NonNegativeFloat = 0.0
    """Power of UA-Rec's confidence."""
    ge_latent_dim: PositiveInt = 16
    """Dimensions of GE-Rec's z."""
    ge_kl_weight: NonNegativeFloat = 1.0
    """Weight of GE-Rec's divergence."""
    ge_kl_warmup: NonNegativeFloat = 10.0
    """Epochs over which that weight rises from 0."""
    hidden_dim: PositiveInt = 256
    """Units of the hidden layers of all three."""
    profile_dim: PositiveInt = 64
    """Dimensions of the interaction profiles."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of the hidden units left out in training."""
    learning_rate: PositiveFloat = 3e-3
    """Learning rate of all three."""
    batch_size: PositiveInt = 128
    """Items of a step."""
    epochs: PositiveInt = 60
    """The most epochs."""
    validation_share: float = Field(default=0.1, ge=0, le=0.5)
    """Share of the warm items held out to stop training by."""

    @model_validator(mode="after")
    def _check_solver(self) -> Self:
        if self.solver == "blocks":
            raise ConfigError(
                "solver='blocks' is for catalogues beyond an item × item matrix, which refinements are. Use another "
                "solver, or the model marec."
            )
        return self

    def refinement(self, prefix: str) -> TransferConfig:
        """Return the configuration of one refinement: its own parameters and the shared ones."""
        config_type = REFINEMENTS[prefix].config_type
        values = self.model_dump()
        own = {name: values[f"{prefix}_{name}"] for name in config_type.model_fields if f"{prefix}_{name}" in values}
        shared = {name: values[name] for name in config_type.model_fields if name in values}
        config = config_type.model_validate({**shared, **own})
        if not isinstance(config, TransferConfig):  # pragma: no cover  all three are
            raise TypeError(prefix)
        return config

    def fusion_weights(self) -> dict[str, float]:
        """Return the weights of the refinements that are not left out."""
        weights = {prefix: float(getattr(self, f"{prefix}_weight")) for prefix in REFINEMENTS}
        return {prefix: weight for prefix, weight in weights.items() if weight > 0}


class MARecPlus(MARec):
    """MARec whose mixture of similarities is joined by learned ones."""

    name: ClassVar[str] = "marec_plus"
    config_type: ClassVar[type[ModelConfig]] = MARecPlusConfig
    fit_options: ClassVar[tuple[str, ...]] = ("device",)

    def __init__(self, config: MARecPlusConfig | None = None) -> None:
        super().__init__(config or MARecPlusConfig())

    def _refinements(
        self, train: TrainingSet, shared: Computations, similarity: Matrix, aligned: FeatureSet, options: FitOptions
    ) -> Sequence[Refinement]:
        if aligned.n_items == 0:  # no item has fewer clicks than p; new ones will be known by attributes alone
            similarity, aligned = self._among_warm(train, shared, options)
        refinements = []
        on_cpu = options.model_copy(update={"device": "cpu"})  # they are small, and a GPU would be one of Ray Train's
        for prefix, weight, config in _parts(self.config):
            network = REFINEMENTS[prefix].network
            arrays = shared_training(shared, train, network=network, config=config.learning(), options=on_cpu)
            learned = LearnedSimilarity.from_arrays(network, config, arrays)
            refinements.append(Refinement.of(prefix, learned, weight, arrays, similarity, aligned))
        return refinements

    def _among_warm(self, train: TrainingSet, shared: Computations, options: FitOptions) -> tuple[Matrix, FeatureSet]:
        """Return the mixture between the warm items and some of themselves, to take the unit from."""
        warm = train.warm_items
        some = train.features.take(warm[:: -(-len(warm) // _UNIT_ITEMS)])
        similarities = Similarities(train.features.take(warm), some, self.config.smoothing)
        return mix(similarities, mixture_weights(train, shared, self.config, options), self.config.order), some

    @classmethod
    def _stored_refinements(cls, config: MARecConfig, state: Mapping[str, npt.NDArray[Any]]) -> Sequence[Refinement]:
        return [
            Refinement.stored(prefix, REFINEMENTS[prefix].network, part, weight, state)
            for prefix, weight, part in _parts(config)
        ]

    @property
    def refinements(self) -> dict[str, Refinement]:
        """The learned similarities that are part of the model, by prefix."""
        return {refinement.prefix: refinement for refinement in self._require().refinements}


def _parts(config: MARecConfig) -> list[tuple[str, float, TransferConfig]]:
    if not isinstance(config, MARecPlusConfig):
        raise TypeError(f"MARecPlus is configured by MARecPlusConfig, not by {type(config).__name__}.")
    return [(prefix, weight, config.refinement(prefix)) for prefix, weight in config.fusion_weights().items()]
