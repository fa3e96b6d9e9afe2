"""Splits of interactions: the protocols, what leaks, and that a study cannot see the test side."""

import logging
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, DataFormatError, EmptyDatasetError, LeakageError
from coldray.data.dataset import Dataset, binary_matrix, rows_of
from coldray.data.splits.interactions import interaction_splits
from coldray.data.splits.parts import (
    _OF_EVERYBODY,
    CHRONOLOGICAL,
    PART_WORDS,
    TEST,
    TEST_GIVEN,
    TRAIN,
    UNUSED,
    VALIDATION,
    VALIDATION_GIVEN,
    InteractionSplit,
)

AT_RANDOM = ("holdout", "user-holdout", "k-fold")
PROTOCOLS = (*AT_RANDOM, *CHRONOLOGICAL)


def random_dataset(seed=0, n_users=30, n_items=25, share=0.4, *, times=True, spread=10**6):
    """Return clicks at random times; users have from none to all of the items."""
    rng = np.random.default_rng(seed)
    clicked = rng.random((n_users, n_items)) < share * rng.random((n_users, 1)) * 2
    clicked[:6, :12] = True  # a few users have enough for any protocol
    clicks = binary_matrix(*np.nonzero(clicked), clicked.shape)
    stamps = sp.csr_array((rng.integers(0, spread, clicks.nnz), clicks.indices, clicks.indptr), shape=clicks.shape)
    ratings = sp.csr_array((rng.random(clicks.nnz).astype(np.float32), clicks.indices, clicks.indptr), clicks.shape)
    users = np.array([f"user-{u:03d}" for u in range(n_users)])
    return Dataset(
        "random", users, np.arange(n_items), clicks, {}, ratings=ratings, timestamps=stamps if times else None
    )


def one_user(times, **fields):
    n = len(times)
    clicks = binary_matrix(np.zeros(n, int), np.arange(n), (1, n))
    stamps = sp.csr_array((np.asarray(times, np.int64), clicks.indices, clicks.indptr), shape=(1, n))
    return Dataset("one", np.arange(1), np.arange(n), clicks, {}, timestamps=stamps, **fields)


def draw(dataset, protocol, seed=7, **options):
    """Return the first split of a protocol."""
    return next(interaction_splits(dataset, protocol=protocol, n_splits=_n(protocol), seeds=(seed,), **options))


def _n(protocol):
    return 4 if protocol == "k-fold" else 1


def pairs(matrix):
    return set(zip(*(axis.tolist() for axis in matrix.nonzero()), strict=True))


def of_users(split, part):
    """Return how many interactions of each user are in a part."""
    return np.bincount(rows_of(split.dataset.interactions)[split.parts == part], minlength=split.dataset.n_users)


# ---- every protocol


@given(st.integers(0, 10**6), st.sampled_from(PROTOCOLS), st.floats(0.05, 0.9), st.integers(1, 3))
def test_parts_are_disjoint_and_their_union_is_the_dataset(seed, protocol, share, last):
    dataset = random_dataset(seed)
    split = draw(dataset, protocol, seed, test_share=share, validation_share=share, last=last)
    clicks = dataset.interactions
    tuning = split.for_tuning()
    users = {user: row for row, user in enumerate(dataset.user_ids.tolist())}

    def seen(matrix):
        return {(users[str(tuning.dataset.user_ids[u])], i) for u, i in pairs(matrix)}

    fold, earlier = split.test_fold, tuning.fold
    train, validation, test = seen(earlier.train), seen(earlier.held_out), pairs(fold.held_out)
    shown = [
        set(zip(rows_of(clicks)[entries].tolist(), clicks.indices[entries].tolist(), strict=True))
        for entries in (fold.given_entries, split.parts == VALIDATION_GIVEN)
    ]
    sides = [train, validation, test, *shown]
    assert set().union(*sides) == pairs(clicks)
    assert sum(map(len, sides)) == clicks.nnz
    assert pairs(fold.train) == train | validation | shown[1]
    assert [bool(side) for side in shown] == [protocol == "user-holdout"] * 2
    counts = split.counts()
    assert sum(counts[f"{word.replace(' ', '_')}_interactions"] for word in PART_WORDS) == clicks.nnz
    sizes = [counts[f"{part}_interactions"] for part in ("train", "validation", "test")]
    assert sizes == [len(train), len(validation), len(test)]


