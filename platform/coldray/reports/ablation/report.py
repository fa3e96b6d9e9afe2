"""What is told of an ablation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.experiments.results import mean_metric, std_metric
from coldray.reports.ablation.diagnostics import FIGURES, diagnostics_picture, panel_pictures
from coldray.reports.ablation.words import change, edge_findings, headline, leading_metric, verdicts
from coldray.reports.labels import (
    DASH,
    counted,
    duration_label,
    is_synthetic,
    metric_number,
    p_label,
    p_number,
    parameter_label,
    percent_label,
    value_label,
)
from coldray.reports.published import HETREC
from coldray.reports.report import Callout, Cell, Gallery, Report, Section, Table, Text, number
from coldray.reports.tables import (
    beside_published,
    fold_table,
    has_metric,
    known_mean,
    lift_values,
    long_cutoff,
    measured_cell,
    metric_header,
    origin,
    short_cutoff,
    spread,
)


def ablation_report(result: AblationResult) -> Report:
    """Return the report of an ablation."""
    return Report(
        title=f"{result.name}: ablation on {result.dataset.get('name', 'an unnamed dataset')}",
        outcome=headline(result),
        sections=tuple(section(result) for section in _SECTIONS),
        synthetic=is_synthetic(result),
        files={
            "ablation_results.csv": fold_table(("mode",), (((mode.name,), mode.folds) for mode in result.modes)),
            "ablation_summary.csv": _summary_table(result),
            "config.json": _config(result),
        },
        names=FIGURES,
    )


def _all_panels(result: AblationResult) -> Section:
    return Section("", (Gallery((diagnostics_picture(result),)),), "files")


def _in_short(result: AblationResult) -> Section:
    """Return a row for each mode: its metrics, with their spread where there is room for it, and its lift."""
    shortest, longest, leading = short_cutoff(result.cutoffs), long_cutoff(result.cutoffs), leading_metric(result)
    metrics = [f"hr@{shortest}", leading, *([f"hr@{longest}"] if longest is not None else [])]
    rows = []
    for mode in result.modes:
        lift = mode.lifts.get(leading)
        means = {metric: metric_number(known_mean(mode.folds, metric)) for metric in metrics}
        values = {**means, leading: spread(mode.folds, leading)}.values()
        lifted = (percent_label(100 * lift.relative), p_number(lift.p_adjusted)) if lift else (DASH, DASH)
        rows.append((Cell(mode.name), *map(number, (*values, *lifted))))
    label = metric_header([leading])[0].text
    header = (*metric_header(metrics, "mode"), number(f"lift in {label}"), number("adjusted p"))
    folds = Text(counted(_n_folds(result), "fold"))
    edges = Callout(tuple(edge_findings(result)), style="yellow")
    return Section("", (folds, Table("", header, tuple(rows)), edges), "terminal")


def _n_folds(result: AblationResult) -> int:
    return max(len(mode.folds) for mode in result.modes)


def _verdicts(result: AblationResult) -> Section:
    return Section("", (Callout((*verdicts(result), *edge_findings(result))),), "page")


def _modes(result: AblationResult) -> Section:
    said = (
        "Each mode adds one part to the mode above it, and all are tested on the same folds. HR@k is the hits among "
        "the first k, divided by the smaller of k and the number of the user’s test items; NDCG@k weighs a hit by its "
        "rank. Means and deviations are over folds; intervals, lifts and tests are over users."
    )
    return Section("Ablation", (Text(said), _measured(result), _lifts(result)), "page")


def _measured(result: AblationResult) -> Table:
    """Return the test metrics of each mode: ``mean ± std`` over folds, the interval over users below."""
    metrics, n_folds = _compared_metrics(result), _n_folds(result)
    rows = tuple(
        (Cell(mode.name), *(measured_cell(mode.folds, mode.intervals, metric) for metric in metrics))
        for mode in result.modes
    )
    shown = "mean ± standard deviation" if n_folds > 1 else "value"
    caption = f"Test metrics of each mode, {shown} over {counted(n_folds, 'fold')}; below, 95 % intervals over users"
    return Table(caption, metric_header(metrics, "Mode"), rows, highlighted=len(result.modes) - 1)


def _compared_metrics(result: AblationResult) -> tuple[str, ...]:
    """Return HR and NDCG of the short and of the long list, as far as some mode has them."""
    cutoffs = [cutoff for cutoff in (short_cutoff(result.cutoffs), long_cutoff(result.cutoffs)) if cutoff is not None]
    names = [f"{base}@{cutoff}" for cutoff in cutoffs for base in ("hr", "ndcg")]
    return tuple(name for name in names if any(has_metric(mode.folds, name) for mode in result.modes))


def _lifts(result: AblationResult) -> Table | None:
    """Return the change from the baseline with its interval and adjusted p; None when nothing was compared."""
    metrics = _compared_metrics(result)
    compared = [mode for mode in result.modes[1:] if any(metric in mode.lifts for metric in metrics)]
    if not compared:
        return None
    rows = tuple((Cell(mode.name), *(_lift_cell(result, mode, metric) for metric in metrics)) for mode in compared)
    caption = (
        f"Lift over {result.modes[0].name}; below, its 95 % interval and the two-sided p after the correction for "
        f"all comparisons ({result.correction})"
    )
    return Table(caption, metric_header(metrics, "Mode"), rows)


def _lift_cell(result: AblationResult, mode: ModeResult, metric: str) -> Cell:
    ends, lift = change(result, mode, metric), mode.lifts.get(metric)
    if ends is None or lift is None:
        return number(DASH)
    value, low, high = (percent_label(end) for end in ends)
    return number(value, note=f"{low.removesuffix(' %')} to {high}, {p_label(lift.p_adjusted)}")


def _protocol(result: AblationResult) -> Section:
    took = Text(f"The ablation took {duration_label(result.seconds)}.")
    return Section("Protocol and data", (took, origin(result.protocol, result.dataset)), "page")


def _configurations(result: AblationResult) -> Section:
    """Return every parameter of every mode; a dash where a mode does not have it."""
    flat = [dict(_flat(mode.config)) for mode in result.modes]
    names = dict.fromkeys(name for config in flat for name in config)
    rows = tuple(
        (Cell(parameter_label(name)), *(Cell(value_label(one[name]) if name in one else DASH) for one in flat))
        for name in names
    )
    header = (Cell("Parameter"), *(Cell(mode.name) for mode in result.modes))
    said = Text("Fusion weights are tuned on validation data; a weight of 0 leaves its part out.")
    return Section("Configuration", (said, Table("Configuration of each mode", header, rows, look="dense")), "page")


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parameters of nested configurations by dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _figures(result: AblationResult) -> Section:
    return Section("Figures", (Gallery(panel_pictures(result)),), "page")


def _published(result: AblationResult) -> Section:
    measured = {mode.name: (mode.folds, mode.intervals) for mode in result.modes}
    return beside_published(result.dataset, measured, "items", "", _protocol_differences(result))


def _protocol_differences(result: AblationResult) -> Table:
    """Return the published protocol beside the one here, row by row, with what differs."""
    name, users, items = (result.dataset.get(key) for key in ("name", "n_users", "n_items"))
    clicked = None if items is None else items - result.dataset.get("n_unclicked_items", 0)
    here = counted(_n_folds(result), "fold")
    rows = [
        _compared("dataset", HETREC.title, str(name or DASH), same=name == HETREC.dataset),
        _compared("users", f"{HETREC.n_users:,}", _count(users), same=users == HETREC.n_users),
        _compared("items", f"{HETREC.n_items:,}", _count(clicked), same=clicked == HETREC.n_items),
        _compared("averages", HETREC.protocol, f"averages over {here}"),
    ]
    rows += [_compared(key.replace("_", " "), "see the source", str(text)) for key, text in result.protocol.items()]
    header = (Cell("What"), Cell("Published"), Cell("Here"), Cell("Verdict"))
    return Table("Published protocol and the one here", header, tuple(rows), look="messages")


def _compared(what: str, published: str, here: str, *, same: bool | None = None) -> tuple[Cell, ...]:
    verdict = "compare" if same is None else "same" if same else "differs"
    return Cell(what), Cell(published), Cell(here), Cell(verdict)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else DASH


_SECTIONS = (_all_panels, _in_short, _verdicts, _modes, _protocol, _configurations, _figures, _published)
"""All sections, in their order."""


def _summary_table(result: AblationResult) -> pl.DataFrame:
    """Return a row for each mode and metric: spread over folds, interval over users, lift over the baseline."""
    floats = ("mean", "std", "low", "high", "lift", "lift_low", "lift_high", "relative_lift", "p_value", "p_adjusted")
    schema = {"mode": pl.String, "metric": pl.String, "folds": pl.Int64, **dict.fromkeys(floats, pl.Float64)}
    rows = [
        _summary(mode, metric)
        for mode in result.modes
        for metric in (mode.folds[0].metrics if mode.folds else ())
        if has_metric(mode.folds, metric)
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def _summary(mode: ModeResult, metric: str) -> tuple[Any, ...]:
    std = std_metric(mode.folds, metric) if len(mode.folds) > 1 else None
    interval = mode.intervals.get(metric, (None, None))
    measured = (len(mode.folds), mean_metric(mode.folds, metric), std, *interval)
    return (mode.name, metric, *measured, *lift_values(mode.lifts.get(metric)))


def _config(result: AblationResult) -> dict[str, Any]:
    return {
        "name": result.name,
        "dataset": result.dataset,
        "protocol": result.protocol,
        "cutoffs": result.cutoffs,
        "correction": result.correction,
        "seconds": result.seconds,
        "modes": {mode.name: mode.config for mode in result.modes},
    }
