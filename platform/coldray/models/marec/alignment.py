"""The closed form of MARec (Eq. 6 and 9), from one factorisation for every λ₁, α and β.

Eq. 9 reads ``P = (S + λ₁I + Xᵀf^A)⁻¹`` with ``S = XᵀX + λ₀FFᵀ`` and ``Xᵀf^A = αβ C g D``, where ``C = XᵀX`` and
``D = diag(max(p − r_j, 0) / p)`` is non-zero on the *aligned* items J alone, those with fewer than p clicks. Since
``Θ̃ = P(P⁻¹ − λ₁I) = I − λ₁P``, the weights are ``Θ = Θ̃ − P·diagMat(diag Θ̃ / diag P) = I − P·diagMat(1 / diag P)``.

- λ₁ only shifts the eigenvalues of S, so one eigendecomposition serves all of them.
- αβ only scales a term with |J| columns, so Woodbury's identity leaves a |J| × |J| system.
- With λ₀ = 0 and p = 1 the aligned items are exactly the cold ones and the inverse is block triangular: warm
  columns are those of EASE on the warm items, cold columns are ``αβ (C_w + λ₁I)⁻¹ C_w g``.

Eq. 9 is not the stationary point of the objective Eq. 8 as the paper prints it; Eq. 9 is what is computed here, as
in the authors' experiments.

Notation used for shapes: U users, I items, n items in the linear system (W warm ones, or all I), r rank, J aligned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import scipy.linalg
import scipy.sparse as sp
import scipy.sparse.linalg

from coldray.core.device import Device, DeviceName, Matrix, eigen_threads, resolve_device, symmetric_eigen
from coldray.core.errors import ConfigError, NumericalError, SingularMatrixError
from coldray.core.memory import require_memory
from coldray.features.feature_set import Feature, FeatureSet, VectorFeature
from coldray.models.base import TrainingSet

Solver: TypeAlias = Literal["auto", "items", "users", "cholesky", "blocks"]
Double: TypeAlias = npt.NDArray[np.float64]

_BYTES_PER_PAIR = 34
"""Bytes that a decomposition or a factor holds at its peak for each pair of items, in float64 with its work space."""
WAY_OUT = (
    "Use solver='blocks' (with lambda_0=0), fewer items through the filters (min_item_interactions), or a machine with "
    "more memory."
)
_RANK_TOLERANCE = 1e-12
"""Eigenvalues of XXᵀ below this share of the largest are rounding, not data."""
_ARNOLDI_SIZE = 64
"""Order of a matrix above which an extreme eigenvalue is iterated for."""


def _click_percentile(clicks: npt.NDArray[np.int64]) -> float:
    """Return ``p = max(10th percentile of the clicks of an item, 1)``."""
    return max(float(np.percentile(clicks, 10)), 1.0)


@dataclass(frozen=True, eq=False)
class Alignment:
    """Which items are aligned with their attributes, and how strongly."""

    items: npt.NDArray[np.int32]
    """The aligned items J, ascending: fewer than p clicks."""
    strength: Matrix
    """``d_j / β = max(p − r_j, 0) / p`` of each, float32 ``[J]``; 1 for a cold item."""
    triangular: bool
    """True when J are the cold items and nothing else couples them with the warm ones."""
    cold_alone: bool = False
    """True when J are exactly the cold items, whether or not λ₀ couples them with the warm ones."""

    @classmethod
    def of(cls, train: TrainingSet, *, lambda_0: float) -> Alignment:
        """Apply the percentile rule to `train`."""
        clicks = train.clicks
        p = _click_percentile(clicks)
        items = np.flatnonzero(clicks < p).astype(np.int32)
        strength = ((p - clicks[items]) / p).astype(np.float32)
        cold_alone = not clicks[items].any()
        return cls(items, strength, triangular=lambda_0 == 0 and cold_alone, cold_alone=cold_alone)


def system_items(train: TrainingSet, alignment: Alignment) -> npt.NDArray[np.int32]:
    """Return the items of the linear system: the warm ones if it is triangular, else all."""
    return train.warm_items if alignment.triangular else np.arange(train.interactions.shape[1], dtype=np.int32)


def stacked_features(features: FeatureSet, fitted: FeatureSet | None = None) -> sp.csr_array:
    """Return F ``[I, Σd]`` float32: all vectors side by side, and each number centred in units of its span.

    Parameters
    ----------
    fitted
        The items whose mean is the centre of a number; `features` themselves by default.
    """
    columns = []
    for name, feature in features.features.items():
        if isinstance(feature, VectorFeature):
            columns.append(feature.matrix)
        else:
            column = np.nan_to_num((feature.values - _centre((fitted or features).features[name])) / feature.span)
            columns.append(sp.csr_array(column[:, None].astype(np.float32)))
    return sp.csr_array(sp.hstack(columns, format="csr"))


def _centre(feature: Feature) -> float:
    if isinstance(feature, VectorFeature):
        raise TypeError("A number is described by a vector for the fitted items.")
    known = feature.values[np.isfinite(feature.values)]
    return float(known.mean()) if len(known) else 0.0


@dataclass(frozen=True, eq=False)
class GramSpectrum:
    """``S = V diag(e) Vᵀ``; eigenvectors with eigenvalue 0 may be left out."""

    values: Double
    """Eigenvalues e ``[r]``, non-negative."""
    vectors: Matrix
    """Eigenvectors V, float32 ``[n, r]``."""


def check_solver(solver: Solver, lambda_0: float) -> None:
    """Raise `ConfigError` for ``users`` or ``blocks`` with ``λ₀ > 0``, which they leave out."""
    if solver == "users" and lambda_0 > 0:
        raise ConfigError(
            f"solver='users' decomposes XXᵀ, which lambda_0={lambda_0:g} is not part of. Use solver='items', or "
            "lambda_0=0."
        )
    if solver == "blocks" and lambda_0 > 0:
        raise ConfigError(
            f"solver='blocks' solves for cold columns by the clicks, which lambda_0={lambda_0:g} is no part of. Use "
            "lambda_0=0, or another solver."
        )


def gram_spectrum(train: TrainingSet, *, lambda_0: float, solver: Solver, device: DeviceName = "auto") -> GramSpectrum:
    """Decompose ``S = XᵀX + λ₀FFᵀ`` over the items of the system.

    Parameters
    ----------
    solver
        ``items`` decomposes the ``n × n`` matrix, ``users`` the ``U × U`` matrix ``XXᵀ`` (for ``λ₀ = 0``); ``auto``
        takes the smaller one.

    Raises
    ------
    ConfigError
        For ``users`` with ``λ₀ > 0``.
    CatalogTooLargeError
        If the matrix and its eigenvectors do not fit in memory.
    """
    check_solver(solver, lambda_0)
    items = system_items(train, Alignment.of(train, lambda_0=lambda_0))
    clicks = sp.csr_array(train.interactions[:, items])
    users = solver == "users" or (solver == "auto" and lambda_0 == 0 and clicks.shape[0] < clicks.shape[1])
    require_closed_form_memory(spectrum_bytes(*clicks.shape, users=users), clicks.shape[1])
    where = resolve_device(device)
    if users:
        values, left = _decomposed(_dense(clicks @ clicks.T), where)
        keep = values > _RANK_TOLERANCE * values[-1]
        vectors = np.asarray((clicks.T @ left[:, keep]) / np.sqrt(values[keep]))
        return GramSpectrum(values[keep], vectors.astype(np.float32))
    values, vectors = _decomposed(_gram(clicks, train, items, lambda_0), where)
    return GramSpectrum(np.maximum(values, 0), vectors.astype(np.float32))


def _decomposed(matrix: Double, device: Device) -> tuple[Double, Double]:
    with eigen_threads(len(matrix)):
        return symmetric_eigen(matrix, device)


def spectrum_bytes(n_users: int, n_items: int, *, users: bool) -> int:
    """Return what the decomposition of the items' matrix takes at its peak, or of the users' with the item vectors."""
    size = n_users if users else n_items
    return _BYTES_PER_PAIR * size**2 + (12 * size * n_items if users else 0)


def item_weights(inverse: npt.NDArray[Any]) -> Matrix:
    """Return ``Θ = I − P·diagMat(1 / diag P)``, with an exact zero diagonal."""
    weights = np.empty(inverse.shape, np.float32)
    np.divide(inverse, -np.diag(inverse), out=weights, casting="same_kind")  # float64 is rounded piece by piece
    np.fill_diagonal(weights, 0.0)
    return weights


def aligned_inverse(
    ridge: Matrix, aligned_gram: Matrix, alignment: Alignment, scale: float, *, coupled: bool = False
) -> Double:
    """Return ``P = (S + λ₁I + αβ C g D)⁻¹`` by Woodbury's identity, float64 ``[n, n]``.

    Parameters
    ----------
    ridge
        ``(S + λ₁I)⁻¹ [n, n]``.
    aligned_gram
        ``C g`` on the columns of the aligned items, ``[n, J]``.
    scale
        αβ.
    coupled
        True if ``λ₀ > 0`` couples the aligned items with the others; then αβ must stay below the pole.

    Raises
    ------
    SingularMatrixError
        If the aligned system has no inverse.
    NumericalError
        If αβ lies beyond the pole.
    """
    base = ridge.astype(np.float64)
    update = base @ (scale * aligned_gram.astype(np.float64) * alignment.strength)
    inner = update[alignment.items]
    if coupled:
        require_before_pole(inner, scale)
    inner[np.diag_indices_from(inner)] += 1
    try:
        corrected = np.linalg.solve(inner, base[alignment.items])
    except np.linalg.LinAlgError as error:
        raise SingularMatrixError(
            f"The aligned system is singular with alpha·beta={scale:g}: {error}. Use another alpha, beta or lambda_1."
        ) from error
    base -= update @ corrected
    return base


def require_before_pole(coupling: Double, scale: float) -> None:
    """Raise :class:`~coldray.core.errors.NumericalError` if αβ lies beyond the pole of Eq. 9.

    With ``λ₀ > 0`` the determinant of ``S + λ₁I + αβ C g D`` is proportional to that of ``I + αβK``, where `coupling`
    is ``αβK`` and grows with λ₀. As αβ rises from 0, the first real eigenvalue to reach 0 is a pole: P is infinite,
    and beyond it has the wrong sign along the eigenvector, so that the wrong items come first.
    """
    if len(coupling) == 0:
        return
    lowest = _lowest_real_part(coupling)
    if lowest <= -1:
        raise NumericalError(
            f"alpha·beta={scale:g} is beyond the pole of Eq. 9 at {-scale / lowest:.3g} that lambda_0 > 0 brings, "
            "where wrong items come first. Use a smaller alpha or beta, a smaller lambda_0 or a larger lambda_1."
        )


def _lowest_real_part(matrix: Double) -> float:
    """Return the smallest real part of the eigenvalues of a square matrix."""
    if len(matrix) > _ARNOLDI_SIZE:
        try:
            start = np.ones(len(matrix))  # given, so that the answer does not depend on a random draw
            found = scipy.sparse.linalg.eigs(matrix, k=1, which="SR", v0=start, tol=1e-4, return_eigenvectors=False)
            return float(found[0].real)
        except scipy.sparse.linalg.ArpackError:
            pass  # clustered eigenvalues: take the long way
    return float(np.linalg.eigvals(matrix).real.min())


def _gram(clicks: sp.csr_array, train: TrainingSet, items: npt.NDArray[np.int32], lambda_0: float) -> Double:
    gram = _dense(clicks.T @ clicks)
    if lambda_0 > 0:
        stacked = stacked_features(train.features.take(items))
        gram += lambda_0 * _dense(stacked @ stacked.T)
    return gram


def _dense(matrix: sp.csr_array) -> Double:
    dense: Double = matrix.toarray().astype(np.float64)
    return dense


def require_closed_form_memory(need: int, n_items: int) -> None:
    """Raise :class:`~coldray.core.errors.CatalogTooLargeError` if `need` bytes for that many items are not there."""
    require_memory(
        need,
        purpose=f"The closed form of MARec on {n_items:,} items",
        way_out=WAY_OUT,
    )
