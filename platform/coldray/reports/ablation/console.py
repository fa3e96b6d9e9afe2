"""What an ablation found, for a terminal of 80 columns or more."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.words import edge_findings, headline
from coldray.reports.labels import DASH, counted, is_synthetic, mean_and_std, metric_label, metric_number
from coldray.reports.modes import has_metric, leading_metric, long_cutoff, p_number, percent_label, short_cutoff
from coldray.reports.page import SYNTHETIC_LABEL


def console_ablation(result: AblationResult) -> Group:
    """Return a row for each mode and the headline, ready for ``rich.console.Console.print``.

    Values are never read as markup.
    """
    folds = counted(max(len(mode.folds) for mode in result.modes), "fold")
    parts: list[RenderableType] = [
        Text(f"{result.name}: ablation on {result.dataset.get('name', DASH)}, {folds}", "bold")
    ]
    if is_synthetic(result):
        parts.append(Text(SYNTHETIC_LABEL, "bold reverse"))
    edges = [Text(words, "yellow") for words in edge_findings(result)]
    return Group(*parts, _modes(result), *edges, Text(headline(result)))


def _modes(result: AblationResult) -> Table:
    short, longest, leading = short_cutoff(result), long_cutoff(result), leading_metric(result)
    metrics = [f"hr@{short}", leading, *([f"hr@{longest}"] if longest is not None else [])]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("mode", overflow="fold")
    for metric in metrics:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    table.add_column(f"lift in\n{metric_label(leading)}", justify="right", no_wrap=True)
    table.add_column("adjusted p", justify="right", no_wrap=True)
    for mode in result.modes:
        lift = mode.lifts.get(leading)
        table.add_row(
            Text(mode.name),
            *[Text(_measured(mode, metric, spread=metric == leading)) for metric in metrics],
            Text(percent_label(100 * lift.relative) if lift else DASH),
            Text(p_number(lift.p_adjusted) if lift else DASH),
        )
    return table


def _measured(mode: ModeResult, metric: str, *, spread: bool) -> str:
    """Return the mean, with its `spread` where there is room for it."""
    if not has_metric(mode, metric):
        return DASH
    mean = mean_metric(mode.folds, metric)
    return mean_and_std(mean, std_metric(mode.folds, metric), len(mode.folds)) if spread else metric_number(mean)
