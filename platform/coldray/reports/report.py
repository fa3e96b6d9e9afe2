"""The report of a study: one HTML page that needs no other file and no network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure

from coldray.experiments.results import StudyResult, mean_metric
from coldray.reports.labels import (
    counted,
    duration_label,
    is_synthetic,
    mean_and_std,
    metric_label,
    metric_number,
    promoted,
)
from coldray.reports.page import SYNTHETIC_LABEL, render, save_page
from coldray.reports.pictures import Picture, pictures, study_words
from coldray.reports.published import no_comparison, published_for
from coldray.reports.study import study_figures
from coldray.reports.tables import (
    Table,
    best_configurations,
    dataset_facts,
    facts,
    failures,
    published_numbers,
    tested_metrics,
    tested_splits,
    trial_counts,
    winner_configuration,
    winner_validation,
)

__all__ = ["SYNTHETIC_LABEL", "outcome", "report_page", "selection_reasons", "write_report"]

_TOP = 10


def write_report(result: StudyResult, path: Path, *, figures: Mapping[str, Figure] | None = None) -> Path:
    """Write the report of `result` to `path` and return the path.

    Parameters
    ----------
    result
        The study. Nothing in it is trusted: every text is escaped.
    path
        The file to write, completely or not at all.
    figures
        Figures by name, as of :func:`coldray.reports.study.study_figures`, which makes them when they are not given.

    Raises
    ------
    OutputError
        If the folder cannot be created or written.
    """
    return save_page(report_page(result, study_figures(result) if figures is None else figures), path)


def _noted(result: StudyResult) -> dict[str, str]:
    """Return the notes of the tested fits, numbered where there are several."""
    several = len(result.notes) > 1
    return {f"note {number}" if several else "note": note for number, note in enumerate(result.notes, 1)}


def report_page(result: StudyResult, figures: Mapping[str, Figure]) -> str:
    """Return the report as one HTML page."""
    shown = pictures(figures, study_words(result))
    return render(
        "report.html",
        synthetic=is_synthetic(result),
        title=f"{result.name}: {result.model} on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=outcome(result),
        protocol=facts("How the numbers came to be", {**result.protocol, **_noted(result), **promoted(result)}),
        dataset=dataset_facts(result),
        winner=winner_configuration(result),
        validation=winner_validation(result),
        reasons=selection_reasons(result),
        tested_metrics=tested_metrics(result),
        tested_splits=tested_splits(result),
        configurations=best_configurations(result, _TOP),
        counts=trial_counts(result),
        duration=duration_label(result.seconds),
        failures=failures(result),
        figures=[picture for picture in shown if picture.name != "published_comparison"],
        **_comparison(result, shown),
    )


def outcome(result: StudyResult) -> str:
    """Return the study's result in one sentence."""
    metric, winner = result.selection.metric, result.selection.winner
    chosen = f"Trial #{winner.number} of {result.model} was selected among {counted(len(result.trials), 'trial')}"
    if not result.test or any(metric not in fold.metrics for fold in result.test):
        return f"{chosen}, with a mean validation {metric_label(metric)} of {metric_number(winner.mean(metric))}."
    interval = result.test_intervals.get(metric)
    between = f" (95 % interval {metric_number(interval[0])} to {metric_number(interval[1])})" if interval else ""
    number = metric_number(mean_metric(result.test, metric))
    average = f", the mean over {counted(len(result.test), 'split')}" if len(result.test) > 1 else ", on a single split"
    return f"{chosen}; on the test {result.held_out} it reaches {metric_label(metric)} {number}{between}{average}."


def selection_reasons(result: StudyResult) -> list[str]:
    """Return why the winner was selected, in sentences."""
    selection = result.selection
    metric, label = selection.metric, metric_label(selection.metric)
    best, winner = selection.best, selection.winner
    near = {trial.number for trial in selection.within_tolerance} | {best.number, winner.number}
    spread = mean_and_std(best.mean(metric), best.std(metric), len(best.folds))
    reasons = [f"The best mean validation {label} is {spread}, of trial #{best.number}."]
    if len(near) == 1:
        reasons.append(f"No other trial lies within the tolerance of {100 * selection.tolerance:.3g} % below it.")
    else:
        reasons.append(
            f"{len(near)} trials, the best included, lie within the tolerance of {100 * selection.tolerance:.3g} %."
        )
    if selection.rule:
        reasons.append(f"Among trials within the tolerance the rule prefers: {'; '.join(selection.rule)}.")
    same = winner.number == best.number
    reasons.append(f"Selected: trial #{winner.number}, " + ("the best itself." if same else "by that rule."))
    reasons += [f"On the edge of the search: {edge.told}" for edge in result.edges]
    reasons.append("The selection saw validation data only; the test was run once, for the selected trial.")
    return reasons


def _comparison(result: StudyResult, shown: list[Picture]) -> dict[str, Picture | Table | str | None]:
    """Return the comparison with published numbers, or the sentence that says why there is none."""
    table = published_for(result.dataset, result.held_out)
    if table is None:
        why = no_comparison(result.dataset, result.held_out)
        return {"published": None, "published_picture": None, "published_note": why}
    note = (
        f"Published: {table.source}; {table.protocol}. Measured here: {counted(len(result.test), 'split')}, by the "
        "protocol above. Compare the candidates and the number of splits before the numbers."
    )
    picture = next((picture for picture in shown if picture.name == "published_comparison"), None)
    return {"published": published_numbers(result, table), "published_picture": picture, "published_note": note}
