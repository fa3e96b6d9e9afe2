"""Panels of an ablation that show how its parts learned: each term of their losses, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from coldray.experiments.ablation.result import AblationResult, FloatArray, LossCurve
from coldray.reports.labels import counted
from coldray.reports.placement import leave_headroom
from coldray.reports.style import BLUE, DARK_VERMILION, LEGEND, write_instead


def contrastive_loss(axes: Axes, result: AblationResult) -> None:
    """Draw the InfoNCE loss by epoch: a thin line for each fold, the mean bold."""
    _draw_single(axes, result, "InfoNCE", "InfoNCE (nats)")


def gaussian_loss(axes: Axes, result: AblationResult) -> None:
    """Draw the negative log likelihood of the Gaussian by epoch: a thin line for each fold, the mean bold."""
    _draw_single(axes, result, "Gaussian NLL", "Gaussian NLL (a dim.)")


def generative_loss(axes: Axes, result: AblationResult) -> None:
    """Draw the two terms of the conditional VAE by epoch, each on an axis of its own."""
    left, right = _curves(result, "reconstruction"), _curves(result, "KL")
    if not left and not right:
        _say_absent(axes, "reconstruction and KL")
        return
    if left:
        _draw_term(axes, left, BLUE, "-")
        _color_axis(axes, "reconstruction (a dim.)", BLUE)
    if right:
        beside = axes.twinx() if left else axes
        _draw_term(beside, right, DARK_VERMILION, (0, (3.0, 1.2)))
        _color_axis(beside, "KL (a dimension)", DARK_VERMILION)
        beside.grid(not left)
        beside.spines["right"].set_visible(bool(left))
    _count_epochs(axes)


def _mean_curve(curves: Sequence[LossCurve]) -> FloatArray:
    """Return the mean over folds up to the longest curve ``[epochs]``.

    A fold that stopped early counts with its last value: otherwise the mean would jump where a fold leaves it.
    """
    length = max(len(curve.values) for curve in curves)
    padded = [np.pad(curve.values.astype(np.float64), (0, length - len(curve.values)), mode="edge") for curve in curves]
    mean: FloatArray = np.mean(padded, axis=0)
    return mean


def _curves(result: AblationResult, term: str) -> list[LossCurve]:
    return [curve for curve in result.curves.get(term, ()) if len(curve.values)]


def _say_absent(axes: Axes, term: str) -> None:
    write_instead(axes, f"No mode of this ablation trains with {term}.")


def _draw_single(axes: Axes, result: AblationResult, term: str, label: str) -> None:
    curves = _curves(result, term)
    if not curves:
        _say_absent(axes, term)
        return
    _draw_term(axes, curves, BLUE, "-")
    axes.set_ylabel(label)
    axes.locator_params(axis="y", nbins=5)
    _count_epochs(axes)
    if len(curves) > 1:
        leave_headroom(axes, 0.16)
        axes.legend(loc="upper right", ncols=2, borderaxespad=0.1, **LEGEND).set_in_layout(False)


def _draw_term(
    axes: Axes, curves: Sequence[LossCurve], color: str, linestyle: str | tuple[int, tuple[float, ...]]
) -> None:
    """Draw thin lines for the folds, a dot where each stopped, and the mean over them."""
    for number, curve in enumerate(curves if len(curves) > 1 else ()):
        epochs = np.arange(1, len(curve.values) + 1)
        label = "a fold" if number == 0 else None
        axes.plot(epochs, curve.values, color=color, linewidth=0.8, alpha=0.4, linestyle=linestyle, label=label)
        axes.plot(epochs[-1:], curve.values[-1:], "o", color=color, markersize=3, alpha=0.6, markeredgewidth=0)
    mean = _mean_curve(curves)
    marker = "o" if len(mean) == 1 else ""
    label = f"mean of {len(curves)}" if len(curves) > 1 else None
    axes.plot(
        np.arange(1, len(mean) + 1), mean, color=color, linewidth=2.2, linestyle=linestyle, marker=marker, label=label
    )


def _color_axis(axes: Axes, label: str, color: str) -> None:
    axes.set_ylabel(label, color=color)
    axes.tick_params(axis="y", labelcolor=color)
    axes.locator_params(axis="y", nbins=5)


def _count_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1))


def learning_note(result: AblationResult, term: str) -> str:
    """Return how long the folds trained with `term`, in words."""
    lengths = [len(curve.values) for curve in _curves(result, term)]
    if not lengths:
        return f"no curve of {term}"
    span = counted(lengths[0], "epoch") if min(lengths) == max(lengths) else f"{min(lengths)} to {max(lengths)} epochs"
    return f"{counted(len(lengths), 'fold')}, {span}"
