"""How far a mean over users can be trusted: percentile bootstrap intervals, and a test of two models.

The protocol of the MARec paper: 500 bootstraps, each of 20 % of the test users. A bootstrap of a share s of the users
spreads as a mean over that many users does, so its interval is about 1/√s as wide (2.24 times for 20 %) as one for
the mean over all of them; ``share=1.0`` gives the latter.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from coldray.core.errors import ConfigError, EmptyDatasetError, NumericalError

_ROUNDING = 1e-12
"""Differences that vary by no more than this share of the largest are equal but for the rounding of float64."""


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
    return bootstrap_interval(_differences(a, b), draws=draws, share=share, level=level, generator=generator)


def paired_p_value(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> float:
    """Return the two-sided p-value of "the mean of ``a - b`` over users is 0": the paired t-test.

    Student's t is taken, not Wilcoxon's signed ranks. The question is whether the mean that a report shows differs, and
    a user on whom both models do equally badly (ndcg 0 twice, often most users) is evidence that it does not. Wilcoxon
    leaves such users out, and its null is differences symmetric about 0: a model that gains a little for many and loses
    much for few is found "better" at an equal mean. The t-test asks no shape of the differences, only that their mean
    over users is about normal, which holds from some hundred users on; with fewer, or when only a handful of users
    differ at all, read p as an order of magnitude. Ihemelandu and Ekstrand, *Inference at Scale: Significance
    Testing for Large Search and Recommendation Experiments*, SIGIR 2023, find its errors as frequent as they should be
    with thousands of users, where Wilcoxon's are too many. They also find that with so many users almost any
    difference is significant: :func:`paired_interval` says how large it is.

    Where all differences are the same number, t has no spread to measure by. The p-value is then that of the
    permutation test, which t approximates: 1 if the number is 0, else ``2 / 2^m``, the share of the sign patterns that
    give a mean as large. One user alone thus proves nothing (p = 1).

    Parameters
    ----------
    a, b
        One value a user, ``[m]``, the same users in the same order.

    Returns
    -------
    float
        In [0, 1]. Testing several pairs calls for :func:`adjust_p_values`.

    Raises
    ------
    ConfigError
        If `a` and `b` are not of the same shape ``[m]``.
    EmptyDatasetError
        If there is no user.
    NumericalError
        If a difference is NaN or infinite.
    """
    differences = _differences(a, b)
    _check_values(differences)
    largest = np.abs(differences).max()
    if largest == 0:
        return 1.0
    scaled = differences / largest  # t has no unit, and squares of tiny numbers would be lost
    # Differences of equal float64 values that are off by rounding are equal, too.
    if np.ptp(scaled) <= _ROUNDING:
        return float(min(1.0, 2.0 ** (1 - len(scaled))))
    from scipy.stats import ttest_1samp  # half a second of imports that not every worker needs

    return float(ttest_1samp(scaled, 0.0).pvalue)


def adjust_p_values(
    p_values: npt.NDArray[np.floating[Any]], method: Literal["holm", "bh"] = "holm"
) -> npt.NDArray[np.float64]:
    """Return p-values that account for how many comparisons were made together.

    Of m true null hypotheses tested at 5 %, ``0.05 m`` come out as findings. With ``holm``, the probability of one or
    more false findings among all comparisons stays below the level the adjusted values are held against, whatever the
    dependence between them; models compared on the same users depend. It rejects all that Bonferroni rejects and more:
    the i-th smallest becomes ``max_{j ≤ i} min(1, (m − j + 1) p_(j))`` (Holm, *A Simple Sequentially Rejective Multiple
    Test Procedure*, Scandinavian Journal of Statistics 6, 1979). ``bh`` bounds the expected share of false findings
    among the findings instead, for independent or positively dependent tests (Benjamini and Hochberg, *Journal of the
    Royal Statistical Society* B 57, 1995).

    Parameters
    ----------
    p_values
        One a comparison, ``[m]``; all that were made, those not reported included.
    method
        ``holm`` or ``bh``.

    Returns
    -------
    numpy.ndarray
        float64 ``[m]``, in the order given; none is below its p-value.

    Raises
    ------
    ConfigError
        If `p_values` is not ``[m]``, a value is not in [0, 1], or the method is unknown.
    EmptyDatasetError
        If there is no p-value.
    """
    raw = np.asarray(p_values, dtype=np.float64)
    if raw.ndim != 1:
        raise ConfigError(f"p-values of shape {raw.shape} were given; one a comparison, [m], is needed.")
    if len(raw) == 0:
        raise EmptyDatasetError("There is no p-value to adjust; compare at least 2 models.")
    unusable = np.flatnonzero(~((raw >= 0) & (raw <= 1)))
    if len(unusable):
        raise ConfigError(f"The p-value at position {unusable[0]} is {raw[unusable[0]]}; it must be between 0 and 1.")
    if method == "bh":
        from scipy.stats import false_discovery_control

        return np.asarray(false_discovery_control(raw, method="bh"), dtype=np.float64)
    if method != "holm":
        raise ConfigError(f'The method is {method!r}; "holm" and "bh" are known.')
    order = np.argsort(raw)
    adjusted = np.empty_like(raw)
    factors = np.arange(len(raw), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * raw[order]), 1.0)
    return adjusted


def _differences(a: npt.NDArray[np.floating[Any]], b: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    if np.shape(a) != np.shape(b):
        raise ConfigError(f"Values of shapes {np.shape(a)} and {np.shape(b)} are not of the same users.")
    return np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)


def _check_values(values: npt.NDArray[np.float64]) -> None:
    if values.ndim != 1:
        raise ConfigError(f"Values of shape {values.shape} were given; one value a user, [m], is needed.")
    if len(values) == 0:
        raise EmptyDatasetError("There is no user to draw from; evaluate at least 1 user with relevant items.")
    unusable = np.flatnonzero(~np.isfinite(values))
    if len(unusable):
        raise NumericalError(f"The value at position {unusable[0]} is {values[unusable[0]]}; all must be finite.")


def _check(values: npt.NDArray[np.float64], draws: int, share: float, level: float) -> None:
    _check_values(values)
    if draws < 1:
        raise ConfigError(f"draws is {draws}; at least 1 bootstrap is needed.")
    if not 0 < share <= 1:
        raise ConfigError(f"share is {share}; it must be above 0 and at most 1.")
    if not 0 < level < 1:
        raise ConfigError(f"level is {level}; it must be between 0 and 1, such as 0.95.")
