"""What studies of one model on several categories found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from coldray.experiments.results import StudyResult


@dataclass(frozen=True)
class CategoryResults:
    """A study a category, of which there is one at least."""

    name: str
    """The study's name."""
    studies: Mapping[str, StudyResult]
    """By category, in the order they were asked for."""
    left_out: Mapping[str, str]
    """Category → why there is nothing of it."""
    origins: Mapping[str, str] = field(default_factory=dict)
    """Category → name of the study that it comes from, where the categories are of several studies."""

    @property
    def first(self) -> StudyResult:
        """The study of the first category: name, metric, cutoffs and protocol are those of all."""
        return next(iter(self.studies.values()))

    @property
    def tested(self) -> bool:
        """True once the winners were tested."""
        return all(study.test for study in self.studies.values())

    @property
    def synthetic(self) -> bool:
        """True if any of the data were generated."""
        return any(study.dataset.get("synthetic", False) for study in self.studies.values())
