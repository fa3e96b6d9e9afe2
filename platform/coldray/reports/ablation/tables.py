"""The tables of an ablation's report, as plain cells that the page only has to set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from coldray.experiments.ablation.result import AblationResult, ModeResult
from coldray.reports.labels import DASH, counted, metric_label, parameter_label, value_label
from coldray.reports.modes import change, has_metric, long_cutoff, p_label, percent_label, short_cutoff
from coldray.reports.published import HETREC, PublishedTable
from coldray.reports.tables import Cell, Table, measured_cell, number, published_and_measured


def compared_metrics(result: AblationResult) -> tuple[str, ...]:
    """Return HR and NDCG of the short and of the long list, as far as some mode has them."""
    cutoffs = [cutoff for cutoff in (short_cutoff(result), long_cutoff(result)) if cutoff is not None]
    names = [f"{base}@{cutoff}" for cutoff in cutoffs for base in ("hr", "ndcg")]
    return tuple(name for name in names if any(has_metric(mode, name) for mode in result.modes))


def modes_measured(result: AblationResult) -> Table:
    """Return the test metrics of each mode: ``mean ± std`` over folds, the interval over users below."""
    metrics = compared_metrics(result)
    rows = (
        (Cell(mode.name), *(measured_cell(mode.folds, mode.intervals, metric) for metric in metrics))
        for mode in result.modes
    )
    n_folds = max(len(mode.folds) for mode in result.modes)
    spread = "mean ± standard deviation" if n_folds > 1 else "value"
    caption = f"Test metrics of each mode, {spread} over {counted(n_folds, 'fold')}; below, 95 % intervals over users"
    return Table(caption, _header("Mode", metrics), tuple(rows), highlighted=len(result.modes) - 1)


def lifts(result: AblationResult) -> Table | None:
    """Return the change from the baseline with its interval and adjusted p; None when nothing was compared."""
    metrics = compared_metrics(result)
    compared = [mode for mode in result.modes[1:] if any(metric in mode.lifts for metric in metrics)]
    if not compared:
        return None
    rows = tuple((Cell(mode.name), *(_lift_cell(result, mode, metric) for metric in metrics)) for mode in compared)
    caption = (
        f"Lift over {result.modes[0].name}; below, its 95 % interval and the two-sided p after the correction for "
        f"all comparisons ({result.correction})"
    )
    return Table(caption, _header("Mode", metrics), rows)


def _lift_cell(result: AblationResult, mode: ModeResult, metric: str) -> Cell:
    ends, lift = change(result, mode, metric), mode.lifts.get(metric)
    if ends is None or lift is None:
        return number(DASH)
    value, low, high = (percent_label(end) for end in ends)
    return number(value, note=f"{low.removesuffix(' %')} to {high}, {p_label(lift.p_adjusted)}")


def _header(first: str, metrics: tuple[str, ...]) -> tuple[Cell, ...]:
    return (Cell(first), *(number(metric_label(metric)) for metric in metrics))


def configurations(result: AblationResult) -> Table:
    """Return every parameter of every mode; a dash where a mode does not have it."""
    flat = [dict(_flat(mode.config)) for mode in result.modes]
    names = dict.fromkeys(name for config in flat for name in config)
    rows = (
        (
            Cell(parameter_label(name)),
            *(Cell(value_label(config[name]) if name in config else DASH) for config in flat),
        )
        for name in names
    )
    header = (Cell("Parameter"), *(Cell(mode.name) for mode in result.modes))
    return Table("Configuration of each mode", header, tuple(rows))


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the parameters of nested configurations by dotted names."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def published_beside(result: AblationResult, table: PublishedTable) -> Table:
    """Return the published results and after them those of each mode."""
    return published_and_measured(table, {mode.name: (mode.folds, mode.intervals) for mode in result.modes})


def protocol_differences(result: AblationResult) -> Table:
    """Return the published protocol beside the one here, row by row, with what differs."""
    name, users, items = (result.dataset.get(key) for key in ("name", "n_users", "n_items"))
    clicked = None if items is None else items - result.dataset.get("n_unclicked_items", 0)
    here = counted(max(len(mode.folds) for mode in result.modes), "fold")
    rows = [
        _compared("dataset", HETREC.title, str(name or DASH), name == HETREC.dataset),
        _compared("users", f"{HETREC.n_users:,}", _count(users), users == HETREC.n_users),
        _compared("items", f"{HETREC.n_items:,}", _count(clicked), clicked == HETREC.n_items),
        _compared("averages", HETREC.protocol, f"averages over {here}", None),
    ]
    here_only = ((key.replace("_", " "), str(text)) for key, text in result.protocol.items())
    rows += [_compared(what, "see the source", text, None) for what, text in here_only]
    header = (Cell("What"), Cell("Published"), Cell("Here"), Cell("Verdict"))
    return Table("Published protocol and the one here", header, tuple(rows))


def _compared(what: str, published: str, here: str, same: bool | None) -> tuple[Cell, ...]:
    verdict = "compare" if same is None else "same" if same else "differs"
    return Cell(what), Cell(published), Cell(here), Cell(verdict)


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else DASH
