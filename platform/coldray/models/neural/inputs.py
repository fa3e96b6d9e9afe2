"""Item attributes as the input of a network: one sparse row an item, every attribute with the same say.

Notation used for shapes: n items, F inputs, d terms of an attribute.
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
from coldray.training.task import Batch

MIN_ITEMS = 2
"""Warm items a term must be in."""
_NUMBER_CENTRES = np.linspace(-3.0, 3.0, 13)
"""A number is told by its nearness to these, in standard deviations, so that a network sees it like labels."""
_NUMBER_WIDTH = 0.5
"""Standard deviation of such a bump, in the same unit."""
N_BUMPS = len(_NUMBER_CENTRES)
"""Inputs of a number."""


@dataclass(frozen=True, eq=False)
class AttributeInputs:
    """The encoding of attributes, fitted on the warm items.

    Labels and words are weighted by their inverse document frequency ``log((n + 1) / (df + 1))``; those of fewer than
    two warm items are left out, as nothing can be learnt from them, and those of all of them weigh nothing. Embeddings
    are taken as they are. Numbers are spread over Gaussian bumps. Each attribute of an
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
        return cls.fitted(train.features.take(train.warm_items), "items with clicks")

    @classmethod
    def fitted(cls, features: FeatureSet, whose: str) -> Self:
        """Fit the encoding on all that `features` describe, as `whose` says in the plural.

        Raises
        ------
        DataError
            As of :meth:`of`.
        """
        parameters = {
            name: _term_weights(feature) if isinstance(feature, VectorFeature) else mean_and_spread(feature.values)
            for name, feature in features.features.items()
        }
        if not any(isinstance(features.features[name], ScalarFeature) or w.any() for name, w in parameters.items()):
            raise DataError(
                f"Nothing can be learnt from the attributes {choices(parameters)} of {features.n_items} {whose}: "
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
                blocks.append(sp.csr_array(bumps(feature.values, self.parameters[name])))
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
    if feature.is_embedding:  # every item has every dimension of an embedding: frequencies say nothing
        return np.ones(matrix.shape[1], np.float32)
    frequency = np.bincount(matrix.indices, minlength=matrix.shape[1])
    weights = np.log((matrix.shape[0] + 1) / (frequency + 1))
    return np.where(frequency >= MIN_ITEMS, weights, 0).astype(np.float32)


def mean_and_spread(values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float32]:
    """Return mean and standard deviation of the known ones of some numbers, by which :func:`bumps` tells them."""
    known = values[np.isfinite(values)]
    if len(known) == 0:
        return np.array([0.0, 1.0], np.float32)
    return np.array([known.mean(), known.std() or 1.0], np.float32)


def bumps(values: npt.NDArray[np.floating[Any]], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.floating[Any]]:
    """Return the nearness of numbers to each centre ``[…, bumps]``, all 0 of an unknown one.

    Parameters
    ----------
    values
        ``[…]``, NaN where unknown.
    scales
        Mean and standard deviation ``[2]``, or those of the last dimension of the values ``[f, 2]``.
    """
    standard = np.clip((values - scales[..., 0]) / scales[..., 1], _NUMBER_CENTRES[0], _NUMBER_CENTRES[-1])
    nearness = np.exp(-0.5 * ((standard[..., None] - _NUMBER_CENTRES) / _NUMBER_WIDTH) ** 2)
    return np.where(np.isnan(nearness), 0, nearness)


def _unit_rows(block: Any) -> sp.csr_array:
    rows = sp.csr_array(block, dtype=np.float32)
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows, dtype=np.float32)
