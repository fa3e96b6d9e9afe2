"""The field's cold split: how it is drawn, what its folds show, and that a study sees nothing of its test."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import EmptyDatasetError, LeakageError
from coldray.data.dataset import Dataset, binary_matrix, rows_of
from coldray.data.splits.parts import TEST, TRAIN, VALIDATION
from coldray.data.splits.recsys_cold import recsys_cold_splits
from data.canary import canary_dataset


def split_of(dataset, seed=3, **fields):
    return next(recsys_cold_splits(dataset, seeds=(seed,), **fields))


def pairs(matrix):
    return set(zip(rows_of(matrix).tolist(), matrix.indices.tolist(), strict=True))


def of_part(split, part):
    clicks = split.dataset.interactions
    inside = split.parts == part
    return set(zip(rows_of(clicks)[inside].tolist(), clicks.indices[inside].tolist(), strict=True))


@given(st.integers(0, 2**32 - 1), st.integers(15, 60), st.integers(5, 40))
def test_the_shares_are_those_of_the_protocol_and_nobody_is_unknown(seed, n_items, n_users):
    split = split_of(canary_dataset(n_items, n_users), seed)
    cold = {part: set(items.tolist()) for part, items in split.cold.items()}
    n_cold = n_items - int(0.8 * n_items)
    assert (len(cold[VALIDATION]), len(cold[TEST])) == (n_cold // 2, n_cold - n_cold // 2)
    assert not cold[VALIDATION] & cold[TEST]
    train, validation, test = (of_part(split, part) for part in (TRAIN, VALIDATION, TEST))
    assert train | validation | test == pairs(split.dataset.interactions)
    assert {item for _, item in train}.isdisjoint(cold[VALIDATION] | cold[TEST])
    warm = [
        {pair for pair in held_out if pair[1] not in cold[VALIDATION] | cold[TEST]} for held_out in (validation, test)
    ]
    for part, held_out, other in ((VALIDATION, validation, TEST), (TEST, test, VALIDATION)):
        assert {item for _, item in held_out if item in cold[part] | cold[other]} == cold[part]
    drawn = int(0.1 * (len(train) + len(warm[0]) + len(warm[1])))
    assert all(0 < len(held_out) <= drawn for held_out in warm)
    for side in (0, 1):  # of warm clicks, no user and no item is without a train click
        known = {pair[side] for pair in train}
        assert all(pair[side] in known for held_out in warm for pair in held_out)


def test_where_everybody_clicks_much_a_tenth_is_held_out_to_the_click():
    dense = np.ones((40, 50), bool)
    users, items = np.nonzero(dense)
    split = split_of(Dataset("dense", np.arange(40), np.arange(50), binary_matrix(users, items, dense.shape), {}))
    counts = split.counts()
    assert (counts["warm_items"], counts["validation_items"], counts["test_items"]) == (40, 5, 5)
    assert counts["train_interactions"] == 1600 - 2 * 160
    assert counts["validation_interactions"] == counts["test_interactions"] == 160 + 200


def test_the_test_learns_from_train_alone_and_does_not_rank_what_validates():
    split = split_of(canary_dataset())
    fold = split.test_fold
    assert fold.is_mixed
    assert pairs(fold.train) == of_part(split, TRAIN)
    assert pairs(fold.held_out) == of_part(split, TEST)
    assert pairs(fold.unranked) == of_part(split, VALIDATION)
    assert set(fold.cold_items.tolist()) == {*split.cold[VALIDATION].tolist(), *split.cold[TEST].tolist()}
    assert fold.given is None


def test_a_study_sees_no_id_no_label_and_no_click_of_the_test():
    dataset = canary_dataset()
    split = split_of(dataset)
    visible = split.for_tuning()
    fold, hidden = visible.fold, set(dataset.item_ids[split.cold[TEST]].tolist())
    assert hidden.isdisjoint(visible.dataset.item_ids.tolist())
    assert hidden.isdisjoint(visible.dataset.attributes["own"].labels.tolist())
    assert fold.unranked is None
    ids = visible.dataset.item_ids
    assert {(u, ids[i]) for u, i in pairs(fold.train)} == {(u, dataset.item_ids[i]) for u, i in of_part(split, TRAIN)}
    named = {(u, dataset.item_ids[i]) for u, i in of_part(split, VALIDATION)}
    assert {(u, ids[i]) for u, i in pairs(fold.held_out)} == named
    assert ids[fold.cold_items].tolist() == dataset.item_ids[split.cold[VALIDATION]].tolist()
    assert visible.dataset.interactions.nnz == len(of_part(split, TRAIN)) + len(of_part(split, VALIDATION))


def test_unclicked_items_are_dealt_to_no_part_and_change_none():
    dataset = canary_dataset()
    clicks = sp.csr_array(sp.hstack([dataset.interactions, sp.csr_array((dataset.n_users, 2))], format="csr"))
    more = Dataset("more", dataset.user_ids, np.array([*dataset.item_ids, "item-x", "item-y"]), clicks, {})
    ours, theirs = split_of(more), split_of(dataset)
    assert [items.tolist() for items in ours.cold.values()] == [items.tolist() for items in theirs.cold.values()]
    assert np.array_equal(ours.parts, theirs.parts)
    assert {"item-x", "item-y"} <= set(ours.for_tuning().dataset.item_ids.tolist())


def test_a_seed_and_a_number_give_the_same_split_and_others_another():
    dataset = canary_dataset()
    again = [split.parts.tolist() for split in recsys_cold_splits(dataset, n_splits=2, seeds=(3, 4))]
    assert len({tuple(parts) for parts in again}) == 4
    assert split_of(dataset).parts.tolist() == again[0]
    assert coldray.split(dataset, "recsys-cold", seed=3, number=1).parts.tolist() == again[1]


def test_bad_data_are_refused():
    dataset = canary_dataset()
    clicks = dataset.interactions
    doubled = sp.csr_array(
        (np.repeat(clicks.data, 2), np.repeat(clicks.indices, 2), clicks.indptr * 2), shape=clicks.shape
    )
    with pytest.raises(LeakageError, match="twice"):
        split_of(replace(dataset, interactions=doubled))
    few = Dataset("few", np.arange(3), np.arange(4), binary_matrix([0, 1, 2, 0], [0, 1, 2, 3], (3, 4)), {})
    with pytest.raises(EmptyDatasetError, match="the validation part has no click on a warm item"):
        split_of(few)