@given(st.integers(0, 10**6), st.sampled_from(PROTOCOLS))
def test_a_seed_decides_everything(seed, protocol):
    dataset = random_dataset(1, spread=12)  # so many equal times that no two seeds decide all of them alike
    first, again, other = (draw(dataset, protocol, number).parts for number in (seed, seed, seed + 1))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (protocol in _OF_EVERYBODY)  # the others draw, or decide between equal times


@pytest.mark.parametrize("protocol", AT_RANDOM)
def test_splits_of_one_seed_differ(protocol):
    splits = list(interaction_splits(random_dataset(), protocol=protocol, n_splits=3, seeds=(1, 2)))
    assert [(split.seed, split.split) for split in splits] == [(s, n) for s in (1, 2) for n in range(3)]
    assert len({split.parts.tobytes() for split in splits}) == 6


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_study_sees_no_test_interaction_and_no_user_who_has_no_other(protocol):
    dataset = random_dataset(3)
    split = draw(dataset, protocol)
    visible = split.for_tuning()
    hidden = np.isin(split.parts, (TEST, TEST_GIVEN))
    rows = rows_of(dataset.interactions)
    assert visible.dataset.user_ids.tolist() == dataset.user_ids[np.unique(rows[~hidden])].tolist()
    for name in ("interactions", "ratings", "timestamps"):
        found, whole = getattr(visible.dataset, name), getattr(dataset, name)
        assert np.array_equal(found.data, whole.data[~hidden])
        assert np.array_equal(found.indices, whole.indices[~hidden])
    assert visible.dataset.item_ids.tolist() == dataset.item_ids.tolist()
    assert not any("test" in entry.name for entry in (*fields(visible), *fields(visible.fold)))
    assert len(visible.fold.train_entries) == visible.dataset.interactions.nnz == (~hidden).sum()
    if protocol == "user-holdout":
        assert visible.dataset.n_users < dataset.n_users


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_tuning_fold_trains_on_train_and_the_test_fold_on_all_but_test(protocol):
    split = draw(random_dataset(3), protocol)
    clicks, tuning = split.dataset.interactions, split.for_tuning().fold
    assert tuning.train.nnz == (split.parts == TRAIN).sum()
    known = np.isin(split.parts, (TRAIN, VALIDATION, VALIDATION_GIVEN))
    assert np.array_equal(split.test_fold.train.indices, clicks.indices[known])
    assert np.array_equal(split.test_fold.held_out.indices, clicks.indices[split.parts == TEST])
    assert np.array_equal(tuning.held_out.indices, clicks.indices[split.parts == VALIDATION])
    assert split.test_fold.name == tuning.name == "seed 7 / split 0"


def test_cold_items_of_a_fold_have_a_held_out_click_and_no_train_click():
    clicks = binary_matrix(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 1, 2, 3]), (2, 4))
    dataset = Dataset("tiny", np.arange(2), np.arange(4), clicks, {})
    parts = np.array([TRAIN, TEST, VALIDATION, TRAIN, TEST, TEST], np.uint8)
    fold = InteractionSplit(dataset, parts, split=0, seed=0, protocol="holdout").test_fold
    assert fold.cold_items.tolist() == [3]  # item 2 has a click of the validation part, which is known by then
    assert fold.given is None
    before = InteractionSplit(dataset, parts, split=0, seed=0, protocol="holdout").for_tuning().fold
    assert before.cold_items.tolist() == [2]


# ---- what each protocol holds out


@given(
    st.integers(0, 10**6),
    st.floats(0.02, 0.98),
    st.floats(0.02, 0.98),
    st.sampled_from(["holdout", "per-user-temporal"]),
)
def test_shares_are_of_each_user_and_leave_one_for_every_part(seed, test_share, validation_share, protocol):
    dataset = random_dataset(seed)
    split = draw(dataset, protocol, test_share=test_share, validation_share=validation_share)
    lengths = np.diff(dataset.interactions.indptr)
    train, validation, test = (of_users(split, part) for part in (TRAIN, VALIDATION, TEST))
    few = lengths < 3
    assert (test[few] == 0).all()
    assert (validation[few] == 0).all()
    assert min(part[~few].min() for part in (train, validation, test)) >= 1
    many = ~few & (test > 1) & (train > 1) & (validation > 1)
    assert (np.abs(test - test_share * lengths)[many] <= 0.5 + 1e-9).all()
    assert (np.abs(validation - validation_share * (lengths - test))[many] <= 0.5 + 1e-9).all()
    assert split.users_kept_in_train == split.counts()["users_kept_in_train"] == ((lengths > 0) & few).sum()


