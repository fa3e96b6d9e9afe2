"""Cold-item splits: the protocols, and that a study cannot see the test side."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.data.dataset import Dataset, LabelAttribute, TextAttribute, binary_matrix
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.items import _ColdItemSplit, cold_item_splits
from data.canary import canary_dataset


def parts(split):
    return split.train_items, split.validation_items, split.test_items


@pytest.mark.parametrize("seed", [0, 42])
def test_the_notebook_protocol_is_the_published_one(seed):
    dataset = canary_dataset(37)
    generator = np.random.RandomState(seed)
    for split in cold_item_splits(dataset, protocol="notebook", n_splits=3, seed=seed):
        order = generator.permutation(37)
        expected = np.split(order, [int(0.6 * 37), int(0.8 * 37)])
        assert [part.tolist() for part in parts(split)] == [sorted(part) for part in expected]


@given(st.integers(0, 2**32 - 1), st.integers(12, 60), st.sampled_from(["notebook", "balanced"]))
def test_the_parts_are_disjoint_and_complete(seed, n_items, protocol):
    (split,) = cold_item_splits(canary_dataset(n_items), protocol=protocol, n_splits=1, seed=seed)
    assert sorted(np.concatenate(parts(split))) == list(range(n_items))
    assert all((np.diff(part) > 0).all() and part.dtype == np.int32 for part in parts(split))


def test_the_balanced_protocol_keeps_the_best_of_ten_twice():
    dataset = sample_dataset(n_users=60, n_items=80).of_clicked_items()
    n_items = dataset.n_items
    clicks = np.bincount(dataset.interactions.indices)
    generator = np.random.RandomState(5)

    def best_of_ten(items):
        orders = [generator.permutation(items) for _ in range(10)]
        cut = int(0.8 * len(items))
        errors = [abs(clicks[order[:cut]].sum() / clicks[items].sum() - 0.8) for order in orders]
        best = orders[int(np.argmin(errors))]
        return best[:cut], best[cut:]

    rest, test = best_of_ten(np.arange(n_items))
    train, validation = best_of_ten(rest)
    (split,) = cold_item_splits(dataset, protocol="balanced", n_splits=1, seed=5)
    assert [part.tolist() for part in parts(split)] == [sorted(train), sorted(validation), sorted(test)]


def test_the_same_seed_gives_the_same_splits_and_another_seed_others():
    first, again, other = (
        [split.test_items.tolist() for split in cold_item_splits(canary_dataset(), n_splits=2, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first[0] != first[1]


@pytest.mark.parametrize("protocol", ["notebook", "balanced"])
def test_a_study_sees_no_id_no_label_no_text_and_no_click_of_a_test_item(protocol):
    dataset = canary_dataset()
    (split,) = cold_item_splits(dataset, protocol=protocol, n_splits=1, seed=3)
    visible = split.for_tuning()
    test_names = set(dataset.item_ids[split.test_items].tolist())
    assert test_names.isdisjoint(visible.dataset.item_ids.tolist())
    assert test_names.isdisjoint(visible.dataset.attributes["own"].labels.tolist())
    assert test_names.isdisjoint(text.removeprefix("about ") for text in visible.dataset.attributes["title"].texts)
    assert not any("test" in field.name for field in fields(visible))
    changed = dataset.interactions.toarray()
    changed[:, split.test_items] = 1 - changed[:, split.test_items]
    other = replace(dataset, interactions=binary_matrix(*np.nonzero(changed), changed.shape))
    assert replace(split, dataset=other).for_tuning().dataset.fingerprint == visible.dataset.fingerprint


def test_the_tuning_split_holds_the_same_clicks_under_its_own_indices():
    dataset = canary_dataset()
    (split,) = cold_item_splits(dataset, n_splits=1, seed=3)
    fold = split.for_tuning().fold
    for ours, theirs, matrix in (
        (fold.warm_items, split.train_items, fold.train),
        (fold.held_out_items, split.validation_items, fold.held_out),
    ):
        assert fold.dataset.item_ids[ours].tolist() == dataset.item_ids[theirs].tolist()
        assert (matrix[:, ours] != dataset.interactions[:, theirs]).nnz == 0
        assert matrix.nnz == dataset.interactions[:, theirs].nnz


def test_the_test_fold_trains_on_train_alone():
    (split,) = cold_item_splits(canary_dataset(), n_splits=1, seed=3)
    fold = split.test_fold
    clicks = split.dataset.interactions
    assert set(fold.train.indices.tolist()) == set(split.train_items.tolist())
    assert fold.train.nnz == clicks[:, split.train_items].nnz
    assert set(fold.held_out.indices.tolist()) == set(split.test_items.tolist())
    assert fold.name == "seed 3 / split 0"


def test_counts_say_how_many_users_have_no_click_in_train():
    users, items = np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    dataset = Dataset("tiny", np.arange(3), np.arange(3), binary_matrix(users, items, (3, 3)), {})
    split = _ColdItemSplit(dataset, *(np.array([i], np.int32) for i in range(3)), split=0, seed=0, protocol="notebook")
    assert split.counts() == {
        "train_items": 1,
        "validation_items": 1,
        "test_items": 1,
        "train_interactions": 1,
        "validation_interactions": 2,
        "test_interactions": 1,
        "users_without_train_clicks": 2,
    }


def test_a_part_without_interactions_is_refused_by_name():
    dataset = Dataset("tiny", np.arange(2), np.arange(3), binary_matrix(np.arange(2), np.arange(2), (2, 3)), {})
    with pytest.raises(EmptyDatasetError, match="the test part has 1 items and no interaction"):
        _ColdItemSplit(dataset, *(np.array([i], np.int32) for i in range(3)), split=0, seed=0, protocol="notebook")


def test_too_few_items_for_three_parts_are_refused():
    dataset = Dataset("tiny", np.arange(1), np.arange(1), binary_matrix(np.zeros(1, int), np.zeros(1, int), (1, 1)), {})
    for protocol in ("notebook", "balanced"):
        with pytest.raises(EmptyDatasetError, match="no interaction"):
            list(cold_item_splits(dataset, protocol=protocol, n_splits=1, seed=0))


def test_an_unknown_protocol_and_no_split_at_all_are_refused():
    with pytest.raises(ConfigError, match="'random'"):
        list(cold_item_splits(canary_dataset(), protocol="random", n_splits=1, seed=0))
    with pytest.raises(ConfigError, match="n_splits is 0"):
        list(cold_item_splits(canary_dataset(), n_splits=0, seed=0))


def with_unclicked(dataset, count=7):
    """Return the canary dataset with items before, between and after its own that nobody has clicked."""
    n_items = dataset.n_items + count
    places = np.sort(np.random.default_rng(1).permutation(n_items)[: dataset.n_items])
    names = np.array([f"item-{i:03d}" for i in range(n_items)])
    clicks = dataset.interactions
    own = LabelAttribute(binary_matrix(np.arange(n_items), np.arange(n_items), (n_items, n_items)), names)
    texts = TextAttribute(tuple(f"about {name}" for name in names))
    rows, columns = clicks.nonzero()
    moved = binary_matrix(rows, places[columns], (dataset.n_users, n_items))
    return Dataset("canary", dataset.user_ids, names, moved, {"own": own, "title": texts}), places


@given(st.integers(0, 2**32 - 1), st.sampled_from(["notebook", "balanced"]), st.integers(0, 9))
def test_items_that_nobody_clicked_are_in_no_part_and_change_none(seed, protocol, count):
    dataset = canary_dataset()
    whole, places = with_unclicked(dataset, count)
    for split, wider in zip(
        *(cold_item_splits(one, protocol=protocol, n_splits=2, seed=seed) for one in (dataset, whole)), strict=True
    ):
        for part, found in zip(parts(split), parts(wider), strict=True):
            assert found.tolist() == places[part].tolist()
        assert wider.counts() == split.counts()


def test_a_study_knows_items_that_nobody_clicked_and_no_test_item_beside_them():
    whole, places = with_unclicked(canary_dataset())
    (split,) = cold_item_splits(whole, n_splits=1, seed=3)
    tuning = split.for_tuning()
    unclicked = set(whole.item_ids.tolist()) - set(whole.item_ids[places].tolist())
    test_names = set(whole.item_ids[split.test_items].tolist())
    seen = set(tuning.dataset.item_ids.tolist())
    assert unclicked <= seen
    assert seen.isdisjoint(test_names)
    assert test_names.isdisjoint(tuning.dataset.attributes["own"].labels.tolist())
    assert not any(name in text for name in test_names for text in tuning.dataset.attributes["title"].texts)
    for fold in (tuning.fold, split.test_fold):
        neither = np.setdiff1d(np.arange(fold.dataset.n_items), np.concatenate([fold.warm_items, fold.held_out_items]))
        others = set(fold.dataset.item_ids[neither].tolist())
        held = set() if fold is tuning.fold else set(whole.item_ids[split.validation_items].tolist())
        assert others == unclicked | held


def test_without_them_the_dataset_is_as_if_they_were_not_there():
    dataset = canary_dataset()
    whole, places = with_unclicked(dataset)
    alone = whole.of_clicked_items()
    assert alone.item_ids.tolist() == whole.item_ids[places].tolist()
    assert (alone.interactions != dataset.interactions).nnz == 0
    assert alone.attributes["own"].labels.tolist() == alone.item_ids.tolist()
    assert alone.density == whole.density == dataset.density
    assert dataset.of_clicked_items() is dataset
