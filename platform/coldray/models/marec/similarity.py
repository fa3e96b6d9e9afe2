"""Item similarities from attributes, and their products (MARec Eq. 3–5).

Notation used for shapes: r row items, c column items, K attributes, T terms (K, or K + K(K−1)/2 with pairs).
"""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from coldray.core.errors import ConfigError
from coldray.core.spelling import choices, nearest
from coldray.features.feature_set import Feature, FeatureSet, ScalarFeature, VectorFeature

Order: TypeAlias = Literal[1, 2]
Delta: TypeAlias = float | tuple[tuple[str, float], ...]
"""One δ for every attribute, or ``(attribute, δ)`` pairs that name them all."""
Block: TypeAlias = npt.NDArray[np.float32]


def term_pairs(n_attributes: int, order: Order) -> list[tuple[int, ...]]:
    """Return the attributes each term multiplies: singles first, then pairs if `order` is 2."""
    singles: list[tuple[int, ...]] = [(k,) for k in range(n_attributes)]
    return singles if order == 1 else singles + list(itertools.combinations(range(n_attributes), 2))


def term_names(features: FeatureSet, order: Order) -> tuple[str, ...]:
    """Return ``genres``, …, ``genres × actors``, … in the order of the mixture's weights."""
    names = list(features.features)
    return tuple(" × ".join(names[k] for k in term) for term in term_pairs(len(names), order))


def _deltas(features: FeatureSet, delta: Delta) -> dict[str, float]:
    """Return δ of each attribute.

    Raises
    ------
    ConfigError
        If a named attribute is unknown or one is left out.
    """
    vectors = [name for name, feature in features.features.items() if isinstance(feature, VectorFeature)]
    if not isinstance(delta, tuple):
        return dict.fromkeys(vectors, delta)
    check_delta(delta, features.features, vectors)
    return dict(delta)


def check_delta(delta: Delta, attributes: Collection[str], vectors: Collection[str]) -> None:
    """Find out whether δ goes with the attributes, of which those of `vectors` are compared by their cosine.

    Raises
    ------
    ConfigError
        If a named attribute is unknown or one is left out.
    """
    if not isinstance(delta, tuple):
        return
    given = dict(delta)
    for name in given:
        if name not in attributes:
            raise ConfigError(
                f"delta names the attribute {name!r}, which is not used.{nearest(name, attributes)} "
                f"Used: {choices(attributes)}."
            )
    missing = [name for name in vectors if name not in given]
    if missing:
        raise ConfigError(
            f"delta is given by attribute but leaves out {choices(missing)}. Give one for each of {choices(vectors)}, "
            "or one number for all."
        )


class Similarities:
    """The first-order similarities ``G^(k)`` between row items and column items, one block of rows at a time.

    ``G_ij = z_iᵀz_j / (‖z_i‖‖z_j‖ + δ)`` (Eq. 3–4) for vectors, ``max(1 − |x_i − x_j| / span, 0)`` for numbers, 0 where
    a number is unknown.
    """

    def __init__(self, rows: FeatureSet, columns: FeatureSet, delta: Delta) -> None:
        self.shape = (rows.n_items, columns.n_items)
        smoothing = _deltas(rows, delta)
        self._kernels = [
            _kernel(rows.features[name], columns.features[name], smoothing.get(name, 0.0)) for name in rows.features
        ]

    def __len__(self) -> int:
        return len(self._kernels)

    def block(self, start: int, stop: int) -> Block:
        """Return float32 ``[K, stop − start, c]``."""
        out = np.empty((len(self), stop - start, self.shape[1]), np.float32)
        for k, kernel in enumerate(self._kernels):
            kernel(start, stop, out[k])
        return out


def _kernel(rows: Feature, columns: Feature, delta: float) -> Any:
    if isinstance(rows, ScalarFeature) and isinstance(columns, ScalarFeature):
        return _ScalarKernel(rows, columns)
    if isinstance(rows, VectorFeature) and isinstance(columns, VectorFeature):
        return _VectorKernel(rows, columns, delta)
    raise TypeError("Row and column items describe the same attribute in different ways.")


class _VectorKernel:
    def __init__(self, rows: VectorFeature, columns: VectorFeature, delta: float) -> None:
        self.rows = rows.matrix
        self.columns = columns.matrix.T.tocsr()
        self.row_norms = _norms(rows)
        self.column_norms = _norms(columns)
        self.delta = np.float32(delta)

    def __call__(self, start: int, stop: int, out: Block) -> None:
        (self.rows[start:stop] @ self.columns).toarray(out=out)
        out /= np.multiply.outer(self.row_norms[start:stop], self.column_norms) + self.delta


class _ScalarKernel:
    def __init__(self, rows: ScalarFeature, columns: ScalarFeature) -> None:
        known = rows.values[np.isfinite(rows.values)]
        centre = known.mean() if len(known) else 0.0  # small numbers keep more digits in float32
        self.rows = ((rows.values - centre) / rows.span).astype(np.float32)
        self.columns = ((columns.values - centre) / rows.span).astype(np.float32)

    def __call__(self, start: int, stop: int, out: Block) -> None:
        np.subtract.outer(self.rows[start:stop], self.columns, out=out)
        np.abs(out, out=out)
        np.subtract(1, out, out=out)
        np.nan_to_num(out, copy=False, nan=0.0)
        np.maximum(out, 0, out=out)


def _norms(feature: VectorFeature) -> npt.NDArray[np.float32]:
    squares = feature.matrix.multiply(feature.matrix).sum(axis=1)
    return np.sqrt(np.asarray(squares, np.float64)).ravel().astype(np.float32)


def mix(similarities: Similarities, weights: npt.NDArray[np.float64], order: Order, rows_per_block: int = 256) -> Block:
    """Return the mixture ``g = Σ_k μ_k G^(k) + Σ_{k<l} μ_kl G^(k) ∘ G^(l)`` (Eq. 5), float32 ``[r, c]``.

    Parameters
    ----------
    weights
        μ, one a term, in the order of :func:`term_names`.
    """
    count = len(similarities)
    single, paired = weights[:count].astype(np.float32), np.zeros((count, count), np.float32)
    if order == 2:
        paired[np.triu_indices(count, 1)] = weights[count:]
    mixed = np.zeros(similarities.shape, np.float32)
    for start in range(0, similarities.shape[0], rows_per_block):
        stop = min(start + rows_per_block, similarities.shape[0])
        block = similarities.block(start, stop)
        for k in range(count):
            # Σ_l>k of the products shares the factor G^(k): one product a term instead of two.
            factor = np.tensordot(paired[k, k + 1 :], block[k + 1 :], axes=1) + single[k]
            mixed[start:stop] += block[k] * factor
    return mixed
