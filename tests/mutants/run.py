"""Measure which share of small faults in the package the tests notice: ``python tests/mutants/run.py [AREA...]``.

Of each area a sample of the faults of :mod:`mutations` is drawn by a seed. Each is put into its module in a process of
its own, in which the tests run that reach its lines, the quickest first, until one fails. What no such test notices
within their time, or no test reaches, survives, and is printed to standard error. Standard output has a JSON line with
the share by area.

Tests that need a cluster or a tracking server are left out, as workers import the package as it is; so are the modules
that run in those alone. An import hook hands out the faulty module; no file is changed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.machinery
import importlib.util
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import coverage
import hypothesis
import pytest

# Imported once, before the processes that run tests are forked off; the package itself must not be.
import scipy.stats  # noqa: F401
import torch  # noqa: F401
from mutations import sites

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "platform" / "coldray"
SEED = 0
TESTS_SECONDS = 20.0
"""Time of the tests that are tried on a mutant, by what they take without a fault."""
PROCESSES = 2
ARGUMENTS = ("-q", "-p", "no:cacheprovider", "--assert=plain", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml"))
"""Of pytest."""
APART = {"ray_cluster", "tracking_uri"}
"""Fixtures of tests that are left out."""


@dataclass(frozen=True)
class Area:
    """Modules, and the tests of them."""

    modules: tuple[str, ...]
    """Patterns below the package."""
    tests: tuple[str, ...]
    """Files and folders below ``tests``."""
    sample: int
    """Mutants that are drawn."""
    without: tuple[str, ...] = ()
    """Names of modules that are left out."""

    def files(self) -> list[Path]:
        """Return the modules."""
        found = [path for pattern in self.modules for path in sorted(PACKAGE.glob(pattern))]
        return [path for path in found if path.name not in self.without]


AREAS = {
    "evaluation": Area(
        ("evaluation/**/*.py",),
        ("evaluation", "experiments/test_evaluation.py", "experiments/test_rating_evaluation.py"),
        80,
    ),
    "closed_forms": Area(
        ("models/linear/ease*.py", "models/marec/*.py", "models/linalg/*.py"),
        ("models/linear", "models/marec", "models/linalg", "models/test_reckoned_sizes.py"),
        80,
        ("gram_shards.py", "sharded.py", "ease_files.py"),
    ),
    "learned_kernel": Area(
        ("models/kernel_align/*.py",),
        ("models/kernel_align", "models/test_kernel_align_inputs.py", "models/test_reckoned_sizes.py"),
        40,
    ),
    "selection": Area(("experiments/selection.py",), ("experiments/test_selection.py",), 15),
}


@dataclass(frozen=True)
class Mutant:
    """One fault."""

    file: Path
    number: int
    """Of the module's sites."""
    lines: range

    def __str__(self) -> str:
        site = sites(tree := ast.parse(self.file.read_text(encoding="utf-8")))[self.number]
        before = site.text()
        site.apply()
        ast.fix_missing_locations(tree)
        return f"{self.file.relative_to(ROOT)}:{self.lines.start}: {before}  →  {site.text()}"


class Reached:
    """A pytest plugin: which tests run, how long each takes, and whether it passes."""

    def __init__(self, measured: coverage.Coverage | None = None, chosen: Sequence[str] | None = None) -> None:
        self.measured, self.chosen, self.seconds, self.failed = measured, chosen, dict[str, float](), set[str]()

    def pytest_collection(self) -> None:
        """Draw the same examples in every process, and show a failure as it was found."""
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        checks = list(hypothesis.HealthCheck)
        hypothesis.settings.register_profile(
            "mutants", deadline=None, derandomize=True, database=None, phases=phases, suppress_health_check=checks
        )
        hypothesis.settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Leave out tests whose fixtures are apart, or keep those chosen, in their order."""
        if self.chosen is None:
            items[:] = [item for item in items if not APART & set(getattr(item, "fixturenames", ()))]
        else:
            by_name = {item.nodeid: item for item in items}
            items[:] = [by_name[name] for name in self.chosen]

    def pytest_runtest_setup(self, item: Any) -> None:
        """Count lines for this test from now on."""
        if self.measured is not None:
            self.measured.switch_context(item.nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Add up what a test takes."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)


@dataclass(frozen=True)
class Tests:
    """What the tests of an area do without a fault."""

    seconds: dict[str, float]
    """Of each test that passes."""
    reach: dict[str, dict[int, list[str]]]
    """Tests that run a line, by file."""

    def of(self, mutant: Mutant) -> list[str]:
        """Return the quickest tests that reach a mutant, within the time for one."""
        lines = self.reach.get(str(mutant.file), {})
        reaching = {test for line in mutant.lines for test in lines.get(line, ())} & set(self.seconds)
        taken, total = [], 0.0
        for test in sorted(reaching, key=self.seconds.__getitem__):
            total += self.seconds[test]
            if total > TESTS_SECONDS and taken:
                break
            taken.append(test)
        return taken


def tests_of(area: Area) -> Tests:
    """Run the tests of an area with the package as it is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tests.json"

        def run() -> int:
            measured = coverage.Coverage(data_file=None, include=[str(file) for file in area.files()])
            plugin = Reached(measured)
            measured.start()
            pytest.main([*ARGUMENTS, *(str(ROOT / "tests" / test) for test in area.tests)], [plugin])
            measured.stop()
            data = measured.get_data()
            reach = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
            good = {test: took for test, took in plugin.seconds.items() if test not in plugin.failed}
            path.write_text(json.dumps({"seconds": good, "reach": reach, "failed": sorted(plugin.failed)}))
            return 0

        os.waitpid(_forked(run), 0)
        found = json.loads(path.read_text())
    if found["failed"]:
        print("not counted, as they fail or are skipped:", *found["failed"], sep="\n  ", file=sys.stderr)
    reach = {file: {int(line): tests for line, tests in lines.items()} for file, lines in found["reach"].items()}
    return Tests(found["seconds"], reach)


