"""Who is whose friend, as labels of users."""

from __future__ import annotations

import polars as pl


def friend_lists(edges: pl.DataFrame) -> pl.DataFrame:
    """Return the labels of each user: themselves and their friends, so that two friends have a label in common.

    So have two with a friend in common. Friends are so from either side, whichever the rows tell.

    Parameters
    ----------
    edges
        A row a friendship: `user` and `friend`, ids of one type.

    Returns
    -------
    pl.DataFrame
        A row a user: `item`, the id, and the labels as texts, ``attribute friends``.
    """
    both = ("user", "friend")
    sides = pl.concat([edges.select(item=one, label=other) for one in both for other in both])
    labels = pl.col("label").cast(pl.String).alias("attribute friends")
    return sides.unique().sort("item", "label").group_by("item", maintain_order=True).agg(labels)
