"""A learned similarity as one more term of MARec's mixture.

Notation used for shapes: W warm items, n items, J aligned items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.core.device import Matrix
from coldray.features.feature_set import FeatureSet
from coldray.models.transfer.similarity import LearnedSimilarity, TransferConfig, TransferNetwork, arrays_under


@dataclass(frozen=True, eq=False)
class Refinement:
    """What is added to the similarity g: ``weight · unit · sim``."""

    prefix: str
    """Names its arrays, such as ``ca``."""
    learned: LearnedSimilarity
    weight: float
    """The fusion weight: 1 gives the learned similarity as much say as the mixture it is added to."""
    unit: float
    """Mean absolute value of the mixture over that of the learned similarity, when it was fitted."""
    history: Mapping[str, npt.NDArray[Any]]
    """The course of its training, epoch by epoch."""

    @classmethod
    def of(
        cls,
        prefix: str,
        learned: LearnedSimilarity,
        weight: float,
        arrays: Mapping[str, npt.NDArray[Any]],
        similarity: Matrix,
        aligned: FeatureSet,
    ) -> Refinement:
        """Put a learned similarity in the unit of the mixture `similarity` ``[W, J]`` to the `aligned` items."""
        size = float(np.abs(learned.between(aligned)).mean()) if aligned.n_items else 0.0
        unit = float(np.abs(similarity).mean()) / size if size > 0 else 1.0
        return cls(prefix, learned, weight, unit, arrays_under("history.", arrays))

    def between(self, features: FeatureSet) -> Matrix:
        """Return the term between the warm items and others, float32 ``[W, n]``."""
        return np.float32(self.weight * self.unit) * self.learned.between(features)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its arrays, each name under the prefix."""
        history = {f"history.{name}": values for name, values in self.history.items()}
        arrays = {**self.learned.arrays(), **history, "unit": np.array([self.unit])}
        return {f"{self.prefix}.{name}": values for name, values in arrays.items()}

    @classmethod
    def stored(
        cls,
        prefix: str,
        network: type[TransferNetwork],
        config: TransferConfig,
        weight: float,
        state: Mapping[str, npt.NDArray[Any]],
    ) -> Refinement:
        """Rebuild it from the arrays of a model."""
        arrays = arrays_under(f"{prefix}.", state)
        learned = LearnedSimilarity.from_arrays(network, config, arrays)
        return cls(prefix, learned, weight, float(arrays["unit"][0]), arrays_under("history.", arrays))
