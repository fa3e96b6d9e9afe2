"""Warming: which clicks become known and when, and that a study sees nothing of its test."""

from dataclasses import fields, replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, EmptyDatasetError, LeakageError
from coldray.data.dataset import Dataset, LabelAttribute, binary_matrix, rows_of
from coldray.data.splits.items import cold_item_splits
from coldray.data.splits.parts import TEST, TRAIN, VALIDATION
from coldray.data.splits.warming import WARMING_CLICKS, warming_splits
from data.canary import canary_dataset

PROTOCOLS = ("item-warming", "user-warming", "user-cold")


def timed(dataset, seed=0, latest=40) -> Dataset:
    """Return the dataset with times, of which many are the same."""
    clicks = dataset.interactions
    times = np.random.default_rng(seed).integers(0, latest, clicks.nnz)
    return replace(dataset, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))


def split_of(dataset, protocol="item-warming", **fields):
    fields = {"seeds": (3,), "clicks": (0, 1, 3), **fields}
    return next(warming_splits(dataset, protocol=protocol, **fields))


def pairs(matrix):
    return set(zip(rows_of(matrix).tolist(), matrix.indices.tolist(), strict=True))


def group_of(pair, split):
    return pair[0] if split.of_users else pair[1]


@pytest.mark.parametrize("number", [0, 1])
def test_with_no_warm_click_held_out_it_begins_as_the_cold_item_split(number):
    """To the last bit: the clicks that models learn from, those to be found, and all that is known of items."""
    dataset = canary_dataset()
    cold = list(cold_item_splits(dataset, n_splits=2, seed=3))[number]
    ours = list(warming_splits(dataset, protocol="item-warming", n_splits=2, seeds=(3,), warm_share=0))[number]
    pair = ((ours.for_tuning().fold, cold.for_tuning().fold), (ours.test_fold, cold.test_fold))
    for found, expected in pair:
        assert (found.train != expected.train).nnz == 0
        assert found.train.nnz == expected.train.nnz
        assert pairs(found.held_out) == pairs(expected.held_out)
        assert found.cold_items.tolist() == expected.cold_items.tolist()
        assert found.given is None
        assert found.name == expected.name
    assert pair[0][0].dataset.fingerprint == pair[0][1].dataset.fingerprint
    assert ours.for_tuning().fold.warming.competing.tolist() == list(range(cold.for_tuning().dataset.n_items))
    assert ours.test_fold.warming.competing.tolist() == sorted([*cold.train_items, *cold.test_items])


@given(st.integers(0, 2**32 - 1), st.sampled_from(PROTOCOLS), st.booleans())
def test_the_first_clicks_become_known_and_the_later_ones_are_to_be_found(seed, protocol, has_times):
    """An independent count: of each cold item, or user, the n earliest, none twice and none lost."""
    dataset = timed(canary_dataset(24, 20), seed) if has_times else canary_dataset(24, 20)
    split = split_of(dataset, protocol, seeds=(seed,), clicks=(0, 1, 2, 4))
    fold = split.test_fold
    warming, train, held_out = fold.warming, pairs(fold.train), pairs(fold.held_out)
    assert not train & held_out
    cold = set(split.cold[TEST].tolist())
    to_warm = {pair for pair in held_out if group_of(pair, split) in cold}
    assert to_warm == pairs(warming.early) == pairs(warming.known(10**9))
    assert (len(held_out) > len(to_warm)) == (protocol == "item-warming")
    times = (dataset.timestamps if has_times else 0 * dataset.interactions).toarray()
    for n in warming.clicks:
        known = pairs(warming.known(n))
        for one in cold:
            own = {pair for pair in to_warm if group_of(pair, split) == one}
            early = own & known
            assert len(early) == min(n, len(own))
            assert max((times[pair] for pair in early), default=0) <= min(
                (times[pair] for pair in own - early), default=100
            )
        assert pairs(warming.known(n, before=1)) == known - pairs(warming.known(1))