def test_a_holdout_of_the_defaults_is_64_16_20():
    dataset = one_user(np.arange(100))
    assert np.bincount(draw(dataset, "holdout").parts).tolist() == [64, 16, 20]
    ordered = draw(dataset, "per-user-temporal").parts
    assert ordered.tolist() == [TRAIN] * 64 + [VALIDATION] * 16 + [TEST] * 20


def test_a_holdout_draws_every_interaction_alike():
    dataset = one_user(np.arange(10))
    splits = interaction_splits(dataset, protocol="holdout", n_splits=2000)
    share = np.mean([split.parts == TEST for split in splits], axis=0)
    assert np.abs(share - 0.2).max() < 0.05  # 5.6 standard deviations


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_leave_last_holds_out_the_last_of_each_user(seed, last):
    dataset = random_dataset(seed)
    split = draw(dataset, "leave-last", last=last)
    rows, times = rows_of(dataset.interactions), dataset.timestamps.data
    kept = 0
    for user in range(dataset.n_users):
        own = rows == user
        parts, clock = split.parts[own], times[own]
        if len(parts) <= 2 * last:
            kept += len(parts) > 0
            assert (parts == TRAIN).all()
        else:
            assert sorted(parts) == [TRAIN] * (len(parts) - 2 * last) + [VALIDATION] * last + [TEST] * last
            assert clock[parts == TRAIN].max() <= clock[parts == VALIDATION].min()
            assert clock[parts == VALIDATION].max() <= clock[parts == TEST].min()
    assert split.users_kept_in_train == kept


def test_the_generator_decides_between_equal_times_and_never_against_them():
    dataset = one_user([5, 9, 9, 9, 1, 9, 3])
    tests = {int(draw(dataset, "leave-last", seed).parts.argmax()) for seed in range(60)}
    assert tests == {1, 2, 3, 5}


def test_temporal_cuts_all_users_at_the_same_times():
    dataset = random_dataset(2)
    split = draw(dataset, "temporal")
    times = dataset.timestamps.data
    train, validation, test = (times[split.parts == part] for part in (TRAIN, VALIDATION, TEST))
    assert train.max() < validation.min() <= validation.max() < test.min()
    assert len(test) / len(times) == pytest.approx(0.2, abs=0.01)
    assert len(validation) / (len(times) - len(test)) == pytest.approx(0.2, abs=0.01)
    assert split.counts()["users_kept_in_train"] == 0


@given(st.lists(st.integers(2**60, 2**60 + 9), min_size=8, max_size=40))
def test_temporal_keeps_equal_times_together_however_large(times):
    try:
        parts = draw(one_user(times), "temporal").parts
    except EmptyDatasetError:
        return  # too few different times for three parts
    assert all(len(set(parts[np.array(times) == time])) == 1 for time in set(times))


def test_whole_users_are_held_out_with_a_given_side():
    dataset = random_dataset(5, n_users=100)
    split = draw(dataset, "user-holdout", given_share=0.7)
    lengths = np.diff(dataset.interactions.indptr)
    counts = [of_users(split, part) for part in range(5)]
    assert max((count > 0).astype(int) @ (counts[TRAIN] > 0) for count in counts[1:]) == 0
    assert ((counts[TEST] > 0) == (counts[TEST_GIVEN] > 0)).all()
    assert ((counts[VALIDATION] > 0) == (counts[VALIDATION_GIVEN] > 0)).all()
    assert not ((counts[TEST] > 0) & (counts[VALIDATION] > 0)).any()
    able = (lengths >= 2).sum()
    assert (counts[TEST] > 0).sum() == np.floor(0.2 * able + 0.5)
    many = (counts[TEST] > 1) & (counts[TEST_GIVEN] > 1)
    assert (np.abs(counts[TEST_GIVEN] - 0.7 * lengths)[many] <= 0.5 + 1e-9).all()
    fold = split.test_fold
    assert set(rows_of(fold.given).tolist()) == set(rows_of(fold.train).tolist()) | set(np.flatnonzero(counts[TEST]))
    assert fold.given.nnz == fold.train.nnz + counts[TEST_GIVEN].sum()
    assert split.users_kept_in_train == (lengths == 1).sum()


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_rolling_origins_go_forward_in_time_and_leave_out_what_comes_after(seed, n_splits):
    dataset = random_dataset(seed)
    times = dataset.timestamps.data
    splits = list(interaction_splits(dataset, protocol="rolling-origin", n_splits=n_splits, seeds=(3,)))
    assert [split.split for split in splits] == list(range(n_splits))
    sizes = []
    for split in splits:
        train, validation, test, unused = (times[split.parts == part] for part in (TRAIN, VALIDATION, TEST, UNUSED))
        assert train.max() < validation.min() <= validation.max() < test.min()
        assert test.max() < unused.min(initial=np.iinfo(np.int64).max)
        sizes += [len(validation), len(test)]
        fold = split.test_fold
        assert fold.train.nnz == len(train) + len(validation)
        assert split.for_tuning().dataset.interactions.nnz == len(train) + len(validation)
        assert split.counts()["unused_interactions"] == len(unused)
    assert len(unused) == 0
    for split, following in pairwise(splits):
        assert np.array_equal(split.parts == TEST, following.parts == VALIDATION)
        assert np.array_equal(np.isin(split.parts, (TRAIN, VALIDATION)), following.parts == TRAIN)
    assert max(sizes) - min(sizes) <= 2 + 0.05 * dataset.interactions.nnz


