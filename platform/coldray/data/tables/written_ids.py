"""Ids as files have them: blanks around them left out, and ids told that stand for none."""

from __future__ import annotations

import polars as pl

from coldray.data.tables.numbers import MISSING, refuse_first

WHOLE = r"^-?[0-9]+(\.0+)?$"
BLANKS = "".join(chr(code) for code in range(0x10000) if chr(code).isspace()) + "\u200b\u2060\ufeff"
"""Blanks of all kinds, those without a width too, such as the mark that begins a file and lies inside of two joined."""


def written_ids(ids: pl.Series, source: str, notes: list[str]) -> pl.Series:
    """Return ids without blanks around them; what is left out is noted, and how many ids become one by it.

    Raises
    ------
    DataFormatError
        If an id is a word for a missing one, such as ``nan``, where all others are numbers.
    """
    if ids.dtype not in (pl.String, pl.Categorical, pl.Enum):
        return ids
    texts = ids.cast(pl.String)
    stripped = texts.str.strip_chars(BLANKS)
    changed = (stripped != texts).fill_null(False)
    if changed.any():
        fewer = texts.n_unique() - stripped.n_unique()
        merged = f"; {fewer:,} ids become one with another" if fewer else ""
        notes.append(f"{source}: blanks around {int(changed.sum()):,} ids are left out{merged}.")
    absent = stripped.str.to_lowercase().is_in(list(MISSING)).fill_null(False)
    if absent.any():
        others = stripped.filter(~absent & stripped.is_not_null() & (stripped != ""))
        if others.str.contains(WHOLE).all():
            refuse_first(
                absent, stripped, source, "stand for no id, among ids that are numbers", " Leave the rows out."
            )
        seen = ", ".join(repr(word) for word in stripped.filter(absent).unique().sort().head(4).to_list())
        notes.append(f"{source}: {int(absent.sum()):,} rows have the id {seen}, which is taken as an id like others.")
    return stripped
