"""How alike two lists of clicks are, by what they have in common: items by their users, or users by their items.

With c cells in common of n and m, out of N:

- cosine: ``c / √(n m)``;
- Jaccard: ``c / (n + m − c)``;
- Pearson: ``(N c − n m) / √(n (N − n) m (N − m))``, the correlation φ of two columns of zeros and ones.

Each is multiplied by ``c / (c + shrinkage)``, so that few cells in common are not trusted (Bell and Koren, *Scalable
Collaborative Filtering with Jointly Derived Neighborhood Interpolation Weights*, 2007, Sec. 3).

Adjusted cosine is not among them. It takes each user's mean rating from their ratings; a click is 1, and so is the mean
of a user's clicks, so nothing would be left of any.

Notation used for shapes: b rows, n columns.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import NonNegativeFloat, PositiveInt

from coldray.models.base import ModelConfig

Measure: TypeAlias = Literal["cosine", "pearson", "jaccard"]
Matrix: TypeAlias = npt.NDArray[np.float32]
Counts: TypeAlias = npt.NDArray[np.number[Any]]


class NeighbourConfig(ModelConfig):
    """Parameters of models that count clicks in common."""

    k: PositiveInt = 100
    """Neighbours at most; those that are not similar at all are left out."""
    measure: Measure = "cosine"
    """What similar means."""
    shrinkage: NonNegativeFloat = 0.0
    """Clicks in common at which a similarity counts half; 0 trusts all alike."""


def click_similarity(
    common: Counts, left: Counts, right: Counts, *, size: int, measure: Measure, shrinkage: float
) -> Matrix:
    """Return similarities, float32 ``[b, n]``; 0 where nothing is in common or the measure is not above 0.

    Parameters
    ----------
    common
        Cells in common ``[b, n]``.
    left, right
        Clicks of the rows ``[b]`` and of the columns ``[n]``.
    size
        N, how many clicks a list can have.
    """
    found = np.asarray(common, np.float32)
    rows, columns = np.asarray(left, np.float32)[:, None], np.asarray(right, np.float32)
    if measure == "cosine":
        above, below = found, np.sqrt(rows) * np.sqrt(columns)
    elif measure == "jaccard":
        above, below = found, rows + columns - found
    else:
        above = found - rows * (columns / np.float32(size))
        below = np.sqrt(rows * (1 - rows / size)) * np.sqrt(columns * (1 - columns / size))
    if shrinkage > 0:
        above = above * (found / (found + np.float32(shrinkage)))
    # Someone with every click there is correlates with nobody: 0 / 0.
    similar: Matrix = np.divide(above, below, out=np.zeros_like(found), where=(below > 0) & (above > 0) & (found > 0))
    return similar
