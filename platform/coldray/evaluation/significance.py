"""How far a mean over users can be trusted: percentile bootstrap intervals.

The protocol of the MARec paper: 500 bootstraps, each of 20 % of the test users. A bootstrap of a share s of the users
spreads as a mean over that many users does, so its interval is about 1/√s as wide (2.24 times for 20 %) as one for
the mean over all of them; ``share=1.0`` gives the latter.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.errors import ConfigError, EmptyDatasetError, NumericalError


def bootstrap_interval(
    per_user_values: npt.NDArray[np.floating[Any]],
    *,
    draws: int = 500,
    share: float = 0.2,
    level: float = 0.95,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the percentile interval of the mean over bootstraps of a share of the users.

    Parameters
    ----------
    per_user_values
        One value a user, ``[m]``.
    draws
        Number of bootstraps.
    share
        Size of a bootstrap, in users drawn with replacement, as a share of m (rounded, at least 1 user).
    level
        Share of the bootstrap means inside the interval; as much is cut off below as above.
    generator
        Source of the draws. The same state gives the same interval.

    Returns
    -------
    tuple
        Lower and upper end.

    Raises
    ------
    EmptyDatasetError
        If there is no user.
    NumericalError
        If a value is NaN or infinite.
    ConfigError
        If `draws` is below 1, `share` not in (0, 1], or `level` not in (0, 1).
    """
    values = np.asarray(per_user_values, dtype=np.float64)
    _check(values, draws, share, level)
    size = max(1, round(share * len(values)))
    # One bootstrap at a time: the index matrix of all would take draws × share times the memory of the values.
    means = [values[generator.integers(len(values), size=size)].mean() for _ in range(draws)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_interval(
    a: npt.NDArray[np.floating[Any]],
    b: npt.NDArray[np.floating[Any]],
    *,
    draws: int = 500,
    share: float = 0.2,
    level: float = 0.95,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Return the interval of the mean difference ``a - b``, the same users in the same order on both sides.

    An interval that excludes 0 says that the two differ by more than the choice of users explains. What users have
    in common cancels, so it is narrower than the intervals of `a` and of `b` suggest.

    Parameters
    ----------
    a, b
        One value a user, ``[m]``.
    draws, share, level, generator
        As for :func:`bootstrap_interval`.

    Raises
    ------
    ConfigError
        If `a` and `b` are not of the same shape, and as :func:`bootstrap_interval`.
    EmptyDatasetError, NumericalError
        As :func:`bootstrap_interval`.
    """
    if np.shape(a) != np.shape(b):
        raise ConfigError(f"Values of shapes {np.shape(a)} and {np.shape(b)} are not of the same users.")
    differences = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    return bootstrap_interval(differences, draws=draws, share=share, level=level, generator=generator)


def _check(values: npt.NDArray[np.float64], draws: int, share: float, level: float) -> None:
    if values.ndim != 1:
        raise ConfigError(f"Values of shape {values.shape} were given; one value a user, [m], is needed.")
    if len(values) == 0:
        raise EmptyDatasetError("There is no user to draw from; evaluate at least 1 user with relevant items.")
    unusable = np.flatnonzero(~np.isfinite(values))
    if len(unusable):
        raise NumericalError(f"The value at position {unusable[0]} is {values[unusable[0]]}; all must be finite.")
    if draws < 1:
        raise ConfigError(f"draws is {draws}; at least 1 bootstrap is needed.")
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}; it must be above 0 and at most 1.")
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it must be between 0 and 1, such as 0.95.")
