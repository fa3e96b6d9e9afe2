"""What a study found, for a terminal of 80 columns or more."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from coldray.experiments.results import StudyResult, mean_metric, std_metric
from coldray.reports.labels import (
    DASH,
    config_label,
    counted,
    headline_metrics,
    is_synthetic,
    mean_and_std,
    metric_label,
    metric_number,
    promoted,
    trial_metric,
)
from coldray.reports.study import top_trials


def console_summary(result: StudyResult, top: int = 10) -> Group:
    """Return the best configurations and the winner's test, ready for ``rich.console.Console.print``.

    Settings wrap inside their column, so that no number is cut. Values are never read as markup.
    """
    parts: list[RenderableType] = [Text(f"{result.name}: {result.model} on {result.dataset.get('name', DASH)}", "bold")]
    if is_synthetic(result):
        parts.append(Text("Synthetic data: generated sample, not a real dataset", "bold reverse"))
    parts += [Text(trial_counts(result)), Text()]
    parts += [Text("Best configurations on validation data", "italic"), _configurations(result, top), _winner(result)]
    number, splits = result.selection.winner.number, counted(len(result.test), "split")
    if result.test:
        parts += [Text(f"#{number} on test data, tested once, over {splits}", "italic"), _tested(result)]
    else:
        parts.append(Text(f"#{number} was not tested."))
    parts += [Text(f"Form: {form.told}") for form in result.forms]
    parts += [Text(f"Edge: {edge.told}", "yellow") for edge in result.edges]
    parts += [Text(f"Note: {note}", "yellow") for note in result.notes]
    parts += [Text(f"Registry: {words}") for words in promoted(result).values()]
    return Group(*parts)


def trial_counts(result: StudyResult) -> str:
    """Return how many trials there were, and how they ended."""
    ended = {
        status: sum(trial.status == status for trial in result.trials) for status in ("finished", "pruned", "failed")
    }
    return f"{counted(len(result.trials), 'trial')}: " + ", ".join(f"{n} {status}" for status, n in ended.items())


def _configurations(result: StudyResult, top: int) -> Table:
    metrics = headline_metrics(result)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    table.add_column("trial", justify="right", no_wrap=True)
    table.add_column("configuration", ratio=1, overflow="fold")
    for metric in metrics:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    winner = result.selection.winner.number
    for trial in top_trials(result, top):
        chosen = trial.number == winner
        table.add_row(
            Text("→" if chosen else ""),
            Text(f"#{trial.number}"),
            Text(config_label(trial.config, result.searched) or DASH),
            *[Text(trial_metric(trial, metric)) for metric in metrics],
            style="bold" if chosen else "",
        )
    return table


def _winner(result: StudyResult) -> Padding:
    selection = result.selection
    text = f"→ selected: #{selection.winner.number}"
    if selection.winner.number != selection.best.number:
        text += f", within {100 * selection.tolerance:.3g} % of the best (#{selection.best.number})"
        text += f" and preferred by the rule: {'; '.join(selection.rule)}" if selection.rule else ""
    return Padding(Text(text), (0, 0, 1, 1))


def _tested(result: StudyResult) -> Table:
    splits = len(result.test)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("metric", no_wrap=True)
    table.add_column("mean ± std" if splits > 1 else "value", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    for metric in result.test[0].metrics:
        interval = result.test_intervals.get(metric)
        table.add_row(
            Text(metric_label(metric)),
            Text(mean_and_std(mean_metric(result.test, metric), std_metric(result.test, metric), splits)),
            Text(f"{metric_number(interval[0])} to {metric_number(interval[1])}" if interval else DASH),
        )
    return table
