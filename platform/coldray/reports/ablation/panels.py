"""The panels of an ablation: its modes compared, how its parts learned, and where cold items lie among warm ones.

Each draws into axes that it is given, so that it can stand alone or among others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from coldray.experiments.ablation.result import NEAREST, AblationResult, Cloud, FloatArray, LossCurve, ModeResult
from coldray.experiments.results import std_metric
from coldray.reports.ablation.words import change, leading_metric
from coldray.reports.labels import SIGNIFICANT, counted, metric_label, metric_number, shortened
from coldray.reports.placement import leave_headroom
from coldray.reports.published import HETREC, published_for
from coldray.reports.style import (
    BLUE,
    DARK_VERMILION,
    GREY,
    INK,
    LEGEND,
    SKY_BLUE,
    VERMILION,
    grid_along,
    line_mark,
    write_instead,
)
from coldray.reports.tables import has_metric, known_mean, long_cutoff, short_cutoff

_MEASURES = (("hr", BLUE, "o", -0.15), ("ndcg", VERMILION, "s", 0.15))
_DIGIT, _GAP = 0.065, 0.04  # shares of the axis that a digit of a list length takes, and that two labels are apart
_OTHER = "#C9C9C9"
_NAME_CHARACTERS = 14
_BOLD_CHARACTERS = 11  # with an asterisk behind them
_LEGEND_CHARACTERS, _ROW_CHARACTERS = 10, 16  # of a name, and of the two that share a row
_BOTH_LONG = 7  # of each where they are more


def ablation_short_list(axes: Axes, result: AblationResult) -> None:
    """Draw HR and NDCG of each mode in the short list: mean and standard deviation over folds."""
    _draw_modes(axes, result, short_cutoff(result.cutoffs))


def ablation_long_list(axes: Axes, result: AblationResult) -> None:
    """Draw HR and NDCG of each mode in the long list: mean and standard deviation over folds."""
    cutoff = long_cutoff(result.cutoffs)
    if cutoff is None:
        write_instead(axes, f"Metrics were computed at one list length only, k = {short_cutoff(result.cutoffs)}.")
        return
    _draw_modes(axes, result, cutoff)


def _draw_modes(axes: Axes, result: AblationResult, cutoff: int) -> None:
    for base, color, marker, offset in _MEASURES:
        metric = f"{base}@{cutoff}"
        rows = [row for row, mode in enumerate(result.modes) if has_metric(mode.folds, metric)]
        if not rows:
            continue
        modes = [result.modes[row] for row in rows]
        means = [known_mean(mode.folds, metric) for mode in modes]
        spread = [std_metric(mode.folds, metric) for mode in modes]
        if rows[0] == 0:
            axes.vlines(means[0], -0.5, len(result.modes) - 0.5, color=color, linewidth=0.8, linestyle=":", zorder=1)
        places = [row + offset for row in rows]
        whiskers = spread if any(len(mode.folds) > 1 for mode in modes) else None
        axes.errorbar(means, places, xerr=whiskers, fmt=marker, color=color, markersize=5.5, capsize=2.5)
    if not axes.containers:
        write_instead(axes, f"HR@{cutoff} and NDCG@{cutoff} were not measured.")
        return
    n_folds = max(len(mode.folds) for mode in result.modes)
    axes.set_xlabel(f"test value at k = {cutoff}\n" + (f"mean ± std of {n_folds} folds" if n_folds > 1 else "one fold"))
    _name_rows(axes, result.modes)


def _name_rows(axes: Axes, modes: Sequence[ModeResult]) -> None:
    """Write the modes' names along the left, first at the top, and the legend in a row of its own above them."""
    axes.set_yticks(range(len(modes)), [shortened(mode.name, _NAME_CHARACTERS) for mode in modes])
    axes.set_ylim(len(modes) - 0.5, -1.15)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1)
    axes.locator_params(axis="x", nbins=5)
    grid_along(axes, "x")
    handles = [
        Line2D([], [], linestyle="none", marker=marker, color=color, markersize=5.5, label=base.upper())
        for base, color, marker, _ in _MEASURES
    ]
    legend = axes.legend(handles=handles, loc="upper right", ncols=2, borderaxespad=0.1, **LEGEND)
    legend.set_in_layout(False)