@given(st.integers(0, 2**16), st.booleans())
def test_what_becomes_of_later_clicks_changes_nothing_of_what_is_known_before(seed, has_times):
    """Whoever clicks after the first 2 of a test item, or whether anybody does, no fit at 0, 1 or 2 is another."""
    dataset = timed(canary_dataset(24, 20), seed) if has_times else canary_dataset(24, 20)
    split = split_of(dataset, clicks=(0, 1, 2), seeds=(seed,))
    drop = (split.parts == TEST) & (split.places > 2) & (np.random.default_rng(seed).random(len(split.parts)) < 0.5)

    def left(matrix):
        kept = sp.csr_array((matrix.data[~drop], (rows_of(matrix)[~drop], matrix.indices[~drop])), shape=matrix.shape)
        kept.sort_indices()
        return kept

    times = None if dataset.timestamps is None else left(dataset.timestamps)
    fewer = replace(dataset, interactions=left(dataset.interactions), timestamps=times)
    other = split_of(fewer, clicks=(0, 1, 2), seeds=(seed,))
    for ours, theirs in ((split.test_fold, other.test_fold), (split.for_tuning().fold, other.for_tuning().fold)):
        assert pairs(ours.train) == pairs(theirs.train)
        for n in (1, 2):
            assert pairs(ours.warming.known(n)) == pairs(theirs.warming.known(n))


@pytest.mark.parametrize("has_times", [False, True])
def test_a_study_sees_no_id_no_label_no_text_and_no_click_of_a_test_item(has_times):
    dataset = timed(canary_dataset()) if has_times else canary_dataset()
    split = split_of(dataset)
    visible = split.for_tuning()
    hidden = set(dataset.item_ids[split.cold[TEST]].tolist())
    assert hidden.isdisjoint(visible.dataset.item_ids.tolist())
    assert hidden.isdisjoint(visible.dataset.attributes["own"].labels.tolist())
    assert not any("test" in field.name for field in fields(visible))
    changed = dataset.interactions.astype(bool).toarray()
    times = dataset.timestamps.toarray() if has_times else np.zeros(changed.shape, int)
    changed[:, split.cold[TEST]] = ~changed[:, split.cold[TEST]]
    rows, columns = np.nonzero(changed)
    clicks = binary_matrix(rows, columns, changed.shape)
    stamps = sp.csr_array((times[rows, columns], clicks.indices, clicks.indptr), shape=clicks.shape)
    other = split_of(replace(dataset, interactions=clicks, timestamps=stamps if has_times else None)).for_tuning()
    assert other.dataset.fingerprint == visible.dataset.fingerprint
    assert pairs(other.fold.train) == pairs(visible.fold.train)
    assert pairs(other.fold.warming.known(1)) == pairs(visible.fold.warming.known(1))


def test_a_held_out_warm_click_is_test_once_and_train_of_the_test_where_it_validated():
    dataset = canary_dataset()
    split = split_of(dataset)
    warm = ~np.isin(dataset.interactions.indices, np.concatenate([*split.cold.values()]))
    assert set(split.parts[warm].tolist()) == {TRAIN, VALIDATION, TEST}
    everything, fold = pairs(dataset.interactions), split.test_fold
    of_part = {
        part: {pair for pair, own in zip(sorted(everything), split.parts, strict=True) if own == part}
        for part in (TRAIN, VALIDATION, TEST)
    }
    unseen = {pair for pair in everything if pair[1] in split.cold[VALIDATION]}
    assert pairs(fold.train) == (of_part[TRAIN] | of_part[VALIDATION]) - unseen
    assert pairs(fold.held_out) == of_part[TEST]
    tuning = split.for_tuning().fold
    assert tuning.train.nnz == len(of_part[TRAIN])
    assert tuning.held_out.nnz == len(of_part[VALIDATION])


def test_a_schedule_may_begin_with_known_clicks():
    split = split_of(canary_dataset(), clicks=(2, 3))
    fold, from_none = split.test_fold, split_of(canary_dataset(), clicks=(0, 2, 3)).test_fold
    assert pairs(fold.train) == pairs(from_none.train) | pairs(from_none.warming.known(2))
    assert pairs(fold.held_out) == pairs(from_none.held_out) - pairs(from_none.warming.known(2))


