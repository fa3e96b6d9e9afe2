"""What is known of who asks, as the rows that a ranker reads: attributes of users, and features of moments.

Notation used for shapes: n users, or moments, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature, VectorFeature
from coldray.features.moments import TIME
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.state import Arrays

_TERMS, _NUMBER = "terms.", "number."
"""What the name of an array begins with, by the kind of the feature."""


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
        read = {} if features is None else {name: one for name, one in features.features.items() if name != TIME}
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


def _unknown_terms(n: int, width: int) -> VectorFeature:
    empty: sp.csr_array = sp.csr_array((n, width), dtype=np.float32)
    return VectorFeature(empty, tuple(map(str, range(width))))