def test_several_seeds_of_a_protocol_that_draws_nothing_are_refused():
    with pytest.raises(ConfigError, match="several seeds give the same splits"):
        list(interaction_splits(random_dataset(), protocol="rolling-origin", n_splits=2, seeds=(1, 2)))


@given(st.integers(0, 10**6), st.integers(3, 6))
def test_k_fold_tests_and_validates_every_interaction_once(seed, n_folds):
    dataset = random_dataset(seed)
    splits = list(interaction_splits(dataset, protocol="k-fold", n_splits=n_folds, seeds=(seed,)))
    enough = (np.diff(dataset.interactions.indptr) >= 3)[rows_of(dataset.interactions)]
    for part in (TEST, VALIDATION):
        assert np.array_equal(sum((split.parts == part).astype(int) for split in splits), enough)
    for split, following in pairwise(splits):
        assert np.array_equal(split.parts == VALIDATION, following.parts == TEST)
    for split in splits:
        known = np.diff(dataset.interactions.indptr) > 0
        assert (of_users(split, TRAIN)[known] > 0).all()
        own = of_users(split, TEST)[np.diff(dataset.interactions.indptr) >= 3]
        lengths = np.diff(dataset.interactions.indptr)[np.diff(dataset.interactions.indptr) >= 3]
        assert (np.abs(own - lengths / n_folds) < 1).all()


def test_k_fold_spreads_users_with_few_interactions_over_the_folds():
    clicks = binary_matrix(np.repeat(np.arange(300), 3), np.tile(np.arange(3), 300), (300, 3))
    splits = interaction_splits(Dataset("few", np.arange(300), np.arange(3), clicks, {}), protocol="k-fold", n_splits=6)
    sizes = [int((split.parts == TEST).sum()) for split in splits]
    assert min(sizes) > 100
    assert sum(sizes) == 900


# ---- what is refused or said


def test_users_to_be_tested_of_whom_nothing_is_known_are_counted():
    clicks = binary_matrix(np.array([0, 0, 0, 0, 1, 2]), np.array([0, 1, 2, 3, 0, 1]), (3, 4))
    stamps = sp.csr_array((np.array([1, 2, 3, 5, 9, 8]), clicks.indices, clicks.indptr), shape=(3, 4))
    dataset = Dataset("late", np.arange(3), np.arange(4), clicks, {}, timestamps=stamps)
    split = draw(dataset, "temporal", test_share=0.4)
    assert split.counts()["users_without_train_clicks"] == 2


