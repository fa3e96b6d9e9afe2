"""Panels of an ablation that show where cold items lie among warm ones: features, score profiles, distances."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from coldray.experiments.ablation.result import AblationResult, Cloud
from coldray.reports.labels import shortened
from coldray.reports.placement import leave_headroom
from coldray.reports.style import DARK_VERMILION, LEGEND, SKY_BLUE, VERMILION, grid_along, write_instead

_KINDS = (("warm", SKY_BLUE, "o", 0.45), ("cold", VERMILION, "^", 0.6))
_BINS = 30


def feature_space(axes: Axes, result: AblationResult) -> None:
    """Draw warm and cold items by the first two principal components of their features."""
    if not len(result.features.points):
        write_instead(axes, "The first fold has no item features to project.")
        return
    _draw_cloud(axes, result.features)
    axes.locator_params(nbins=4)
    leave_headroom(axes, 0.16)
    axes.legend(handles=_handles(), loc="upper right", ncols=2, borderaxespad=0.1, **LEGEND).set_in_layout(False)


def score_space(axes: Axes, result: AblationResult) -> None:
    """Draw warm and cold items by the first two components of their scores: the baseline and the full stack.

    Each mode has components of its own, so the two clouds share no axis and stand side by side.
    """
    shown = [name for name, cloud in result.scores.items() if len(cloud.points)]
    if not shown:
        write_instead(axes, "No score profiles were kept for this ablation.")
        return
    shown = list(dict.fromkeys((shown[0], shown[-1])))
    axes.set_axis_off()
    width = 1.0 if len(shown) == 1 else 0.44
    for position, name in enumerate(shown):
        inset = axes.inset_axes((position * (1 - width), 0.0, width, 0.76))
        _draw_cloud(inset, result.scores[name])
        inset.set_title(shortened(name, 12), fontsize=9, pad=3)
        # Only the distances within a cloud mean anything; its coordinates have no unit to read.
        inset.set_xticks([])
        inset.set_yticks([])
    axes.legend(handles=_handles(), loc="upper center", ncols=2, borderaxespad=0.0, **LEGEND).set_in_layout(False)


def _draw_cloud(axes: Axes, cloud: Cloud) -> None:
    size = min(16.0, max(4.0, 5000.0 / max(len(cloud.points), 1)))
    for (_, color, marker, alpha), chosen in zip(_KINDS, (~cloud.cold, cloud.cold), strict=True):
        across, up = cloud.points[chosen].T
        axes.scatter(across, up, s=size, c=color, marker=marker, alpha=alpha, linewidths=0, rasterized=True)
    first, second = cloud.explained
    axes.set_xlabel(f"PC 1 ({100 * first:.0f} %)")
    axes.set_ylabel(f"PC 2 ({100 * second:.0f} %)")


def _handles() -> list[Line2D]:
    return [
        Line2D([], [], linestyle="none", marker=marker, color=color, markersize=5, label=f"{name} items")
        for name, color, marker, _ in _KINDS
    ]


def neighbour_distances(axes: Axes, result: AblationResult) -> None:
    """Draw how far each held-out cold item is from its nearest warm item, with the median marked."""
    distances = result.neighbour_distance[np.isfinite(result.neighbour_distance)]
    if not len(distances):
        write_instead(axes, "The first fold has no cold item with a warm neighbour.")
        return
    end = max(float(distances.max()), 1e-6)
    bins = min(_BINS, max(5, math.isqrt(len(distances))))
    axes.hist(np.clip(distances, 0.0, None), bins=bins, range=(0.0, end), color=SKY_BLUE, edgecolor="white")
    axes.set_xlabel("cosine distance to the\nnearest warm item")
    axes.set_ylabel("cold items")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.locator_params(axis="x", nbins=5)
    grid_along(axes, "y")
    leave_headroom(axes, 0.15)
    median = float(np.median(distances))
    axes.axvline(median, color=DARK_VERMILION, linewidth=1.6)
    side, gap = ("left", 4) if median < end / 2 else ("right", -4)
    axes.annotate(
        f"median {median:.2f}",
        (median, 1.0),
        (gap, -2),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha=side,
        va="top",
        fontsize=9,
        color=DARK_VERMILION,
    )
