"""What a comparison found, for a terminal of 80 columns or more."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import std_metric
from coldray.reports.comparison.words import TRACKS, edge_findings, headline, shown_metrics
from coldray.reports.labels import DASH, counted, is_synthetic, mean_and_std, metric_label, metric_number, promoted
from coldray.reports.modes import mode_mean, p_number, signed
from coldray.reports.page import SYNTHETIC_LABEL


def console_comparison(result: ComparisonResult) -> Group:
    """Return a table for each track and the headline, ready for ``rich.console.Console.print``.

    Values are never read as markup.
    """
    splits = counted(len(result.entries[0].folds), "split")
    parts: list[RenderableType] = [
        Text(f"{result.name}: comparison on {result.dataset.get('name', DASH)}, tested once on {splits}", "bold")
    ]
    if is_synthetic(result):
        parts.append(Text(SYNTHETIC_LABEL, "bold reverse"))
    for track, words in TRACKS.items():
        if result.of_track(track):
            parts += [Text(), Text(words, "italic"), _entries(result, track)]
    parts += [Text(words, "yellow") for words in edge_findings(result)]
    parts += [Text(f"{failed.name} failed: {failed.reason}", "red") for failed in result.failed]
    parts.append(Text(headline(result)))
    return Group(*parts, *[Text(f"Registry: {words}") for words in promoted(result).values()])


def _entries(result: ComparisonResult, track: Track) -> Table:
    leading, *others = shown_metrics(result)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("entry", overflow="fold")
    table.add_column(metric_label(leading), justify="right", no_wrap=True)
    for metric in others:
        table.add_column(metric_label(metric), justify="right", no_wrap=True)
    table.add_column(f"over {result.baseline}", justify="right", overflow="fold", min_width=7)
    table.add_column("adj. p", justify="right", no_wrap=True)
    for entry in result.of_track(track):
        chosen = entry.name == result.champion
        lift = entry.over_baseline.get(leading)
        table.add_row(
            Text("→" if chosen else ""),
            Text(entry.name),
            Text(_spread(entry, leading)),
            *[Text(metric_number(mode_mean(entry, metric))) for metric in others],
            Text(signed(lift.difference, 4) if lift else DASH),
            Text(p_number(lift.p_adjusted) if lift else DASH),
            style="bold" if chosen else "",
        )
    return table


def _spread(entry: EntryResult, metric: str) -> str:
    return mean_and_std(mode_mean(entry, metric), std_metric(entry.folds, metric), len(entry.folds))
