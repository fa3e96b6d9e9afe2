"""An append-only file of JSON records, one a line, each with a checksum: what was written before a crash is kept."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coldray.core.errors import JournalError, OutputError

Record = dict[str, Any]
HEAD = b'{"crc": "%08x", '
"""How a line begins."""


class Journal:
    """Records in the order in which they were written.

    Each line is a JSON object, which begins with the CRC-32 of the others of its fields. A line that a crash or a full
    disk has cut off is the last one and has no end: it is dropped when the file is opened for writing. Several threads
    may append.

    Parameters
    ----------
    path
        The file; its folder is made when the first record is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._end: int | None = None

    def read(self) -> list[Record]:
        """Return all complete records; none if there is no file.

        Raises
        ------
        JournalError
            If a line that is not the last one has been changed since it was written.
        """
        return [record for record, _ in self._scan()]

    def append(self, record: Mapping[str, Any], *, durable: bool = False) -> None:
        """Write one record; with `durable` it outlives a loss of power, else the end of this process.

        Raises
        ------
        OutputError
            If it cannot be written, as when the disk is full; what was written before stays as it was.
        JournalError
            As :meth:`read`, at the first record.
        """
        fields = json.dumps(record, default=str)[1:].encode()
        line = HEAD % zlib.crc32(fields) + fields + b"\n"
        with self._lock:
            try:
                if self._end is None:
                    self._end = self._opened()
                with self.path.open("r+b", buffering=0) as file:
                    file.seek(self._end)
                    file.truncate()  # of a record that could not be written whole
                    written = 0
                    while written < len(line):  # a nearly full disk takes a part
                        written += file.write(line[written:])
                    if durable:
                        os.fsync(file.fileno())
                self._end += len(line)
            except OSError as error:
                raise OutputError(
                    f"Cannot write {self.path}: {error.strerror}. What was recorded before is kept; make room, then "
                    "resume."
                ) from error

    def _opened(self) -> int:
        """Make the file where there is none; return where the next record begins."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        ends = [end for _, end in self._scan()]
        return ends[-1] if ends else 0

    def _scan(self) -> Iterator[tuple[Record, int]]:
        """Yield each record with the place of its end in the file."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"Cannot read {self.path}: {error.strerror}.") from error
        end = 0
        *lines, _ = content.split(b"\n")  # what follows the last end of a line was cut off, or is nothing
        for number, line in enumerate(lines, start=1):
            end += len(line) + 1
            fields = line[len(HEAD % 0) :]
            if line != HEAD % zlib.crc32(fields) + fields:
                raise JournalError(
                    f"Line {number} of {self.path} is damaged: it is not what was written. Put back a copy of the "
                    "file, or delete the line: what it recorded is then done again, or is missing on the tracking "
                    "server; all other lines are kept."
                )
            yield json.loads(b"{" + fields), end
