"""Items as vectors of what is known of them and of who clicked them: for items that are alike, and lists that are not.

Notation used for shapes: B items of the catalogue, N items that came later, U users, d terms of all attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet, ScalarFeature

Cosines = npt.NDArray[np.float32]
Places = npt.NDArray[np.integer[Any]]


def item_vectors(features: FeatureSet, items: npt.NDArray[Any]) -> sp.csr_array:
    """Return the attributes of n items side by side, each of length 1, and the whole of length 1 too: CSR ``[n, d]``.

    Numbers are left out: they have no direction. An item of which nothing is known has an empty row.
    """
    parts = [
        _unit(feature.matrix[items]) for feature in features.features.values() if not isinstance(feature, ScalarFeature)
    ]
    if not parts:
        return sp.csr_array((len(items), 1), dtype=np.float32)
    return _unit(sp.csr_array(sp.hstack(parts, format="csr")))


def _click_vectors(clicks: sp.csr_array) -> sp.csr_array:
    """Return who clicked each item, of length 1: CSR ``[B, U]`` from clicks or ratings ``[U, B]``."""
    pattern = sp.csr_array((np.ones(clicks.nnz, np.float32), clicks.indices, clicks.indptr), shape=clicks.shape)
    return _unit(sp.csr_array(pattern.T.tocsr()))


def _unit(rows: sp.csr_array) -> sp.csr_array:
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1).astype(rows.dtype)) @ rows)


@dataclass(frozen=True, eq=False)
class ItemSpace:
    """All items as vectors, and how like each other they are, exactly."""

    attributes: sp.csr_array
    """Of the catalogue, float32 ``[B, d]``."""
    clicks: sp.csr_array
    """Of the catalogue, float32 ``[B, U]``."""
    added: sp.csr_array
    """Attributes of the items that came later, which have no clicks ``[N, d]``."""

    @classmethod
    def of(cls, features: FeatureSet, clicks: sp.csr_array) -> Self:
        """Return the space of a catalogue, given its clicks ``[U, B]``."""
        attributes = item_vectors(features, np.arange(features.n_items))
        return cls(attributes, _click_vectors(clicks), attributes[:0])

    def extended(self, features: FeatureSet) -> Self:
        """Return the space with the items that `features` has beyond the catalogue."""
        return replace(self, added=item_vectors(features, np.arange(self.n_known, features.n_items)))

    @property
    def n_known(self) -> int:
        """B, items of the catalogue."""
        return int(self.attributes.shape[0])

    @property
    def n_cells(self) -> int:
        """Stored cells of the catalogue: what a comparison with all of it reads."""
        return int(self.attributes.nnz + self.clicks.nnz)

    def weights(self, item: int) -> tuple[float, float]:
        """Return what the cosines of attributes and of clicks count for when others are compared with an item."""
        described = self.attributes_of(item).nnz > 0
        if item >= self.n_known or self.clicks.indptr[item] == self.clicks.indptr[item + 1]:
            return float(described), 0.0
        return (0.5, 0.5) if described else (0.0, 1.0)

    def cosines(self, item: int, weights: tuple[float, float], known: Places | None = None) -> Cosines:
        """Return the weighted sum of the cosines of an item with items of the catalogue, and with all later ones.

        Parameters
        ----------
        known
            Items of the catalogue ``[n]``; all of them unless given.

        Returns
        -------
        Cosines
            float32 ``[n + N]``.
        """
        of_attributes, of_clicks = np.float32(weights[0]), np.float32(weights[1])
        found = np.zeros((self.n_known if known is None else len(known)) + self.added.shape[0], np.float32)
        n_found = len(found) - self.added.shape[0]
        if of_attributes:
            row = of_attributes * self.attributes_of(item).toarray()[0]
            found[:n_found] += (self.attributes if known is None else self.attributes[known]) @ row
            found[n_found:] += self.added @ row
        if of_clicks:
            row = of_clicks * self.clicks[[item]].toarray()[0]
            found[:n_found] += (self.clicks if known is None else self.clicks[known]) @ row
        return found

    def attributes_of(self, item: int) -> sp.csr_array:
        """Return the attributes of an item ``[1, d]``."""
        return self.attributes[[item]] if item < self.n_known else self.added[[item - self.n_known]]
