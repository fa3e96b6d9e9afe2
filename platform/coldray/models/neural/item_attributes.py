"""The attributes of all items as the rows that a network reads, kept with the model that was trained on them.

Notation used for shapes: I items, n new ones, F inputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.inputs import AttributeInputs
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under

ROWS, ENCODER = "attributes.", "encoder."
"""What the names of arrays begin with: of the rows, and of what new items are encoded by."""


@dataclass(frozen=True, eq=False)
class ItemAttributes:
    """What is known of the items; nothing, F = 0, where a training set has no features."""

    encoder: AttributeInputs
    rows: sp.csr_array
    """CSR float32 ``[I, F]``."""

    @classmethod
    def of(cls, train: TrainingSet) -> Self:
        """Fit the encoding on the warm items, and encode all.

        Raises
        ------
        DataError
            If there are attributes, but none tells any of the warm items from the others.
        """
        if not train.features.features:
            return cls(AttributeInputs({}), sp.csr_array((train.features.n_items, 0), dtype=np.float32))
        encoder = AttributeInputs.of(train)
        return cls(encoder, encoder.encode(train.features))

    def extended(self, features: FeatureSet) -> Self:
        """Return the attributes with those of n new items after them."""
        if not self.encoder.parameters:
            return type(self)(self.encoder, sp.csr_array((self.n_items + features.n_items, 0), dtype=np.float32))
        rows = sp.vstack([self.rows, self.encoder.encode(features)], format="csr")
        return type(self)(self.encoder, sp.csr_array(rows))

    @property
    def n_items(self) -> int:
        """I."""
        return int(self.rows.shape[0])

    @property
    def n_inputs(self) -> int:
        """F."""
        return int(self.rows.shape[1])

    def arrays(self) -> Arrays:
        """Return everything, by name."""
        return {
            f"{ROWS}values": np.asarray(self.rows.data, np.float32),
            f"{ROWS}columns": self.rows.indices.astype(np.int64),
            f"{ROWS}starts": self.rows.indptr.astype(np.int64),
            f"{ROWS}width": np.array([self.n_inputs]),
            **{ENCODER + name: values for name, values in self.encoder.parameters.items()},
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Rebuild them."""
        values, columns, starts = (arrays[ROWS + name] for name in ("values", "columns", "starts"))
        shape = (len(starts) - 1, int(arrays[f"{ROWS}width"][0]))
        encoder = AttributeInputs(arrays_under(ENCODER, arrays))
        return cls(encoder, sp.csr_array((values, columns, starts), shape=shape))
