"""Whether a tracking server can be used, found out in seconds: MLflow itself would try for minutes."""

from __future__ import annotations

from urllib.parse import urlparse

import requests
from mlflow.tracking import MlflowClient
from requests.utils import get_environ_proxies, select_proxy

from coldray.core.commands import called
from coldray.core.environment import unset_empty
from coldray.core.errors import TrackingError
from coldray.tracking.database import OTHER_WAYS, check_database, check_not_locked, database_path, set_up_alone

_CONNECT_SECONDS = 5
_FORMS = "Use sqlite:///path/mlflow.db or http://host:port."
PASSWORD = (
    "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, of somebody who may use it"
)


def check_reachable(tracking_uri: str) -> None:
    """Fail within seconds, not minutes of retries, when a tracking server does not answer or a database is unusable.

    Raises
    ------
    TrackingError
        Naming the URI, what is wrong and the ways out.
    UnavailableError
        If a database is locked, which passes.
    """
    try:
        parsed = urlparse(tracking_uri)
        path = database_path(tracking_uri)
    except ValueError as error:
        raise TrackingError(f"The tracking URI {tracking_uri!r} is no address ({error}). {_FORMS}") from error
    if parsed.scheme in ("http", "https"):
        _check_server(tracking_uri)
    elif path is not None:
        check_database(path, tracking_uri)
    elif parsed.scheme in ("", "file"):
        raise TrackingError(
            f"The tracking URI {tracking_uri!r} is not supported: MLflow no longer keeps runs in plain files. {_FORMS}"
        )
    else:
        raise TrackingError(
            f"The tracking URI {tracking_uri!r} is of a kind that studies do not write to by themselves. {_FORMS} A "
            "database of another kind is behind a server: `mlflow server --backend-store-uri URI`."
        )


def _check_server(uri: str) -> None:
    """Ask a server whether it is well; what answers in its place may be a proxy, or a page to sign in."""
    try:
        answer = requests.get(f"{uri.rstrip('/')}/health", timeout=_CONNECT_SECONDS)
    except (requests.RequestException, ValueError) as error:  # the latter of addresses that are none
        raise TrackingError(
            f"The MLflow server at {uri} cannot be reached ({type(error).__name__}{_proxy(uri)}). Start it, give "
            "another --tracking-uri, leave the option out for a local sqlite database, or give --offline: all is "
            f"then kept in the folder of the study, and {called('sync')} sends it later."
        ) from error
    if answer.status_code in (401, 403):
        raise TrackingError(f"The MLflow server at {uri} refuses ({answer.status_code}). {PASSWORD}, {OTHER_WAYS}")
    if not answer.ok:
        raise TrackingError(
            f"The MLflow server at {uri} cannot be used: it answers {answer.status_code} {answer.reason}{_proxy(uri)}. "
            f"Look at its log, {OTHER_WAYS}"
        )
    if answer.text.lstrip().startswith("<"):
        raise TrackingError(
            f"{answer.url} answers with a web page{_proxy(uri)}: it is no MLflow server, or a page to sign in. "
            f"Give the address of the server itself, {OTHER_WAYS}"
        )


def _proxy(uri: str) -> str:
    """Name the proxy that requests go through, which may be what does not answer; nothing if there is none."""
    try:
        proxy = select_proxy(uri, get_environ_proxies(uri))
        host = urlparse(uri).hostname
    except ValueError:
        return ""
    return f", through the proxy {proxy}; NO_PROXY={host} goes around it" if proxy else ""


def open_client(tracking_uri: str) -> MlflowClient:
    """Return a client of a tracking server and its registry; a new database is set up by one process alone.

    Raises
    ------
    UnavailableError
        If the database is locked.
    mlflow.exceptions.MlflowException
        If it cannot be opened.
    """
    unset_empty("MLFLOW_")
    path = database_path(tracking_uri)
    if path is None:
        return MlflowClient(tracking_uri, tracking_uri)
    with set_up_alone(path):
        check_not_locked(path)
        return MlflowClient(tracking_uri, tracking_uri)


def holds_nothing(tracking_uri: str) -> bool:
    """Tell whether an address is of a database that nobody has set up yet."""
    path = database_path(tracking_uri)
    return path is not None and not (path.is_file() and path.stat().st_size)
