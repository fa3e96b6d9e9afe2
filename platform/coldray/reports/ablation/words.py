"""What an ablation found, in sentences: does the stack help, and which of its parts do."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from coldray.evaluation.significance import paired_p_value
from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.reports.labels import SIGNIFICANT, metric_label, metric_number, p_label, percent_label, signed
from coldray.reports.tables import known_mean, short_cutoff


def headline(result: AblationResult) -> str:
    """Return in one sentence whether the full stack beats the baseline, by how much and how surely."""
    metric, baseline, full = leading_metric(result), result.modes[0], result.modes[-1]
    label = f"mean test {metric_label(metric)}"
    lift = full.lifts.get(metric)
    if len(result.modes) < 2 or lift is None:
        reached = metric_number(known_mean(baseline.folds, metric))
        return f"{baseline.name} reaches a {label} of {reached}; nothing is compared."
    if lift.difference <= 0:
        verdict = f"{full.name} does not beat {baseline.name} on {label}"
    elif lift.p_adjusted < SIGNIFICANT and lift.low > 0:
        verdict = f"{full.name} beats {baseline.name} on {label}"
    else:
        verdict = f"{full.name} is above {baseline.name} on {label}, but not beyond what chance explains"
    values = (
        f"{metric_number(known_mean(full.folds, metric))} against {metric_number(known_mean(baseline.folds, metric))}"
    )
    between = f"95 % interval {signed(lift.low, 4)} to {signed(lift.high, 4)}"
    by = f"a difference of {signed(lift.difference, 4)} ({percent_label(100 * lift.relative)}; {between})"
    return f"{verdict}: {values}, {by}, adjusted {p_label(lift.p_adjusted)} ({result.correction})."


def verdicts(result: AblationResult) -> list[str]:
    """Return a sentence for each mode beside the baseline: whether it helps, and how that is known."""
    return [_verdict(result, before, mode) for before, mode in pairwise(result.modes)]


def edge_findings(result: AblationResult) -> list[str]:
    """Return which stages are on the edge of what they tried."""
    return [f"{mode.name} is on the edge of what it tried: {edge.told}" for mode in result.modes for edge in mode.edges]


def _verdict(result: AblationResult, before: ModeResult, mode: ModeResult) -> str:
    metric, baseline = leading_metric(result), result.modes[0]
    part = (_added_parts(mode) or ("",))[-1]
    ends, lift = change(result, mode, metric), mode.lifts.get(metric)
    known = (
        f"{percent_label(ends[0])} over {baseline.name} in {metric_label(metric)}, adjusted {p_label(lift.p_adjusted)}"
        if ends is not None and lift is not None
        else f"no lift in {metric_label(metric)} is known"
    )
    if _fusion_weight(mode, part) == 0:
        return f"{mode.name} does not help beyond {before.name}: the fusion weight of {part} was tuned to 0 ({known})."
    if lift is None:
        return f"{mode.name}: {known}."
    if before is not baseline and metric in before.per_user and metric in mode.per_user:
        return _step(before, mode, metric, known)
    if lift.difference <= 0:
        return f"{mode.name} does not help: {known}."
    if lift.p_adjusted >= SIGNIFICANT or lift.low <= 0:
        return f"{mode.name} is not shown to help: {known}."
    return f"{mode.name} helps: {known}."


def _step(before: ModeResult, mode: ModeResult, metric: str, known: str) -> str:
    """Return whether a mode helps beyond the one before it, which its lift over the baseline does not tell."""
    ours, theirs = mode.per_user[metric], before.per_user[metric]
    difference, p_value = float(np.mean(ours - theirs)), paired_p_value(ours, theirs)
    helps = "helps" if difference > 0 and p_value < SIGNIFICANT else "is not shown to help"
    step = f"{signed(difference, 4)} in {metric_label(metric)} over users, {p_label(p_value)}"
    return f"{mode.name} {helps} beyond {before.name}: {step} ({known})."


def leading_metric(result: AblationResult) -> str:
    """Return the metric by which the ablation is judged: NDCG of the short list."""
    return f"ndcg@{short_cutoff(result.cutoffs)}"


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
    return (
        known_mean(mode.folds, metric)
        if values is None or not len(values)
        else float(np.mean(values, dtype=np.float64))
    )


def _added_parts(mode: ModeResult) -> tuple[str, ...]:
    """Return what the mode adds to the baseline, the newest last: ``CA`` and ``UA`` for ``+CA+UA``."""
    return tuple(mode.name.split("+")[1:])


def _fusion_weight(mode: ModeResult, part: str) -> float | None:
    """Return the tuned weight of a part, the parameter ``ca_weight`` of ``CA``; None where there is no such number."""
    weight = mode.config.get(f"{part.lower()}_weight")
    return float(weight) if isinstance(weight, int | float) else None
