"""What a tracking server has refused, in words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from coldray.core.journal import Record

_IDS = re.compile(r"'[^']*'|[0-9a-f]{32}")
"""What differs between messages of one reason."""
_NAMED = 3
"""Runs, files and reasons that are named; the others are counted."""
_KINDS = {
    "run": ("run", "runs"),
    "log": ("set of metrics, parameters and tags", "sets of metrics, parameters and tags"),
    "dataset": ("dataset", "datasets"),
    "file": ("file", "files"),
    "model": ("model", "models"),
    "status": ("status of a run", "statuses of runs"),
}


def missing(refused: Sequence[tuple[Record, str]]) -> str:
    """Return one line about records that were refused, each with its reason; nothing if there are none."""
    if not refused:
        return ""
    found = []
    for op, (one, several) in _KINDS.items():
        names = [_name(record) for record, _ in refused if record["op"] == op]
        if names:
            found.append(f"{len(names):,} {one if len(names) == 1 else several}{_named(names)}")
    of_kind: dict[str, str] = {}
    for _, reason in refused:  # causes come before what follows of them
        of_kind.setdefault(kind_of(reason), reason)
    reasons = list(of_kind.values())
    more = f" ({len(reasons) - _NAMED:,} more reasons.)" if len(reasons) > _NAMED else ""
    return f"missing on the tracking server: {', '.join(found)}. {' '.join(reasons[:_NAMED])}{more}"


def kind_of(reason: str) -> str:
    """Return what is the same in the messages of refusals that have one reason."""
    return _IDS.sub("", reason)


def _name(record: Record) -> str:
    op = record["op"]
    if op == "file":
        return Path(record["path"]).name
    return str(record["name"]) if op in ("run", "model") else ""


def _named(names: Sequence[str]) -> str:
    known = [name for name in names if name]
    more = ", …" if len(known) > _NAMED else ""
    return f" ({', '.join(known[:_NAMED])}{more})" if known else ""
