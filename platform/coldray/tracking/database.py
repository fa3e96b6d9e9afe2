"""An MLflow database in a file: whether it can be used, and that one process at a time sets it up."""

from __future__ import annotations

import logging
import os
import shlex
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlparse

import filelock
import mlflow
from alembic.config import Config
from alembic.script import ScriptDirectory

from coldray.core.commands import called
from coldray.core.errors import TrackingError
from coldray.tracking.receiver import UnavailableError


def quiet_libraries() -> None:
    """Leave the terminal to the job: its events are shown by its own progress display."""
    _take_percent_signs()
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # It would print a traceback of each error that it raises as well, as of a database that is locked for a moment.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


def _take_percent_signs() -> None:
    """Have Alembic take the folder of MLflow's migrations as it is called: in its settings, ``%`` begins a name.

    MLflow writes the sign twice, as has to be, in the address of a database alone. Nothing is done where no folder has
    one.
    """
    if "%" in str(mlflow.__file__) and Config.set_main_option is _SET:
        Config.set_main_option = _set_main_option  # type: ignore[assignment, method-assign]


_SET = Config.set_main_option


def _set_main_option(config: Config, name: str, value: Any) -> None:
    _SET(config, name, str(value).replace("%", "%%") if name == "script_location" else value)


HEAD = b"SQLite format 3\0"
PAGE_SIZE, CHANGES, N_PAGES, VALID_FOR = slice(16, 18), slice(24, 28), slice(28, 32), slice(92, 96)
"""Numbers in the first hundred bytes: the file is as long as they say if two of them agree."""
_CHECKED_BYTES = 2**28
"""Databases up to this size are read whole before a study starts; of larger ones, their size and their tables."""
_LOCKED_SECONDS = 2.0
_SET_UP_SECONDS = 300.0
"""Time that another process which sets up the database is waited for."""
_SET_UP_PAUSE = 5.0
"""A database that has not been written for so long is not being set up."""
_NO_VERSION = "without a version"
OTHER_WAYS = (
    "or give another --tracking-uri, or --offline: all is then kept in the folder of the study, and "
    f"{called('sync')} sends it later."
)


def database_path(tracking_uri: str) -> Path | None:
    """Return the file of a tracking URI; None if it is of something else."""
    parsed = urlparse(tracking_uri)
    named = parsed.scheme == "sqlite" and parsed.path.strip("/")
    return Path(parsed.path.removeprefix("/")) if named else None


@contextmanager
def set_up_alone(path: Path) -> Iterator[None]:
    """Let no other process set up the same database meanwhile: MLflow makes its tables in some eighty steps.

    A program that takes no such lock, as `mlflow ui`, is noticed by the file that grows. A folder that takes no files
    needs no lock: nothing is set up there.

    Raises
    ------
    UnavailableError
        If another process does for minutes.
    """
    lock = filelock.FileLock(path.with_name(f".{path.name}.lock"), timeout=_SET_UP_SECONDS)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise UnavailableError(
            f"The MLflow database {path} is being set up by another process, for {_SET_UP_SECONDS:.0f} seconds now."
        ) from error
    except OSError:
        yield
        return
    try:
        until = time.monotonic() + _SET_UP_SECONDS
        while _is_being_set_up(path) and time.monotonic() < until:
            time.sleep(0.5)
        yield
    finally:
        lock.release()


def _is_being_set_up(path: Path) -> bool:
    """Tell whether a database was written a moment ago, and is not of this version yet."""
    try:
        recent = path.stat().st_size and time.time() - path.stat().st_mtime < _SET_UP_PAUSE
        return bool(recent) and _tables_version(path) not in ("", _versions().get_heads()[0])
    except (OSError, sqlite3.Error):
        return False


def check_database(path: Path, tracking_uri: str) -> None:
    """Find out what MLflow would only find out after minutes of retries, or in mid-study; nothing is created.

    Raises
    ------
    UnavailableError
        If another process keeps it locked.
    TrackingError
        If it cannot be written, is damaged, cut off or no database, or is of another version of MLflow.
    """
    problem = _not_writable(path)
    if problem:
        raise TrackingError(f"The MLflow database {tracking_uri} cannot be written: {problem}.")
    if not path.exists() or not path.stat().st_size:
        _check_folder(tracking_uri)
        return
    with set_up_alone(path):
        problem = _cut_off(path) or _damage(path)
        if problem:
            raise TrackingError(
                f"The MLflow database {tracking_uri} cannot be used: {problem}. Put back a copy of it, {OTHER_WAYS}"
            )
        _check_version(path, tracking_uri)


