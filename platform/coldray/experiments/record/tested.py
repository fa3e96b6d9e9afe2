"""What a winner reached on test data, as the record of a study keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from coldray.evaluation.metrics import RankingMetrics
from coldray.experiments.results import FoldMetrics
from coldray.models.forms import Form


@dataclass(frozen=True)
class Tested:
    """The one use of test data."""

    key: str
    """Of the trial that was tested."""
    folds: tuple[FoldMetrics, ...]
    intervals: Mapping[str, tuple[float, float]]
    """95 % bootstrap interval of each mean."""
    notes: tuple[str, ...]
    """What its fits had to leave out or fall back on."""
    forms: tuple[Form, ...]
    """Of the model, with what they cost."""
    measured: tuple[RankingMetrics, ...] = field(default=(), repr=False, compare=False)
    """The values of every user, fold by fold; not in the record, so of a test of this process alone."""

    __test__ = False  # no class of tests, whatever its name says to pytest

    def plain(self) -> dict[str, Any]:
        """Return it as plain values, without those of single users."""
        values = asdict(replace(self, measured=()))
        del values["measured"]
        return {**values, "intervals": {name: list(pair) for name, pair in self.intervals.items()}}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild it from :meth:`plain`."""
        return cls(
            values["key"],
            tuple(FoldMetrics(**fold) for fold in values["folds"]),
            {name: (low, high) for name, (low, high) in values["intervals"].items()},
            tuple(values["notes"]),
            tuple(Form(**form) for form in values["forms"]),
        )
