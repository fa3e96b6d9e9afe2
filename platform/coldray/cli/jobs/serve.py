"""The service on this machine: an embedded Ray, or one that runs already, until it is interrupted."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

from pydantic import ValidationError
from ray import serve
from rich.console import Console

from coldray.cli.options.service import KEYS_VARIABLE, ServeOptions
from coldray.cli.progress.study import StudyProgress
from coldray.cli.ray.cluster import connected_ray
from coldray.core.commands import called
from coldray.core.environment import variable
from coldray.core.errors import ClusterError, ConfigError
from coldray.serving.admission.access import key_lines, read_keys
from coldray.serving.api.app import application
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.exploration.explore import ExplorationConfig
from coldray.serving.live.registry import latest_champion
from coldray.tracking.access import check_reachable

_APPLICATION = "coldray"
_FAST_SERVE = {
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0.5",
    "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
    "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "32768",
}
"""Read by Ray when it starts: the proxy that comes with it takes four times the requests of the one in Python. A
replica that ends would go on for 30 s, for balancers outside of the cluster to notice; here is none. A request
whose replica died is sent to another: every one of them may come twice. The line and the headers of a request must fit
into the proxy's buffer, an id of the greatest length in an address included."""

_PROXY_FILES = {
    "CONFIG_FILE_LOC": "haproxy.cfg",
    "SOCKET_PATH": "admin.sock",
    "SERVER_STATE_BASE": "",
    "SERVER_STATE_FILE": "server-state",
    "METRICS_SOCKET_PATH": "metrics.sock",
}
"""By the names that they have in the environment."""
_GRACE_S = 2.0
"""How much later than the service Serve itself ends a request."""


def _service_settings(options: ServeOptions) -> ServiceSettings:
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
            cache=options.cache,
            canary_alias=options.canary_alias,
            canary_share=options.canary_share,
            shadow_alias=options.shadow_alias,
            shadow_share=options.shadow_share,
            min_item_overlap=options.min_item_overlap,
            exploration=ExplorationConfig(method=options.exploration),
            replicas=options.replicas,
            keys=_access_keys(options),
        )
    except ValidationError as error:
        problem = error.errors()[0]
        option = str(problem["loc"][0]).replace("_", "-")
        raise ConfigError(f"--{option}: {problem['msg']}, got {problem['input']!r}.") from error


def _access_keys(options: ServeOptions) -> tuple[str, ...]:
    """Return the lines of those who may ask; none if everybody may.

    Raises
    ------
    ConfigError
        If the service can be reached from other machines and has no keys, or the keys cannot be read.
    """
    text = variable(KEYS_VARIABLE)
    if options.keys is not None:
        return read_keys(options.keys)
    if text:
        return key_lines(text)
    if options.open or _is_loopback(options.host):
        return ()
    raise ConfigError(
        f"At --host {options.host} the service can be reached from other machines, and it has no keys. Make one with "
        f"`{called('serve')} --new-key NAME`, put the line it prints into a file and name the file with --keys; or let "
        "everybody ask with --open."
    )


def _is_loopback(host: str) -> bool:
    """Return whether an address is reached from this machine alone."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def run_service(options: ServeOptions, console: Console) -> None:
    """Serve until interrupted; the model is looked at before anything starts."""
    settings = _service_settings(options)
    version = settings.source().current()
    options.output_dir.mkdir(parents=True, exist_ok=True)
    with fast_serve(), connected_ray(options.ray_address, options.cpus, StudyProgress(console)):
        console.print(f"loading {version.name}, version {version.version}", highlight=False)
        with serving(settings, host=options.host, port=options.port) as address:
            console.print(f"Serving at {address} (interface: {address}/docs). Ctrl-C ends it.", highlight=False)
            wait_for_the_end()


@contextmanager
def fast_serve() -> Iterator[None]:
    """Have Serve take its fastest way; to be entered before Ray starts, whose processes read it from the environment.

    The environment is what it was when this is left. The proxy's files and its ports of metrics are this service's
    own, so that several can run on one machine. These two ports are open to other machines, whatever the service's
    host: Ray has no variable for it. They tell how many requests there were and where replicas listen, and nothing
    that was in a request.
    """
    with tempfile.TemporaryDirectory(prefix="coldray-") as folder:
        files = {name: str(Path(folder) / file) for name, file in _PROXY_FILES.items()}
        ports = dict(zip(("METRICS_PORT", "STATS_PORT"), map(str, _free_ports(2)), strict=True))
        own = {f"RAY_SERVE_HAPROXY_{name}": value for name, value in (files | ports).items()}
        before = dict(os.environ)
        # What makes it fast may have been set otherwise; files and ports are nobody else's, whatever is inherited.
        os.environ.update({**_FAST_SERVE, **before, **own})
        try:
            yield
        finally:
            for name in own.keys() | _FAST_SERVE.keys():
                os.environ.pop(name, None)
                if name in before:
                    os.environ[name] = before[name]


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
            # The service ends a late request itself, in the form that all errors have; Serve's limit is for the rest.
            http_options={"host": host, "port": port, "request_timeout_s": settings.timeout_s + _GRACE_S},
            logging_config={"log_level": "WARNING", "enable_access_log": False},
        )
        serve.run(application(settings), name=_APPLICATION, route_prefix="/")
    except RuntimeError as error:
        reasons = [f"{error}", *_failures()]
        serve.shutdown()  # type: ignore[no-untyped-call]
        raise ClusterError(f"The service did not start at {host}:{port}: {' '.join(reasons)}") from error
    try:
        yield f"http://{host}:{port}"
    finally:
        serve.shutdown()  # type: ignore[no-untyped-call]


def _failures() -> list[str]:
    """Return what Serve knows of deployments that did not come up, the last words of each."""
    applications = serve.status().applications.values()
    return [each.message for one in applications for each in one.deployments.values() if each.message]


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for_the_end() -> None:
    """Return when this process is asked to end."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
