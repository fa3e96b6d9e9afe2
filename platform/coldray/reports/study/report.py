"""What is told of a study."""

from __future__ import annotations

from coldray.experiments.results import StudyResult, TrialResult, mean_metric
from coldray.reports.labels import (
    DASH,
    config_label,
    counted,
    duration_label,
    headline_metrics,
    is_synthetic,
    mean_and_std,
    metric_label,
    metric_number,
    parameter_label,
    promoted,
    trial_metric,
    value_label,
)
from coldray.reports.report import Callout, Cell, Columns, Gallery, Report, Section, Table, Text, number
from coldray.reports.study.figures import published_picture, study_pictures, top_trials
from coldray.reports.tables import (
    Measured,
    beside_published,
    has_metric,
    interval_label,
    measured_cell,
    metric_header,
    origin,
    split_table,
    spread,
)
from coldray.reports.tasks import tasks_in_short, tasks_section
from coldray.reports.warming import warming_in_short, warming_section

_TOP = 10
_MANY_PARAMETERS = 5


def study_report(result: StudyResult) -> Report:
    """Return the report of a study."""
    return Report(
        title=f"{result.name}: {result.model} on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=outcome(result),
        sections=tuple(section(result) for section in _SECTIONS),
        synthetic=is_synthetic(result),
    )


def outcome(result: StudyResult) -> str:
    """Return the study's result in one sentence."""
    metric, winner = result.selection.metric, result.selection.winner
    chosen = f"Trial #{winner.number} of {result.model} was selected among {counted(len(result.trials), 'trial')}"
    if not result.test or any(metric not in fold.metrics for fold in result.test):
        return f"{chosen}, with a mean validation {metric_label(metric)} of {metric_number(winner.mean(metric))}."
    interval = result.test_intervals.get(metric)
    between = f" (95 % interval {interval_label(interval)})" if interval else ""
    number = metric_number(mean_metric(result.test, metric))
    average = f", the mean over {counted(len(result.test), 'split')}" if len(result.test) > 1 else ", on a single split"
    return f"{chosen}; on the test {result.held_out} it reaches {metric_label(metric)} {number}{between}{average}."


def _tested(result: StudyResult) -> Section:
    said = (
        "Only the selected configuration was tested, and once. HR@k is the hits among the first k, divided by the "
        "smaller of k and the number of the user’s test items; NDCG@k weighs a hit by its rank."
        if result.test
        else "The selected configuration was not tested."
    )
    if trained := max((fold.n_parameters for fold in result.test), default=0):
        said += f" {trained:,} parameters were trained{', on the largest split' if len(result.test) > 1 else ''}."
    tables = (_tested_metrics(result), _tested_splits(result)) if result.test else ()
    return Section("Test of the selected configuration", (Text(said), *tables), "page")


def _tested_metrics(result: StudyResult) -> Table:
    """Return the winner's test metrics: metrics down, cutoffs across."""
    metrics = tuple(result.test[0].metrics)
    cutoffs = list(dict.fromkeys(metric.partition("@")[2] for metric in metrics))
    rows = []
    for base in dict.fromkeys(metric.partition("@")[0] for metric in metrics):
        names = [f"{base}@{cutoff}" if cutoff else base for cutoff in cutoffs]
        cells = (measured_cell(result.test, result.test_intervals, name) for name in names)
        rows.append((Cell(metric_label(f"{base}@").rstrip("@")), *cells))
    header = (Cell("Metric"), *(number(f"@{cutoff}" if cutoff else "all") for cutoff in cutoffs))
    shown = "mean ± standard deviation" if len(result.test) > 1 else "value"
    interval = ", with the 95 % interval of the mean below" if result.test_intervals else ""
    caption = f"Test metrics over {counted(len(result.test), 'split')}: {shown}{interval}"
    return Table(caption, header, tuple(rows))


def _tested_splits(result: StudyResult) -> Table:
    metrics = tuple(result.test[0].metrics)
    rows = ((fold, [fold.metrics[metric] for metric in metrics]) for fold in result.test)
    return split_table("Test metrics of each split", metric_header(metrics, "Split"), rows)


def _warming(result: StudyResult) -> Section:
    return warming_section(_measured_models(result), synthetic=is_synthetic(result))


def _warming_in_short(result: StudyResult) -> Section:
    return warming_in_short(_measured_models(result))


def _mixed(result: StudyResult) -> Section:
    return tasks_section(_measured_models(result))


def _mixed_in_short(result: StudyResult) -> Section:
    return tasks_in_short(_measured_models(result))


def _measured_models(result: StudyResult) -> list[Measured]:
    return [Measured(result.model, result.test, result.test_intervals)]


