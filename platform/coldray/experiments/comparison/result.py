"""What a comparison found: studies tuned and tested on the same splits, held against each other user by user.

Notation used for shapes: m users tested on at least one fold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from coldray.data.splits.items import HeldOut
from coldray.experiments.comparison.config import Track
from coldray.experiments.inspection.config import InspectionConfig
from coldray.experiments.inspection.item_facts import ItemFacts
from coldray.experiments.inspection.measure import Inspection
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.results import FoldMetrics, Lift, StudyResult

FloatArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class EntryResult:
    """One entry, tuned on validation data and tested once on every split."""

    name: str
    track: Track
    study: StudyResult
    """Its search, its winner with the validation metrics, and the winner's test."""
    attributes: Mapping[str, str]
    """How each attribute was encoded, by name."""
    per_user: Mapping[str, FloatArray]
    """Values ``[m]`` of each metric: every tested user's mean over the folds, the same users in all entries."""
    intervals: Mapping[str, tuple[float, float]]
    """95 % bootstrap intervals of the means over users."""
    over_baseline: Mapping[str, Lift]
    """By metric; empty for the baseline itself, and where it failed."""
    rival: str | None
    """The best other entry of the track on validation data; None where there is no other."""
    over_rival: Mapping[str, Lift]
    """By metric; empty without a rival."""
    seconds: float
    """Search and test."""
    inspections: tuple[Inspection, ...] = ()
    """What else was measured of the winner, split by split; nothing unless the comparison asks for it."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.study.model

    @property
    def config(self) -> Mapping[str, Any]:
        """The winner's configuration."""
        return self.study.selection.winner.config

    @property
    def validation(self) -> tuple[FoldMetrics, ...]:
        """Validation metrics of the winner, split by split."""
        return self.study.selection.winner.folds

    @property
    def folds(self) -> tuple[FoldMetrics, ...]:
        """Test metrics of the winner, split by split."""
        return self.study.test


@dataclass(frozen=True)
class FailedEntry:
    """An entry that could not be tuned or tested."""

    name: str
    track: Track
    model: str
    reason: str


@dataclass(frozen=True, eq=False)
class ComparisonResult:
    """All that the tables, the figures and the export are made from."""

    name: str
    dataset: Mapping[str, Any]
    protocol: Mapping[str, str]
    cutoffs: tuple[int, ...]
    """Lengths of the lists at which metrics were computed."""
    metric: str
    """Validation metric that chose the configurations and the champion."""
    baseline: str
    """Name of the entry that the others are held against; it may have failed."""
    champion: str
    """Name of the entry with the best mean validation metric, of those that are studies."""
    entries: tuple[EntryResult, ...]
    """In the order of the comparison file; at least one."""
    failed: tuple[FailedEntry, ...]
    correction: str
    """Name of the correction for many comparisons."""
    seconds: float
    held_out: HeldOut = "items"
    """What validation and test consist of: whole items, or interactions of any item."""
    inspection: InspectionConfig | None = None
    """What else was measured of each winner."""
    shown: ItemFacts | None = None
    """What the items of the maps are called, and how they are labelled; None where no map was drawn."""
    promotion: Promotion | None = None
    """What is to become of the champion in the registry; None where nothing is registered."""

    def entry(self, name: str) -> EntryResult:
        """Return the entry of that name; KeyError if there is none that was tested."""
        return {entry.name: entry for entry in self.entries}[name]

    def of_track(self, track: Track) -> tuple[EntryResult, ...]:
        """Return the tested entries of a track, in order."""
        return tuple(entry for entry in self.entries if entry.track == track)
