"""In which form a model is fitted: exact where that fits, else an approximation, decided once a study and told.

A model with two forms names one by a parameter of its configuration, which may be ``auto``. A study asks the model once
(:meth:`~coldray.models.base.Recommender.settle`) which form the largest of its fits can take, and every fit of it then
takes that one: a form chosen fit by fit would be exact while tuning on 80 % of the items, and another when tested.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_LOSS = 0.02
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
    """One sentence for people, with the sizes and the memory it was decided by."""
    loss: float | None = None
    """Relative loss of the study's metric against the exact form, as measured; None where nobody measured it."""

    @property
    def warns(self) -> bool:
        """True if the measured loss is more than people should take without a word."""
        return self.loss is not None and self.loss > MAX_LOSS

    @property
    def told(self) -> str:
        """The decision in words: the parameter, its value, whether that is exact, why, and what it costs."""
        kind = "exact" if self.exact else "approximate"
        loss = "" if self.loss is None else f" Measured loss against the exact form: {self.loss:.1%}."
        warning = f" This is beyond {MAX_LOSS:.0%}." if self.warns else ""
        return f"{self.parameter}={self.value} ({kind}): {self.reason}{loss}{warning}"


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
