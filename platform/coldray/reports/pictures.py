"""Figures as a page shows them: the picture itself, a caption, and words for those who cannot see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.figure import Figure

from coldray.experiments.results import StudyResult, mean_metric
from coldray.reports.labels import counted, headline_metrics, metric_label, metric_number, parameter_label
from coldray.reports.style import HALF_WIDTH, as_data_uri

_CSS_PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Picture:
    """One figure, ready for a page."""

    name: str
    uri: str
    alt: str
    caption: str
    width: int
    """CSS pixels at which the text of the figure has its true size."""
    height: int
    is_wide: bool


def pictures(figures: Mapping[str, Figure], words: Mapping[str, tuple[str, str]]) -> list[Picture]:
    """Return `figures` in their order, with the caption and the alternative text that `words` has for their names."""
    return [_picture(name, figure, words) for name, figure in figures.items()]


def _picture(name: str, figure: Figure, words: Mapping[str, tuple[str, str]]) -> Picture:
    caption, alt = words.get(name, (name.replace("_", " "), f"Figure: {name.replace('_', ' ')}."))
    width, height = figure.get_size_inches() * _CSS_PIXELS_PER_INCH
    wide = figure.get_figwidth() > HALF_WIDTH
    return Picture(name, as_data_uri(figure), alt, caption, round(width), round(height), wide)


def study_words(result: StudyResult) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of the figures of a study."""
    metric, winner = result.selection.metric, result.selection.winner
    label, reached = metric_label(metric), metric_number(winner.mean(metric))
    parameters = ", ".join(parameter_label(name) for name in result.searched)
    folds = [fold.metrics[metric] for fold in winner.folds]
    spread = f"from {metric_number(min(folds))} to {metric_number(max(folds))}" if folds else "not known"
    tested = ", ".join(
        f"{metric_label(name)} {metric_number(winner.mean(name))} on validation and "
        f"{metric_number(mean_metric(result.test, name))} on test"
        for name in headline_metrics(result)
        if result.test and all(name in fold.metrics for fold in result.test)
    )
    return {
        "parameter_effects": (
            f"Each searched parameter against the mean validation {label}; pruned trials are faded, the selected one "
            "is the star.",
            f"A panel for each of {counted(len(result.searched), 'parameter')} ({parameters}) with the mean validation "
            f"{label} of every trial. The selected trial #{winner.number} reaches {reached}.",
        ),
        "split_spread": (
            f"Validation {label} of the best configurations: a dot for each split, a bar at the mean.",
            f"Dots for each split of the best configurations. The selected trial #{winner.number} has mean {reached}, "
            f"its splits reach {spread}.",
        ),
        "validation_against_test": (
            "The selected configuration on validation and on test, split by split. No other configuration was tested.",
            f"The selected trial #{winner.number}, validation against test. Means: {tested}.",
        ),
        "published_comparison": (
            "Published results and the one measured here.",
            "Bars of the published results and of the one measured here; the table above holds the same numbers.",
        ),
    }
