"""Whether a tracking server can be used, found out in seconds: MLflow itself would try for minutes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from urllib.parse import urlparse

import requests

from coldray.errors import TrackingError

CONNECT_SECONDS = 5
FORMS = "Use sqlite:///path/mlflow.db or http://host:port."
SQLITE_HEAD = b"SQLite format 3\0"


def check_reachable(tracking_uri: str) -> None:
    """Fail within seconds, not minutes of retries, when a tracking server does not answer.

    Raises
    ------
    TrackingError
        Naming the URI and the ways out.
    """
    try:
        parsed = urlparse(tracking_uri)
    except ValueError as error:
        raise TrackingError(f"The tracking URI {tracking_uri!r} is no address ({error}). {FORMS}") from error
    if parsed.scheme in ("http", "https"):
        try:
            requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=CONNECT_SECONDS).raise_for_status()
        except requests.RequestException as error:
            raise TrackingError(
                f"The MLflow server at {tracking_uri} cannot be reached ({type(error).__name__}). Start it, give "
                "another --tracking-uri, leave the option out for a local sqlite database, or give --offline: all is "
                "then kept in the folder of the study, and jobs/sync_runs.py sends it later."
            ) from error
    elif parsed.scheme == "sqlite" and parsed.path.strip("/"):
        _check_database(Path(parsed.path.removeprefix("/")), tracking_uri)
    else:
        raise TrackingError(
            f"The tracking URI {tracking_uri!r} is not supported: MLflow no longer keeps runs in plain files. {FORMS}"
        )


def _check_database(path: Path, tracking_uri: str) -> None:
    """Find out what MLflow would only find out after minutes of retries; nothing is created."""
    reason = ""
    try:
        if path.exists():
            with path.open("r+b") as file:
                head = file.read(len(SQLITE_HEAD))
            reason = "" if head in (b"", SQLITE_HEAD) else f"{path} is not an sqlite database"
        else:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        what = path if path.exists() else f"{path.parent} is not a writable folder"
        reason = f"{what} ({error.strerror})"
    if reason:
        raise TrackingError(f"The MLflow database {tracking_uri} cannot be written: {reason}.")


def holds_nothing(tracking_uri: str) -> bool:
    """Tell whether an address is of a database that nobody has set up yet."""
    parsed = urlparse(tracking_uri)
    path = Path(parsed.path.removeprefix("/"))
    return parsed.scheme == "sqlite" and not (path.is_file() and path.stat().st_size)
