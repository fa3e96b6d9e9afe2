"""Small splits whose every fact is known, for the checks of data."""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp

from coldray.data.dataset import Dataset
from coldray.data.splits.assignment import PartAssignment

DAY = 86_400
NOON = 1_600_000_000


def planted_split(rows, *, ratings=True, times=True, unsorted=False, protocol="predefined", **changes):
    """Return the split of rows of user, item, rating, days after noon, and part; `unsorted` keeps repeated pairs."""
    users = sorted({row[0] for row in rows})
    items = sorted({row[1] for row in rows})
    order = sorted(range(len(rows)), key=lambda i: (rows[i][0], i if unsorted else rows[i][1]))
    rows = [rows[i] for i in order]
    indptr = np.cumsum([0, *(sum(row[0] == user for row in rows) for user in users)])
    indices = np.array([items.index(row[1]) for row in rows], np.int32)
    shape = (len(users), len(items))

    def matrix(values, dtype):
        return sp.csr_array((np.array(values, dtype), indices, indptr), shape=shape)

    dataset = Dataset(
        "planted",
        np.array(users),
        np.array(items),
        matrix([1] * len(rows), np.float32),
        {},
        ratings=matrix([row[2] for row in rows], np.float32) if ratings else None,
        timestamps=matrix([NOON + DAY * row[3] for row in rows], np.int64) if times else None,
    )
    return PartAssignment(dataset, np.array([row[4] for row in rows], np.uint8), protocol, "planted", **changes)


def with_kinds(split, weights=None, read=None):
    """Return a split whose ratings are the weights of events, with what the data tell of their kinds."""
    told = {"events": {"weights": weights, **({} if read is None else {"read": read})}} if weights else {}
    dataset = replace(split.dataset, events=split.dataset.ratings, ratings=None, provenance=told)
    return replace(split, dataset=dataset)
