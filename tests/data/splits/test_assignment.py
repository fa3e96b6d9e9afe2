"""Parts of published and of drawn splits, and of data that cannot be split."""

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError
from coldray.data.dataset import Dataset
from coldray.data.splits.assignment import _FOLDS, drawn_parts, published_parts
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.published import PredefinedSplit


def dataset(n_users=6, n_items=8, each=6, times=True):
    rows = np.repeat(np.arange(n_users), each)
    columns = np.concatenate(
        [np.sort(np.random.default_rng(user).permutation(n_items)[:each]) for user in range(n_users)]
    )
    shape = (n_users, n_items)
    clicks = sp.csr_array((np.ones(len(rows), np.float32), (rows, columns)), shape=shape)
    moments = sp.csr_array((1_000_000_000 + np.arange(len(rows)), (rows, columns)), shape=shape)
    return Dataset("small", np.arange(n_users), np.arange(n_items), clicks, {}, timestamps=moments if times else None)


def test_published_parts_keep_their_meaning():
    data = dataset()
    numbers = np.arange(36, dtype=np.uint8) % 3
    found = published_parts(PredefinedSplit(data, numbers, "fold 7"))
    assert np.array_equal(found.parts, numbers)
    assert (found.protocol, found.name, found.unsplit) == ("predefined", "fold 7", None)


def test_what_is_drawn_is_the_first_split_of_the_protocol():
    data = dataset()
    for protocol, n_splits in (("holdout", 1), ("temporal", 1), ("k-fold", _FOLDS)):
        expected = next(interaction_splits(data, protocol=protocol, n_splits=n_splits, seeds=(7,)))
        found = drawn_parts(data, protocol, seed=7)
        assert np.array_equal(found.parts, expected.parts)
        assert found.name == protocol


def test_the_last_is_held_out_where_there_are_times_and_a_random_share_where_there_are_none():
    assert drawn_parts(dataset()).protocol == "leave-last"
    assert drawn_parts(dataset(times=False)).protocol == "holdout"


def test_data_that_cannot_be_split_are_all_train_with_the_reason():
    found = drawn_parts(dataset(each=2))
    assert "has no interaction" in found.unsplit
    assert not found.parts.any()
    assert len(found.parts) == 12


def test_a_protocol_by_time_without_times_is_refused():
    with pytest.raises(ConfigError, match="has no timestamps"):
        drawn_parts(dataset(times=False), "temporal")
