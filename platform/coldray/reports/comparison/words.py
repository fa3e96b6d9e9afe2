"""What a comparison found, in sentences: who won on validation, and what the test says of it."""

from __future__ import annotations

from collections.abc import Sequence

from coldray.experiments.comparison.config import Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import Lift, mean_metric, std_metric
from coldray.reports.ablation.panels import SIGNIFICANT
from coldray.reports.comparison.inspection_tables import agreement_words, fit_seconds, inspected_entries
from coldray.reports.labels import counted, mean_and_std, metric_label, metric_number
from coldray.reports.modes import has_metric, long_cutoff, mode_mean, p_label, percent_label, short_cutoff, signed

TRACKS: dict[Track, str] = {
    "strict": "Strict track: exactly the attributes that MARec uses",
    "full": "Full track: also the title, counts of labels or other text",
    "clicks": "Clicks alone: no attribute of any item",
}


def shown_metrics(result: ComparisonResult) -> tuple[str, ...]:
    """Return the metric that decided, and NDCG and HR of the short and HR of the long list, as far as measured."""
    short, longest = short_cutoff(result), long_cutoff(result)
    names = [result.metric, f"ndcg@{short}", f"hr@{short}", *([f"hr@{longest}"] if longest is not None else [])]
    return tuple(name for name in dict.fromkeys(names) if all(has_metric(entry, name) for entry in result.entries))


def validation_mean(entry: EntryResult, metric: str) -> float:
    """Return the mean validation metric of an entry's winner."""
    return mean_metric(entry.validation, metric)


def headline(result: ComparisonResult) -> str:
    """Return in one sentence who won on validation, what it reaches on test, and by how much it beats the baseline."""
    champion, metric = result.entry(result.champion), result.metric
    label = metric_label(metric)
    spread = mean_and_std(
        validation_mean(champion, metric), std_metric(champion.validation, metric), len(champion.validation)
    )
    among = f"among {counted(len(result.entries), 'entry').replace('entrys', 'entries')}"
    chosen = f"{champion.name} ({champion.track} track) has the best validation {label} {among}, {spread}"
    interval = champion.intervals.get(metric)
    between = f" (95 % interval {metric_number(interval[0])} to {metric_number(interval[1])})" if interval else ""
    tested = f"on the test {result.held_out} it reaches {metric_number(mode_mean(champion, metric))}{between}"
    return f"{chosen}; {tested}{_against(result, champion)}."


def _against(result: ComparisonResult, champion: EntryResult) -> str:
    lift = champion.over_baseline.get(result.metric)
    if champion.name == result.baseline:
        return ", and it is the baseline itself"
    if lift is None:
        return f"; the baseline {result.baseline} was not tested"
    return f", {lift_words(lift)} {verdict(lift)} {result.baseline} (adjusted {p_label(lift.p_adjusted)})"


def verdict(lift: Lift) -> str:
    """Return how a difference is to be read: ``over``, ``below``, or the same but for chance."""
    if by_chance(lift):
        return "which chance may explain, from"
    return "over" if lift.difference > 0 else "below"


def by_chance(lift: Lift) -> bool:
    """Tell whether a difference is within what the choice of users explains."""
    return lift.p_adjusted >= SIGNIFICANT or lift.low <= 0 <= lift.high


def lift_words(lift: Lift) -> str:
    """Return ``+0.0190 (+6.3 %; +0.0150 to +0.0240)``."""
    between = f"{signed(lift.low, 4)} to {signed(lift.high, 4)}"
    return f"{signed(lift.difference, 4)} ({percent_label(100 * lift.relative)}; {between})"


