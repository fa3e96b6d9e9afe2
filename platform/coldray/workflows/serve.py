"""The service on this machine: an embedded Ray, or one that runs already, until it is interrupted."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError
from ray import serve
from rich.console import Console

from coldray.errors import ClusterError, ConfigError
from coldray.serving.app import application
from coldray.serving.registry import latest_champion
from coldray.serving.settings import ServiceSettings
from coldray.tracking.runs import check_reachable
from coldray.workflows.arguments import registry_name
from coldray.workflows.cluster import connected_ray
from coldray.workflows.progress import StudyProgress

APPLICATION = "coldray"
FAST_SERVE = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
}
"""Read by Ray when it starts: the proxy that comes with it takes four times the requests of the one in Python. A
replica that ends would go on for 30 s, for balancers outside of the cluster to notice; here is none."""


def serve_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of the serving job."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    model = parser.add_argument_group("model")
    default_uri = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    model.add_argument("--tracking-uri", default=default_uri, help="MLflow tracking and registry URI")
    model.add_argument(
        "--model-name", type=registry_name, default=None, help="registered model; the latest one promoted unless given"
    )
    model.add_argument("--alias", default="champion", help="alias of the version to serve, which may move")
    model.add_argument(
        "--bundle", type=Path, default=None, help="folder of a bundle, in the place of a registered model"
    )
    parser.add_argument(
        "--store", default=None, help="database URL of new items and feedback; a file beside the output"
    )
    parser.add_argument("--output-dir", type=Path, default=Path("runs"), help="folder of that file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    parser.add_argument("--replicas", type=int, default=1, help="processes that answer; each takes a CPU")
    parser.add_argument("--ray-address", default=os.environ.get("RAY_ADDRESS", "local"), help="cluster, or 'local'")
    parser.add_argument("--cpus", type=int, default=None, help="CPUs of a local Ray; all by default")
    return parser


def service_settings(options: argparse.Namespace) -> ServiceSettings:
    """Return the settings that the options describe.

    Raises
    ------
    ConfigError
        If an option has no valid value.
    TrackingError
        If the registry cannot be reached or has no model with the alias.
    """
    name = options.model_name
    if options.bundle is None:
        check_reachable(options.tracking_uri)
        name = name or latest_champion(options.tracking_uri, options.alias)
    store = options.store or f"sqlite:///{options.output_dir.absolute() / 'serving.db'}"
    bundle = None if options.bundle is None else options.bundle.absolute()
    try:
        return ServiceSettings(
            tracking_uri=options.tracking_uri,
            model_name=name,
            alias=options.alias,
            bundle=bundle,
            store=store,
            replicas=options.replicas,
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"--{problem['loc'][0]}: {problem['msg']}, got {problem['input']!r}.") from error


def run_service(options: argparse.Namespace, console: Console) -> None:
    """Serve until interrupted; the model is looked at before anything starts."""
    settings = service_settings(options)
    version = settings.source().current()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    for variable, value in FAST_SERVE.items():
        os.environ.setdefault(variable, value)
    with connected_ray(options.ray_address, options.cpus, StudyProgress(console)):
        console.print(f"loading {version.name}, version {version.version}", highlight=False)
        with serving(settings, host=options.host, port=options.port) as address:
            console.print(f"Serving at {address} (interface: {address}/docs). Ctrl-C ends it.", highlight=False)
            _wait_for_the_end()


@contextmanager
def serving(settings: ServiceSettings, *, host: str, port: int) -> Iterator[str]:
    """Serve from the cluster this process is connected to; yield the address, and end the service afterwards.

    Raises
    ------
    ClusterError
        If the service does not start: the port is taken, or the model cannot be loaded.
    """
    try:
        serve.start(
            http_options={"host": host, "port": port, "request_timeout_s": settings.timeout_s},
            logging_config={"log_level": "WARNING"},
        )
        serve.run(application(settings), name=APPLICATION, route_prefix="/")
    except RuntimeError as error:
        serve.shutdown()  # type: ignore[no-untyped-call]
        raise ClusterError(f"The service did not start at {host}:{port}: {error}") from error
    try:
        yield f"http://{host}:{port}"
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _wait_for_the_end() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
