"""The folder of lists: what they were made by and from, which partitions are finished, and nobody else at work in it.

::

    manifest.json        the run: model, length of a list, filters, checksums of the histories
    part-00000.parquet   the lists of the users of a partition; complete or absent
    summary.json         counts over all partitions, once all are finished
    .histories/          the histories by partition, until then
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from coldray.core.errors import OutputError
from coldray.core.files import check_writable, replacing
from coldray.data.tables.histories import partition_file
from coldray.serving.batch.lists import Counts

MANIFEST, _SUMMARY, _LOCK, _PARTITIONED = "manifest.json", "summary.json", ".lock", ".histories"
_RUN_KEY, _COUNTS_KEY = b"coldray.run", b"coldray.counts"
"""Names under which the footer of a part says what run it is of, and what is in it."""


class BatchRun(BaseModel):
    """What lists are made by and from: lists of two runs are never in one folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    model: str
    """Name and version, for messages."""
    fingerprint: str
    """Of the model's bundle."""
    k: int
    exclude_seen: bool
    candidates: str
    """Which items may be listed; a checksum of those named."""
    histories: dict[str, str]
    """SHA-256 of each file by its name."""
    columns: tuple[str, ...]
    partitions: int

    @property
    def key(self) -> str:
        """The run in a few letters."""
        facts = self.model_dump_json(exclude={"model"})
        return hashlib.sha256(facts.encode()).hexdigest()[:32]

    def differences(self, other: BatchRun) -> list[str]:
        """Return how this run differs from another one, which came before."""
        found = []
        for name in type(self).model_fields:
            here, there = getattr(self, name), getattr(other, name)
            if here == there or name == "model":
                continue
            if name == "fingerprint":
                found.append(f"the model is {self.model} ({here[:8]}), was {other.model} ({there[:8]})")
            elif name == "histories":
                found.append(f"the histories are other ones ({_changed(here, there)})")
            else:
                found.append(f"{name} is {here!r}, was {there!r}")
        return found


class ListsFolder:
    """A folder that lists are written to, by one process at a time, and gone on with after a loss of it."""

    def __init__(self, folder: Path, run: BatchRun) -> None:
        self.folder, self.run = folder, run

    @property
    def partitioned(self) -> Path:
        """Where the histories are by partition, until all lists are made."""
        return self.folder / _PARTITIONED

    def begin(self) -> dict[int, Counts]:
        """Claim the folder for the run; return the counts of the partitions that an earlier attempt has finished.

        What an attempt that was lost has left half-written is removed. A part that is damaged counts as not finished.

        Raises
        ------
        OutputError
            If it holds lists of another run, or files of something else.
        """
        manifest = self.folder / MANIFEST
        for leftover in (*self.folder.glob(".part-*"), *self.folder.glob(f"{_PARTITIONED}.*")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        if manifest.exists():
            self._check(manifest)
            numbers = range(self.run.partitions)
            found = {number: _counts_of(partition_file(self.folder, number), self.run.key) for number in numbers}
            return {number: counts for number, counts in found.items() if counts is not None}
        others = sorted(path.name for path in self.folder.iterdir() if path.name != _LOCK)
        if others:
            raise OutputError(
                f"{self.folder} holds {others[0]!r} and no {MANIFEST}: it is no folder of lists. Choose a new one."
            )
        with replacing(manifest) as temporary:
            temporary.write_text(self.run.model_dump_json(indent=2), encoding="utf-8")
        return {}

    def end(self, counts: Counts, form: str) -> None:
        """Say that all partitions are finished and in which form lists were found, and remove the histories."""
        facts = {**asdict(counts), "partitions": self.run.partitions, "lists": form}
        with replacing(self.folder / _SUMMARY) as temporary:
            temporary.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(self.partitioned, ignore_errors=True)

    def _check(self, manifest: Path) -> None:
        try:
            before = BatchRun.model_validate_json(manifest.read_text(encoding="utf-8"))
        except (OSError, ValidationError) as error:
            raise OutputError(
                f"{manifest} cannot be read, so nobody knows what the lists beside it are of ({error}). Choose another "
                "folder, or delete this one."
            ) from error
        if differences := self.run.differences(before):
            raise OutputError(
                f"{self.folder} holds lists of another run: {'; '.join(differences)}. Choose another folder, or delete "
                "this one to make all lists anew."
            )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from working in a folder, which is made, during the block; a lost one holds no lock.

    Raises
    ------
    OutputError
        If another process works in it, or it cannot be written.
    """
    check_writable(folder)
    with (folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"Another process makes lists in {folder}. Wait for it, end it, or choose another folder."
            ) from error
        yield


def write_part(folder: ListsFolder, number: int, lists: Iterable[pl.DataFrame], counts: Counts) -> None:
    """Write the lists of a partition, completely or not at all, and hold no more than one of the tables at a time.

    Parameters
    ----------
    lists
        Tables of one schema, at least one.
    counts
        Complete once `lists` are.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    with replacing(partition_file(folder.folder, number)) as temporary:
        writer = None
        try:
            for table in lists:
                rows = table.to_arrow()
                writer = writer or pq.ParquetWriter(temporary, rows.schema)
                writer.write_table(rows)
            if writer is None:
                raise TypeError("A partition without a table has no schema.")
            writer.add_key_value_metadata({_RUN_KEY: folder.run.key, _COUNTS_KEY: json.dumps(asdict(counts))})
        finally:
            if writer is not None:
                writer.close()


def _counts_of(part: Path, key: str) -> Counts | None:
    """Return what the footer of a part says is in it; None if the part is absent, damaged or of another run."""
    try:
        footer: Mapping[bytes, bytes] = pq.read_metadata(part).metadata or {}
        if footer.get(_RUN_KEY) != key.encode():
            return None
        counts: dict[str, Any] = json.loads(footer[_COUNTS_KEY])
        return Counts(**{field.name: int(counts[field.name]) for field in fields(Counts)})
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None


def _changed(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """Return which files differ, the first of them by name."""
    names = sorted(name for name in {*here, *there} if here.get(name) != there.get(name))
    what = "is new" if names[0] not in there else "is gone" if names[0] not in here else "has changed"
    return f"{names[0]} {what}" + (f", and {len(names) - 1} more files" if len(names) > 1 else "")
