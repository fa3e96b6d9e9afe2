"""Sparse rows as dense vectors of few dimensions whose inner products are nearly those of the rows.

The leading singular directions carry what many rows have in common. What is left of a row, which is most of it where
rows are various, is projected at random, which keeps inner products right on average (Johnson and Lindenstrauss, 1984).
Which of the two finds more of the nearest rows depends on the data; half of each is good on all.

Notation used for shapes: n rows, d columns, r directions, m random ones.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp

Vectors = npt.NDArray[np.float32]
DIRECTIONS = 64
"""r, and as many at random, at most."""
POWER_ITERATIONS = 2
"""Of the randomised decomposition; what it misses is left to the random directions."""


class Projection:
    """Maps rows like those it was made for."""

    def __init__(self, rows: sp.csr_array, rng: np.random.Generator, n_directions: int = DIRECTIONS) -> None:
        """Decompose `rows` ``[n, d]``; with so few columns that there is nothing to save, they stay as they are."""
        n_columns = rows.shape[1]
        self._singular = np.empty((n_columns, 0), np.float32)
        self._random: Vectors | None = None
        if n_columns <= 2 * n_directions:
            return
        from sklearn.utils.extmath import randomized_svd  # imported by those who use it alone

        count, seed = min(n_directions, *rows.shape), int(rng.integers(2**31))
        _, _, right = randomized_svd(rows, count, n_iter=POWER_ITERATIONS, random_state=seed, flip_sign=False)
        self._singular = np.ascontiguousarray(right.T, np.float32)  # [d, r]
        scale = np.float32(1 / np.sqrt(n_directions))
        self._random = scale * rng.standard_normal((n_columns, n_directions), np.float32)  # [d, m]
        self._overlap = self._singular.T @ self._random  # [r, m]

    @property
    def width(self) -> int:
        """Dimensions of the vectors."""
        return self._singular.shape[0] if self._random is None else sum(self._overlap.shape)

    def __call__(self, rows: sp.csr_array) -> Vectors:
        """Return the vectors of rows ``[n, d]``, float32 ``[n, r + m]``."""
        if self._random is None:
            return np.asarray(rows.toarray(), np.float32)
        common = np.asarray(rows @ self._singular)  # [n, r]
        rest = rows @ self._random - common @ self._overlap  # [n, m]
        return np.hstack([common, rest]).astype(np.float32, copy=False)
