"""What a model costs: time and memory of a fit, and time to answer one user."""

from __future__ import annotations

import ctypes
import gc
import os
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from coldray.evaluation.ratings import ones_where_stored
from coldray.evaluation.topk import top_k
from coldray.experiments.evaluation import EvaluationFold
from coldray.models.base import Items, Recommender

_WARM_UP = 5
"""Users who are scored first, and not timed."""
_LIST = 10
"""Length of the lists that are timed."""


@dataclass(frozen=True)
class Costs:
    """Of one model on one fold, measured in the process that fitted it."""

    fit_seconds: float
    fit_peak_bytes: int | None
    """Resident memory at the peak of the fit beyond that before it, of this process alone; None where the system does
    not tell."""
    score_seconds: float
    """Median time to score all candidates for one user and to choose the ten best, with one thread."""


class FitMeter:
    """Measures time and memory of what runs inside it."""

    def __enter__(self) -> FitMeter:
        self._resident = _begin_peak()
        self._started = time.perf_counter()
        self.seconds = 0.0
        self.peak_bytes: int | None = None
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._started
        peak = None if self._resident is None else _status("VmHWM")
        self.peak_bytes = None if peak is None or self._resident is None else max(0, peak - self._resident)


def score_seconds(model: Recommender[Any], task: EvaluationFold, items: Items, n_users: int) -> float:
    """Return the median time to score `items` for one user of `task` and to choose the ten best.

    What the model prepares once for all users is left out.
    """
    scorer = model.scorer(items)
    taken = []
    users = np.resize(task.users, _WARM_UP + min(n_users, len(task.users)))
    for user in users:
        history = sp.csr_array(task.histories[[user]])
        known = ones_where_stored(history)
        started = time.perf_counter()
        top_k(scorer(history), _LIST, exclude=known[:, items], n_threads=1)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[_WARM_UP:])


def _begin_peak() -> int | None:
    """Let the peak of this process begin anew; return what it has now, or None where that cannot be done.

    What an earlier fit has freed is given back first: a fit that finds room there would seem to take nothing.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # of the C library of GNU alone
        ctypes.CDLL(None).malloc_trim(0)
    try:
        Path(f"/proc/{os.getpid()}/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def _status(field: str) -> int | None:
    """Return a size from the kernel's account of this process, in bytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:")), None)