def drawn(area: Area, seed: int) -> list[Mutant]:
    """Return the sampled mutants of an area."""
    every = [
        Mutant(file, number, site.lines)
        for file in area.files()
        for number, site in enumerate(sites(ast.parse(file.read_text(encoding="utf-8"))))
    ]
    return random.Random(seed).sample(every, min(area.sample, len(every)))


def killed(mutants: Sequence[Mutant], tests: Tests) -> list[bool]:
    """Return which of the mutants a test notices, by failing or by not ending; tell of the others."""
    found, running = [False] * len(mutants), dict[int, tuple[int, float]]()
    waiting = [(place, tests.of(mutant)) for place, mutant in enumerate(mutants)]
    for place, some in waiting:
        if not some:
            print(f"not reached {mutants[place]}", file=sys.stderr)
    waiting = [(place, some) for place, some in reversed(waiting) if some]
    while waiting or running:
        while waiting and len(running) < PROCESSES:
            place, some = waiting.pop()
            limit = 30 + 5 * sum(tests.seconds[test] for test in some)
            running[_forked(_run_with(mutants[place], some))] = place, time.monotonic() + limit
        time.sleep(0.05)
        for process, (place, end) in list(running.items()):
            over = time.monotonic() > end
            if over:
                os.killpg(process, signal.SIGKILL)
            ended, status = os.waitpid(process, 0 if over else os.WNOHANG)
            if ended:
                del running[process]
                found[place] = status != 0
                if not found[place]:
                    print(f"survived {mutants[place]}", file=sys.stderr, flush=True)
    return found


def _run_with(mutant: Mutant, tests: list[str]) -> Callable[[], int]:
    def run() -> int:
        tree = ast.parse(mutant.file.read_text(encoding="utf-8"))
        sites(tree)[mutant.number].apply()
        sys.meta_path.insert(0, _Faulty(mutant.file, ast.fix_missing_locations(tree)))
        files = dict.fromkeys(str(ROOT / test.split("::")[0]) for test in tests)
        return int(pytest.main([*ARGUMENTS, "-x", *files], [Reached(chosen=tests)]))

    return run


class _Faulty(importlib.machinery.SourceFileLoader):
    """Finds and loads one module from a changed tree."""

    def __init__(self, file: Path, tree: ast.Module) -> None:
        name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        super().__init__(name, str(file))
        self.tree = tree

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> Any:
        return compile(self.tree, self.path, "exec")


def _forked(run: Callable[[], int]) -> int:
    """Return the process that runs a function without a word, and ends with what it returns."""
    process = os.fork()
    if process:
        return process
    os.setsid()
    errors, nowhere, status = os.dup(2), os.open(os.devnull, os.O_WRONLY), 1
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        status = run()
    except BaseException:
        os.dup2(errors, 2)
        traceback.print_exc()
    finally:
        os._exit(status)


def measured(names: Sequence[str], seed: int) -> Iterator[tuple[str, float]]:
    """Yield the share of mutants that die, area after area."""
    for name in names:
        started = time.monotonic()
        tests = tests_of(AREAS[name])
        dead = killed(drawn(AREAS[name], seed), tests)
        seconds = time.monotonic() - started
        print(f"{name}: {sum(dead)} of {len(dead)} killed, {seconds:.0f} s", file=sys.stderr, flush=True)
        yield name, sum(dead) / len(dead)


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description="Measure which share of small faults the tests notice.")
    parser.add_argument("areas", nargs="*", metavar="AREA", help=f"of {', '.join(AREAS)}; all by default")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample")
    parsed = parser.parse_args()
    if unknown := set(parsed.areas) - set(AREAS):
        parser.error(f"unknown areas: {', '.join(sorted(unknown))}")
    print(json.dumps(dict(measured(parsed.areas or list(AREAS), parsed.seed))))


if __name__ == "__main__":
    main()
