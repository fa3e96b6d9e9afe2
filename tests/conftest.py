"""Fixtures that several folders of tests share."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parents[1]

THIRD_PARTY_WARNINGS = (
    # MLflow's tables use a loading strategy that SQLAlchemy 2.1 is about to drop.
    "ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning",
    # MLflow says it of its own chat types when mlflow.pyfunc is imported.
    "ignore:.*Any type hint is inferred as AnyType:UserWarning",
    # Ray Serve's own configuration, when ray.serve is imported.
    "ignore:Using extra keyword arguments on `Field` is deprecated",
    # Ray Train makes Ray Data's settings, several of whose own defaults are deprecated.
    "ignore:`use_.*` is deprecated:DeprecationWarning:ray.data.context",
    # PyTorch Geometric, when it is imported.
    "ignore:`torch.jit.script.*` is deprecated:DeprecationWarning",
)

# A busy machine is slow, not wrong: no test is judged by its time.
settings.register_profile("coldray", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("coldray")

# Beside other workers of pytest-xdist, threads of one would take the cores from another; read when numpy is loaded.
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))))


def pytest_configure(config: pytest.Config) -> None:
    """Let pass what libraries warn of and nobody here can change; every other warning is an error."""
    for line in THIRD_PARTY_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that need Ray or are marked: what takes long, at the end, would leave all but one idle."""
    long = {item.path for item in items if "ray_cluster" in getattr(item, "fixturenames", ())}
    long |= {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return the path of a folder of real data by its name; skip the test, with the reason, when it is absent."""
    root = Path(os.environ.get("COLDRAY_DATA") or ROOT.parent / "shared" / "data")

    def folder(name: str) -> Path:
        if not (root / name).is_dir():
            pytest.skip(f"real data {name!r} is not in {root}; COLDRAY_DATA names the folder that holds it")
        return root / name

    return folder


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """Run one embedded Ray with two CPUs for all tests that need a cluster; stop it after the last one.

    The pictures of their reports have half the pixels in each direction, in half the time.
    """
    import ray  # imported here, as most tests do without it

    from coldray.cli.ray.cluster import start_ray
    from coldray.reports import style
    from contracts.forked_workers import forked_workers

    # Elsewhere, what libraries start as they are loaded does not bear a fork.
    with (
        forked_workers() if sys.platform == "linux" else nullcontext(),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(style, "_DPI", style._DPI // 2)
        start_ray(cpus=2)
        yield
        ray.shutdown()


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """Return what makes an MLflow database at a path, and returns its address: a copy, as to set one up takes seconds.

    It is set up in its own folder: MLflow keeps the artifacts of its default experiment where that is done.
    """
    from mlflow.tracking import MlflowClient  # imported here, as most tests do without it

    folder = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        MlflowClient(uri, uri).get_experiment("0")
    return lambda where: f"sqlite:///{shutil.copy(folder / 'mlflow.db', where)}"


@pytest.fixture(scope="session")
def tracking_uri(new_database: Callable[[Path], str], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return one MLflow database for all tests; experiments keep tests apart."""
    return new_database(tmp_path_factory.mktemp("tracking") / "mlflow.db")
