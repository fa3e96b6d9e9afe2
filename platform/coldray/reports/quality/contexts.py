"""What a check of data says of the contexts of interactions."""

from __future__ import annotations

from coldray.data.quality.contexts import ContextFacts
from coldray.experiments.data_check import DataCheck
from coldray.reports.labels import DASH
from coldray.reports.quality.wanted import counted_cell
from coldray.reports.quality.words import amount_label
from coldray.reports.report import Cell, Table, number


def context_table(check: DataCheck) -> Table | None:
    """Return the facts of each column of context: columns down, facts across; None without context."""
    rows = tuple(
        (
            Cell(one.name),
            number(f"{one.values:,}"),
            number(f"{100 * one.unknown / one.interactions:.1f} %"),
            number(DASH if one.evenness is None else f"{one.evenness:.3f}"),
            Cell(_commonest(one)),
            number(DASH) if one.commonest is None else counted_cell(one.unseen, one.held_out),
        )
        for one in check.quality.contexts
    )
    facts = (number("values"), number("unknown"), number("evenness"), Cell("most, or ends"), number("unseen in train"))
    return Table("Context of interactions", (Cell("Column"), *facts), rows) if rows else None


def _commonest(context: ContextFacts) -> str:
    """Return the label that most interactions have, with its share of them, or from where to where numbers are."""
    if context.ends is not None:
        return f"{amount_label(context.ends[0])} to {amount_label(context.ends[1])}"
    if context.commonest is None:
        return DASH
    return f"{context.commonest} ({100 * context.of_commonest / context.interactions:.1f} %)"
