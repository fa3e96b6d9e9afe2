"""Search among what items are called.

Each name is folded (case and accents are dropped) and cut into words, and all of them are one text with a line a name:
a search reads that text once, which takes a millisecond among 50,000 items, and there is nothing to be kept in order
when items come.

Notation used for shapes: I items.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_EXACT, _BEGINNING, _TOGETHER, _SCATTERED = range(4)
"""How well a name matches: it is what was sought, begins with it, has it somewhere, has its words here and there."""
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’ʼ`´")


def _folded(text: str) -> str:
    """Return the words of a text in lower case and without accents, a blank between them."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(part for part in parts if not unicodedata.combining(part))
    return " ".join(_WORD.findall(text.translate(_APOSTROPHES).lower()))


class NameIndex:
    """Names in the order of the items, ready to be searched."""

    def __init__(self, names: Sequence[str]) -> None:
        self._set([f" {_folded(name)}\n" for name in names])

    def _set(self, lines: list[str]) -> None:
        self._lines = lines
        self._text = "".join(["\n", *lines])
        self._ends = np.cumsum([len(line) for line in lines]) + 1

    def __len__(self) -> int:
        return len(self._lines)

    def extended(self, names: Sequence[str]) -> NameIndex:
        """Return an index that has more names, after the known ones."""
        if not names:
            return self
        extended = NameIndex(names)
        extended._set([*self._lines, *extended._lines])
        return extended

    def search(
        self, sought: str, popularity: npt.NDArray[Any], limit: int, *, allowed: npt.NDArray[np.bool_] | None = None
    ) -> list[int]:
        """Return the places of names in which each word that is sought begins a word, best first.

        Parameters
        ----------
        sought
            Words, of which none needs to be complete. Without any letter or digit nothing is found.
        popularity
            Of each item ``[I]``: it decides among names that match alike (see `_EXACT` and those after it).
        limit
            Names at most.
        allowed
            Items that may be found ``[I]``; all unless given.
        """
        words = _folded(sought)
        if not words:
            return []
        match = np.full(len(self._lines), _SCATTERED + 1, np.int8)
        for word in words.split():
            match[~self._having(f" {word}")] = -1
        together = ((_TOGETHER, f" {words}"), (_BEGINNING, f"\n {words}"), (_EXACT, f"\n {words}\n"))
        left = match > 0 if allowed is None else (match > 0) & allowed
        match[left] = _SCATTERED
        for kind, text in together:
            match[self._having(text)] = kind
        places = np.flatnonzero(left)
        order = np.lexsort((places, -popularity[places], match[places]))
        best: list[int] = places[order[:limit]].tolist()
        return best

    def _having(self, text: str) -> npt.NDArray[np.bool_]:
        """Return which lines have a text ``[I]``; one with a line break before it is in the line after that."""
        shift = int(text.startswith("\n"))
        # The line break that ends a match may begin the next one.
        pattern = re.escape(text.removesuffix("\n")) + ("(?=\n)" if text.endswith("\n") else "")
        starts = np.fromiter((match.start() for match in re.finditer(pattern, self._text)), np.intp)
        having = np.zeros(len(self._lines), np.bool_)
        having[np.searchsorted(self._ends, starts + shift, side="right")] = True
        return having
