"""Tables of what a check of data found of kinds of events, and of what is to be found by a rule of positives."""

from __future__ import annotations

from coldray.data.quality.facts import ALL
from coldray.data.splits.parts import PART_WORDS, TEST, VALIDATION
from coldray.experiments.data_check import DataCheck
from coldray.experiments.data_findings import share_label
from coldray.reports.labels import DASH
from coldray.reports.report import Cell, Table, number


def event_table(check: DataCheck) -> Table | None:
    """Return the events read of each kind, and the interactions part by part; None where they are of one kind."""
    kinds, parts = check.quality.kinds, check.quality.parts
    if kinds is None:
        return None
    rows = []
    for place, (name, weight) in enumerate(zip(kinds.names, kinds.weights, strict=True)):
        read = number(DASH) if kinds.read is None else counted_cell(kinds.read[place], sum(kinds.read))
        counts = [(part.events[place], part.interactions) for part in parts if part.events is not None]
        label = Cell(name, note=f"weight {weight:g}")
        rows.append((label, read, *(counted_cell(count, whole) for count, whole in counts)))
    alone = f"users with {kinds.names[-1]} alone: {share_label(kinds.weakest_users, kinds.users)}"
    header = (Cell("Kind"), number("events"), *(number(part.name) for part in parts))
    return Table(f"Kinds of events, each interaction of its strongest; {alone}", header, tuple(rows))


def positive_table(check: DataCheck) -> Table | None:
    """Return what a rule of positives takes of all and of the held-out parts; None without one that takes something."""
    parts = [check.quality.part(name) for name in (ALL, *PART_WORDS[VALIDATION : TEST + 1])]
    taken = [(part, part.positives) for part in parts if part.positives is not None]
    if not taken:
        return None
    rows = (
        (Cell("interactions"), *(counted_cell(found.interactions, part.interactions) for part, found in taken)),
        (Cell("users with one"), *(counted_cell(found.users, part.users) for part, found in taken)),
        (Cell("users without"), *(counted_cell(part.users - found.users, part.users) for part, found in taken)),
    )
    header = (Cell("To be found"), *(number(part.name) for part, _ in taken))
    return Table(
        f"Positives: {check.protocol['positives']}; what is not is known and learned all the same", header, rows
    )


def counted_cell(count: int, whole: int) -> Cell:
    """Return a count, with its share of the whole below."""
    share, _, of_whole = share_label(count, whole).rpartition(" (")
    return number(f"{count:,}", note=f"{of_whole.rstrip(')')} of {share.rpartition(' ')[2]}") if whole else number(DASH)
