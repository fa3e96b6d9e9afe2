"""Checks of small data in every shape that their reports can have."""

from dataclasses import replace
from functools import cache

import numpy as np
import scipy.sparse as sp

from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute, binary_matrix
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.assignment import PartAssignment, drawn_parts
from coldray.data.splits.positives import Positives
from coldray.experiments.data_check import DataCheck, check_split

HOSTILE = "<script>alert('x')</script> & [red]data[/red]"
SHAPES = (
    "plain",
    "published",
    "clicks",
    "one rating",
    "plays",
    "five parts",
    "unsplit",
    "no factors",
    "tiny",
    "even",
    "kinds",
    "contexts",
)


def build(
    *, name="planted", n_users=60, n_items=40, each=12, values=(1, 2, 3, 4, 5), times=True, years=1.0, seed=3
) -> Dataset:
    """Return a dataset of random clicks on items of uneven popularity."""
    generator = np.random.default_rng(seed)
    weights = 1 / np.arange(1, n_items + 1)
    rows = np.repeat(np.arange(n_users), each)
    columns = np.concatenate(
        [np.sort(generator.choice(n_items, each, replace=False, p=weights / weights.sum())) for _ in range(n_users)]
    )
    shape = (n_users, n_items)

    def matrix(data):
        return sp.csr_array((data, (rows, columns)), shape=shape)

    moments = 1_500_000_000 + generator.integers(0, round(years * 31_557_600), len(rows))
    return Dataset(
        name,
        np.arange(n_users),
        np.arange(n_items),
        matrix(np.ones(len(rows), np.float32)),
        {},
        ratings=matrix(generator.choice(np.array(values, np.float32), len(rows))) if values else None,
        timestamps=matrix(moments) if times else None,
    )


def with_contexts(data: Dataset) -> Dataset:
    """Return a dataset with contexts: half of the interactions by phone, a quarter on the web, the others unknown."""
    n = data.interactions.nnz
    known = np.flatnonzero(np.arange(n) % 4 != 3)
    labels = np.array([HOSTILE * 3, "web"])
    devices = binary_matrix(known, (known % 4 == 1).astype(int), (n, 2))
    heat = np.where(np.arange(n) % 2, np.nan, np.arange(n) / 8.0)
    context = {
        "device": LabelAttribute(devices, labels),
        f"heat {HOSTILE}": NumberAttribute(heat),
        "one": LabelAttribute(binary_matrix(np.arange(n), np.zeros(n, int), (n, 1)), np.array(["x"])),
        "asked": TextAttribute(tuple(f"text {row % 3}" for row in range(n))),
    }
    clicks = data.interactions
    rows = sp.csr_array((np.arange(n), clicks.indices, clicks.indptr), shape=clicks.shape)
    return replace(data, context=context, context_rows=rows)


@cache
def quality_check(shape: str = "plain") -> DataCheck:
    """Return the check of data of a shape."""
    options = {"n_factors": 6, "scale": (1.0, 5.0)}
    if shape == "published":  # hostile names, an empty validation part, leaks
        data = build(name=HOSTILE, years=8.0)
        parts = np.where(np.arange(data.interactions.nnz) % 4 == 0, 2, 0).astype(np.uint8)
        return check_split(PartAssignment(data, parts, "predefined", HOSTILE), **options)
    if shape == "clicks":
        return check_split(drawn_parts(sample_dataset(0, 80, 60)), n_factors=6)
    if shape == "contexts":  # of a long, hostile name and label, of one value, of numbers
        return check_split(drawn_parts(with_contexts(build(n_users=24))), n_factors=6)
    if shape == "plays":
        data = build(values=tuple(np.geomspace(1, 400_000, 60)), times=False)
        return check_split(drawn_parts(data), n_factors=6)
    if shape == "kinds":  # of three kinds, one of them hostile, with a rule of what is to be found
        data = build()
        weights = np.where(data.ratings.data > 4, 5, np.where(data.ratings.data > 2, 2, 1)).astype(np.float32)
        told = {"weights": {"buy": 5.0, HOSTILE: 2.0, "view": 1.0}, "read": {"buy": 200, HOSTILE: 9_000, "view": 1}}
        events = sp.csr_array((weights, data.interactions.indices, data.interactions.indptr), data.interactions.shape)
        split = drawn_parts(replace(data, events=events, provenance={"events": told}))
        return check_split(split, positives=Positives(rating=">=4"), **options)
    if shape == "tiny":
        data = build(n_users=3, n_items=4, each=3, years=0.01)
        return check_split(drawn_parts(data), n_factors=1)
    kinds = {
        "one rating": {"values": (4,)},
        "unsplit": {"each": 2, "years": 40.0},
        "no factors": {"n_users": 1},
        "even": {"n_items": 12},
    }
    protocol = "user-holdout" if shape == "five parts" else None
    return check_split(drawn_parts(build(**kinds.get(shape, {})), protocol), **options)
