"""Cells of labels, as files have them: lists, text divided by a separator, and lists written as text."""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Collection

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.tables.ids import BLANKS
from coldray.data.tables.numbers import MISSING, refuse_first

_BRACKETED = r"(?s)^\s*[\[{(].*[\]})]\s*$"
"""A text that may be a list: brackets around it."""
_CUT_OFF = r"""^\s*[\[{(]\s*['"]"""
"""How a list of quoted labels begins."""
_SHOWN = 4
"""Texts of a kind that a note shows."""
_OTHER_SEPARATORS = (";", ",")
"""What divides labels in many files; where a column has no separator, the first is taken for it and both are told."""
_QUOTED = r"""('[^']*'|"[^"]*")"""
_NUMPY_LIST = re.compile(rf"\[\s*{_QUOTED}(\s+{_QUOTED})+\s*\]")
"""Quoted labels with blanks between them, which Python would join."""


def listed(text: str) -> list[str] | None:
    """Return the labels of a list that is written as text; None if it is no list.

    JSON (``["x", "y"]``), Python (``['x', 'z']``, ``('x',)``, ``{'x'}``), numpy (``['x' 'y']``) and PostgreSQL
    (``{x,"y z"}``) are understood; null and None in it are no labels.
    """
    text = text.strip()
    if not re.match(_BRACKETED, text):
        return None
    if _NUMPY_LIST.fullmatch(text):
        return [one or other for one, other in re.findall(r"""'([^']*)'|"([^"]*)\"""", text)]
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
        return _strings(value)
    if text[0] == "{" and text[-1] == "}" and ":" not in text:
        return [label for label in next(csv.reader([text[1:-1]], skipinitialspace=True), []) if label != "NULL"]
    return None


def _strings(value: object) -> list[str] | None:
    """Return a list, tuple or set of plain values as text; None for anything else."""
    if not isinstance(value, list | tuple | set | frozenset):
        return None
    parts = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
    if any(not (part is None or isinstance(part, str | int | float)) for part in parts):
        return None
    return [str(part) for part in parts if part is not None]


def _is_list_text(text: str) -> bool:
    """Return whether a text is a list that nobody has taken apart: brackets around labels, or labels between ``;``."""
    bracketed = text.strip()[:1] == "[" and text.strip()[-1:] == "]"
    return bracketed or listed(text) is not None or re.search(r"[^;|\s]\s*[;|]\s*[^;|\s]", text) is not None


def refuse_list_text(value: object, known: Collection[str], name: str) -> None:
    """Refuse a label that is a list written as text, in the value of a new item, unless there is such a label.

    Raises
    ------
    DataFormatError
        With the way to write it.
    """
    for label in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(label, str) or label in known:
            continue
        if _is_list_text(label) if isinstance(value, str) else listed(label) is not None:
            raise DataFormatError(
                f'{name!r}: the label {label!r:.80} is a list written as text. Give labels as a list, ["x", "y"]; a '
                "label that is meant so, as a list of one."
            )


def label_lists(cells: pl.Series, separator: str, source: str, notes: list[str]) -> pl.Series:
    """Return cells as lists of labels.

    Raises
    ------
    DataFormatError
        If a cell has brackets around it that enclose no list of labels.
    """
    if isinstance(cells.dtype, pl.List | pl.Array):
        lists = cells.cast(pl.List(pl.String))
        parts = lists.explode().drop_nulls()
        _refuse_nested(parts, source)
        _tell_odd(parts, source, notes)
        return lists
    texts = (cells.fill_nan(None) if cells.dtype.is_float() else cells).cast(pl.String)
    distinct = texts.drop_nulls().unique(maintain_order=True)
    _tell_odd(texts.drop_nulls(), source, notes)
    bracketed = distinct.filter(distinct.str.contains(_BRACKETED))
    known = {text: labels for text in bracketed.to_list() if (labels := listed(text)) is not None}
    broken = bracketed.filter(bracketed.str.contains(r"^\s*[\[{]") & ~bracketed.is_in(list(known)))
    if len(broken):
        refuse_first(
            texts.is_in(broken.to_list()).fill_null(False), texts, source, "look like lists and are none",
            ' Write ["x", "y"], or labels divided by the separator.',
        )  # fmt: skip
    others = distinct.filter(~distinct.is_in(list(known)))
    divided = texts.str.split(_separator(others, separator, source, notes))
    if not known:
        return divided
    are = texts.is_in(list(known)).fill_null(False)
    notes.append(f"{source}: {int(are.sum()):,} values are lists written as text, read as lists.")
    table = pl.DataFrame(
        {"text": list(known), "labels": list(known.values())}, schema={"text": pl.String, "labels": pl.List(pl.String)}
    )
    taken = texts.to_frame("text").join(table, on="text", how="left", maintain_order="left")["labels"]
    return taken.zip_with(are, divided)


def first_labels(lists: pl.Series, most: int, source: str, notes: list[str]) -> pl.Series:
    """Return the first labels of each list, in its order, and tell how many are left out; blank ones count as none."""
    named = lists.list.eval(pl.element().str.strip_chars(BLANKS)).list.eval(pl.element().filter(pl.element() != ""))
    distinct = named.list.unique(maintain_order=True)
    kept = distinct.list.head(most)
    if left := int((distinct.list.len() - kept.list.len()).sum() or 0):
        notes.append(f"{source}: {left:,} labels beyond the first {most} of a row are left out.")
    return kept


def _separator(distinct: pl.Series, given: str, source: str, notes: list[str]) -> str:
    """Return what divides labels: `given`, or ``;`` where no cell has that one; tell what is guessed or left whole."""
    if distinct.str.contains(given, literal=True).any():
        whole = int(distinct.str.contains(";", literal=True).sum()) if given != ";" else 0
        if whole:
            notes.append(f"{source}: labels with ';' are taken whole, as {given!r} divides them ({whole:,} texts).")
        return given
    for sign in _OTHER_SEPARATORS:
        found = int(distinct.str.contains(rf"\S\s*\{sign}\s*\S").sum())
        if not found or sign == given:
            continue
        if sign == ";":
            notes.append(f"{source}: labels are divided by ';', as no text has {given!r} ({found:,} texts have ';').")
            return sign
        notes.append(
            f"{source}: {found:,} of {len(distinct):,} texts have {sign!r} and are taken whole; if it divides labels, "
            f"name it as the separator (--label-separator)."
        )
    return given


def _tell_odd(texts: pl.Series, source: str, notes: list[str]) -> None:
    """Tell which texts are labels though they stand for no value elsewhere, or begin like a list that is cut off."""
    absent = texts.str.strip_chars().str.to_lowercase().is_in(list(MISSING))
    cut = texts.str.contains(_CUT_OFF) & ~texts.str.contains(_BRACKETED)
    for odd, what in (
        (absent, "taken as a label like others"),
        (cut, "taken whole, though a list seems to be cut off"),
    ):
        if odd.any():
            seen = ", ".join(f"{text!r:.40}" for text in texts.filter(odd).unique().sort().head(_SHOWN).to_list())
            notes.append(f"{source}: {int(odd.sum()):,} values ({seen}) are {what}.")


def _refuse_nested(labels: pl.Series, source: str) -> None:
    """Refuse lists whose labels are lists written as text."""
    distinct = labels.unique(maintain_order=True)
    for text in distinct.filter(distinct.str.contains(r"^\s*[\[{]")).to_list():
        if listed(text) is not None:
            raise DataFormatError(f"{source}: a label of a list is a list itself, {text!r:.60}. Write one list.")
