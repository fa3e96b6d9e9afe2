"""In which form a model is fitted: exact where that fits, else an approximation, decided once a study and told.

A model with two forms names one by a parameter of its configuration, which may be ``auto``. A study asks the model once
(:meth:`~coldray.models.base.Recommender.settle`) which form the largest of its fits can take, and every fit of it then
takes that one: a form chosen fit by fit would be exact while tuning on 80 % of the items, and another when tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldray.core.memory import GIB
from coldray.training.options import FitConfig

_MAX_SECONDS = 3600.0
"""The longest that one fit may take in its exact form."""
_MAX_LOSS = 0.02
"""Relative loss by an approximation beyond which people are warned."""


@dataclass(frozen=True)
class Form:
    """One decision: which form a parameter names, and why."""

    parameter: str
    """The parameter that names it, such as ``solver``."""
    value: str
    """Its value, such as ``exact`` or ``blocks``."""
    exact: bool
    """False if the form approximates."""
    reason: str
    """One short sentence for people, with the sizes, the memory and the time it was decided by."""
    loss: float | None = None
    """Relative loss of the study's metric against the exact form, as measured; None where nobody measured it."""
    measured: str = ""
    """How the loss was measured, or why it was not."""
    reckoning: str = ""
    """What the reason was reckoned from, in sentences; for reports and records, too long for a console."""

    @property
    def warns(self) -> bool:
        """True if the measured loss is more than people should take without a word."""
        return self.loss is not None and self.loss > _MAX_LOSS

    @property
    def words(self) -> str:
        """The decision alone: the parameter, its value, and whether that is exact."""
        return f"{self.parameter}={self.value} ({'exact' if self.exact else 'approximate'})"

    @property
    def told(self) -> str:
        """The decision in a line: why it was taken, and what it costs."""
        return self._told(self.reason)

    @property
    def told_in_full(self) -> str:
        """The same with the reckoning."""
        return self._told(f"{self.reason} {self.reckoning}".strip())

    def _told(self, why: str) -> str:
        how = f" ({self.measured})" if self.measured else ""
        loss = f" Loss against the exact form: {'not known' if self.loss is None else f'{self.loss:.1%}'}{how}."
        loss = "" if self.exact else loss
        warning = f" This is more than {_MAX_LOSS:.0%}: use more memory, or fewer items." if self.warns else ""
        return f"{self.words}: {why}{loss}{warning}"


@dataclass(frozen=True)
class StudyOutlook:
    """What is known before a study of the largest of its fits, and of how many there are."""

    n_users: int
    """Users of the dataset."""
    n_items: int
    """Items of the largest fit, which is the bundle's: all of the dataset, those without clicks too."""
    memory: int
    """Bytes that a fit may take."""
    trials: int = 1
    """Configurations that are evaluated."""
    splits: int = 1
    """Splits that each of them is fitted on."""
    distinct: Mapping[str, int] = field(default_factory=dict)
    """How many different values each parameter takes within the trials; 1 for a fixed one, or one left out."""
    labels: int | None = None
    """Labels of all items, one that n items have n times; None where nobody counted."""
    label_kinds: int = 0
    """Different labels among them."""
    options: FitConfig = FitConfig()
    """How the fits run."""


def form_by_memory(
    parameter: str,
    exact: str,
    other: str,
    *,
    need: int,
    other_need: int,
    outlook: StudyOutlook,
    what: str,
    seconds: float = 0.0,
) -> Form:
    """Return the exact form where the largest fit of a study in it fits in memory and ends in time, else the other.

    Parameters
    ----------
    exact, other
        Values of `parameter`: of the exact form, and of the one that needs less.
    need
        Bytes that the largest fit takes in its exact form.
    other_need
        Bytes that it takes in the other one, which is of no use where they are no fewer.
    what
        What fits, with its size: ``EASE on 60,000 items``.
    seconds
        What that fit takes, as estimated; 0 where nobody knows.
    """
    free = f"{outlook.memory / GIB:,.1f} GiB"
    if need > outlook.memory and other_need < need:
        return Form(parameter, other, False, f"{what} in exact form needs {need / GIB:,.1f} of {free} of memory.")
    if seconds > _MAX_SECONDS:
        reason = f"{what} would take about {seconds / 3600:,.1f} h for each fit in exact form."
        return Form(parameter, other, False, reason)
    needed = f"{need / GIB:,.1f}" if need >= GIB / 10 else "less than 0.1"
    return Form(parameter, exact, True, f"{what} needs {needed} of {free} of memory.")


def form_as_named(parameter: str, value: str, *, exact: bool) -> Form:
    """Return the form that the configuration names itself."""
    return Form(parameter, value, exact, "The configuration names it.")
