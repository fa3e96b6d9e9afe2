"""Labels beside points, placed where they cover neither a point nor each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_GAPS = (7.0, 14.0, 22.0, 32.0, 44.0)  # points between a point and the edge of its label
_ADJACENT = 10.0
_DIRECTIONS = 16


def label_points(axes: Axes, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> None:
    """Write each label at the nearest free place around its point, with a thin line to it when it is not adjacent.

    The figure's layout must be complete: places are judged by the pixels that the texts will cover.
    """
    figure = axes.get_figure(root=True)
    if figure is None or not points:
        return
    figure.draw_without_rendering()
    radius = 5 * figure.dpi / 72
    taken = [
        Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
        for x, y in axes.transData.transform(list(points))
    ]
    taken += [text.get_window_extent() for text in axes.texts]
    inside = axes.get_window_extent()
    for point, label in zip(points, labels, strict=True):
        note = axes.annotate(
            label, point, (0, 0), textcoords="offset points", ha="center", va="center", fontsize=9, zorder=5
        )
        note.set_in_layout(False)
        if _settle(note, taken, inside, 72 / figure.dpi) > _ADJACENT:
            _lead(axes, point, note.xyann)
        taken.append(note.get_window_extent())


def leave_headroom(axes: Axes, share: float) -> None:
    """Raise the upper limit so that the top `share` of the panel is free of data: room for a legend."""
    low, high = axes.get_ylim()
    axes.set_ylim(low, low + (high - low) / (1 - share))


def _settle(note: Annotation, taken: Sequence[Bbox], inside: Bbox, points_per_pixel: float) -> float:
    """Move `note` to the first free place and return its gap; the nearest place when none is free."""
    size = note.get_window_extent()
    width, height = size.width * points_per_pixel, size.height * points_per_pixel
    for gap, (x, y) in _places(width, height):
        note.xyann = (x, y)
        covered = note.get_window_extent().padded(1.0)
        within = (
            inside.x0 <= covered.x0 and covered.x1 <= inside.x1 and inside.y0 <= covered.y0 and covered.y1 <= inside.y1
        )
        if within and not any(covered.overlaps(other) for other in taken):
            return gap
    note.xyann = (0.0, _GAPS[0] + height / 2)
    return _GAPS[0]


def _places(width: float, height: float) -> Iterator[tuple[float, tuple[float, float]]]:
    """Yield gaps and centres around a point, nearest first, starting at its right."""
    for gap in _GAPS:
        for step in range(_DIRECTIONS):
            angle = 2 * math.pi * step / _DIRECTIONS
            yield gap, ((gap + width / 2) * math.cos(angle), (gap + height / 2) * math.sin(angle))


def _lead(axes: Axes, point: tuple[float, float], offset: tuple[float, float]) -> None:
    style = {"arrowstyle": "-", "color": "0.55", "linewidth": 0.7, "shrinkA": 6, "shrinkB": 5}
    line = axes.annotate("", point, offset, textcoords="offset points", arrowprops=style)
    line.set_in_layout(False)