def _selection(result: StudyResult) -> Section:
    chosen = Columns((_configuration(result), _validation(result)))
    return Section("Why it was selected", (Callout(tuple(_selection_reasons(result))), chosen), "page")


def _selection_reasons(result: StudyResult) -> list[str]:
    """Return why the winner was selected, in sentences."""
    selection = result.selection
    metric, label = selection.metric, metric_label(selection.metric)
    best, winner = selection.best, selection.winner
    near = {trial.number for trial in selection.within_tolerance} | {best.number, winner.number}
    reached = mean_and_std(best.mean(metric), best.std(metric), len(best.folds))
    reasons = [f"The best mean validation {label} is {reached}, of trial #{best.number}."]
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


def _configuration(result: StudyResult) -> Table:
    """Return every parameter of the winner, with the searched ones first."""
    winner = result.selection.winner
    names = [*result.searched, *(name for name in winner.config if name not in result.searched)]
    rows = tuple(
        (
            Cell(parameter_label(name)),
            Cell(value_label(winner.config.get(name))),
            Cell("searched" if name in result.searched else "fixed"),
        )
        for name in names
    )
    header = (Cell("Parameter"), Cell("Value"), Cell("How it was set"))
    return Table(f"Configuration of trial #{winner.number}", header, rows)


def _validation(result: StudyResult) -> Table:
    """Return the winner's validation metrics over its splits."""
    winner = result.selection.winner
    metrics = winner.folds[0].metrics if winner.folds else {}
    rows = tuple((Cell(metric_label(metric)), number(trial_metric(winner, metric))) for metric in metrics)
    caption = f"Validation metrics of trial #{winner.number} over {counted(len(winner.folds), 'split')}"
    return Table(caption, (Cell("Metric"), number("Mean ± std" if len(winner.folds) > 1 else "Value")), rows)


def _protocol(result: StudyResult) -> Section:
    several = len(result.notes) > 1
    notes = {f"note {place}" if several else "note": note for place, note in enumerate(result.notes, 1)}
    return Section(
        "Protocol and data", (origin({**result.protocol, **notes, **promoted(result)}, result.dataset),), "page"
    )


def _search(result: StudyResult) -> Section:
    statuses = [trial.status for trial in result.trials]
    ended = [(Cell(status), number(str(statuses.count(status)))) for status in ("finished", "pruned", "failed")]
    rows = (*ended, (Cell("all"), number(str(len(statuses)))))
    counts = Table("Trials by how they ended", (Cell("Status"), number("Trials")), rows)
    said = Text(f"The study took {duration_label(result.seconds)}.")
    tables = (_best_configurations(result), _best_by_metric(result), counts, _failures(result))
    return Section("Search", (said, *tables), "page")


def _best_configurations(result: StudyResult) -> Table:
    """Return the best configurations by validation metric, a column for each searched parameter."""
    metrics = headline_metrics(result)
    ranks = {trial.number: rank for rank, trial in enumerate(result.ranked_trials(), start=1)}
    shown = top_trials(result, _TOP)
    numbers = [trial.number for trial in shown]
    chosen = numbers.index(result.selection.winner.number)
    rows = tuple(
        (
            Cell(str(ranks.get(trial.number, DASH))),
            Cell(f"#{trial.number}"),
            *(Cell(value_label(trial.config.get(name))) for name in result.searched),
            *(_trial_cell(trial, metric, stacked=len(result.searched) > _MANY_PARAMETERS) for metric in metrics),
            Cell(f"{trial.status}, selected" if place == chosen else trial.status),
        )
        for place, trial in enumerate(shown)
    )
    header = (*metric_header(metrics, "Rank", "Trial", *map(parameter_label, result.searched)), Cell("Status"))
    caption = "Best configurations by mean validation metric ± standard deviation over splits"
    return Table(caption, header, rows, chosen, "dense")


def _best_by_metric(result: StudyResult) -> Table | None:
    """Return the trial that is best by each metric, with its values and time; None where a single one has finished."""
    finished, winner = result.ranked_trials(), result.selection.winner
    if len(finished) < 2:
        return None
    rows = []
    for metric in winner.folds[0].metrics:
        if not all(has_metric(trial.folds, metric) for trial in finished):
            continue
        best = max(finished, key=lambda trial: (trial.quality(metric), -trial.number))
        seconds = sum(fold.seconds for fold in best.folds) / len(best.folds)
        rows.append(
            (
                Cell(metric_label(metric)),
                number(trial_metric(best, metric)),
                number(trial_metric(winner, metric)),
                Cell(f"#{best.number}{', selected' if best.number == winner.number else ''}"),
                *(Cell(value_label(best.config.get(name))) for name in result.searched),
                number(duration_label(seconds)),
            )
        )
    header = (
        *(Cell("Metric"), number("Best"), number("Selected"), Cell("Trial")),
        *(Cell(parameter_label(name)) for name in result.searched),
        number("Time of a split"),
    )
    return Table("Best trial by each validation metric, beside the selected one", header, tuple(rows), look="dense")


