"""Whether the column of users is that of items: by what ids look like or, where they do not tell, by their numbers."""

from __future__ import annotations

import polars as pl

SWAPPED = "columns_swapped"
"""Where the provenance says that columns look swapped."""
SAMPLE = 1000
"""Rows whose ids are looked at."""
_MANY_ITEMS = 10
"""Items a user, from which columns look swapped: no shop has so many more of them."""
_USERS = (
    r"^(A[0-9A-Z]{10,30}|(?i:u|user|usr|customer|cust|member|reviewer|visitor|account|client)[-_ .:#]?(\d.*|(?i:id))?)$"
)
"""What ids of users look like, and names of their columns: Amazon's reviewers, ``u7``, ``customer_id``."""
_ITEMS = (
    r"^(B[0-9A-Z]{9}|[0-9]{9}[0-9X]|"
    r"(?i:i|item|product|prod|movie|film|book|song|track|artist|article|sku|asin|isbn)[-_ .:#]?(\d.*|(?i:id))?)$"
)
"""What those of items look like: Amazon's products (ASIN, ISBN), ``i7``, ``film-12``, ``movieId``."""


def ids_swapped(pairs: pl.DataFrame) -> bool | None:
    """Return whether most of the first rows (`user`, `item`) have the item first; None where ids do not tell."""
    users, items = (pairs[name].head(SAMPLE).cast(pl.String).str.strip_chars() for name in ("user", "item"))
    for first, second, swapped in ((_ITEMS, _USERS, True), (_USERS, _ITEMS, False)):
        if int((users.str.contains(first) & items.str.contains(second)).sum()) * 2 > len(users):
            return swapped
    return None


def swapped_note(pairs: pl.DataFrame, file: str, columns: tuple[str, str] = ("user", "item")) -> str | None:
    """Return a sentence if the columns of a table with a row a pair (`user`, `item`) look swapped.

    Parameters
    ----------
    columns
        What they are called in the file.
    """
    told = ids_swapped(pairs)
    users, items = pairs["user"].n_unique(), pairs["item"].n_unique()
    if told is None:
        named = ids_swapped(pl.DataFrame([columns], schema=["user", "item"], orient="row"))
        told = named or items >= _MANY_ITEMS * users > 0
    if told:
        first, second = (repr(str(pairs[name][0])) for name in ("user", "item"))
        return (
            f"{file}: {users:,} users, such as {first}, have {items:,} items, such as {second}: the columns of users "
            "and items look swapped."
        )
    return None
