"""Models that are nothing but arrays: what a fit leaves is kept by name, stored as it is and read back as it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeAlias

import numpy.typing as npt

from coldray.features.feature_set import FeatureSet
from coldray.models.base import ConfigT, Recommender

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]


class ArrayModel(Recommender[ConfigT], Generic[ConfigT]):
    """A model whose fit leaves its arrays in `_state`."""

    item_array: ClassVar[str]
    """Name of an array that has a row for each item."""

    def __init__(self, config: ConfigT | None = None) -> None:
        super().__init__(config if config is not None else self.config_type())  # type: ignore[arg-type]
        self._state: Arrays = {}

    @property
    def n_items(self) -> int:
        """Number of items the fitted model knows; 0 before the fit."""
        return len(self._state[self.item_array]) if self._state else 0

    def state(self) -> Mapping[str, npt.NDArray[Any]]:
        """Return the arrays."""
        self.check_fitted()
        return self._state

    @classmethod
    def from_state(cls, config: ConfigT, state: Mapping[str, npt.NDArray[Any]], features: FeatureSet) -> Self:
        """Rebuild the model; the features are not needed."""
        model = cls(config)
        model._state = dict(state)
        return model


class FactorModel(ArrayModel[ConfigT], Generic[ConfigT]):
    """A model of factors, whose number may be smaller than asked for: its state tells it as ``n_factors``."""

    item_array: ClassVar[str] = "factors"

    @property
    def n_factors(self) -> int:
        """Factors that are used; 0 before the fit."""
        return int(self._state["n_factors"][0]) if self._state else 0