def test_users_become_known_to_models_that_never_saw_them():
    dataset = timed(canary_dataset())
    split = split_of(dataset, "user-warming")
    fold, hidden = split.test_fold, set(split.cold[TEST].tolist())
    assert hidden.isdisjoint(rows_of(fold.train).tolist())
    assert pairs(fold.given) == pairs(fold.train)
    assert not fold.warming.refits
    visible = split.for_tuning()
    assert set(dataset.user_ids[split.cold[TEST]].tolist()).isdisjoint(visible.dataset.user_ids.tolist())
    assert visible.dataset.user_ids[np.unique(rows_of(visible.fold.held_out))].tolist() == (
        dataset.user_ids[split.cold[VALIDATION]].tolist()
    )


def test_what_has_fewer_clicks_is_counted():
    users, items = np.nonzero(np.arange(12)[:, None] < np.array([12, 12, 12, 12, 12, 12, 1, 5, 9, 3]))
    dataset = Dataset("steps", np.arange(12), np.arange(10), binary_matrix(users, items, (12, 10)), {})
    split = split_of(dataset, clicks=(0, 2, 4, 11))
    lengths = np.bincount(items)[split.cold[TEST]]
    counts = split.counts()
    assert [counts[f"items_without_{n}_test_clicks"] for n in (2, 4, 11)] == [(lengths < n).sum() for n in (2, 4, 11)]
    assert counts["test_items"] == 2
    assert counts["train_interactions"] + counts["validation_interactions"] + counts["test_interactions"] == len(items)


def test_that_clicks_are_drawn_is_told(caplog):
    split_of(timed(canary_dataset()))
    assert caplog.text == ""
    split_of(canary_dataset())
    assert "no timestamps: which clicks of a new item are its first is drawn" in caplog.text


def test_another_seed_draws_other_first_clicks():
    dataset = canary_dataset()
    first, again, other = (split_of(dataset, seeds=(seed,)) for seed in (3, 3, 4))
    assert np.array_equal(first.places, again.places)
    assert not np.array_equal(first.places, other.places)
    every = np.unique([split_of(dataset, seeds=(seed,)).places.argmax() for seed in range(12)])
    assert len(every) > 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bad_input_is_refused(protocol):
    dataset = canary_dataset()
    assert split_of(dataset, protocol, clicks=None).clicks == WARMING_CLICKS[protocol]
    for clicks in ((), (0, 0), (5, 2), (-1, 2)):
        with pytest.raises(ConfigError, match="no ascending numbers"):
            split_of(dataset, protocol, clicks=clicks)
    with pytest.raises(EmptyDatasetError, match="more than 1000 clicks, so nothing is left"):
        split_of(dataset, protocol, clicks=(1000,))
    with pytest.raises(ConfigError, match="warm_share is 1"):
        split_of(dataset, protocol, warm_share=1.0)
    with pytest.raises(ConfigError, match="'notebook' nothing warms up; choose item-warming"):
        next(warming_splits(dataset, protocol="notebook"))
    twice = dataset.interactions.copy()
    doubled = sp.csr_array((np.repeat(twice.data, 2), np.repeat(twice.indices, 2), twice.indptr * 2), shape=twice.shape)
    with pytest.raises(LeakageError, match="twice"):
        split_of(replace(dataset, interactions=doubled), protocol)


def test_unclicked_items_compete_and_are_in_no_part():
    dataset = canary_dataset()
    clicks = sp.csr_array(sp.hstack([dataset.interactions, sp.csr_array((dataset.n_users, 2))], format="csr"))
    ids = np.array([*dataset.item_ids, "item-x", "item-y"])
    own = dataset.attributes["own"]
    padded = sp.csr_array(sp.vstack([own.matrix, sp.csr_array((2, own.matrix.shape[1]))], format="csr"))
    more = Dataset("more", dataset.user_ids, ids, clicks, {"own": LabelAttribute(padded, own.labels)})
    split, before = split_of(more), split_of(dataset)
    assert [items.tolist() for items in split.cold.values()] == [items.tolist() for items in before.cold.values()]
    assert {40, 41} <= set(split.test_fold.warming.competing.tolist())
