"""Downloads that are either complete and verified, or refused with what to do by hand.

No checksum of the HetRec archive is published by its owner, and none was found in public code. So the archive is
verified by what it carries itself: the CRC-32 of every member, and the members that must be there. That detects
a damaged or truncated file, and a file that is not the archive; it does not detect a deliberate forgery.
"""

from __future__ import annotations

import fcntl
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeAlias

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from coldray.core.environment import variable
from coldray.core.errors import DownloadError, OutputError

_Verifier: TypeAlias = Callable[[Path], str | None]
"""Given the downloaded file, returns None if it is right, else what is wrong with it."""

_HETREC_URL = "https://files.grouplens.org/datasets/hetrec2011/hetrec2011-movielens-2k-v2.zip"
_HETREC_URL_VARIABLE = "COLDRAY_HETREC_URL"
"""Environment variable with another address of the archive, such as a mirror inside a company."""
_HETREC_MEMBERS = (
    "movies.dat",
    "movie_genres.dat",
    "movie_countries.dat",
    "movie_directors.dat",
    "movie_actors.dat",
    "movie_locations.dat",
    "movie_tags.dat",
    "tags.dat",
    "user_ratedmovies.dat",
)
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 10.0
_BACKOFF_SECONDS = 1.0
_CHUNK_BYTES = 1 << 16
"""What is received of an unfinished piece is lost with a cut connection; whole pieces are kept."""
_WORTH_RETRYING = (408, 425, 429, 500, 502, 503, 504)


class _RefusedError(requests.RequestException):
    """The server gave an answer that no further attempt will change."""


_HOPELESS = (
    _RefusedError,
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)


def fetch_hetrec(folder: Path) -> Path:
    """Download the published HetRec 2011 MovieLens archive to `folder`, unless it is there; return its path.

    Raises
    ------
    DownloadError
        If it cannot be fetched or what arrived is not the archive.
    """
    url = variable(_HETREC_URL_VARIABLE, _HETREC_URL)
    return _fetch(url, folder / "hetrec2011-movielens-2k-v2.zip", verify=_sound_zip(_HETREC_MEMBERS))


def _fetch(
    url: str,
    target: Path,
    *,
    verify: _Verifier,
    attempts: int = _ATTEMPTS,
    timeout: float = _TIMEOUT_SECONDS,
    backoff: float = _BACKOFF_SECONDS,
) -> Path:
    """Download `url` to `target`; a file that is there already is kept as it is.

    What arrives is collected in ``<target>.part``, which a later call continues where the server allows it. It gets
    its final name only after `verify`. Processes that fetch the same target wait for one another.

    Parameters
    ----------
    verify
        Such as :func:`_sound_zip`: it returns what is wrong with the file, None if nothing is.
    attempts
        How often to try before giving up; refusals such as 404 are not tried again.
    timeout
        Seconds to wait for a connection, and for each piece of the answer.
    backoff
        Seconds before the second attempt; doubled for each one after.

    Raises
    ------
    DownloadError
        If the file cannot be fetched or does not verify. The message names the URL and the way to do it by hand.
    OutputError
        If the folder of `target` cannot be written.
    """
    if target.exists():
        return target
    part = target.with_name(f"{target.name}.part")
    with _locked(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return target
        problem = _collect(url, part, verify, [backoff * 2**attempt for attempt in range(attempts - 1)], timeout)
        if problem is None:
            part.replace(target)
            return target
    raise DownloadError(
        f"Cannot download {url}: {problem}. Fetch {target.name} by hand, put it in {target.parent} or in any other "
        "folder, and name that folder with --data-dir."
    )


def _sound_zip(members: Iterable[str]) -> _Verifier:
    """Return a check that a file is a zip archive with intact CRC-32s that has `members`, in whatever folder."""
    wanted = tuple(members)

    def verify(path: Path) -> str | None:
        try:
            with zipfile.ZipFile(path) as archive:
                names = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
                damaged = archive.testzip()
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            return f"it is not a complete zip archive ({error})"
        if damaged:
            return f"its member {damaged} is damaged"
        absent = [name for name in wanted if name not in names]
        return f"the archive lacks {', '.join(absent)}" if absent else None

    return verify


def _collect(url: str, part: Path, verify: _Verifier, pauses: list[float], timeout: float) -> str | None:
    """Bring `part` to a file that verifies, trying again after each pause; return the problem if that fails."""
    problem: str | None = None
    for pause in (*pauses, None):
        try:
            whole = _append(url, part, timeout)
            problem = verify(part)
        except requests.RequestException as error:
            problem = _reason(error)
            if isinstance(error, _HOPELESS):
                break
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"Cannot write {part}: {reason}. Free space or choose another folder.") from error
        else:
            if problem is None:
                return None
            part.unlink()
            problem = f"what arrived is not the published file: {problem}"
            if whole:
                break  # A second copy from the same server would be just as wrong; a continued one may be a mixture.
        if pause is not None:
            time.sleep(pause)
    return problem


def _append(url: str, part: Path, timeout: float) -> bool:
    """Continue `part` by what is missing; return True when the server sent the whole instead."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=timeout) as response:
        if have and response.status_code == 416:
            return False  # Nothing beyond what is here: complete, or wrong, which the verification tells.
        if response.status_code in _WORTH_RETRYING:
            response.raise_for_status()
        if response.status_code not in (200, 206):
            raise _RefusedError(f"the server answered {response.status_code} {response.reason}")
        resumed = response.status_code == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server continued at the wrong place")
        have = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with part.open("ab" if resumed else "wb") as file:
            _write(response, file, part.name.removesuffix(".part"), have, total)
    if total is not None and part.stat().st_size != total:
        raise requests.ConnectionError(f"the connection ended after {part.stat().st_size:,} of {total:,} bytes")
    return not resumed


def _write(response: requests.Response, file: IO[bytes], name: str, have: int, total: int | None) -> None:
    console = Console(stderr=True)
    if not console.is_terminal:
        size = "" if total is None else f" ({total / 1e6:,.1f} MB)"
        console.print(f"Downloading {name}{size} from {response.url}", soft_wrap=True, markup=False, highlight=False)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(name, total=total, completed=have)
        for chunk in response.iter_content(_CHUNK_BYTES):
            file.write(chunk)
            progress.update(task, advance=len(chunk))


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        handle = lock.open("w")
    except OSError as error:
        raise OutputError(f"Cannot write to {lock.parent}: {error.strerror}. Choose another folder.") from error
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _reason(error: requests.RequestException) -> str:
    if isinstance(error, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    return str(error)
