"""Items as vectors of what is known of them, for lists that are diverse and for items that are alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

from coldray.features.feature_set import FeatureSet, ScalarFeature


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


def _unit(rows: sp.csr_array) -> sp.csr_array:
    norms = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
    return sp.csr_array(sp.diags_array(1 / np.where(norms > 0, norms, 1)) @ rows)