def _check_folder(tracking_uri: str) -> None:
    """Refuse to set up a database from a folder whose path MLflow does not write as a text of SQL.

    It puts the working directory into the row of its first experiment by the rules of Python, by which a text with both
    kinds of quotes has a backslash in it. A database that is set up already is read from there as well.

    Raises
    ------
    TrackingError
        Naming the folder.
    """
    folder = str(Path.cwd())
    if "'" in folder and '"' in folder:
        raise TrackingError(
            f"MLflow cannot set up the database {tracking_uri} from the folder {folder}, whose path has both ' and \". "
            f"Rename the folder, run the job from another one, {OTHER_WAYS}"
        )


def check_not_locked(path: Path) -> None:
    """Find out whether another process keeps a database locked: MLflow would try for minutes.

    Raises
    ------
    UnavailableError
        If one does.
    """
    if path.exists() and path.stat().st_size:
        _damage(path, whole=False)


def _not_writable(path: Path) -> str:
    try:
        if path.exists():
            with path.open("r+b") as file:
                head = file.read(len(HEAD))
            if head not in (b"", HEAD):
                return f"{path} is not an sqlite database"
            if not os.access(path.parent, os.W_OK):  # for the journal of a transaction
                return f"its folder {path.parent} takes no files"
        else:
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        what = path if path.exists() else f"{path.parent} is not a writable folder"
        return f"{what} ({error.strerror})"
    return ""


def _cut_off(path: Path) -> str:
    """Tell whether a file is shorter than it says."""
    with path.open("rb") as file:
        head = file.read(100)
    if len(head) < 100:
        return f"of {path}, only {len(head)} bytes are there"
    page = int.from_bytes(head[PAGE_SIZE], "big")
    size = int.from_bytes(head[N_PAGES], "big") * (65536 if page == 1 else page)
    known = head[CHANGES] == head[VALID_FOR] and not path.with_name(f"{path.name}-wal").exists()
    there = path.stat().st_size
    return f"{path} is cut off: {there:,} of {size:,} bytes are there" if known and there < size else ""


def _damage(path: Path, *, whole: bool = True) -> str:
    """Read a database, up to a size all of it; return what is damaged."""
    try:
        with closing(_opened(path)) as database:
            if whole and path.stat().st_size <= _CHECKED_BYTES:
                (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
                return "" if found == "ok" else f"{path} is damaged ({found})"
            database.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise UnavailableError(f"The MLflow database {path} is locked by another process.") from error
        return f"{path} cannot be opened ({error})"
    except sqlite3.DatabaseError as error:
        return f"{path} is damaged ({error})"
    return ""


def _check_version(path: Path, tracking_uri: str) -> None:
    """Refuse a database of another version of MLflow.

    Raises
    ------
    TrackingError
        Naming the command that brings an older one up to date.
    """
    found, versions = _tables_version(path), _versions()
    (newest,) = versions.get_heads()
    if found in ("", _NO_VERSION, newest):
        return
    if found in {version.revision for version in versions.walk_revisions()}:
        raise TrackingError(
            f"The MLflow database {tracking_uri} is of an older version of MLflow (its tables are {found}, those of "
            f"MLflow {mlflow.__version__} are {newest}). Copy it, then type "
            f"`mlflow db upgrade {shlex.quote(tracking_uri)}`; {OTHER_WAYS}"
        )
    raise TrackingError(
        f"The MLflow database {tracking_uri} is of a newer version of MLflow: its tables are {found}, which MLflow "
        f"{mlflow.__version__} does not know. Install the version that made it, {OTHER_WAYS}"
    )


def _tables_version(path: Path) -> str:
    """Return the version of the tables of a database; nothing if it has no tables."""
    with closing(_opened(path)) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if "alembic_version" not in tables:
            return _NO_VERSION if tables else ""
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return str(found[0]) if found else _NO_VERSION


def _versions() -> ScriptDirectory:
    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=rw", uri=True, timeout=_LOCKED_SECONDS)
