"""What a person would ask first when something does not work: whether this machine is as coldray needs it.

Nothing is written, but what a Ray that is started for the question keeps among temporary files.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import ray
import requests
import sqlalchemy as sa
import torch
from packaging.requirements import Requirement
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_info

from coldray.cli.lines import from_here
from coldray.cli.options.doctor import DoctorOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.ray.cluster import connected_ray
from coldray.core.device import cpu_count, has_driver
from coldray.core.environment import variable
from coldray.core.errors import ColdrayError
from coldray.core.extras import EXTRAS, require_extra
from coldray.core.masking import masked
from coldray.core.memory import GIB, memory_here
from coldray.data.sources.locations import DATA_VARIABLE
from coldray.tracking.access import check_reachable
from coldray.tracking.database import database_path, quiet_libraries

_Level: TypeAlias = Literal["ok", "warning", "problem"]
_COLOURS: dict[_Level, str] = {"ok": "green", "warning": "yellow", "problem": "bold red"}
_SHOWN = ("coldray", "ray", "torch", "mlflow", "numpy", "scipy", "polars")
_LITTLE_MEMORY, _LITTLE_DISK, _NO_DISK = 2 * GIB, 5 * GIB, GIB
_FULL = 0.95
"""Share of a disk from which Ray puts no more objects there."""
_CONNECT_SECONDS = 5


class Finding(NamedTuple):
    """One answer."""

    level: _Level
    told: str
    """What there is; of what is not well, the way out too."""


def examine(options: DoctorOptions, console: Console) -> bool:
    """Print what there is, a line each; return whether there is no problem."""
    quiet_libraries()
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "versions": _versions,
        "CPUs": _cpus,
        "memory": _memory,
        "BLAS": _blas,
        "GPU": _gpu,
        "data": _data,
        "disk": lambda: _disk(options.output),
        "MLflow": lambda: _mlflow(options.tracking_uri),
        "store": lambda: _store(options.store or f"sqlite:///{options.output / 'serving.db'}"),
        "Ray": lambda: _ray(options),
    }
    levels = []
    for name, check in checks.items():
        for found in _answers(check):
            levels.append(found.level)
            line = Text.assemble((f"{found.level:<8}", _COLOURS[found.level]), f" {name:<9}", masked(found.told))
            console.print(line, soft_wrap=True)
    return "problem" not in levels


def _answers(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield what a check finds; an error that ends it is a problem."""
    try:
        yield from check()
    except (ColdrayError, OSError) as error:
        yield Finding("problem", str(error))


def _versions() -> Iterator[Finding]:
    shown = {"Python": sys.version.split()[0], **{name: _version(name) or "not installed" for name in _SHOWN}}
    yield Finding("ok", ", ".join(f"{name} {number}" for name, number in shown.items()))
    try:
        needed = [Requirement(line) for line in requires("coldray") or ()]
    except PackageNotFoundError:  # shipped to a cluster as a py_module
        needed = []
    for one in needed:
        found = None if one.marker and not one.marker.evaluate({"extra": ""}) else _version(one.name) or "none"
        if found is not None and (found == "none" or not one.specifier.contains(found, prereleases=True)):
            yield Finding("problem", f"{one} is needed, and {found} is installed. Run: pip install '{one}'")
    for extra in EXTRAS:
        try:
            require_extra(extra, f"What coldray[{extra}] is for")
        except ColdrayError as error:
            yield Finding("warning", str(error))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _cpus() -> Iterator[Finding]:
    usable, quota = cpu_count(), _cpu_quota()
    told = f"{usable} usable of {os.cpu_count()}"
    if quota is None or quota >= usable:
        yield Finding("ok", told)
    else:
        most = max(int(quota), 1)
        yield Finding(
            "warning",
            f"{told}, and the container may take the time of {quota:g}: more processes than that wait for each other. "
            f"Give --cpus {most}, and set OMP_NUM_THREADS={most}.",
        )


