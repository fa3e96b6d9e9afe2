"""What the items of a dataset are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

import numpy as np

from coldray.data.dataset import Attribute, LabelAttribute, TextAttribute


def _name_attribute(attributes: Mapping[str, Attribute]) -> str | None:
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
        self.attribute = _name_attribute(attributes)
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
