"""The figures that are measured, each with the bar it has to meet, and the runner that prints them as JSON lines.

A figure is a function registered with :func:`figure`. :func:`main` measures each in a fresh process, so that neither
peak memory nor a warm cache leaks from one into the next, and prints one line a figure::

    {"figure": "ranking_seconds", "value": 0.04, "unit": "s", "bar": 0.3, "holds": true, "machine": "2 cores, …"}

A line may also have ``tolerance`` (for a bar to be met from both sides), ``skipped`` (its data are absent) or
``error`` (it could not be measured); in the last two cases the value is null and the bar does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import psutil

from coldray.core.device import cpu_count
from coldray.core.spelling import nearest

Better: TypeAlias = Literal["lower", "higher"] | tuple[Literal["within"], float, float]
Measure = TypeVar("Measure", bound=Callable[[], float | Mapping[str, float]])


class SkippedError(Exception):
    """A figure cannot be measured here, for a reason that is no fault of the code, such as absent data."""


@dataclass(frozen=True)
class Figure:
    """One number and its bar."""

    name: str
    unit: str
    bar: float
    better: Literal["lower", "higher", "within"]
    tolerance: float | None
    """How far from the bar a ``within`` figure may be; None for the others."""
    measure: Callable[[], float | Mapping[str, float]]
    """Returns the value, or the values by figure name where several figures come from one measurement."""

    def holds(self, value: float) -> bool:
        """Is `value` on the right side of the bar; the bar itself is."""
        if self.tolerance is not None:
            return abs(value - self.bar) <= self.tolerance
        return value <= self.bar if self.better == "lower" else value >= self.bar

    def line(self, value: float | None, **reason: str) -> dict[str, Any]:
        """Return what is printed; `reason` says why there is no value."""
        if value is not None and not math.isfinite(value):
            value, reason = None, {"error": f"the measured value is {value}"}
        tolerance = {} if self.tolerance is None else {"tolerance": self.tolerance}
        return {
            "figure": self.name,
            "value": value,
            "unit": self.unit,
            "bar": self.bar,
            **tolerance,
            "holds": value is not None and self.holds(value),
            **reason,
            "machine": machine(),
        }


FIGURES: dict[str, Figure] = {}
"""By name, in order of registration."""


def figure(
    name: str, *, unit: str = "s", bar: float | None = None, better: Better = "lower"
) -> Callable[[Measure], Measure]:
    """Register the decorated function as the measurement of a figure.

    Several figures may share a measurement: decorate one function several times and return values by figure name.

    Parameters
    ----------
    bar
        The value to meet; left out for ``("within", target, tolerance)``, which is met from both sides.
    """
    kind, target, tolerance = (better, bar, None) if isinstance(better, str) else better
    if kind not in ("lower", "higher", "within") or target is None or (bar is not None and bar != target):
        raise ValueError(f"Figure {name!r}: bar={bar!r} with better={better!r} is no bar.")

    def register(measure: Measure) -> Measure:
        if name in FIGURES:
            raise ValueError(f"There are two figures named {name!r}.")
        others = list(FIGURES.values())
        # Stacked decorators run from the lowest up; the figures are listed as they are read.
        place = next((i for i, other in enumerate(others) if other.measure is measure), len(others))
        others.insert(place, Figure(name, unit, target, kind, tolerance, measure))
        FIGURES.clear()
        FIGURES.update((one.name, one) for one in others)
        return measure

    return register


def data_folder(name: str) -> Path:
    """Return the folder of the real dataset `name`; raise :class:`SkippedError` if it is absent."""
    root = Path(os.environ.get("COLDRAY_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
    if not (root / name).is_dir():
        raise SkippedError(f"no folder {root / name}; set COLDRAY_DATA to the folder that holds the datasets")
    return root / name


def best_of(run: Callable[[], object], *, runs: int = 7) -> float:
    """Return the seconds of the fastest of `runs` calls, after one that is not counted."""
    run()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def machine() -> str:
    """Return ``2 cores, 23 GiB, AMD EPYC``: what the process may use, and the name of the processor."""
    cores = cpu_count()
    memory = psutil.virtual_memory().total // 2**30
    return f"{cores} {'core' if cores == 1 else 'cores'}, {memory} GiB, {_processor()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def measured_lines(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Measure `figures`, which share one function, in this process, and return their lines."""
    try:
        with _stdout_to_stderr():
            result = figures[0].measure()
        values = result if isinstance(result, Mapping) else {figures[0].name: result}
        return [one.line(float(values[one.name])) for one in figures]
    except SkippedError as reason:
        return [one.line(None, skipped=str(reason)) for one in figures]
    except Exception as error:
        traceback.print_exc()
        return [one.line(None, error=f"{type(error).__name__}: {error}") for one in figures]


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Send standard output to standard error, what libraries and their processes write included."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _lines_from_fresh_process(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    command = [sys.executable, str(Path(sys.argv[0]).resolve()), "--one", *(one.name for one in figures)]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode != 0:
        return [one.line(None, error=f"its process ended with status {finished.returncode}") for one in figures]
    return [json.loads(line) for line in finished.stdout.splitlines()]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure figures and print one JSON line each.")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help="names of figures; all by default")
    parser.add_argument("--one", action="store_true", help="measure here rather than each in a fresh process")
    parsed = parser.parse_args(arguments)
    for name in parsed.figures:
        if name not in FIGURES:
            parser.error(f"unknown figure {name!r}.{nearest(name, FIGURES)} Figures: {', '.join(FIGURES)}")
    return parsed


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the lines of the figures asked for; return 1 if one of them misses its bar or fails, else 0.

    A skipped figure is no failure: the machine lacks the data.
    """
    parsed = _parse(arguments)
    groups: dict[int, list[Figure]] = {}
    for one in FIGURES.values():
        if not parsed.figures or one.name in parsed.figures:
            groups.setdefault(id(one.measure), []).append(one)
    failed = False
    for group in groups.values():
        lines = measured_lines(group) if parsed.one else _lines_from_fresh_process(group)
        for line in lines:
            print(json.dumps(line, ensure_ascii=False), flush=True)
            failed |= not line["holds"] and "skipped" not in line
    # A child that has printed its lines did its work; that a bar is missed is for the parent to report.
    return int(failed and not parsed.one)
