"""What an ablation found, in sentences: does the stack help, and which of its parts do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from coldray.evaluation.significance import paired_p_value
from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.reports.ablation.learning_panels import learning_note
from coldray.reports.ablation.panels import SIGNIFICANT
from coldray.reports.labels import metric_label, metric_number
from coldray.reports.modes import (
    added_parts,
    change,
    fusion_weight,
    leading_metric,
    long_cutoff,
    mode_mean,
    p_label,
    percent_label,
    short_cutoff,
    signed,
)


def headline(result: AblationResult) -> str:
    """Return in one sentence whether the full stack beats the baseline, by how much and how surely."""
    metric, baseline, full = leading_metric(result), result.modes[0], result.modes[-1]
    label = f"mean test {metric_label(metric)}"
    lift = full.lifts.get(metric)
    if len(result.modes) < 2 or lift is None:
        reached = metric_number(mode_mean(baseline, metric))
        return f"{baseline.name} reaches a {label} of {reached}; nothing is compared."
    if lift.difference <= 0:
        verdict = f"{full.name} does not beat {baseline.name} on {label}"
    elif lift.p_adjusted < SIGNIFICANT and lift.low > 0:
        verdict = f"{full.name} beats {baseline.name} on {label}"
    else:
        verdict = f"{full.name} is above {baseline.name} on {label}, but not beyond what chance explains"
    values = f"{metric_number(mode_mean(full, metric))} against {metric_number(mode_mean(baseline, metric))}"
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
    part = (added_parts(mode) or ("",))[-1]
    ends, lift = change(result, mode, metric), mode.lifts.get(metric)
    known = (
        f"{percent_label(ends[0])} over {baseline.name} in {metric_label(metric)}, adjusted {p_label(lift.p_adjusted)}"
        if ends is not None and lift is not None
        else f"no lift in {metric_label(metric)} is known"
    )
    if fusion_weight(mode, part) == 0:
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


def panel_words(result: AblationResult) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure of an ablation."""
    short, longest = short_cutoff(result), long_cutoff(result)
    folds = "mean and standard deviation over folds; dotted: the baseline's mean"
    found = {
        "diagnostics": ("All panels.", f"Twelve panels. {headline(result)}"),
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
            "Published results and those measured here, where the dataset is the same.",
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
            "Cosine distance of each held-out cold item of the first fold to its nearest warm item.",
            f"Histogram of {len(result.neighbour_distance):,} distances with the median marked.",
        ),
    }


def _values(result: AblationResult, cutoff: int | None) -> str:
    if cutoff is None:
        return "One list length only was measured."
    return f"{_at(result, f'hr@{cutoff}')} {_at(result, f'ndcg@{cutoff}')}"


def _at(result: AblationResult, metric: str) -> str:
    values = ", ".join(f"{mode.name} {metric_number(mode_mean(mode, metric))}" for mode in result.modes)
    return f"{metric_label(metric)}: {values}."
