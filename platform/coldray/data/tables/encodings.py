"""Which encoding a text file has that is not UTF-8, by its first bytes or by those that are no UTF-8."""

from __future__ import annotations

import codecs
from pathlib import Path

from coldray.core.errors import DataFileError

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""Byte order marks; those of UTF-32 come first, as one of UTF-16 begins like it."""
_PACKED = {
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"PAR1": "parquet",
    b"BZh": "packed by bzip2",
    b"\xfd7zXZ\x00": "packed by xz",
}
"""First bytes of what is no text."""


def refuse_encoding(piece: bytes, lines: int, path: Path, error: UnicodeDecodeError | None = None) -> None:
    """Raise :class:`DataFileError` if a piece of a file is not UTF-8, with the line and the encoding it seems to be in.

    Parameters
    ----------
    piece
        Bytes of the file, from its start if `lines` is 0 and there is no `error`.
    lines
        Lines before the piece.
    error
        What decoding the piece as UTF-8 raised.
    """
    if error is None:
        for mark, name in _MARKS.items():
            if piece.startswith(mark):
                raise _refusal(path, 1, name)
        for mark, what in _PACKED.items():
            if piece.startswith(mark):
                out = "Unpack it, or pack it by zstd." if what.startswith("packed") else "Name the file by what it is."
                raise DataFileError(f"{path} cannot be read: it is {what}, not delimited text. {out}")
        if b"\0" not in piece:
            return
        place = piece.index(b"\0")
        line = lines + piece.count(b"\n", 0, place) + 1
        # A character of two bytes has a zero beside each letter of ASCII.
        if min(len(piece), 1000) <= 3 * piece[:1000].count(b"\0") + 2:
            raise _refusal(path, line, "UTF-16")
        raise DataFileError(
            f"{path} cannot be read, line {line:,}: a zero byte, which no text has. Write the file anew."
        )
    start = error.start  # in what was decoded, which may begin with bytes of the piece before
    line = lines + error.object.count(b"\n", 0, start) + 1
    raise _refusal(path, line, "latin-1 (ISO-8859-1) or Windows-1252", error.object[start : start + 1])


def _refusal(path: Path, line: int, name: str, byte: bytes = b"") -> DataFileError:
    seen = f" (byte 0x{byte.hex()})" if byte else ""
    code = "WINDOWS-1252" if name.startswith("latin") else name.upper()
    return DataFileError(
        f"{path} cannot be read, line {line:,}: not UTF-8 but {name}, it seems{seen}. Write it as UTF-8: "
        f"iconv -f {code} -t UTF-8 FILE > NEW."
    )
