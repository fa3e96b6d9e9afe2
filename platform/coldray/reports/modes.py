"""The modes of an ablation, as figures, tables and sentences show them: marks, cutoffs, changes in per cent."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import mean_metric
from coldray.reports.labels import DASH
from coldray.reports.style import BLUE, GREY, SKY_BLUE, VERMILION


@dataclass(frozen=True)
class Mark:
    """How a mode is told from the others, by more than its colour."""

    color: str
    marker: str
    linestyle: str | tuple[int, tuple[float, ...]]


_MARKS = (
    Mark(GREY, "o", (0, (4.0, 1.5))),
    Mark(SKY_BLUE, "s", "-"),
    Mark(BLUE, "^", (0, (1.0, 1.0))),
    Mark(VERMILION, "D", "-"),
)


def mode_mark(position: int) -> Mark:
    """Return the mark of the mode at `position`; the baseline is at 0."""
    return _MARKS[position % len(_MARKS)]


def short_cutoff(result: AblationResult | ComparisonResult) -> int:
    """Return 10, or the shortest list that was measured."""
    return 10 if 10 in result.cutoffs or not result.cutoffs else min(result.cutoffs)


def long_cutoff(result: AblationResult | ComparisonResult) -> int | None:
    """Return 50, or the longest list that was measured; None when only one length was."""
    longer = [cutoff for cutoff in result.cutoffs if cutoff > short_cutoff(result)]
    return 50 if 50 in longer else max(longer, default=None)


def leading_metric(result: AblationResult) -> str:
    """Return the metric by which the ablation is judged: NDCG of the short list."""
    return f"ndcg@{short_cutoff(result)}"


def has_metric(mode: ModeResult | EntryResult, metric: str) -> bool:
    """Tell whether every test fold of `mode`, of one at least, has `metric`."""
    return bool(mode.folds) and all(metric in fold.metrics for fold in mode.folds)


def mode_mean(mode: ModeResult | EntryResult, metric: str) -> float:
    """Return the mean over folds; NaN where a fold lacks the metric."""
    return mean_metric(mode.folds, metric) if has_metric(mode, metric) else math.nan


def change(result: AblationResult, mode: ModeResult, metric: str) -> tuple[float, float, float] | None:
    """Return the lift over the baseline in per cent with the ends of its interval; None where it is not known."""
    lift = mode.lifts.get(metric)
    if lift is None:
        return None
    # The difference and its share of the baseline give the baseline itself, unless there is no difference.
    base = lift.difference / lift.relative if lift.relative and lift.difference else _mean(result.modes[0], metric)
    if not math.isfinite(base) or base == 0:
        return None
    return 100 * lift.relative, 100 * lift.low / base, 100 * lift.high / base


def _mean(mode: ModeResult, metric: str) -> float:
    values = mode.per_user.get(metric)
    return mode_mean(mode, metric) if values is None or not len(values) else float(np.mean(values, dtype=np.float64))


def added_parts(mode: ModeResult) -> tuple[str, ...]:
    """Return what the mode adds to the baseline, the newest last: ``CA`` and ``UA`` for ``+CA+UA``."""
    return tuple(mode.name.split("+")[1:])


def fusion_weight(mode: ModeResult, part: str) -> float | None:
    """Return the tuned weight of a part, the parameter ``ca_weight`` of ``CA``; None where there is no such number."""
    weight = mode.config.get(f"{part.lower()}_weight")
    return float(weight) if isinstance(weight, int | float) else None


def percent_label(value: float) -> str:
    """Return a change with its sign: ``+5.7 %``, ``−0.3 %``."""
    return f"{signed(value, 1)} %" if math.isfinite(value) else DASH


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign and a minus as long as the plus; what rounds to 0 has none."""
    text = f"{value:+.{decimals}f}".replace("-", "−")
    return text if any(digit in text for digit in "123456789") else text[1:]


def p_number(value: float) -> str:
    """Return a p value, or the bound below which more digits say nothing: ``0.041``, ``< 0.001``."""
    if not math.isfinite(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def p_label(value: float) -> str:
    """Return a p value as an equation or a bound that no line break parts: ``p = 0.041``, ``p < 0.001``."""
    text = p_number(value)
    return (f"p {text}" if text.startswith(("<", DASH)) else f"p = {text}").replace(" ", "\u00a0")
