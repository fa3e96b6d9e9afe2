"""Which form KernelAlign takes, and the memory and time that its exact one needs."""

from __future__ import annotations

from typing import Literal, TypeAlias

from coldray.core.memory import GIB, most_that_fit
from coldray.models.forms import Form, StudyOutlook
from coldray.models.kernel_align.posterior import DOUBLE_ITEMS, fit_bytes
from coldray.models.linalg.panel_cholesky import cells_of

KernelForm: TypeAlias = Literal["auto", "exact", "inducing"]
_MAX_SECONDS = 3600.0
"""What the factorisation of a covariance may take for ``auto`` to be exact."""
_FLOPS = 1e11
"""Operations a second in single precision; two cores with AVX-512 do two or three times as many."""


def settled_form(form: KernelForm, outlook: StudyOutlook, *, exact_items: int | None, inducing: int) -> Form:
    """Return the form of all fits of a study; see :class:`~coldray.models.kernel_align.model.KernelAlignConfig`."""
    n_items, m = outlook.n_items, min(inducing, outlook.n_items)
    need, seconds = exact_bytes(outlook.n_users, n_items), _exact_seconds(n_items)
    words = (
        f"the covariance of {n_items:,} items needs up to {need / GIB:,.1f} of {outlook.memory / GIB:,.1f} GiB of "
        f"memory, and about {_duration(seconds)}"
    )
    if form != "auto":
        return Form("form", form, form == "exact", f"as configured; {words}.")
    if exact_items is not None and n_items > exact_items:
        return Form("form", "inducing", False, f"{n_items:,} items are more than exact_items ({exact_items:,}).")
    if need <= outlook.memory and seconds <= _MAX_SECONDS:
        return Form("form", "exact", True, f"{words}.")
    return Form("form", "inducing", False, f"{words}; all items are seen through {m:,} inducing ones at most.")


def exact_bytes(n_users: int, n_items: int) -> int:
    """Return what a fit in the exact form holds at its peak, whichever share of the items is warm, with its scores."""
    return max(_peak(n_users, n_warm, n_items - n_warm) for n_warm in (n_items, n_items * 2 // 3, n_items // 2))


def _peak(n_users: int, n_warm: int, n_cold: int) -> int:
    users = 4 * cells_of(min(n_users, n_warm))
    counts = 4 * n_warm**2 if n_warm <= min(DOUBLE_ITEMS, n_users) else 0
    return fit_bytes(n_warm, n_cold) + users + counts + 4 * n_warm * n_cold


def warming_bytes(n_users: int, n_items: int) -> int:
    """Return what clicks take besides: the factor of their smoothing, and the columns of all items three times."""
    return 4 * cells_of(min(n_users, n_items)) + 12 * n_items**2


def inducing_bytes(n_items: int, inducing: int) -> int:
    """Return what a fit through inducing items holds at its peak."""
    m = min(inducing, n_items)
    return 16 * n_items * m + 40 * m**2


def most_that_fits(most: int, outlook: StudyOutlook) -> int:
    """Return how many inducing items fit in memory, `most` at most and one at least."""
    if inducing_bytes(outlook.n_items, most) <= outlook.memory:
        return most
    return max(1, most_that_fit(lambda count: inducing_bytes(outlook.n_items, count), outlook.memory, most))


def _exact_seconds(n_items: int) -> float:
    """Return about how long a covariance of that many items takes: its factor, and a fifth of the items' weights."""
    return float(n_items**3 / 3 + 2 * (0.8 * n_items) ** 2 * 0.2 * n_items) / _FLOPS


def _duration(seconds: float) -> str:
    return f"{seconds:,.0f} seconds" if seconds < 120 else f"{seconds / 60:,.0f} minutes"
