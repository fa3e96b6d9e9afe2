"""What a comparison found, in sentences: who won on validation, and what the test says of it."""

from __future__ import annotations

from coldray.evaluation.ratings import RATING_METRICS, is_error
from coldray.experiments.comparison.config import VECTORS, Track
from coldray.experiments.comparison.result import ComparisonResult, EntryResult
from coldray.experiments.results import Lift
from coldray.reports.labels import (
    SIGNIFICANT,
    counted,
    metric_label,
    metric_number,
    p_label,
    percent_label,
    signed,
)
from coldray.reports.tables import has_metric, interval_label, known_mean, long_cutoff, short_cutoff, spread

TRACKS: dict[Track, str] = {
    "strict": "Strict track: exactly the attributes that MARec uses",
    "full": "Full track: also the title, counts of labels, other text or attributes of users",
    "clicks": "Clicks alone: no attribute of any item",
}


def shown_metrics(result: ComparisonResult) -> tuple[str, ...]:
    """Return the metric that decided, and NDCG and HR of the short and HR of the long list, as far as measured.

    Of predicted ratings: the metric that decided, RMSE and MAE, and NDCG of the short list.
    """
    short, longest = short_cutoff(result.cutoffs), long_cutoff(result.cutoffs)
    if by_ratings(result):
        names = [result.metric, "rmse", "mae", f"ndcg@{short}"]
    else:
        names = [result.metric, f"ndcg@{short}", f"hr@{short}", *([f"hr@{longest}"] if longest is not None else [])]
    return tuple(
        name for name in dict.fromkeys(names) if all(has_metric(entry.folds, name) for entry in result.entries)
    )


def by_ratings(result: ComparisonResult) -> bool:
    """Tell whether entries are compared by the ratings they predict."""
    return result.metric in RATING_METRICS


def lower_is_better(metric: str) -> str:
    """Return what is said behind the name of an error; nothing of other metrics."""
    return " (lower is better)" if is_error(metric) else ""


def headline(result: ComparisonResult) -> str:
    """Return in one sentence who won on validation, what it reaches on test, and by how much it beats the baseline."""
    champion, metric = result.entry(result.champion), result.metric
    label = metric_label(metric)
    tuned = [entry for entry in result.entries if entry.model != VECTORS]
    among = f"among {counted(len(tuned), 'entry').replace('entrys', 'entries')}"
    among += "" if len(tuned) == len(result.entries) else " that are studies"
    best = "lowest" if is_error(metric) else "best"
    validated = spread(champion.validation, metric)
    chosen = f"{champion.name} ({champion.track} track) has the {best} validation {label} {among}, {validated}"
    interval = champion.intervals.get(metric)
    between = f" (95 % interval {interval_label(interval)})" if interval else ""
    tested = f"on the test {result.held_out} it reaches {metric_number(known_mean(champion.folds, metric))}{between}"
    return f"{chosen}; {tested}{_against(result, champion)}."


def _against(result: ComparisonResult, champion: EntryResult) -> str:
    lift = champion.over_baseline.get(result.metric)
    if champion.name == result.baseline:
        return ", and it is the baseline itself"
    if lift is None:
        return f"; the baseline {result.baseline} was not tested"
    return f", {lift_words(lift)} {_verdict(lift)} {result.baseline} (adjusted {p_label(lift.p_adjusted)})"


def _verdict(lift: Lift) -> str:
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
    """Return what the headline leaves out: the best of each track, who is better on test, and who failed."""
    metric, label = result.metric, metric_label(result.metric)
    champion = result.entry(result.champion)
    sign, word = (-1, "Lower") if is_error(metric) else (1, "Higher")
    reached = sign * known_mean(champion.folds, metric)
    found = []
    for track in TRACKS:
        entries = result.of_track(track)
        if entries:
            best = max(entries, key=lambda entry: sign * known_mean(entry.validation, metric))
            found.append(
                f"Best of the {track} track on validation: {best.name}, with a test {label} of "
                f"{metric_number(known_mean(best.folds, metric))}{_over_rival(best, metric)}."
            )
    better = [entry for entry in result.entries if sign * known_mean(entry.folds, metric) > reached]
    if better:
        names = ", ".join(f"{entry.name} ({metric_number(known_mean(entry.folds, metric))})" for entry in better)
        found.append(f"{word} on test than the champion: {names}. The test chooses nothing, so the champion stays.")
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
