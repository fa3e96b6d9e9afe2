"""Ids that requests name: which id of the data is meant, and what may be the id of something new.

A request may write a number as text and a text of digits as a number, as languages without whole numbers of 64 bits
have to. Both are one item, or one user, wherever it is looked up, counted or kept.
"""

from __future__ import annotations

import logging
import re

import polars as pl

from coldray.core.errors import DataFormatError
from coldray.data.dataset import Ids
from coldray.data.tables.ids import BLANKS
from coldray.serving.engine.queries import ItemId, UserId, plain

MAX_ID = 2_000
"""Characters of an id; percent-encoded in an address they take twelve times as many bytes at most."""
_FAULTS = {
    "is blank": f"^[{BLANKS}]*$",
    "begins or ends with a blank": f"^[{BLANKS}]|[{BLANKS}]$",
    "holds a control character or a line break": r"[\p{Cc}\p{Zl}\p{Zp}\x{FEFF}]",
    "is a step in an address, which clients leave out": r"^\.\.?$",
    f"has more than {MAX_ID:,} characters": rf"(?s)^.{{{MAX_ID + 1}}}",
}
"""What keeps an id from being named in every request, address and form, and the pattern of such ids."""
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,18}")
logger = logging.getLogger(__name__)


def whole_number(given: ItemId) -> ItemId:
    """Return text as a number if it is a whole number of 64 bits in its one usual form; all else as it is."""
    if isinstance(given, str) and _WHOLE.fullmatch(given) and -(2**63) <= int(given) < 2**63:
        return int(given)
    return given


def has_numbers(ids: Ids) -> bool:
    """Return whether ids of the data are numbers, not text."""
    return ids.dtype.kind in "iu"


def as_known(given: ItemId, *, numbers: bool) -> ItemId:
    """Return an id as the data have theirs: a number if those are, else text; text that is no number stays."""
    if numbers:
        return whole_number(given)
    return str(given) if isinstance(given, int) else given


def names_none(given: UserId, known: Ids) -> str | None:
    """Return why no user can have that id, theirs being of another type than all that are known; None if one can.

    Parameters
    ----------
    given
        As :func:`as_known` has it.
    known
        The ids of the data ``[U]``.
    """
    if has_numbers(known) and isinstance(given, str):
        return f"is no whole number of 64 bits, as the ids of users are, such as {plain(known[0])!r}"
    number = not has_numbers(known) and isinstance(whole_number(given), int)
    if number and not pl.Series(known.tolist(), dtype=pl.String).str.contains(r"^-?[0-9]+$").any():
        return f"is a number, and no user has such an id; theirs are text, such as {plain(known[0])!r:.80}"
    return None


def refuse_new_id(given: ItemId, field: str) -> None:
    """Refuse the id of something new that could not be named everywhere.

    Raises
    ------
    DataFormatError
        With the reason.
    """
    ids = pl.Series([str(given)], dtype=pl.String)
    for fault, pattern in _FAULTS.items():
        if ids.str.contains(pattern).all():
            raise DataFormatError(
                f"{field}: {given!r:.80} {fault}, and could not be named in every request. An id is a whole number of "
                f"64 bits, or text of 1 to {MAX_ID:,} characters in one line without blanks around it."
            )


def warn_of_odd_ids(ids: Ids, kind: str) -> None:
    """Tell in the log how many ids of the data cannot be named in every request, and show one."""
    if has_numbers(ids):
        return
    texts = pl.Series(ids.tolist(), dtype=pl.String)
    for fault, pattern in _FAULTS.items():
        odd = texts.filter(texts.str.contains(pattern))
        if len(odd):
            logger.warning(
                "%s %s ids are such that the id %s (%.80r): not every request can name them. They are listed all the "
                "same; give them other ids in the data.", f"{len(odd):,}", kind, fault, odd[0],
            )  # fmt: skip
