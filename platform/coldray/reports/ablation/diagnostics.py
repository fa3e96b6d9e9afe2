"""The figures of an ablation: twelve panels, each alone and all of them in one figure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coldray.experiments.ablation.result import NEAREST, AblationResult
from coldray.reports.ablation.panels import (
    ablation_long_list,
    ablation_short_list,
    contrastive_loss,
    coverage_by_length,
    feature_space,
    gaussian_loss,
    generative_loss,
    hit_rate_by_length,
    learning_note,
    lift,
    neighbour_distances,
    published_numbers,
    score_space,
)
from coldray.reports.ablation.words import headline, verdicts
from coldray.reports.labels import counted, is_synthetic, metric_label, metric_number, shortened
from coldray.reports.report import Picture
from coldray.reports.style import HALF_WIDTH, new_figure, set_note, set_title, styled
from coldray.reports.tables import known_mean, long_cutoff, short_cutoff

_COLUMNS = 3
_WIDTH = 7.8
"""Inches of the figure with all panels: little more than a half page, so that it can be read in one."""
_ROW_HEIGHT = 2.55
_HOLLOW = "Hollow: not significant, adjusted p ≥ 0.05 ({correction})."
_STOPPED = "Dots: where a fold stopped early; it counts in the mean with its last value."
_COVERAGE = "Coverage: share of the candidates that are in at least one list."
_SHADED = "Shaded: 95 % interval over users."
_VARIANCE = "First fold. In brackets: the share of the variance along a component."


@dataclass(frozen=True)
class _Panel:
    """One view of an ablation."""

    name: str
    title: str
    """Above the panel among others; short enough for the width it has there."""
    headline: str
    """Above the panel alone."""
    draw: Callable[[Axes, AblationResult], None]
    note: str = ""
    """Below the panel alone."""


_PANELS = (
    _Panel("ablation_short_list", "Ablation at {short}", "Ablation at {short}: HR and NDCG", ablation_short_list),
    _Panel("ablation_long_list", "Ablation at {long}", "Ablation at {long}: HR and NDCG", ablation_long_list),
    _Panel("lift", "Lift over {baseline}", "Lift over {baseline}", lift, _HOLLOW),
    _Panel("contrastive_loss", "Contrastive loss (CA)", "CA: contrastive loss by epoch", contrastive_loss, _STOPPED),
    _Panel("gaussian_loss", "Gaussian NLL (UA)", "UA: Gaussian NLL by epoch", gaussian_loss, _STOPPED),
    _Panel("generative_loss", "CVAE terms (GE)", "GE: terms of the conditional VAE", generative_loss, _STOPPED),
    _Panel("feature_space", "Item features, PCA", "Features of warm and cold items", feature_space, _VARIANCE),
    _Panel("score_space", "Score profiles, PCA", "Score profiles of warm and cold items", score_space, _VARIANCE),
    _Panel("neighbour_distances", "Cold-to-warm distance", "Distance from cold to warm items", neighbour_distances),
    _Panel("coverage_by_length", "Coverage by k", "Coverage by length of the list", coverage_by_length, _COVERAGE),
    _Panel("hit_rate_by_length", "HR@k by k", "HR@k by length of the list", hit_rate_by_length, _SHADED),
    _Panel("published_numbers", "Published numbers", "Published numbers and those here", published_numbers),
)


def _filled(template: str, result: AblationResult) -> str:
    """Return a text with this ablation's cutoffs, baseline and correction in it."""
    longest = long_cutoff(result.cutoffs)
    return template.format(
        correction=result.correction,
        short=f"k = {short_cutoff(result.cutoffs)}",
        long="longer lists" if longest is None else f"k = {longest}",
        baseline=shortened(result.modes[0].name, 14),
    )


@styled()
def _panel_figure(result: AblationResult, panel: _Panel) -> Figure:
    """Return one panel as a figure of its own."""
    figure = new_figure(HALF_WIDTH, 3.4)
    panel.draw(figure.subplots(), result)
    set_title(figure, _filled(panel.headline, result), synthetic=is_synthetic(result))
    if panel.note:
        set_note(figure, _filled(panel.note, result))
    return figure


