"""What MLflow does not take as it is, in a form that it takes, and told: it would cut in silence, or refuse.

Names have at most 250 characters, of an alphabet of its own, and are paths that stay as they are; parameters have at
most 6,000 characters and tags 8,000; infinite metrics are told and left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME_LIMIT, PARAM_LIMIT, TAG_LIMIT, RUN_NAME_LIMIT = 250, 6000, 5000, 250
"""Characters; of tags, as many as older servers take."""
BATCH_LIMIT, BATCH_BYTES = 1000, 800_000
"""Metrics, parameters and tags together, and their size as JSON, that MLflow takes in one call."""
METRICS_LIMIT, VALUES_LIMIT = 1000, 100
"""Metrics, and parameters or tags, that it takes in one call."""
_NOT_TAKEN = re.compile(r"[^/\w.\- :]")
CHANGED_TAG = "coldray.changed"
"""Names what of a run is not on the server as it was found."""

Point = list[Any]
"""Name, value, time and step of a metric."""


def _taken_name(name: str) -> str:
    """Return a name that MLflow takes: the same one, or one that no other name becomes."""
    found = _NOT_TAKEN.sub("_", name)
    path = posixpath.normpath(found).lstrip("/") if found else ""
    if path.startswith("..") or path in ("", "."):
        path = f"_{path}"
    if path == name and len(name) <= NAME_LIMIT:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{path[: NAME_LIMIT - 9]}-{mark}"


def taken_text(text: str, limit: int) -> str:
    """Return a text of at most so many characters; one that is longer says at its end how long it was."""
    if len(text) <= limit:
        return text
    end = f" … (the first of {len(text):,} characters)"
    return text[: limit - len(end)] + end


def taken_metrics(metrics: Sequence[Point]) -> tuple[list[Point], list[str]]:
    """Return metrics as MLflow takes them, and what has changed: infinite ones are told, and left out."""
    found, changed = [], []
    for name, value, timestamp, step in metrics:
        taken = _taken_name(name)
        if math.isinf(value):
            changed.append(f"metric {name!r} is {value} at step {step}")
            continue
        if taken != name:
            changed.append(f"metric {name!r} is called {taken!r}")
        found.append([taken, value, timestamp, step])
    return found, list(dict.fromkeys(changed))


def taken_values(kind: str, values: Mapping[str, str], limit: int) -> tuple[dict[str, str], list[str]]:
    """Return parameters or tags as MLflow takes them, and what has changed."""
    found, changed = {}, []
    for name, value in values.items():
        taken = _taken_name(name)
        if taken != name:
            changed.append(f"{kind} {name!r} is called {taken!r}")
        found[taken] = taken_text(value, limit)
        if len(value) > limit:
            changed.append(f"{kind} {name!r} is cut, of {len(value):,} characters")
    return found, changed


def batches(metrics: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield calls that hold all of it, each as much as MLflow takes."""
    batch: dict[str, Any] = {}
    size = 0
    entries = [
        *(("metrics", metric) for metric in metrics),
        *(("params", pair) for pair in params.items()),
        *(("tags", pair) for pair in tags.items()),
    ]
    for kind, entry in entries:
        n_bytes = len(json.dumps(entry, ensure_ascii=False).encode()) + 60  # with the names of its fields
        n_entries = sum(map(len, batch.values()))
        limit = METRICS_LIMIT if kind == "metrics" else VALUES_LIMIT
        if n_entries >= BATCH_LIMIT or len(batch.get(kind, ())) >= limit or (batch and size + n_bytes > BATCH_BYTES):
            yield batch
            batch, size = {}, 0
        if kind == "metrics":
            batch.setdefault(kind, []).append(entry)
        else:
            batch.setdefault(kind, {})[entry[0]] = entry[1]
        size += n_bytes
    if batch:
        yield batch
