"""What an ablation found: a baseline and what is added to it, one after the other, on the same folds.

Notation used for shapes: m users tested on at least one fold, n items.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.experiments.edges import Edge
from coldray.experiments.results import FoldMetrics, Lift

FloatArray = npt.NDArray[np.floating[Any]]
NEAREST = 5
"""Warm items whose mean distance says how near a cold item is to what is known."""


@dataclass(frozen=True, eq=False)
class ModeResult:
    """One stage of the ablation, tested on every fold."""

    name: str
    """``MARec``, ``+CA``, ``+CA+UA`` or ``+CA+UA+GE``."""
    config: Mapping[str, Any]
    folds: tuple[FoldMetrics, ...]
    """Test metrics, split by split and seed by seed."""
    per_user: Mapping[str, FloatArray]
    """Values ``[m]`` of each metric: every tested user's mean over the folds, the same users in all modes."""
    intervals: Mapping[str, tuple[float, float]]
    """95 % bootstrap intervals of the means over users."""
    lifts: Mapping[str, Lift]
    """Against the baseline; empty for the baseline itself."""
    edges: tuple[Edge, ...] = ()
    """Where what this stage chose is on the edge of what it tried, and the parameter goes on."""


@dataclass(frozen=True, eq=False)
class LossCurve:
    """One term of a training loss, epoch by epoch, on one fold."""

    fold: str
    values: FloatArray


@dataclass(frozen=True, eq=False)
class Cloud:
    """Points in the plane of their first two principal components."""

    points: FloatArray
    """``[n, 2]``"""
    cold: npt.NDArray[np.bool_]
    """True for a cold item ``[n]``."""
    explained: tuple[float, float]
    """Share of the variance along either axis."""


@dataclass(frozen=True, eq=False)
class AblationResult:
    """All that the table, the figures and the export are made from."""

    name: str
    dataset: Mapping[str, Any]
    protocol: Mapping[str, str]
    cutoffs: tuple[int, ...]
    """Lengths of the lists at which metrics were computed."""
    modes: tuple[ModeResult, ...]
    """The baseline first."""
    curves: Mapping[str, tuple[LossCurve, ...]]
    """By term: ``InfoNCE``, ``Gaussian NLL``, ``reconstruction``, ``KL``."""
    features: Cloud
    """Item features of the first fold."""
    scores: Mapping[str, Cloud]
    """Score profiles of the items of the first fold, by mode: the baseline and the full stack."""
    neighbour_distance: FloatArray
    """Mean cosine distance of each held-out cold item of the first fold to its :data:`NEAREST` nearest warm items."""
    correction: str
    """Name of the correction for many comparisons."""
    seconds: float
