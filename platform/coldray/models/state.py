"""Models that are nothing but arrays: what a fit leaves is kept by name, stored as it is and read back as it was.

So are the features of users, which a bundle has for the model alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import ConfigT, Recommender

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]
_USERS = "users."


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


def users_state(users: FeatureSet) -> Arrays:
    """Return features of users as arrays by name, for :func:`users_of`.

    A store forgets the order of the arrays, so the place of an attribute is a part of the name.
    """
    placed = enumerate(users.features.items())
    named = {f"{_USERS}{place:04d}.{name}": _arrays(feature) for place, (name, feature) in placed}
    return {f"{key}.{part}": array for key, arrays in named.items() for part, array in arrays.items()}


def users_of(state: Mapping[str, npt.NDArray[Any]], n_users: int) -> FeatureSet:
    """Return the features of users in a state that has those of :func:`users_state` beside others."""
    placed: dict[tuple[int, str], Arrays] = {}
    for key, array in state.items():
        if key.startswith(_USERS):
            place, _, rest = key.removeprefix(_USERS).partition(".")
            name, _, part = rest.rpartition(".")
            placed.setdefault((int(place), name), {})[part] = array
    return FeatureSet({name: _feature(parts) for (_, name), parts in sorted(placed.items())}, n_users)


def unknown_user(users: FeatureSet) -> FeatureSet:
    """Return the features of one user of whom nothing is known."""
    features: dict[str, Feature] = {}
    for name, feature in users.features.items():
        if isinstance(feature, VectorFeature):
            empty = sp.csr_array((1, feature.matrix.shape[1]), dtype=np.float32)
            features[name] = VectorFeature(empty, feature.terms, feature.dense)
        else:
            features[name] = ScalarFeature(np.array([np.nan]), feature.span)
    return FeatureSet(features, 1)


def _arrays(feature: Feature) -> dict[str, npt.NDArray[Any]]:
    if isinstance(feature, ScalarFeature):
        return {"values": feature.values, "span": np.array([feature.span])}
    matrix = feature.matrix
    width = np.array([matrix.shape[1]])
    dense = {"dense": np.array([True])} if feature.dense else {}
    return {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "width": width, **dense}


def _feature(parts: Mapping[str, npt.NDArray[Any]]) -> Feature:
    if "values" in parts:
        return ScalarFeature(parts["values"], float(parts["span"][0]))
    width = int(parts["width"][0])
    shape = (len(parts["indptr"]) - 1, width)
    matrix = sp.csr_array((parts["data"], parts["indices"], parts["indptr"]), shape=shape)
    return VectorFeature(matrix, tuple(map(str, range(width))), "dense" in parts)
