"""How metrics, parameters and configurations are written, the same in figures, reports and the console."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from coldray.evaluation.ratings import is_error
from coldray.experiments.ablation.result import AblationResult
from coldray.experiments.comparison.result import ComparisonResult
from coldray.experiments.data_check import DataCheck
from coldray.experiments.results import FoldMetrics, StudyResult, TrialResult

DASH = "–"
SIGNIFICANT = 0.05
"""An adjusted p below which chance does not explain a difference."""
_SYMBOLS = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "delta": "δ",
    "lambda": "λ",
    "lambda1": "λ₁",
    "lambda_0": "λ₀",
    "lambda_1": "λ₁",
    "lambda2": "λ₂",
    "lambda_2": "λ₂",
    "mu": "μ",
    "sigma": "σ",
    "tau": "τ",
    "w0": "w₀",
}
# A switch reads better by the name of its state than as "second order=no".
_SWITCHES = {"second_order": ("first order", "second order")}


def promoted(result: StudyResult | ComparisonResult) -> dict[str, str]:
    """Return what becomes of the winner in the registry, if it is registered."""
    return {} if result.promotion is None else {"registry": result.promotion.words}


def metric_label(metric: str) -> str:
    """Return the metric as it is printed: ``ndcg@10`` becomes ``NDCG@10``."""
    words = metric.replace("_", " ")
    return words.upper() if "@" in metric or is_error(metric) else words


def metric_number(value: float) -> str:
    """Return a metric with four decimals; a dash when it is not a number."""
    return f"{value:.4f}" if math.isfinite(value) else DASH


def mean_and_std(mean: float, std: float, n: int) -> str:
    """Return ``mean ± std``; the mean alone when fewer than two splits stand behind it."""
    return f"{metric_number(mean)} ± {metric_number(std)}" if n > 1 else metric_number(mean)


def parameter_label(name: str) -> str:
    """Return a parameter's printed name: the papers' symbol where there is one, else the name in words."""
    return " ".join(_SYMBOLS.get(part, part.replace("_", " ")) for part in name.split("."))


def value_label(value: Any) -> str:
    """Return a parameter value, compact: ``1000``, ``0.2``, ``1e-05``, ``yes``, ``none``."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        whole = math.isfinite(value) and value == int(value) and abs(value) < 1e6
        return str(int(value)) if whole else f"{value:.4g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={value_label(entry)}" for key, entry in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(value_label(entry) for entry in value) or "none"
    return str(value)


def setting_label(name: str, value: Any) -> str:
    """Return one setting: ``λ₁=1000``, ``second order``, ``no text``."""
    if isinstance(value, bool):
        off, on = _SWITCHES.get(name, (f"no {parameter_label(name)}", parameter_label(name)))
        return on if value else off
    return f"{parameter_label(name)}={value_label(value)}"


def config_label(config: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the settings of `names`, set apart so that they stay so where a line breaks."""
    return " · ".join(setting_label(name, config.get(name)) for name in names)


def shortened(text: str, limit: int) -> str:
    """Return `text` with at most `limit` characters; an ellipsis stands for its middle where it is longer.

    Long values of one parameter often begin alike and differ at the end.
    """
    if len(text) <= limit:
        return text
    kept = limit - 1
    return text[: kept // 2].rstrip() + "…" + text[len(text) - (kept - kept // 2) :].lstrip()


def fold_label(fold: FoldMetrics) -> str:
    """Return ``seed/split`` of a fold."""
    return f"{fold.seed}/{fold.split}"


def counted(number: int, noun: str) -> str:
    """Return ``1 trial`` or ``12 trials``."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration_label(seconds: float) -> str:
    """Return a duration in the two units that matter: ``8.2 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def is_synthetic(result: StudyResult | AblationResult | ComparisonResult | DataCheck) -> bool:
    """Tell whether it is of generated data."""
    return bool(result.dataset.get("synthetic", False))


def headline_metrics(result: StudyResult) -> tuple[str, ...]:
    """Return the metric that selected the winner and its companion, NDCG or HR at the same cutoff.

    The companion is left out where the folds do not have it.
    """
    chosen = result.selection.metric
    cutoff = chosen.rpartition("@")[2]
    known = result.selection.winner.folds[0].metrics if result.selection.winner.folds else {}
    companions = [name for name in (f"ndcg@{cutoff}", f"hr@{cutoff}") if name != chosen and name in known]
    return (chosen, *companions[:1])


def trial_metric(trial: TrialResult, metric: str) -> str:
    """Return a trial's validation ``mean ± std``; a dash where a fold lacks the metric."""
    if any(metric not in fold.metrics for fold in trial.folds):
        return DASH
    return mean_and_std(trial.mean(metric), trial.std(metric), len(trial.folds))


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
