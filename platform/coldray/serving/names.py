"""Search among what items are called.

Each name is folded (case and accents are dropped) and cut into words, and all of them are one text with a line a name:
a search reads that text once, which takes a millisecond among 50,000 items, and there is nothing to be kept in order
when items come.

Notation used for shapes: I items.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from coldray.data.dataset import Attribute, LabelAttribute, TextAttribute

EXACT, BEGINNING, TOGETHER, SCATTERED = range(4)
"""How well a name matches: it is what was sought, begins with it, has it somewhere, has its words here and there."""
_WORD = re.compile(r"[^\W_]+")
_APOSTROPHES = str.maketrans("", "", "'’ʼ`´")


def name_attribute(attributes: Mapping[str, Attribute]) -> str | None:
    """Return the attribute that says what items are called; None if none does, and their ids have to do.

    That is the first text called title or name (or ending so, like artist_name); else labels so called of which no item
    has two; else the first text there is.
    """
    texts = [name for name, attribute in attributes.items() if isinstance(attribute, TextAttribute)]
    single = [
        name
        for name, attribute in attributes.items()
        if isinstance(attribute, LabelAttribute) and np.diff(attribute.matrix.indptr).max(initial=0) <= 1
    ]
    called = [name for name in (*texts, *single) if name.casefold().endswith(("title", "name"))]
    return next(iter((*called, *texts)), None)


class ItemNames(Sequence[str]):
    """What items are called, by index ``[I]``; one without a name is called by its id."""

    def __init__(self, attributes: Mapping[str, Attribute], ids: Sequence[Any]) -> None:
        self.attribute = name_attribute(attributes)
        """The attribute that says it."""
        self._values = None if self.attribute is None else attributes[self.attribute]
        self._ids = ids

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        """Return the name of an item, or of several."""
        if isinstance(place, slice):
            return [self[one] for one in range(len(self))[place]]
        name, values = "", self._values
        if isinstance(values, TextAttribute):
            name = values.texts[place].strip()
        elif isinstance(values, LabelAttribute):
            labels = values.matrix.indices[values.matrix.indptr[place] : values.matrix.indptr[place + 1]]
            name = str(values.labels[labels[0]]) if len(labels) else ""
        return name or str(self._ids[place])


def folded(text: str) -> str:
    """Return the words of a text in lower case and without accents, a blank between them."""
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text.casefold())
        text = "".join(part for part in parts if not unicodedata.combining(part))
    return " ".join(_WORD.findall(text.translate(_APOSTROPHES).lower()))


class NameIndex:
    """Names in the order of the items, ready to be searched."""

    def __init__(self, names: Sequence[str]) -> None:
        self._set([f" {folded(name)}\n" for name in names])

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
            Of each item ``[I]``: it decides among names that match alike (see `EXACT` and those after it).
        limit
            Names at most.
        allowed
            Items that may be found ``[I]``; all unless given.
        """
        words = folded(sought)
        if not words:
            return []
        match = np.full(len(self._lines), SCATTERED + 1, np.int8)
        for word in words.split():
            match[~self._having(f" {word}")] = -1
        together = ((TOGETHER, f" {words}"), (BEGINNING, f"\n {words}"), (EXACT, f"\n {words}\n"))
        left = match > 0 if allowed is None else (match > 0) & allowed
        match[left] = SCATTERED
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