def lift(axes: Axes, result: AblationResult) -> None:
    """Draw the change of HR and NDCG from the baseline in per cent, with 95 % intervals.

    A hollow mark stands for a change that is not significant after the correction for many comparisons.
    """
    cutoff = short_cutoff(result.cutoffs)
    modes = result.modes[1:]
    for base, color, marker, offset in _MEASURES:
        metric = f"{base}@{cutoff}"
        known = [(row, mode, change(result, mode, metric)) for row, mode in enumerate(modes)]
        for row, mode, ends in known:
            if ends is None:
                continue
            value, low, high = ends
            fill = color if mode.lifts[metric].p_adjusted < SIGNIFICANT else "white"
            place = row + offset
            axes.plot([low, high], [place, place], color=color, linewidth=1.5, zorder=2)
            axes.plot([value], [place], marker, color=color, markerfacecolor=fill, markersize=5.5, zorder=3)
    if not axes.lines:
        write_instead(axes, "There is no mode beside the baseline to compare it with.")
        return
    axes.vlines(0, -0.5, len(modes) - 0.5, color=GREY, linewidth=1, linestyle="--", zorder=1)
    axes.set_xlabel(f"lift at k = {cutoff} (%)\nwith 95 % interval")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    _name_rows(axes, modes)


def coverage_by_length(axes: Axes, result: AblationResult) -> None:
    """Draw the share of the candidates that are in at least one list, against the length of the lists."""
    _draw_by_length(axes, result, "coverage", 100.0, shaded=False)
    axes.set_ylabel("coverage (%)")
    # The legend's room may reach above what a share can be.
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}" if value <= 100 else ""))


def hit_rate_by_length(axes: Axes, result: AblationResult) -> None:
    """Draw HR@k against k, with the 95 % interval over users shaded."""
    _draw_by_length(axes, result, "hr", 1.0, shaded=True)
    axes.set_ylabel("test HR@k")


def _draw_by_length(axes: Axes, result: AblationResult, base: str, unit: float, *, shaded: bool) -> None:
    longest = sum(sorted(len(mode.name) for mode in result.modes)[-2:])
    characters = _LEGEND_CHARACTERS if longest <= _ROW_CHARACTERS else _BOTH_LONG
    for position, mode in enumerate(result.modes):
        lengths = [k for k in sorted(result.cutoffs) if has_metric(mode.folds, f"{base}@{k}")]
        if not lengths:
            continue
        values = [unit * known_mean(mode.folds, f"{base}@{k}") for k in lengths]
        mark = line_mark(position)
        axes.plot(
            lengths,
            values,
            color=mark.color,
            marker=mark.marker,
            linestyle=mark.linestyle,
            linewidth=1.6,
            markersize=4.5,
            label=shortened(mode.name, characters),
        )
        ends = [mode.intervals.get(f"{base}@{k}") for k in lengths]
        between = [(k, *pair) for k, pair in zip(lengths, ends, strict=True) if pair is not None]
        if shaded and between:
            across, low, high = zip(*between, strict=True)
            axes.fill_between(across, low, high, color=mark.color, alpha=0.13, linewidth=0)
    if not axes.lines:
        write_instead(axes, f"{base.upper()} was not measured.")
        return
    _scale_lengths(axes, result.cutoffs)
    leave_headroom(axes, 0.27)
    axes.legend(loc="upper left", ncols=2, borderaxespad=0.1, **{**LEGEND, "handlelength": 1.6}).set_in_layout(False)


