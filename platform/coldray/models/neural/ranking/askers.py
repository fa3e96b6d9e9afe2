"""What is known of who asks, as the rows that a ranker reads: attributes of users, and features of moments.

Notation used for shapes: n users, or moments, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature, VectorFeature
from coldray.features.moments import EARLIER, TIME
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.neural.ranking.item_moments import ItemMomentInputs
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

_TERMS, _NUMBER = "terms.", "number."
"""What the name of an array begins with, by the kind of the feature."""
_USERS, _MOMENTS, _ITEMS = "users.", "moments.", "items_at."
"""The same, by what the feature is of."""


@dataclass(frozen=True, eq=False)
class AskerInputs:
    """The encoding of some features, of which any may be missing later on; nothing, F = 0, where there are none."""

    parameters: Mapping[str, npt.NDArray[np.float32]]
    """As of :class:`~coldray.models.neural.inputs.AttributeInputs`, by the kind and the name of the feature."""

    @classmethod
    def of(cls, features: FeatureSet | None, whose: str) -> Self:
        """Fit the encoding.

        Raises
        ------
        DataError
            If there are features, but none tells any from the others.
        """
        every = {} if features is None else features.features
        read = {name: one for name, one in every.items() if name not in (TIME, EARLIER)}
        if features is None or not read:
            return cls({})
        fitted = AttributeInputs.fitted(FeatureSet(read, features.n_items), whose).parameters
        kinds = {name: _TERMS if isinstance(one, VectorFeature) else _NUMBER for name, one in read.items()}
        return cls({kinds[name] + name: values for name, values in fitted.items()})

    def encode(self, features: FeatureSet) -> sp.csr_array:
        """Return the inputs, CSR float32 ``[n, F]``; what is missing is unknown, and what is not known is not read."""
        n = features.n_items
        if not self.parameters:
            return sp.csr_array((n, 0), dtype=np.float32)
        found: dict[str, Feature] = {}
        fitted = {}
        for key, values in sorted(self.parameters.items()):
            kind, _, name = key.partition(".")
            fitted[name] = values
            unknown = _unknown_terms(n, len(values)) if f"{kind}." == _TERMS else ScalarFeature(np.full(n, np.nan), 1.0)
            found[name] = features.features.get(name, unknown)
        return AttributeInputs(fitted).encode(FeatureSet(found, n))

    def encode_some(self, features: FeatureSet, rows: npt.NDArray[np.integer[Any]]) -> sp.csr_array:
        """Return the inputs of some rows, nothing for each -1."""
        found = self.encode(features.take(rows[rows >= 0]))
        ends = np.zeros(len(rows) + 1, found.indptr.dtype)
        ends[1:][rows >= 0] = np.diff(found.indptr)
        return sp.csr_array((found.data, found.indices, np.cumsum(ends)), shape=(len(rows), found.shape[1]))

    @property
    def n_inputs(self) -> int:
        """F."""
        return int(self.encode(FeatureSet({}, 1)).shape[1])

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        return {name: np.asarray(values) for name, values in self.parameters.items()}


class Asking(NamedTuple):
    """Who asks, as it is encoded."""

    users: sp.csr_array
    """Their attributes ``[n, F]``."""
    moments: sp.csr_array
    """Features of the moments ``[n, F]``."""
    times: npt.NDArray[np.float64]
    """Of the moments, seconds since 1970 ``[n]``, NaN where unknown."""
    earlier: sp.csr_array | None
    """What had been clicked before them ``[n, I]``, see
    :meth:`~coldray.features.known_clicks.KnownClicks.items_before`; None where that is the history, in the order in
    which it is stored."""

    def clicked(self, histories: sp.csr_array) -> sp.csr_array:
        """Return what had been clicked before ``[n, I]``."""
        if self.earlier is not None:
            return self.earlier
        place = np.arange(histories.nnz) - np.repeat(histories.indptr[:-1], np.diff(histories.indptr))
        return sp.csr_array((place + 1.0, histories.indices, histories.indptr), shape=histories.shape)


@dataclass(frozen=True, eq=False)
class AskerEncoder:
    """How all that is known of who asks is encoded, and what items have at a moment."""

    users: AskerInputs
    moments: AskerInputs
    of_items: ItemMomentInputs | None
    """None where no feature of an item depends on the moment."""

    @classmethod
    def of(cls, train: TrainingSet, seed: int) -> Self:
        """Fit the encoding; `seed` is of the clicks by which features of items are scaled.

        Raises
        ------
        DataError
            If there are attributes of users, or features of moments, but none tells any from the others.
        """
        moments = None if train.moments is None else train.moments.features
        users, asked = AskerInputs.of(train.users, "users"), AskerInputs.of(moments, "clicks")
        return cls(users, asked, ItemMomentInputs.of(train, seed))

    def encode(self, askers: FeatureSet) -> Asking:
        """Return what is known of who asks, attributes and features of the moment side by side."""
        time = askers.features.get(TIME)
        times = time.values if isinstance(time, ScalarFeature) else np.full(askers.n_items, np.nan)
        before = askers.features.get(EARLIER)
        earlier = before.matrix if isinstance(before, VectorFeature) else None
        return Asking(self.users.encode(askers), self.moments.encode(askers), times, earlier)

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        parts = {_USERS: self.users, _MOMENTS: self.moments, _ITEMS: self.of_items}
        kept = {under: part.arrays() for under, part in parts.items() if part is not None}
        return {under + name: values for under, arrays in kept.items() for name, values in arrays.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild it."""
        users, moments, items = (arrays_under(under, arrays) for under in (_USERS, _MOMENTS, _ITEMS))
        return cls(AskerInputs(users), AskerInputs(moments), ItemMomentInputs.from_arrays(items))


def _unknown_terms(n: int, width: int) -> VectorFeature:
    empty: sp.csr_array = sp.csr_array((n, width), dtype=np.float32)
    return VectorFeature(empty, tuple(map(str, range(width))))