@pytest.mark.parametrize("protocol", CHRONOLOGICAL)
def test_a_split_by_time_needs_times(protocol):
    with pytest.raises(ConfigError, match=rf"'random' has no timestamps.*'{protocol}'.*holdout"):
        draw(random_dataset(times=False), protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_random_split_of_data_with_times_warns_once_and_names_leave_last(protocol, caplog):
    with caplog.at_level(logging.WARNING):
        list(interaction_splits(random_dataset(), protocol=protocol, n_splits=_n(protocol), seeds=(1,)))
    assert len(caplog.records) == (protocol in AT_RANDOM)
    assert all("leave-last" in record.getMessage() and protocol in record.getMessage() for record in caplog.records)


def test_a_random_split_of_data_without_times_warns_of_nothing(caplog):
    draw(random_dataset(times=False), "holdout")
    assert not caplog.records


@pytest.mark.parametrize("protocol", sorted({*CHRONOLOGICAL} - {"rolling-origin"}))
@pytest.mark.parametrize("repeated", [{"n_splits": 2}, {"seeds": (1, 2)}])
def test_a_split_by_time_is_not_repeated(protocol, repeated):
    with pytest.raises(ConfigError, match=r"gives one split.*n_splits: 1"):
        list(interaction_splits(random_dataset(), protocol=protocol, **repeated))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"protocol": "notebook"}, "'notebook'"),
        ({"protocol": "k-fold", "n_splits": 2}, "at least 3"),
        ({"n_splits": 0}, "n_splits is 0"),
        ({"seeds": ()}, "0 seeds"),
        ({"test_share": 1.0}, "test_share is 1"),
        ({"validation_share": 0.0}, "validation_share 0"),
        ({"given_share": -1.0}, "given_share -1"),
        ({"last": 0}, "last 0"),
    ],
    ids=str,
)
def test_parameters_out_of_range_are_refused(options, expected):
    with pytest.raises(ConfigError, match=expected):
        list(interaction_splits(random_dataset(times=False), **{"protocol": "holdout", **options}))


def test_users_with_too_few_interactions_alone_leave_nothing_to_test():
    clicks = binary_matrix(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), (2, 2))
    dataset = Dataset("few", np.arange(2), np.arange(2), clicks, {})
    for protocol in AT_RANDOM:
        with pytest.raises(EmptyDatasetError, match="the validation part has no interaction"):
            draw(dataset, protocol)


def test_a_pair_stored_twice_is_refused():
    doubled = sp.csr_array((np.ones(4, np.float32), np.array([0, 1, 1, 2]), np.array([0, 4])), shape=(1, 3))
    with pytest.raises(LeakageError, match=r"stores 1 \(user, item\) pairs twice"):
        draw(Dataset("doubled", np.arange(1), np.arange(3), doubled, {}), "holdout")


def test_times_of_other_pairs_are_refused():
    dataset = random_dataset()
    shifted = sp.csr_array(dataset.timestamps[:, np.roll(np.arange(25), 1)])
    shifted.sort_indices()
    with pytest.raises(DataFormatError, match="timestamps and interactions are not on the same pairs"):
        draw(replace(dataset, timestamps=shifted), "holdout")


@pytest.mark.parametrize("protocol", CHRONOLOGICAL)
@pytest.mark.parametrize(("earlier", "later"), [(TRAIN, VALIDATION), (VALIDATION, TEST), (TRAIN, TEST)])
def test_parts_against_the_order_of_time_are_refused(protocol, earlier, later):
    split = draw(one_user(np.arange(12)), protocol)
    parts = split.parts.copy()
    first, last = int(np.flatnonzero(parts == earlier)[0]), int(np.flatnonzero(parts == later)[-1])
    parts[[first, last]] = parts[[last, first]]
    with pytest.raises(LeakageError, match="earlier than one of a part before it"):
        replace(split, parts=parts)
    assert replace(split, parts=parts, protocol="holdout").parts is parts


def test_users_have_clocks_of_their_own_in_all_but_the_global_cut():
    """What is last of one user may be earlier than what another is fitted on."""
    clicks = binary_matrix(np.repeat([0, 1], 3), np.tile(np.arange(3), 2), (2, 3))
    stamps = sp.csr_array((np.array([1, 2, 3, 11, 12, 13]), clicks.indices, clicks.indptr), shape=(2, 3))
    dataset = Dataset("two", np.arange(2), np.arange(3), clicks, {}, timestamps=stamps)
    split = draw(dataset, "leave-last")
    assert split.parts.tolist() == [TRAIN, VALIDATION, TEST] * 2
    with pytest.raises(LeakageError, match=r"\(temporal\)"):
        replace(split, protocol="temporal")


@pytest.mark.parametrize("parts", [np.zeros(3, np.uint8), np.full(5, 6, np.uint8)], ids=["too few", "unknown"])
def test_parts_that_do_not_fit_the_interactions_are_refused(parts):
    with pytest.raises(DataFormatError, match="in one of 6 parts"):
        InteractionSplit(one_user(np.arange(5)), parts, split=0, seed=0, protocol="holdout")