def _cpu_quota(cgroup: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return how many CPUs' time the container may take, by either version of cgroups; None without a limit."""
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota, period = (
                (cgroup / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):  # "max" is no limit
        return None


def _memory() -> Iterator[Finding]:
    free, limit = memory_here()
    told = f"{free / GIB:.1f} GiB free" + ("" if limit is None else f" of the container's {limit / GIB:.1f} GiB")
    if free < _LITTLE_MEMORY:
        yield Finding("warning", f"{told}, which is little for a study. End other programs, or use fewer --cpus.")
    else:
        yield Finding("ok", told)


def _blas() -> Iterator[Finding]:
    for library in threadpool_info():
        if library["user_api"] != "blas":
            continue
        threads = library["num_threads"]
        told = f"{library['internal_api']} {library['version'] or ''} with {threads} threads"
        if threads > cpu_count():
            yield Finding("warning", f"{told} for {cpu_count()} CPUs. Set OMP_NUM_THREADS={cpu_count()}.")
        else:
            yield Finding("ok", told)


def _gpu() -> Iterator[Finding]:
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        yield Finding("ok", f"{', '.join(names)}; torch is built for CUDA {torch.version.cuda}")
    elif has_driver():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for CPUs"
        yield Finding(
            "warning", f"there is a driver, and torch {torch.__version__}, {built}, finds no device. Install a torch "
            "for the driver's CUDA: https://pytorch.org/get-started/locally/",
        )  # fmt: skip
    else:
        yield Finding("ok", "none: CPUs do all the work")


def _data() -> Iterator[Finding]:
    named = variable(DATA_VARIABLE)
    if not named:
        yield Finding("ok", f"{DATA_VARIABLE} is not set: --data-dir says where datasets are")
    elif Path(named).is_dir():
        yield Finding("ok", f"{DATA_VARIABLE} is {named}")
    else:
        yield Finding("problem", f"{DATA_VARIABLE} names {named}, which is no folder. Set it to one, or take it away.")


def _disk(output: Path) -> Iterator[Finding]:
    for place in (output, Path(tempfile.gettempdir())):
        there = next(path for path in (place, *place.parents) if path.exists())
        usage = shutil.disk_usage(there)
        told = f"{usage.free / GIB:.1f} GiB free for {from_here(place)}"
        if not os.access(there, os.W_OK):
            yield Finding("problem", f"{there} cannot be written. Choose another folder.")
        elif usage.free < _NO_DISK:
            yield Finding("problem", f"{told}: a study does not fit. Free space, or choose another folder.")
        elif usage.free < _LITTLE_DISK or usage.used > _FULL * usage.total:
            yield Finding("warning", f"{told}, {usage.used / usage.total:.0%} are used. Free space: Ray needs some.")
        else:
            yield Finding("ok", told)


def _mlflow(tracking_uri: str) -> Iterator[Finding]:
    check_reachable(tracking_uri)
    path = database_path(tracking_uri)
    if path is not None:
        yield Finding("ok", f"{tracking_uri} {'can be used' if path.exists() else 'is made by the first study'}")
        return
    answer = requests.get(f"{tracking_uri.rstrip('/')}/version", timeout=_CONNECT_SECONDS)
    server, here = answer.text.strip() if answer.ok else "", _version("mlflow")
    told = f"{tracking_uri} answers, version {server or 'unknown'}"
    if server and server.split(".")[0] != here.split(".")[0]:
        yield Finding("warning", f"{told}; here is {here}. Install the server's: pip install mlflow=={server}")
    else:
        yield Finding("ok", told)


def _store(url: str) -> Iterator[Finding]:
    """Look at the database of new items and feedback; one that is not there is not made."""
    try:
        parsed = sa.make_url(url)
        sqlite = parsed.get_backend_name() == "sqlite"
        if sqlite and not Path(parsed.database or "").exists():
            yield Finding("ok", f"{url} is made when the service starts")
            return
        options = {} if sqlite else {"connect_args": {"connect_timeout": _CONNECT_SECONDS}}
        engine = sa.create_engine(parsed, **options)
        tables = sa.inspect(engine).get_table_names()
        engine.dispose()
        yield Finding("ok", f"{url} can be used, {len(tables)} tables")
    except (SQLAlchemyError, ModuleNotFoundError) as error:
        reason = str(error).partition("\n")[0]
        driver = " Or install the driver: pip install 'coldray[postgres]'." if "psycopg" in reason else ""
        yield Finding("problem", f"{url} cannot be opened: {reason}. Give another --store URL.{driver}")


def _ray(options: DoctorOptions) -> Iterator[Finding]:
    """Connect, or start a Ray of one CPU, and let a worker answer."""
    with connected_ray(options.ray_address, options.cpus or 1, StudyProgress(Console(quiet=True))):
        ray.get(_answer.remote())
        resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
        machines = len([node for node in ray.nodes() if node["Alive"]])  # type: ignore[no-untyped-call]
    if options.ray_address.strip() in ("", "local"):
        yield Finding("ok", "starts on this machine, and a worker answers")
    else:
        told = f"{machines} machines with {resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"
        yield Finding("ok", f"{options.ray_address} answers: {told}")


@ray.remote(num_cpus=1)
def _answer() -> int:
    return os.getpid()
