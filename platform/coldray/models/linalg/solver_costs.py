"""What the exact solvers of a ridge regression cost a study: eigendecompositions that are shared, or a factor a fit.

An eigendecomposition serves every λ, at two products a fit; a Cholesky factor serves one, at a solve. Which is cheaper
depends on how many fits there are for each matrix. The constants are CPU seconds of one thread of OpenBLAS (a trial has
one CPU), measured at 3,000 and 3,260 items on a machine with AVX-512: 4.3 s for the decomposition (LAPACK's divide and
conquer, float64), 0.20 s for the factor, 0.92 s for a solve for as many columns, 0.38 s for a product in single
precision, and 0.27 s for the weights of EASE from a spectrum, a symmetric product of half the multiplications. Their
ratios decide. With two threads at 6,000 items the decomposition takes 13.8 s, the factor 1.07 s and the solve 3.2 s.

Notation used for shapes: n items, U users.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from coldray.models.forms import StudyOutlook

_EIGEN = 1.25e-10
"""Seconds of a decomposition of an ``n × n`` matrix, for each ``n³``."""
_FACTOR = 7.3e-12
"""Seconds of a Cholesky factor in float64, for each ``n³``."""
_INVERSE = 1.67e-11
"""Seconds of the weights of EASE by a factor and the inverse from it, for each ``n³``: the mean of those in single
precision, which large λ allow, and in double."""
_SOLVE = 3.4e-11
"""Seconds of the solve for c columns from a factor, for each ``n² c``."""
_PRODUCT = 1.41e-11
"""Seconds of a product in float32, for each multiplication."""
_SPECTRAL_WEIGHTS = 7.7e-12
"""Seconds of the weights of EASE from a spectrum, for each ``n³``."""
WARM_SHARE, COLD_SHARE = 0.6, 0.2
"""Of all items, those that a trial is trained on, and those that it is validated on."""
_WITHOUT_FIT = ("alpha", "beta", "lambda_0")
"""Parameters of MARec whose values share a fit (α and β), or have matrices of their own (λ₀)."""


@dataclass(frozen=True)
class Choice:
    """One of the exact solvers, with what it costs the trials of a study."""

    solver: str
    seconds: float
    """Of one thread, as estimated."""
    need: int
    """Bytes of the largest fit."""


@dataclass(frozen=True)
class FitsOfAMatrix:
    """How often a study solves with each of its matrices."""

    matrices: int
    """One for each split and λ₀."""
    fits: int
    """For each of them, at most."""
    ridges: int
    """Different λ among these, at most."""

    @classmethod
    def of(cls, outlook: StudyOutlook, ridge: str, *, apart: Iterable[str] = _WITHOUT_FIT) -> FitsOfAMatrix:
        """Count from the values that the parameters take within the trials.

        Parameters
        ----------
        ridge
            The parameter λ.
        apart
            Parameters that are not told apart by a fit.
        """
        groups = outlook.distinct.get("lambda_0", 1)
        trials = math.ceil(outlook.trials / groups)
        combinations = math.prod(count for name, count in outlook.distinct.items() if name not in set(apart))
        fits = min(trials, combinations)
        return cls(groups * outlook.splits, fits, min(fits, outlook.distinct.get(ridge, 1)))


def marec_seconds(n_users: int, n_items: int, fits: FitsOfAMatrix, *, coupled: bool) -> tuple[float, float]:
    """Return the seconds of one thread with shared spectra, and with a factor for each fit, to score cold items.

    Parameters
    ----------
    coupled
        True where λ₀ > 0: the spectrum is that of all items then, and each fit needs an inverse from it.
    """
    warm, columns = WARM_SHARE * n_items, COLD_SHARE * n_items
    size = min(n_users, warm)
    if coupled:
        every = warm + columns
        spectral = _EIGEN * every**3, 2 * _PRODUCT * every**2 * columns + _PRODUCT * every**3
        factor = _FACTOR * warm**3 + 2 * _SOLVE * warm**2 * columns + _PRODUCT * warm * columns**2
    else:
        spectral = _EIGEN * size**3, 2 * _PRODUCT * size * warm * columns
        factor = _FACTOR * size**3 + _SOLVE * size**2 * columns
    return fits.matrices * (spectral[0] + fits.fits * spectral[1]), fits.matrices * fits.fits * factor


def ease_seconds(n_items: int, fits: FitsOfAMatrix) -> tuple[float, float]:
    """Return the seconds of one thread with shared spectra, and with an inverse for each fit."""
    spectral = fits.matrices * (_EIGEN + fits.fits * _SPECTRAL_WEIGHTS) * n_items**3
    return spectral, fits.matrices * fits.fits * _INVERSE * n_items**3


def exact_choice(
    outlook: StudyOutlook, seconds: tuple[float, float], need: Callable[[str], int]
) -> tuple[Choice, Choice]:
    """Return the exact solver to take, ``exact`` (shared spectra) or ``cholesky``, and the other one.

    The quicker of those that fit in memory; where nothing is known of a study, spectra, as others may share them.

    Parameters
    ----------
    need
        Bytes of the largest fit by the solver.
    """
    choices = [Choice(name, cost, need(name)) for name, cost in zip(("exact", "cholesky"), seconds, strict=True)]
    if outlook.distinct:
        choices.sort(key=lambda one: one.seconds)
    first, second = choices
    if first.need > outlook.memory and second.need < first.need:
        return second, first
    return first, second


def chosen_words(fits: FitsOfAMatrix, taken: Choice, other: Choice, ridge: str) -> tuple[str, str]:
    """Return why a solver is used, in a short sentence, and what that was reckoned from."""
    rank = f"the {'quicker' if taken.seconds <= other.seconds else 'slower, smaller'} of two exact solvers"
    words = {"exact": "eigendecompositions that all of them share", "cholesky": "a Cholesky factor for each"}
    costs = _about(taken.seconds), _about(other.seconds)
    return f"{rank}, {costs[0]} of one CPU.", (
        f"Up to {fits.fits:,} fits with {fits.ridges:,} different {ridge} on each of {fits.matrices:,} matrices: "
        f"{words[taken.solver]} take {costs[0]} of one CPU, {words[other.solver]} {costs[1]}."
    )


def _about(seconds: float) -> str:
    return f"about {seconds:,.0f} s" if seconds >= 1 else "less than 1 s"
