"""One look for every figure: sizes, colours that colour-blind readers tell apart, and how a figure leaves the program.

Figures are built with the object-oriented interface alone, so that nothing here touches the global state of pyplot:
a trial on another thread, or a notebook with a style of its own, is not disturbed.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from coldray.core.errors import OutputError
from coldray.core.files import replacing

HALF_WIDTH = 5.4
"""Inches: half a report page. The font sizes below hold at this size, without enlargement."""
FULL_WIDTH = 9.4
"""Inches: a whole report page."""
_DPI = 200
CSS_PIXELS_PER_INCH = 96

# Okabe & Ito (2008), Color Universal Design.
BLUE = "#0072B2"
VERMILION = "#D55E00"
DARK_VERMILION = "#A84300"
"""Vermilion for text: dark enough to be read on white (contrast 6:1)."""
SKY_BLUE = "#56B4E9"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", SKY_BLUE, "#882255")
"""Of what has no order; a wine red is in the place of their yellow."""
GREY = "#6B6B6B"
INK = "#222222"

LEGEND: dict[str, Any] = {"columnspacing": 0.9, "handletextpad": 0.3, "handlelength": 1.2}
"""Options of a legend inside a narrow panel."""

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # ships with matplotlib and has λ₁, ±, → and the Greek letters
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "figure.titlesize": 11,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": "#8A8A8A",
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.parse_math": False,  # a "$" in a parameter value is text
    "text.usetex": False,
    "svg.hashsalt": "coldray",
}
# Without these a file differs from run to run although the figure is the same.
_METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}


@dataclass(frozen=True)
class Mark:
    """How one of a few lines is told from the others, by more than its colour."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]


_MARKS = (
    Mark(GREY, "o", (0, (4.0, 1.5))),
    Mark(SKY_BLUE, "s", "-"),
    Mark(BLUE, "^", (0, (1.0, 1.0))),
    Mark(VERMILION, "D", "-"),
)


def line_mark(position: int) -> Mark:
    """Return the mark of the line at `position`; a baseline is at 0."""
    return _MARKS[position % len(_MARKS)]


@contextmanager
def styled() -> Iterator[None]:
    """Give artists made in the block, or in a decorated function, the house style; restore the caller's after it."""
    # Cast: the names of the settings are typed one by one in some versions of matplotlib and not in others.
    with matplotlib.rc_context(cast(Any, _STYLE)):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` × `height` inches, with its own Agg canvas and a layout without overlaps."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def set_title(figure: Figure, title: str, *, synthetic: bool = False) -> None:
    """Write the figure's title, wrapped to its width; generated data is named in it."""
    text = f"{title} (synthetic data)" if synthetic else title
    characters = int(figure.get_figwidth() * 72 / (_STYLE["figure.titlesize"] * 0.68))
    figure.suptitle("\n".join(textwrap.wrap(text, characters)), x=0.01, ha="left")


def set_note(figure: Figure, note: str) -> None:
    """Write a note under the figure, wrapped to its width."""
    characters = int(figure.get_figwidth() * 72 / (9 * 0.56))
    figure.supxlabel("\n".join(textwrap.wrap(note, characters)), x=0.01, ha="left", fontsize=9, color=GREY)


def write_instead(axes: Axes, words: str) -> None:
    """Write why there is nothing to draw in the place of a panel."""
    axes.set_axis_off()
    text = "\n".join(textwrap.wrap(words, 28))
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY)


def grid_along(axes: Axes, axis: Literal["x", "y"]) -> None:
    """Keep only the grid lines that the values are read against."""
    axes.grid(False)
    axes.grid(True, axis=axis)


def save_figure(figure: Figure, path: Path) -> Path:
    """Write `figure` to `path` (.png, .svg or .pdf), completely or not at all, and return the path.

    Raises
    ------
    OutputError
        If the file name's ending is no figure format, or the folder cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in _METADATA:
        raise OutputError(f"Cannot write a figure as {path.name!r}: use one of {', '.join(_METADATA)}.")
    with replacing(path) as temporary, styled():
        figure.savefig(temporary, format=suffix[1:], dpi=_DPI, metadata=_METADATA[suffix])
    return path


def as_png(figure: Figure) -> bytes:
    """Return `figure` as a PNG file has it."""
    buffer = io.BytesIO()
    with styled():
        figure.savefig(buffer, format="png", dpi=_DPI, metadata=_METADATA[".png"])
    return buffer.getvalue()


def as_data_uri(png: bytes) -> str:
    """Return a PNG as a ``data:`` address, to be set into a page."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")
