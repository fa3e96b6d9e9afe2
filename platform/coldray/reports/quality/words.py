"""What a check of data found, in sentences."""

from __future__ import annotations

from itertools import pairwise

from coldray.data.quality.facts import ALL, PartFacts
from coldray.data.quality.levels import RatingLevels
from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import LEVELS, Level
from coldray.reports.labels import counted

LEVEL_WORDS: dict[Level, str] = {"problem": "Problems", "warning": "Warnings", "note": "Notes"}


def headline(check: DataCheck) -> str:
    """Return in one sentence how large the data are, and how much was found."""
    whole = check.quality.part(ALL)
    size = f"{counted(whole.interactions, 'interaction')} of {counted(whole.users, 'user')}"
    return f"{size} with {counted(whole.items, 'item')}: {level_counts(check)}."


def level_counts(check: DataCheck) -> str:
    """Return ``1 problem, 2 warnings, 3 notes``, or that nothing is suspicious."""
    found = [counted(len(check.of_level(level)), level) for level in LEVELS if check.of_level(level)]
    return ", ".join(found) or "nothing suspicious"


def findings_by_level(check: DataCheck) -> list[tuple[str, list[str]]]:
    """Return the heading and the sentences of each level that has any, the worst first."""
    return [
        (LEVEL_WORDS[level], [finding.sentence for finding in check.of_level(level)])
        for level in LEVELS
        if check.of_level(level)
    ]


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


def figure_words(check: DataCheck) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure of a check."""
    quality, factors = check.quality, check.factors
    parts = ", ".join(part.name for part in filled_parts(check))
    words = {
        "ratings": (f"Distribution of the ratings of each part ({parts}).", _rating_means(check)),
        "heat_map": (
            "Share of the cells that hold an interaction, in groups of users and items, the most active at the top "
            "left. A dark corner and an empty rest are the usual picture.",
            f"Heat map of {quality.map.n_users:,} users and {quality.map.n_items:,} items; the most active group has "
            f"{100 * quality.map.density[0, 0]:.3g} % of its cells filled, the whole {100 * _density(check):.3g} %.",
        ),
        "activity": (
            "How many users, and items, have at least so many interactions (logarithmic axes), and which share of all "
            "interactions the most active have; the dotted diagonal is equal activity.",
            f"Interactions a user: median {amount_label(quality.users.median)}, most {quality.users.most:,}. "
            f"An item: median {amount_label(quality.items.median)}, most {quality.items.most:,}; the most popular 1 % "
            f"of the items have {100 * quality.items.top_share:.3g} % of them.",
        ),
    }
    if quality.timeline is not None:
        words["over_time"] = (
            f"Interactions a {quality.timeline.period} (UTC), the parts stacked; below, which share of each part was "
            "past by then. A test that follows train has its curve to the right. The first and the last "
            f"{quality.timeline.period} may be incomplete.",
            f"Interactions from {quality.timeline.edges[0]} on, in {len(quality.timeline.edges) - 1} "
            f"{quality.timeline.period}s; the most in one are {int(quality.timeline.counts.sum(axis=0).max()):,}.",
        )
    if factors is not None:
        words["factors"] = (
            f"Singular values of the train {factors.matrix}, and norms of the factors of users and items.",
            f"Singular values from {factors.values[0]:.4g} down to {factors.values[-1]:.4g}; median norm of a user "
            f"{factors.users.median:.3g}, of an item {factors.items.median:.3g}.",
        )
    return words


def _rating_means(check: DataCheck) -> str:
    means = [f"{part.name} {part.ratings.mean:.3g}" for part in filled_parts(check) if part.ratings is not None]
    return f"Mean rating: {', '.join(means)}." if means else "There are no ratings."


def _density(check: DataCheck) -> float:
    return check.quality.part(ALL).density
