"""A dataset in which every item can be told by what nobody but it has: what is not to be seen is searched for."""

import numpy as np

from coldray.data.dataset import Dataset, LabelAttribute, TextAttribute, binary_matrix


def canary_dataset(n_items=40, n_users=30) -> Dataset:
    """Every item has a click, a label, a text and an id that are its own."""
    rng = np.random.default_rng(0)
    users = np.concatenate([rng.integers(0, n_users, n_items), rng.integers(0, n_users, 200)])
    items = np.concatenate([np.arange(n_items), rng.integers(0, n_items, 200)])
    names = np.array([f"item-{i:03d}" for i in range(n_items)])
    own = binary_matrix(np.arange(n_items), np.arange(n_items), (n_items, n_items))
    attributes = {"own": LabelAttribute(own, names), "title": TextAttribute(tuple(f"about {n}" for n in names))}
    return Dataset("canary", np.arange(n_users), names, binary_matrix(users, items, (n_users, n_items)), attributes)
