"""What a check of data found, in sentences."""

from __future__ import annotations

from itertools import pairwise

from coldray.data.quality.facts import ALL, PartFacts
from coldray.data.quality.levels import RatingLevels
from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import LEVELS
from coldray.reports.labels import counted


def headline(check: DataCheck) -> str:
    """Return in one sentence how large the data are, and how much was found."""
    whole = check.quality.part(ALL)
    size = f"{counted(whole.interactions, 'interaction')} of {counted(whole.users, 'user')}"
    return f"{size} with {counted(whole.items, 'item')}: {_level_counts(check)}."


def _level_counts(check: DataCheck) -> str:
    """Return ``1 problem, 2 warnings, 3 notes``, or that nothing is suspicious."""
    found = [counted(len(check.of_level(level)), level) for level in LEVELS if check.of_level(level)]
    return ", ".join(found) or "nothing suspicious"


def level_labels(levels: RatingLevels) -> list[str]:
    """Return each level of rating as it is printed: its value, or the ends of its bin."""
    if levels.edges is None:
        return [amount_label(float(value)) for value in levels.values]
    ends = [amount_label(float(edge)) for edge in levels.edges]
    return [f"{low} to {high}" for low, high in pairwise(ends)]


def amount_label(value: float) -> str:
    """Return a number with four digits, or with all of those before its point: ``0.5``, ``3.536``, ``352,698``."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def filled_parts(check: DataCheck) -> list[PartFacts]:
    """Return the parts that have an interaction."""
    return [part for part in check.quality.parts if part.name != ALL and part.interactions]
