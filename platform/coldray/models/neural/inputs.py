"""Item attributes as the input of a network: one sparse row an item, every attribute with the same say.

Those of all items are kept with the model that was trained on them.

Notation used for shapes: I items, n some or new ones, F inputs, d terms of an attribute.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
import torch

from coldray.core.errors import DataError
from coldray.core.spelling import choices
from coldray.features.feature_set import FeatureSet, ScalarFeature, VectorFeature
from coldray.models.base import TrainingSet
from coldray.models.state import Arrays
from coldray.models.transfer.similarity import arrays_under
from coldray.training.task import Batch

MIN_ITEMS = 2
"""Warm items a term must be in."""
_NUMBER_CENTRES = np.linspace(-3.0, 3.0, 13)
"""A number is told by its nearness to these, in standard deviations, so that a network sees it like labels."""
_NUMBER_WIDTH = 0.5
"""Standard deviation of such a bump, in the same unit."""


@dataclass(frozen=True, eq=False)
class AttributeInputs:
    """The encoding of attributes, fitted on the warm items.

    Labels and words are weighted by their inverse document frequency ``log((n + 1) / (df + 1))``; those of fewer than
    two warm items are left out, as nothing can be learnt from them, and those of all of them weigh nothing. Embeddings,
    told by their negative values, are taken as they are. Numbers are spread over Gaussian bumps. Each attribute of an
    item is then scaled to unit length, so that one with many terms does not drown the others; a missing one is all
    zeros.
    """

    parameters: Mapping[str, npt.NDArray[np.float32]]
    """By attribute: weights ``[d]`` of the terms, 0 for one that is left out, or mean and standard deviation ``[2]`` of
    a number."""

    @classmethod
    def of(cls, train: TrainingSet) -> Self:
        """Fit the encoding on the warm items of `train`.

        Raises
        ------
        DataError
            If no attribute tells any of the warm items from the others.
        """
        warm = train.features.take(train.warm_items)
        parameters = {
            name: _term_weights(feature) if isinstance(feature, VectorFeature) else _moments(feature)
            for name, feature in warm.features.items()
        }
        if not any(isinstance(warm.features[name], ScalarFeature) or w.any() for name, w in parameters.items()):
            raise DataError(
                f"Nothing can be learnt from the attributes {choices(parameters)} of {warm.n_items} items with clicks: "
                f"no term is in {MIN_ITEMS} of them or more, but not in all. Use more attributes, or filter less."
            )
        return cls(parameters)

    def encode(self, features: FeatureSet) -> sp.csr_array:
        """Return the inputs of items, CSR float32 ``[n, F]``."""
        blocks = []
        for name, feature in features.features.items():
            if isinstance(feature, VectorFeature):
                weights = self.parameters[name]
                used = np.flatnonzero(weights)
                blocks.append(feature.matrix[:, used] @ sp.diags_array(weights[used]))
            else:
                blocks.append(_bumps(feature, self.parameters[name]))
        return sp.csr_array(sp.hstack([_unit_rows(block) for block in blocks], format="csr"))


def bag(inputs: sp.csr_array) -> Batch:
    """Return CSR rows as the arguments of :class:`torch.nn.EmbeddingBag`: ``indices``, ``offsets`` and ``weights``."""
    return {
        "indices": torch.from_numpy(inputs.indices.astype(np.int64)),
        "offsets": torch.from_numpy(inputs.indptr[:-1].astype(np.int64)),
        "weights": torch.from_numpy(inputs.data.astype(np.float32)),
    }


def _term_weights(feature: VectorFeature) -> npt.NDArray[np.float32]:
    matrix = feature.matrix
    if matrix.data.min(initial=0) < 0:  # every item has every dimension of an embedding: frequencies say nothing
        return np.ones(matrix.shape[1], np.float32)
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weights = np.log((matrix.shape[0] + 1) / (frequency + 1))
    return np.where(frequency >= MIN_ITEMS, weights, 0).astype(np.float32)


def _moments(feature: ScalarFeature) -> npt.NDArray[np.float32]:
    known = feature.values[np.isfinite(feature.values)]
    if len(known) == 0:
        return np.array([0.0, 1.0], np.float32)
    return np.array([known.mean(), known.std() or 1.0], np.float32)


def _bumps(feature: ScalarFeature, moments: npt.NDArray[np.float32]) -> sp.csr_array:
    standard = np.clip((feature.values - moments[0]) / moments[1], _NUMBER_CENTRES[0], _NUMBER_CENTRES[-1])
    bumps = np.exp(-0.5 * ((standard[:, None] - _NUMBER_CENTRES) / _NUMBER_WIDTH) ** 2)
    return sp.csr_array(np.nan_to_num(bumps))


def _unit_rows(block: Any) -> sp.csr_array:
    rows = sp.csr_array(block, dtype=np.float32)
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows, dtype=np.float32)


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
