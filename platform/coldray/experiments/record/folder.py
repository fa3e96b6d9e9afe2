"""The folder of a study: what it is, who works on it, and how far it is, so that it can be interrupted anywhere."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import shlex
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from coldray import __version__
from coldray.core.errors import ConfigError, DataError, OtherStudyError, SelectionError, StudyError, StudyLockedError
from coldray.core.files import replacing
from coldray.experiments.record.record import StudyRecord
from coldray.experiments.space import current_settings

logger = logging.getLogger(__name__)

_SCHEMA = 1
"""Of the records; it grows when results of an older version would not go with those of a newer one."""
RECORDS = "records"
"""The folder, beside those of reports, with the folders of studies."""
MANIFEST, LOCK, EVENTS, TRACKING = "study.json", "study.lock", "events.jsonl", "tracking.jsonl"


@dataclass(frozen=True)
class StudyIdentity:
    """All that the results of a study depend on; it goes on only where all of this is the same."""

    kind: str
    """``study``, ``comparison``, ``categories`` or ``ablation``."""
    name: str
    dataset: str
    fingerprint: str
    """Of the dataset; empty where there are several, whose records hold their own."""
    settings: Mapping[str, Any]
    """The whole study file, defaults included, but for what failures cost."""

    def plain(self) -> dict[str, Any]:
        """Return what is kept in the folder."""
        values = {
            "schema": _SCHEMA,
            "kind": self.kind,
            "name": self.name,
            "dataset": self.dataset,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
        }
        return dict(json.loads(json.dumps(values, default=str)))


class StudyFolder:
    """A study on disk.

    Parameters
    ----------
    path
        Its folder; the name of the folder is the name of the study.
    resumed
        True if it goes on with what an earlier process has done.
    """

    def __init__(self, path: Path, *, resumed: bool = False) -> None:
        self.path, self.resumed = path, resumed

    @property
    def id(self) -> str:
        """The name of the study."""
        return self.path.name

    @property
    def tracking(self) -> Path:
        """The file of what is to be logged."""
        return self.path / TRACKING

    def record(self, part: str = "") -> StudyRecord:
        """Return the record of the study, or of one of its parts."""
        return StudyRecord(self.path / part / EVENTS, f"{self.id}-{part}" if part else self.id)

    def manifest(self) -> dict[str, Any]:
        """Return what is known of the study.

        Raises
        ------
        StudyError
            If the file is absent or damaged.
        """
        try:
            values = dict(json.loads((self.path / MANIFEST).read_text(encoding="utf-8")))
            return {**values, "settings": current_settings(values["settings"])} if "settings" in values else values
        except (OSError, ValueError, ConfigError) as error:
            raise StudyError(f"{self.path / MANIFEST} of the study cannot be read: {error}.") from error

    def write(self, manifest: Mapping[str, Any]) -> None:
        """Keep what is known of the study."""
        with replacing(self.path / MANIFEST) as temporary:
            temporary.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")

    def running(self) -> str:
        """Return which process works on the study, in words; nothing if none does, or nobody can know.

        An exclusive lock takes a file that is open for writing, as NFS has it. Who may not write asks for a shared one.
        """
        path = self.path / LOCK
        try:
            with path.open("r+" if os.access(path, os.W_OK) else "r", encoding="utf-8") as file:
                return "" if _lock(file, shared=not file.writable()) else file.read().strip()
        except OSError as error:
            if path.exists():
                logger.warning("Nobody can tell whether a process works on %s: %s.", self.id, error.strerror)
            return ""


def _find_study(output: Path, identity: StudyIdentity, resume: str | None) -> StudyFolder | None:
    """Return the study to go on with: the one that is named, or the latest unfinished of that name on these data.

    The data are known by what they are, whatever their file is called now. Where no study is of these data, but one of
    others under this name, that is refused: whoever wants to go on wants that one.

    Parameters
    ----------
    output
        Where reports go; the records of studies are in :data:`RECORDS` in it.
    resume
        The name of the study; empty for the latest one, None for none.

    Raises
    ------
    StudyError
        If a study is named that is not there, or has come to its end.
    OtherStudyError
        If anything its results depend on differs.
    """
    if resume is None:
        return None
    if resume:
        found: StudyFolder | None = StudyFolder(output / RECORDS / resume, resumed=True)
        if not (output / RECORDS / resume / MANIFEST).is_file():
            known = ", ".join(folder.id for folder, _ in _unfinished_studies(output)) or "none"
            raise StudyError(f"There is no study {resume!r} in {output}. Unfinished ones: {known}.")
    else:
        found = _unfinished(output, identity)
    if found is None:
        return None
    manifest = found.manifest()
    if "finished" in manifest:
        raise StudyError(f"The study {found.id} has come to its end. Start another one, without --resume.")
    _check_same(found.id, manifest, identity.plain())
    return StudyFolder(found.path, resumed=True)


def study_folder(output: Path, study: str | None) -> StudyFolder:
    """Return the study of a name, or in a folder; the latest unless one is given.

    Raises
    ------
    StudyError
        If there is none.
    """
    paths = [output / RECORDS / study, Path(study)] if study else list((output / RECORDS).glob("*"))
    found = [path.absolute() for path in paths if (path / MANIFEST).is_file()]
    if not found:
        what = f"no study {study!r}" if study else "no study"
        raise StudyError(f"There is {what} in {output}. Give the name of one, or the --output-dir it was started with.")
    return max((StudyFolder(path) for path in found), key=lambda folder: float(folder.manifest()["started"]))


def _unfinished_studies(output: Path) -> list[tuple[StudyFolder, dict[str, Any]]]:
    """Return the studies below a folder that have not come to their end, with their manifests; the latest first."""
    found = []
    for path in output.glob(f"{RECORDS}/*/{MANIFEST}"):
        folder = StudyFolder(path.parent, resumed=True)
        try:
            manifest = folder.manifest()
        except StudyError:
            continue
        if "finished" not in manifest:
            found.append((folder, manifest))
    return sorted(found, key=lambda one: str(one[1].get("started")), reverse=True)


def _unfinished(output: Path, identity: StudyIdentity) -> StudyFolder | None:
    """Return the latest unfinished study of these data and settings; else of these data; else of this name."""
    plain = identity.plain()
    data = "fingerprint" if identity.fingerprint else "dataset"
    for names in (("kind", "name", data, "settings"), ("kind", "name", data), ("kind", "name", "dataset")):
        for folder, known in _unfinished_studies(output):
            if all(json.dumps(known.get(name)) == json.dumps(plain[name]) for name in names):
                return folder
    return None


def _check_same(study_id: str, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    way_out = "Give the settings and the data it was started with, or start a new study without --resume."
    if was.get("schema") != now["schema"]:
        raise OtherStudyError(
            f"The study {study_id} was recorded by coldray {was.get('coldray')} with schema {was.get('schema')}; this "
            f"is {__version__} with schema {now['schema']}. Go on with that version, or start a new study without "
            "--resume."
        )
    if was["fingerprint"] != now["fingerprint"]:
        raise OtherStudyError(
            f"The study {study_id} is of other data: the fingerprint of {was['dataset']!r} was "
            f"{was['fingerprint'][:12]} and that of {now['dataset']!r} is {now['fingerprint'][:12]}. {way_out}"
        )
    # The same data may be in a file of another name now; of several datasets, the names are all that is known.
    for name in ("kind", "name", *(() if now["fingerprint"] else ("dataset",)), "settings"):
        different = _difference(name, was[name], now[name])
        if different:
            raise OtherStudyError(f"The study {study_id} is another one: {different}. {way_out}")


def _difference(name: str, was: Any, now: Any) -> str:
    """Return the first difference in words, by dotted name; nothing if there is none.

    Names have an order: that of a space is the order of a grid.
    """
    if json.dumps(was) == json.dumps(now):
        return ""
    if isinstance(was, dict) and isinstance(now, dict):
        for key in {**was, **now}:
            found = _difference(f"{name}.{key}", was.get(key), now.get(key))
            if found:
                return found
        was, now = list(was), list(now)
    return f"{name.removeprefix('settings.')} was {was!r} and is {now!r}"


@contextmanager
def open_study(
    output: Path,
    identity: StudyIdentity,
    *,
    resume: str | None,
    command: Sequence[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[StudyFolder]:
    """Make the folder of a new study, or go on with an unfinished one; nobody else works on it meanwhile.

    When the block succeeds the study has come to its end. When it fails, `say` is told how to go on, unless that would
    fail again, or the folder goes again if nothing has been recorded in it.

    Parameters
    ----------
    output
        Where reports go; the records of studies are in :data:`RECORDS` in it.
    resume
        As of :func:`_find_study`.
    command
        The command that starts the study, kept for whoever wants to go on with it.

    Raises
    ------
    StudyLockedError
        If another process works on the study.
    StudyError, OtherStudyError
        As of :func:`_find_study`.
    """
    folder = _find_study(output, identity, resume)
    if folder is None:
        _hint(output, identity, resume, say)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = StudyFolder(_unused(output / RECORDS / f"{identity.name}-{identity.dataset}-{stamp}"))
        known = {"coldray": __version__, **identity.plain(), "started": time.time(), "command": list(command)}
    else:
        known = {name: value for name, value in folder.manifest().items() if name != "failed"}
        say(f"going on with {folder.id}, begun {time.strftime('%Y-%m-%d %H:%M', time.localtime(known['started']))}")
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not folder.resumed:
            folder.write(known)
        try:
            yield folder
        except BaseException as error:
            if any(folder.path.glob(f"**/{EVENTS}")):
                if _would_fail_again(error):
                    folder.write({**known, "failed": str(error)})
                    say("what was done is kept, but --resume would fail again: correct the data or the settings first")
                else:
                    say(f"what was done is kept; to go on: {resume_command(known, folder.id)}")
            else:
                shutil.rmtree(folder.path, ignore_errors=True)
                with suppress(OSError):  # other studies have their records there
                    folder.path.parent.rmdir()
            raise
        folder.write({**known, "finished": time.time()})


def resume_command(manifest: Mapping[str, Any], study: str) -> str:
    """Return what goes on with a study as it is typed into a shell: the words of its command are quoted already.

    For one that was started in Python it is the call, which goes on unless it is told otherwise.
    """
    command = list(manifest.get("command", ()))
    if len(command) == 1 and command[0].endswith("(…)"):
        return f"{command[0]} with the same arguments"
    return " ".join([*command, "--resume", shlex.quote(study)])


def _would_fail_again(error: BaseException | None) -> bool:
    """Return whether a study that goes on would end in the same error.

    So it is if the data or the settings are at fault, which cannot change in a study that goes on, or if all that it
    tried has failed, which is not tried again.
    """
    while error is not None:
        if isinstance(error, DataError | ConfigError | SelectionError):
            return True
        error = error.__cause__ or getattr(error, "cause", None)  # Ray has what its worker raised in the latter
    return False


def _unused(path: Path) -> Path:
    """Return `path`, with a number where two studies start in one second."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def _hint(output: Path, identity: StudyIdentity, resume: str | None, say: Callable[[str], None]) -> None:
    if resume is not None:
        say(f"no unfinished study {identity.name!r} on {identity.dataset!r} in {output}: a new one is started")
        return
    for folder, manifest in _unfinished_studies(output):
        try:
            _check_same(folder.id, manifest, identity.plain())
        except StudyError:
            continue
        if not folder.running() and "failed" not in manifest:
            say(f"{folder.id} is the same study and unfinished; --resume would go on with it. A new one is started")
        return


@contextmanager
def locked(folder: StudyFolder) -> Iterator[None]:
    """Let no other process work on a study meanwhile.

    Raises
    ------
    StudyLockedError
        If one does.
    StudyError
        If nobody can know.
    """
    with (folder.path / LOCK).open("a+", encoding="utf-8") as file:
        try:
            free = _lock(file)
        except OSError as error:
            raise StudyError(
                f"{folder.path / LOCK} cannot be locked ({error.strerror}), so a second process on the study would not "
                "be noticed. Choose an --output-dir on a file system with locks."
            ) from error
        if not free:
            file.seek(0)
            raise StudyLockedError(
                f"The study {folder.id} is being worked on by {file.read().strip() or 'another process'}. Wait for it, "
                "or stop it first."
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _lock(file: IO[str], *, shared: bool = False) -> bool:
    """Try to lock a file; return whether that worked. The lock goes with the process, or when the file is closed.

    Raises
    ------
    OSError
        If the file system has no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