def findings(result: ComparisonResult) -> list[str]:
    """Return what the headline leaves out: the best of each track, who is higher on test, and who failed."""
    metric, label = result.metric, metric_label(result.metric)
    champion = result.entry(result.champion)
    found = []
    for track in TRACKS:
        entries = result.of_track(track)
        if entries:
            best = max(entries, key=lambda entry: validation_mean(entry, metric))
            found.append(
                f"Best of the {track} track on validation: {best.name}, with a test {label} of "
                f"{metric_number(mode_mean(best, metric))}{_over_rival(best, metric)}."
            )
    higher = [entry for entry in result.entries if mode_mean(entry, metric) > mode_mean(champion, metric)]
    if higher:
        names = ", ".join(f"{entry.name} ({metric_number(mode_mean(entry, metric))})" for entry in higher)
        found.append(f"Higher on test than the champion: {names}. The test chooses nothing, so the champion stays.")
    found += edge_findings(result)
    found += [f"{failed.name} ({failed.track} track) failed; the reason is below." for failed in result.failed]
    return found


def edge_findings(result: ComparisonResult) -> list[str]:
    """Return what of each entry's configuration is on the edge of its search."""
    return [
        f"{entry.name} is on the edge of its search: {edge.told}"
        for entry in result.entries
        for edge in entry.study.edges
    ]


def _over_rival(entry: EntryResult, metric: str) -> str:
    lift = entry.over_rival.get(metric)
    if lift is None:
        return "; there is no other entry to hold it against"
    return f"; to {entry.rival}, the best other of the track, {lift_words(lift)}, adjusted {p_label(lift.p_adjusted)}"


def figure_words(result: ComparisonResult) -> dict[str, tuple[str, str]]:
    """Return caption and alternative text of each figure of a comparison."""
    metrics = shown_metrics(result)
    return {
        "entries_on_test": (
            f"Each entry on the test {result.held_out}: the dot is the mean over splits, the bar the 95 % interval "
            f"over users, small dots the splits; dotted: {result.baseline}, the baseline.",
            " ".join(f"{metric_label(metric)}: {_means(result.entries, metric)}." for metric in metrics),
        ),
        "differences": (
            f"Difference in test {metric_label(result.metric)} to {result.baseline} over the same users, with 95 % "
            f"intervals; hollow: not significant after the correction ({result.correction}).",
            "; ".join(
                f"{entry.name} {lift_words(entry.over_baseline[result.metric])}"
                for entry in result.entries
                if result.metric in entry.over_baseline
            )
            or "There is no entry to compare.",
        ),
        "validation_against_test": (
            f"Mean validation {metric_label(result.metric)} of each entry's configuration against its test; bars: "
            "standard deviation over splits. The star is the champion, chosen on validation.",
            "; ".join(
                f"{entry.name} {metric_number(validation_mean(entry, result.metric))} on validation and "
                f"{metric_number(mode_mean(entry, result.metric))} on test"
                for entry in result.entries
            )
            + ".",
        ),
        "quality_against_cost": (
            f"Test {metric_label(result.metric)} of each winner against the time of one fit, mean over splits.",
            "; ".join(
                f"{entry.name} {metric_number(mode_mean(entry, result.metric))} after {fit_seconds(entry):.3g} s"
                for entry in inspected_entries(result)
            )
            or "Nothing was timed.",
        ),
        "item_maps": (_map_words(result), _agreements(result) or "Items as dots, a panel for each entry."),
    }


def _map_words(result: ComparisonResult) -> str:
    label = "" if result.shown is None or result.shown.attribute is None else f", coloured by {result.shown.attribute}"
    below = " Below each: the share of its nearest items that have a label in common with it." if label else ""
    return (
        f"The most clicked items, placed by t-SNE so that those are near which a single click says the same of{label}. "
        f"Neighbourhoods are to be read, not distances or axes.{below}"
    )


def _agreements(result: ComparisonResult) -> str:
    found = [(entry.name, agreement_words(result, entry)) for entry in inspected_entries(result)]
    return "; ".join(f"{name}: {words} of the nearest items share a label" for name, words in found if words)


def _means(entries: Sequence[EntryResult], metric: str) -> str:
    return ", ".join(f"{entry.name} {metric_number(mode_mean(entry, metric))}" for entry in entries)
