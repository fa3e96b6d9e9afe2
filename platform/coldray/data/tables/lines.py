"""Bytes and lines of text files, unpacked where they are gzipped or packed by zstd, and counted."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, cast

import numpy as np
import pyarrow as pa

from coldray.core.errors import DataFileError, EmptyDatasetError
from coldray.data.tables.encodings import refuse_encoding

SEPARATORS = (",", "\t", ";", "|")
"""What is tried where the separator of the file's name gives no column that is asked for."""
_PIECE = 1 << 22
"""Bytes looked at at a time."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""First bytes of what is unpacked."""


def suffix(path: Path) -> str:
    """Return the ending of a name in lower case: the one before ``.gz`` or ``.zst`` where it ends so."""
    return Path(re.sub(r"\.(gz|zst)$", "", path.name.lower())).suffix


class LineCounts:
    """What is counted in a pass over the bytes of a file, which is UTF-8 throughout.

    Raises
    ------
    DataFileError
        If the file cannot be read, or is not UTF-8; the encoding is named, with the line.
    EmptyDatasetError
        If there is nothing in it.
    """

    def __init__(self, path: Path) -> None:
        self.lines = self.quotes = 0
        self.separators = dict.fromkeys((*SEPARATORS, ":"), 0)
        self.blank: list[int] = []
        self.old_mac = False
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._last = -1  # place of the last line end in the file
        self._size = 0
        self._tail = b"\n"
        self._returns = 0
        with opened(path) as stream:
            while piece := stream.read(_PIECE):
                self._add(piece, path)
        self._end(path)

    def _add(self, piece: bytes, path: Path) -> None:
        if b"\0" in piece or not self._size:
            refuse_encoding(piece, self.lines, path)
        if not piece.isascii() or self._decoder.getstate()[0]:
            try:
                self._decoder.decode(piece)
            except UnicodeDecodeError as error:
                refuse_encoding(piece, self.lines, path, error)
        for separator in self.separators:
            self.separators[separator] += piece.count(separator.encode())
        self.quotes += piece.count(b'"')
        self._returns += piece.count(b"\r")
        self._note_lines(piece)
        self._size += len(piece)
        self._tail = piece[-1:]

    def _note_lines(self, piece: bytes) -> None:
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))
        before = np.concatenate([[self._last - self._size], ends[:-1]]) if len(ends) else ends
        short = np.flatnonzero(ends - before <= 2)  # nothing, or a carriage return alone
        for place in short.tolist():
            start, end = int(before[place]) + 1, int(ends[place])
            inside = piece[max(start, 0) : end] if start >= 0 else self._tail[start:] + piece[:end]
            if not inside.strip(b"\r"):
                self.blank.append(self.lines + place + 1)
        self.lines += len(ends)
        if len(ends):
            self._last = self._size + int(ends[-1])

    def _end(self, path: Path) -> None:
        """Take in the last line, which may have no end."""
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            refuse_encoding(b"", self.lines, path, error)
        if not self._size:
            raise EmptyDatasetError(f"{path.name} in {path.parent} is empty: nothing to learn from.")
        self.old_mac = self._returns > 0 and not self.lines
        if self._last != self._size - 1:
            self.lines += 1


def first_fields(path: Path, separator: str) -> list[str]:
    """Return the fields of the first line of a file that is not blank; errors as in :class:`LineCounts`."""
    with opened(path) as stream:
        start = stream.read(_PIECE)
    refuse_encoding(start, 0, path)
    if not start.strip():
        raise EmptyDatasetError(f"{path.name} in {path.parent} is empty: nothing to learn from.")
    line = start.lstrip(b"\r\n").splitlines()[0].decode("utf-8-sig", errors="replace")
    return divided(line, separator)


def divided(line: str, separator: str) -> list[str]:
    """Return the fields of a line: as RFC 4180 has them, or where a quote is in the way as they are."""
    try:
        return next(csv.reader([line], delimiter=separator, strict=True))
    except (csv.Error, StopIteration):
        return line.split(separator)


def first_line(path: Path) -> tuple[int, str]:
    """Return the number and the text of the first line that is not blank, 1 and nothing if all are."""
    with text_lines(path) as lines:
        for number, text in enumerate(lines, 1):
            if text.strip():
                return number, text.rstrip("\r\n")
    return 1, ""


@contextmanager
def text_lines(path: Path, after: int = 0) -> Iterator[Iterator[str]]:
    """Open the lines of a file that is UTF-8 but for the first `after`.

    They end with line feeds, or with carriage returns where there is no line feed.
    """
    with opened(path) as stream:
        start = stream.read(_PIECE)
    end = b"\r" if b"\n" not in start and b"\r" in start else b"\n"
    with opened(path) as stream:
        lines = (line.decode("utf-8" if number else "utf-8-sig") for number, line in enumerate(_split(stream, end)))
        yield islice(lines, after, None)


def _split(stream: IO[bytes], end: bytes) -> Iterator[bytes]:
    if end == b"\n":
        yield from stream
        return
    rest = b""
    while piece := stream.read(_PIECE):
        *whole, rest = (rest + piece).split(end)
        yield from (line + end for line in whole)
    if rest:
        yield rest


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a file, unpacked if it is packed by gzip or zstd, whatever its name says."""
    try:
        with path.open("rb") as plain:
            start = plain.read(len(_ZSTD))
            plain.seek(0)
            if start == _ZSTD:
                with pa.CompressedInputStream(plain, "zstd") as stream:
                    yield cast("IO[bytes]", io.BufferedReader(stream, _PIECE))
            elif start.startswith(_GZIP):
                with gzip.open(plain) as unpacked:
                    yield cast("IO[bytes]", unpacked)
            else:
                yield plain
    except (OSError, EOFError, zlib.error) as error:
        raise DataFileError(f"{path} cannot be read: {error}") from error
