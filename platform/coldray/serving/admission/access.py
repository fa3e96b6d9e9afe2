"""Who may ask, and how often: keys that are shown once and kept as hashes.

A key is 32 random bytes, so that a plain SHA-256 of it tells nothing; a slow hash is for passwords.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from coldray.core.commands import called
from coldray.core.errors import ConfigError

_SCHEME = "sha256:"


@dataclass(frozen=True)
class KeyEntry:
    """What is kept of a key: one line ``NAME sha256:HASH [RATE]`` of a file."""

    name: str
    digest: bytes
    """SHA-256 of the key, 32 bytes."""
    per_second: float | None = None
    """Requests a second, of each replica; any number if None."""

    @classmethod
    def parse(cls, line: str) -> KeyEntry:
        """Read a line.

        Raises
        ------
        ConfigError
            If it is not of that form; the message does not repeat the hash.
        """
        name, hashed, rate, *more = [*line.split(), "", "", ""]
        digest, per_second = b"", None
        with suppress(ValueError):
            digest = bytes.fromhex(hashed.removeprefix(_SCHEME))
            per_second = float(rate) if rate else None
        limited = rate == "" or (per_second is not None and 0 < per_second < math.inf)
        if len(digest) != 32 or not hashed.startswith(_SCHEME) or not limited or any(more):
            raise ConfigError(
                f"The key {name!r} is not written as NAME {_SCHEME}HASH, with a number of requests a second behind it "
                f"if they are limited. `{called('serve')} --new-key NAME` prints such a line."
            )
        return cls(name, digest, per_second)

    @property
    def line(self) -> str:
        """The line that is read by :meth:`parse`."""
        rate = "" if self.per_second is None else f" {self.per_second:g}"
        return f"{self.name} {_SCHEME}{self.digest.hex()}{rate}"


def key_lines(text: str) -> tuple[str, ...]:
    """Return the lines of a file of keys, or those that an environment variable holds, parted by semicolons.

    Raises
    ------
    ConfigError
        If a line is not of the form of :class:`KeyEntry`, a name is there twice, or there is no line.
    """
    lines = tuple(
        line for raw in text.replace(";", "\n").splitlines() if (line := raw.strip()) and not line.startswith("#")
    )
    names = [KeyEntry.parse(line).name for line in lines]
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise ConfigError(f"There are two keys of the name {repeated[0]!r}; give each its own, to tell them apart.")
    if not lines:
        raise ConfigError(f"There is no key among the keys. `{called('serve')} --new-key NAME` makes one.")
    return lines


def read_keys(path: Path) -> tuple[str, ...]:
    """Return the lines of a file of keys.

    Raises
    ------
    ConfigError
        If it cannot be read, or as :func:`key_lines`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The keys in {path} cannot be read: {error}.") from error
    return key_lines(text)


def new_key(name: str, per_second: float | None = None) -> tuple[str, KeyEntry]:
    """Make a key; return it, to be shown once, and what is kept of it.

    Raises
    ------
    ConfigError
        If the name has a space in it or is empty, or the rate is no positive number.
    """
    key = secrets.token_urlsafe(32)
    entry = KeyEntry(name, hashlib.sha256(key.encode()).digest(), per_second)
    if name.startswith("#") or ";" in name or KeyEntry.parse(entry.line) != entry:
        raise ConfigError(f"A key cannot be named {name!r}; use one word.")
    return key, entry


class _TokenBucket:
    """As many requests a second as its rate, or as many at once after a second of silence; at least one."""

    def __init__(self, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = per_second, clock
        self._size = max(1.0, per_second)
        self._tokens, self._at = self._size, clock()

    def wait(self) -> float:
        """Take a token and return 0; or return the seconds until there is one."""
        now = self._clock()
        self._tokens = min(self._size, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate


class Keyring:
    """The keys of a service."""

    def __init__(self, entries: Iterable[KeyEntry], clock: Callable[[], float] = time.monotonic) -> None:
        self._entries = tuple(entries)
        self._buckets = [
            None if entry.per_second is None else _TokenBucket(entry.per_second, clock) for entry in self._entries
        ]

    def find(self, authorization: bytes) -> int | None:
        """Return the place of the key in the header ``Authorization: Bearer KEY``, or None if it is not there."""
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        digest = hashlib.sha256(key.strip()).digest()
        found = None
        for place, entry in enumerate(self._entries):  # all of them, so that time does not tell which
            if hmac.compare_digest(entry.digest, digest):
                found = place
        return found

    def wait(self, place: int) -> float:
        """Take one request off the rate of a key; return 0, or the seconds until it may ask again."""
        bucket = self._buckets[place]
        return 0.0 if bucket is None else bucket.wait()