@styled()
def diagnostics(result: AblationResult) -> Figure:
    """Return all panels in one figure."""
    rows = -(-len(_PANELS) // _COLUMNS)
    figure = new_figure(_WIDTH, 0.8 + rows * _ROW_HEIGHT)
    # A part for each panel: long labels of one leave the width of the others alone.
    parts = np.asarray(figure.subfigures(rows, _COLUMNS), dtype=object).flat
    for number, (part, panel) in enumerate(zip(parts, _PANELS, strict=True), start=1):
        panel.draw(part.subplots(), result)
        part.suptitle(f"{number}  {_filled(panel.title, result)}", x=0.03, ha="left", fontsize=10)
    name = shortened(str(result.dataset.get("name", "an unnamed dataset")), 40)
    set_title(figure, f"{shortened(result.name, 40)} on {name}", synthetic=is_synthetic(result))
    set_note(figure, _diagnostics_note(result))
    return figure


def _diagnostics_note(result: AblationResult) -> str:
    """Return how the figure with all panels is to be read."""
    folds = counted(max(len(mode.folds) for mode in result.modes), "fold")
    return (
        f"{folds}. Panel 3: hollow marks are not significant (adjusted p ≥ 0.05, {result.correction}). Panels 4 to 6: "
        "a dot marks where a fold stopped early; panels 5 and 6 are means over the dimensions of a profile. Panels 7 "
        "to 9: the first fold; in brackets, the share of the variance. Panel 11: 95 % intervals over users."
    )


FIGURES = ("diagnostics", *(panel.name for panel in _PANELS))


def panel_pictures(result: AblationResult) -> tuple[Picture, ...]:
    """Return every panel alone."""
    words = _words(result)
    return tuple(Picture(panel.name, partial(_panel_figure, result, panel), *words[panel.name]) for panel in _PANELS)


def diagnostics_picture(result: AblationResult) -> Picture:
    """Return the figure of all panels."""
    return Picture("diagnostics", partial(diagnostics, result), "All panels.", f"Twelve panels. {headline(result)}")


def _words(result: AblationResult) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure."""
    short, longest = short_cutoff(result.cutoffs), long_cutoff(result.cutoffs)
    folds = "mean and standard deviation over folds; dotted: the baseline's mean"
    found = {
        "ablation_short_list": (f"HR and NDCG at {short}: {folds}.", _values(result, short)),
        "ablation_long_list": (
            f"HR and NDCG {'in longer lists' if longest is None else f'at {longest}'}: {folds}.",
            _values(result, longest),
        ),
        "lift": (
            f"Lift over {result.modes[0].name} with 95 % intervals over users; hollow: not significant after the "
            f"correction ({result.correction}).",
            " ".join(verdicts(result)) or "There is no mode to compare.",
        ),
        "coverage_by_length": (
            "Share of the candidates that are in at least one list, by length of the list.",
            _at(result, f"coverage@{short}"),
        ),
        "hit_rate_by_length": ("HR@k by length of the list, 95 % interval shaded.", _at(result, f"hr@{short}")),
        "published_numbers": (
            "Published results and those measured here; hatched where those are of other data, and not comparable.",
            "Bars of published results, the baseline and the full stack, or why none is comparable; see below.",
        ),
    }
    return found | _training_words(result) | _space_words(result)


def _training_words(result: AblationResult) -> dict[str, tuple[str, str]]:
    thin = "Thin: a fold, with a dot where it stopped; bold: the mean, in which a stopped fold keeps its last value."
    return {
        "contrastive_loss": (f"InfoNCE by epoch. {thin}", f"InfoNCE: {learning_note(result, 'InfoNCE')}."),
        "gaussian_loss": (f"Gaussian NLL by epoch. {thin}", f"Gaussian NLL: {learning_note(result, 'Gaussian NLL')}."),
        "generative_loss": (
            f"Reconstruction (solid, left axis) and KL divergence (dashed, right axis) by epoch. {thin}",
            f"Reconstruction: {learning_note(result, 'reconstruction')}. KL: {learning_note(result, 'KL')}.",
        ),
    }


def _space_words(result: AblationResult) -> dict[str, tuple[str, str]]:
    cold, n = int(result.features.cold.sum()), len(result.features.cold)
    items = f"{n - cold:,} warm and {cold:,} cold items of the first fold"
    names = " and ".join(result.scores) or "no mode"
    return {
        "feature_space": (f"First two principal components of the features: {items}.", f"Scatter plot of {items}."),
        "score_space": (
            "First two principal components of the score profiles. Each mode has components of its own.",
            f"Scatter plots of {items} by the scores of {names}.",
        ),
        "neighbour_distances": (
            f"Mean cosine distance of each held-out cold item of the first fold to its {NEAREST} nearest warm items.",
            f"Histogram of {len(result.neighbour_distance):,} distances with the median marked.",
        ),
    }


def _values(result: AblationResult, cutoff: int | None) -> str:
    if cutoff is None:
        return "One list length only was measured."
    return f"{_at(result, f'hr@{cutoff}')} {_at(result, f'ndcg@{cutoff}')}"


def _at(result: AblationResult, metric: str) -> str:
    values = ", ".join(f"{mode.name} {metric_number(known_mean(mode.folds, metric))}" for mode in result.modes)
    return f"{metric_label(metric)}: {values}."