def _trial_cell(trial: TrialResult, metric: str, *, stacked: bool) -> Cell:
    """Return a validation metric; `stacked` puts the deviation below the mean, which leaves width to the parameters."""
    mean, plus_minus, std = trial_metric(trial, metric).partition(" ± ")
    return number(mean, note=f"± {std}") if stacked and plus_minus else number(mean + plus_minus + std)


def _failures(result: StudyResult) -> Table | None:
    """Return the failed trials with their messages; None when there is none."""
    failed = [trial for trial in result.trials if trial.status == "failed"]
    rows = tuple((Cell(f"#{trial.number}"), Cell(trial.error or "no message")) for trial in failed)
    header = (Cell("Trial"), Cell("Message"))
    return Table("Failed trials and what stopped them", header, rows, look="messages") if failed else None


def _figures(result: StudyResult) -> Section:
    return Section("Figures", (Gallery(study_pictures(result)),), "page")


def _published(result: StudyResult) -> Section:
    note = (
        f" Measured here: {counted(len(result.test), 'split')}, by the protocol above. Compare the candidates and the "
        "number of splits before the numbers."
    )
    measured = {result.model: (result.test, result.test_intervals)}
    picture = published_picture(result)
    gallery = None if picture is None else Gallery((picture,))
    return beside_published(result.dataset, measured, result.held_out, note, gallery)


def _in_short(result: StudyResult) -> Section:
    return Section("", (Text(trial_counts(result)),), "terminal")


def trial_counts(result: StudyResult) -> str:
    """Return how many trials there were, and how they ended."""
    statuses = [trial.status for trial in result.trials]
    ended = ", ".join(f"{statuses.count(status)} {status}" for status in ("finished", "pruned", "failed"))
    return f"{counted(len(statuses), 'trial')}: {ended}"


def _configurations_in_short(result: StudyResult) -> Section:
    """Return the best configurations, each in one column, and which of them was selected."""
    metrics, shown, selection = headline_metrics(result), top_trials(result, _TOP), result.selection
    rows = tuple(
        (
            number(f"#{trial.number}"),
            Cell(config_label(trial.config, result.searched) or DASH),
            *(number(trial_metric(trial, metric)) for metric in metrics),
        )
        for trial in shown
    )
    header = (number("trial"), *metric_header(metrics, "configuration"))
    chosen = [trial.number for trial in shown].index(selection.winner.number)
    text = f"→ selected: #{selection.winner.number}"
    if selection.winner.number != selection.best.number:
        text += f", within {100 * selection.tolerance:.3g} % of the best (#{selection.best.number})"
        text += f" and preferred by the rule: {'; '.join(selection.rule)}" if selection.rule else ""
    given = (Table("", header, rows, chosen), Text(text))
    return Section("Best configurations on validation data", given, "terminal")


def _tested_in_short(result: StudyResult) -> Section:
    """Return the winner's test metrics, one below the other."""
    winner, folds = result.selection.winner.number, result.test
    if not folds:
        return Section("", (Text(f"#{winner} was not tested."),), "terminal")
    rows = tuple(
        (
            Cell(metric_label(metric)),
            number(spread(folds, metric)),
            number(interval_label(result.test_intervals.get(metric), DASH)),
        )
        for metric in folds[0].metrics
    )
    header = (Cell("metric"), number("mean ± std" if len(folds) > 1 else "value"), number("95 % interval"))
    heading = f"#{winner} on test data, tested once, over {counted(len(folds), 'split')}"
    return Section(heading, (Table("", header, rows),), "terminal")


def _to_be_noticed(result: StudyResult) -> Section:
    given = (
        Callout(tuple(form.told for form in result.forms), "Form"),
        Callout(tuple(edge.told for edge in result.edges), "Edge", "yellow"),
        Callout(result.notes, "Note", "yellow"),
        Callout(tuple(promoted(result).values()), "Registry"),
    )
    return Section("", given, "terminal")


_SECTIONS = (
    _in_short,
    _configurations_in_short,
    _tested_in_short,
    _warming_in_short,
    _mixed_in_short,
    _to_be_noticed,
    _tested,
    _warming,
    _mixed,
    _selection,
    _protocol,
    _search,
    _figures,
    _published,
)
"""All sections, in their order."""