def _scale_lengths(axes: Axes, cutoffs: Sequence[int]) -> None:
    """Set the lengths on a logarithmic axis, with as many of them as tick labels as have room."""
    lengths = sorted(cutoffs)
    axes.set_xscale("log")
    width = math.log(lengths[-1] / lengths[0]) or 1.0
    ticks = lengths[:1]
    for length in lengths[1:-1]:
        if all(abs(math.log(length / other)) >= _room(length, other) * width for other in (ticks[-1], lengths[-1])):
            ticks.append(length)
    ticks += lengths[1:][-1:]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("list length k (log scale)")


def _room(one: int, other: int) -> float:
    """Return how far apart the labels of two list lengths have to be, as a share of the axis."""
    return _DIGIT * (len(str(one)) + len(str(other))) / 2 + _GAP


def published_numbers(axes: Axes, result: AblationResult) -> None:
    """Draw published results beside the baseline and the full stack, hatched where they are of other data.

    Beside generated data none is drawn: it is said why.
    """
    metric = leading_metric(result)
    table = published_for(result.dataset)
    elsewhere = table is None
    if table is None:
        if result.dataset.get("synthetic", False):
            write_instead(axes, _no_comparison(result))
            return
        table = HETREC
    measured = [mode for mode in dict.fromkeys((result.modes[0], result.modes[-1])) if has_metric(mode.folds, metric)]
    methods = {name: row[metric] for name, row in table.methods.items() if metric in row}
    if not methods or not measured:
        write_instead(axes, f"No published number is comparable: {metric_label(metric)} was not published or measured.")
        return
    names = sorted(methods, key=methods.__getitem__)
    values = [methods[name] for name in names] + [known_mean(mode.folds, metric) for mode in measured]
    colors = [_OTHER if elsewhere else SKY_BLUE] * len(names) + [VERMILION] * len(measured)
    bars = axes.barh(range(len(values)), values, color=colors, height=0.72, edgecolor="white", linewidth=0)
    for bar in bars[: len(names) if elsewhere else 0]:
        bar.set_hatch("////")
    for row, value in enumerate(values):
        axes.annotate(metric_number(value), (value, row), (3, 0), textcoords="offset points", va="center", fontsize=9)
    ours = [f"{shortened(mode.name, _BOLD_CHARACTERS)} *" for mode in measured]
    axes.set_yticks(range(len(values)), [*names, *ours])
    for tick in axes.get_yticklabels()[len(names) :]:
        tick.set(color=INK, fontweight="bold")
    axes.set_xlim(0, 1.45 * max(values))
    here = f"here, {counted(len(measured[0].folds), 'fold')}"
    words = f" (* {here})\nhatched: other data (HetRec)" if elsewhere else f"\n* {here}"
    axes.set_xlabel(f"test {metric_label(metric)}{words}", loc="right" if elsewhere else "center")
    axes.locator_params(axis="x", nbins=4)
    axes.tick_params(axis="y", length=0)
    grid_along(axes, "x")


def _no_comparison(result: AblationResult) -> str:
    name = shortened(str(result.dataset.get("name", "this dataset")), 26)
    return (
        f"No published number is comparable: {name} is generated data. Published: {HETREC.title}, "
        f"{HETREC.n_users:,} users × {HETREC.n_items:,} items."
    )


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
    """Draw how far each held-out cold item is from its nearest warm items, with the median marked."""
    distances = result.neighbour_distance[np.isfinite(result.neighbour_distance)]
    if not len(distances):
        write_instead(axes, "The first fold has no cold item with a warm neighbour.")
        return
    end = max(float(distances.max()), 1e-6)
    bins = min(_BINS, max(5, math.isqrt(len(distances))))
    axes.hist(np.clip(distances, 0.0, None), bins=bins, range=(0.0, end), color=SKY_BLUE, edgecolor="white")
    axes.set_xlabel(f"mean cosine distance to the\n{NEAREST} nearest warm items")
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
