"""The prediction of popularity: its trees, its encodings, its regression, and what it makes of any attributes."""

import numpy as np
import pytest
import safetensors.numpy
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import ExtraTreesRegressor

from coldray.core.errors import CatalogTooLargeError, DataError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations
from coldray.models.popularity.forest import Forest
from coldray.models.popularity.head import (
    PopularityHead,
    _fold_ridge,
    _PopularityDesign,
    forest_bytes,
    learn_popularity,
)
from coldray.models.popularity.target_encoding import aggregates, deal, label_encodings
from contracts.problems import random_features, random_training_set, scalar_feature, vector_feature


def popular(features, log_clicks, *, cold=0, seed=0):
    """Return a training set whose items have about ``exp(log_clicks)`` clicks, the last `cold` ones none."""
    n_users, counts = 400, np.round(np.exp(log_clicks)).astype(int)
    counts[len(counts) - cold :] = 0
    generator = np.random.default_rng(seed)
    columns = np.zeros((n_users, len(counts)), np.float32)
    for item, count in enumerate(counts):
        columns[generator.permutation(n_users)[:count], item] = 1
    return TrainingSet(sp.csr_array(columns), FeatureSet(features, len(counts)), f"popular {seed}")


def learned(train, **parameters):
    return learn_popularity(train, **{"trees": 60, "seed": 0, **parameters})


def predicted(train, items, **parameters):
    return PopularityHead.from_arrays(learned(train, **parameters)).predict(train.features.take(items))


# ---- trees


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), n_items=st.integers(1, 80), n_columns=st.integers(1, 6), leaf=st.integers(1, 4))
def test_the_forest_predicts_bit_for_bit_what_scikit_learn_does(seed, n_items, n_columns, leaf):
    generator = np.random.default_rng(seed)
    # A coarse grid puts many values right at a threshold.
    design = generator.integers(-3, 4, (n_items, n_columns)).astype(np.float32) / np.float32(3)
    target = generator.standard_normal(n_items)
    regressor = ExtraTreesRegressor(7, min_samples_leaf=leaf, random_state=seed % 1000).fit(design, target)
    forest = Forest.of(regressor)
    asked = np.concatenate([design, generator.standard_normal((30, n_columns)).astype(np.float32)])
    np.testing.assert_array_equal(forest.predict(asked), regressor.predict(asked))
    again = Forest.from_arrays(forest.arrays())
    np.testing.assert_array_equal(again.predict(asked), regressor.predict(asked))


def test_values_at_a_threshold_go_where_scikit_learn_sends_them():
    generator = np.random.default_rng(0)
    design = generator.standard_normal((200, 3)).astype(np.float32)
    regressor = ExtraTreesRegressor(20, random_state=0).fit(design, design @ [1.0, 2.0, 3.0])
    thresholds = np.concatenate([tree.tree_.threshold for tree in regressor.estimators_]).astype(np.float32)
    around = np.stack([thresholds, np.nextafter(thresholds, np.float32(9)), np.nextafter(thresholds, np.float32(-9))])
    asked = np.repeat(around.reshape(-1, 1), 3, axis=1)
    np.testing.assert_array_equal(Forest.of(regressor).predict(asked), regressor.predict(asked))


def test_no_item_is_no_prediction_and_blocks_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    design = generator.standard_normal((50, 4)).astype(np.float32)
    forest = Forest.of(ExtraTreesRegressor(9, random_state=0).fit(design, design.sum(axis=1)))
    assert forest.predict(design[:0]).shape == (0,)
    whole = forest.predict(design)
    monkeypatch.setattr("coldray.models.popularity.forest._CELLS_PER_BLOCK", 40)
    np.testing.assert_array_equal(forest.predict(design), whole)


# ---- target encodings


@given(n_items=st.integers(1, 50), folds=st.integers(2, 12), seed=st.integers(0, 99))
def test_folds_are_dealt_evenly_and_none_is_empty(n_items, folds, seed):
    sizes = np.bincount(deal(n_items, folds, seed))
    assert len(sizes) == min(folds, n_items)
    assert sizes.min() >= 1
    assert np.ptp(sizes) <= 1


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32 - 1), shrinkage=st.sampled_from([0.0, 1.0, 7.5]))
def test_encodings_and_aggregates_are_those_of_slow_loops(seed, shrinkage):
    generator = np.random.default_rng(seed)
    labels = sp.csr_array((generator.random((17, 6)) < 0.4).astype(np.float32))
    target, folds = generator.standard_normal(17), deal(17, 4, seed % 7)
    encodings = label_encodings(labels, target, folds, shrinkage)
    expected = np.zeros((5, 6))
    for fold in range(5):
        outside = folds != fold
        mean = target[outside].mean()
        for label in range(6):
            has = outside & (labels.toarray()[:, label] > 0)
            if has.any():
                expected[fold, label] = (target[has] - mean).sum() / (has.sum() + shrinkage)
    np.testing.assert_allclose(encodings, expected, atol=1e-12)
    found = aggregates(labels, encodings, folds)
    assert found.shape == (17, 3)
    for item in range(17):
        values = np.sort(expected[folds[item]][labels.toarray()[item] > 0])[::-1]
        whole = [values.mean(), values[0], values[:3].mean()] if len(values) else [0.0] * 3
        np.testing.assert_allclose(found[item], whole, atol=1e-12)


def test_a_columns_own_target_does_not_reach_it():
    """Changing an item's clicks changes no column that describes this item, or another one of its fold."""
    train = random_training_set(3, n_users=60, n_warm=40, n_cold=0)
    target, folds = np.log1p(train.clicks), deal(40, 5, 0)
    changed = np.where(folds == 2, target + 5.0 * np.arange(40), target)
    options = {"shrinkage": 2.0, "ridge": 0.5}
    before, after = (
        _PopularityDesign.of(train, each, folds, **options).matrix(train.features, folds) for each in (target, changed)
    )
    np.testing.assert_allclose(after[folds == 2], before[folds == 2], atol=1e-5)
    assert np.abs(after[folds != 2] - before[folds != 2]).max() > 0.1


# ---- ridge


@settings(max_examples=15)
@given(seed=st.integers(0, 2**32 - 1), regularization=st.sampled_from([0.1, 1.0, 5.0]))
def test_the_ridge_without_a_fold_is_the_closed_form_on_the_others(seed, regularization):
    generator = np.random.default_rng(seed)
    inputs = generator.standard_normal((30, 8)) * (generator.random((30, 8)) < 0.5)
    target, folds = generator.standard_normal(30), deal(30, 4, 0)
    found = _fold_ridge(sp.csr_array(inputs), target, folds, regularization)
    shift = regularization * np.mean(np.sum(inputs**2, axis=1))
    for fold in range(5):
        kept = folds != fold
        phi, centred = inputs[kept], target[kept] - target[kept].mean()
        expected = np.linalg.solve(phi.T @ phi + shift * np.eye(8), phi.T @ centred)
        np.testing.assert_allclose(found[fold], expected, atol=1e-3)


def test_a_ridge_on_nothing_is_nothing():
    found = _fold_ridge(sp.csr_array((6, 3)), np.arange(6.0), deal(6, 2, 0), 1.0)
    np.testing.assert_array_equal(found, np.zeros((3, 3)))
    assert _fold_ridge(sp.csr_array((6, 0)), np.arange(6.0), deal(6, 2, 0), 1.0).shape == (3, 0)


# ---- the head


@pytest.mark.parametrize("kind", ["few labels", "many labels", "number", "words", "embedding"])
def test_what_makes_items_popular_is_found_for_new_items(kind):
    generator = np.random.default_rng(4)
    fame = generator.normal(0, 1, 200)
    noise = vector_feature(generator.random((200, 12)) < 0.3)
    feature = {
        "few labels": lambda: vector_feature(np.eye(4)[np.digitize(fame, [-1, 0, 1])]),
        "many labels": lambda: vector_feature(np.eye(80)[np.digitize(fame, np.linspace(-2, 2, 39))]),
        "number": lambda: scalar_feature(np.where(generator.random(200) < 0.1, np.nan, fame)),
        "words": lambda: vector_feature(0.5 * np.eye(9)[np.digitize(fame, np.linspace(-2, 2, 8))] + 0.0),
        "embedding": lambda: vector_feature(
            np.column_stack([fame, np.ones(200)]) @ generator.normal(0, 1, (2, 20))
            + generator.normal(0, 0.1, (200, 20))
        ),
    }[kind]()
    train = popular({"fame": feature, "noise": noise}, 3 + fame, cold=60)
    found = predicted(train, train.cold_items)
    assert np.corrcoef(found, fame[train.cold_items])[0, 1] > 0.7
    others = popular({"noise": noise}, 3 + fame, cold=60)
    assert abs(np.corrcoef(predicted(others, others.cold_items), fame[others.cold_items])[0, 1]) < 0.5


def test_the_unit_is_log_clicks_relative_to_the_mean():
    labels = np.eye(2)[np.arange(100) % 2]
    train = popular({"label": vector_feature(labels)}, np.where(np.arange(100) % 2, np.log(7.0), np.log(63.0)), cold=20)
    head = PopularityHead.from_arrays(learned(train))
    assert head.mean == pytest.approx(np.log1p(train.clicks[train.warm_items]).mean())
    expected = np.where(train.cold_items % 2, np.log(8.0), np.log(64.0))
    cold = train.features.take(train.cold_items)
    np.testing.assert_allclose(head.log_clicks(cold), expected, atol=0.05)
    np.testing.assert_allclose(head.predict(cold), expected - head.mean, atol=0.05)
    assert head.predict(cold).dtype == np.float32


def test_how_many_labels_an_item_has_is_not_read():
    generator = np.random.default_rng(6)
    lengths = generator.integers(1, 30, 240)
    # Labels that nobody shares say nothing but how many there are.
    labels = np.zeros((240, 240 * 29), np.float32)
    for item, length in enumerate(lengths):
        labels[item, item * 29 : item * 29 + length] = 1
    train = popular({"cast": vector_feature(labels)}, 1 + np.log(lengths), cold=60)
    cold = train.cold_items
    assert np.ptp(predicted(train, cold)) < 1e-6


def test_an_item_without_attributes_or_with_unknown_labels_gets_the_mean_of_all():
    generator = np.random.default_rng(7)
    labels = (generator.random((150, 90)) < 0.05).astype(np.float32)
    labels[:, 80:] = 0
    labels[-2, :] = 0
    labels[-1, :] = 0
    labels[-1, 85] = 1  # no warm item has it
    train = popular({"label": vector_feature(labels)}, 3 + labels @ generator.normal(0, 0.5, 90), cold=2)
    blank, unknown = predicted(train, train.cold_items)
    assert blank == unknown
    assert abs(blank) < 0.4 * np.log1p(train.clicks[train.warm_items]).std()


def test_where_a_number_is_unknown_is_a_column_if_it_ever_is():
    train = random_training_set(9, n_warm=20, n_cold=0)
    missing = np.arange(20) % 3 == 0
    target, folds = np.log1p(train.clicks), deal(20, 4, 0)
    for values, told in ((np.where(missing, np.nan, np.arange(20)), True), (np.arange(20.0), False)):
        items = FeatureSet({"year": scalar_feature(values)}, 20)
        known = TrainingSet(train.interactions, items, "year")
        design = _PopularityDesign.of(known, target, folds, shrinkage=1.0, ridge=1.0).matrix(items, folds)
        assert any(np.array_equal(column, missing) for column in design.T) == told
        np.testing.assert_allclose(design[:, 1], np.where(np.isnan(values), np.nanmean(values), values), rtol=1e-6)


def test_the_arrays_are_numbers_that_a_safe_file_holds_in_any_order():
    train = random_training_set(5, n_users=50, n_warm=40)
    features = FeatureSet(dict(reversed(train.features.features.items())), train.features.n_items)
    arrays = learned(train)
    loaded = safetensors.numpy.load(safetensors.numpy.save(arrays))
    assert all(value.dtype.kind in "biuf" for value in arrays.values())
    shuffled = dict(sorted(loaded.items(), reverse=True))
    expected = PopularityHead.from_arrays(arrays).predict(train.features)
    np.testing.assert_array_equal(PopularityHead.from_arrays(shuffled).predict(features), expected)
    assert np.ptp(expected) > 0


def test_the_same_seed_gives_the_same_arrays_and_another_one_others():
    train = random_training_set(6, n_users=50, n_warm=40)
    first, again, other = learned(train), learned(train), learned(train, seed=1)
    assert first.keys() == again.keys()
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["threshold"], other["threshold"])


def test_configurations_share_what_is_learned():
    train, shared = random_training_set(7), Computations()
    first, second = (shared.get(learn_popularity, train, trees=5, seed=0) for _ in range(2))
    assert first is second


@pytest.mark.parametrize("n_warm", [1, 2, 3])
def test_fewer_items_than_folds(n_warm):
    train = random_training_set(8, n_warm=n_warm, n_cold=4)
    found = predicted(train, train.cold_items, min_leaf=1)
    assert np.isfinite(found).all()
    if n_warm == 1:
        np.testing.assert_allclose(found, 0, atol=1e-12)


def test_equal_clicks_predict_the_same_for_all():
    items = random_features(np.random.default_rng(9), 40)
    clicks = np.ones((5, 40), np.float32)
    clicks[:, 30:] = 0
    train = TrainingSet(sp.csr_array(clicks), items, "equal clicks")
    np.testing.assert_allclose(predicted(train, train.cold_items), 0, atol=1e-6)


@pytest.mark.parametrize("attributes", [("a",), ("year",), (), ("a", "empty"), ("empty",), ("unknown",)])
def test_any_attributes_will_do(attributes):
    train = random_training_set(10, n_users=50, n_warm=40)
    every = dict(train.features.features)
    every["empty"] = vector_feature(np.zeros((48, 0)))
    every["unknown"] = scalar_feature(np.full(48, np.nan), span=1.0)
    chosen = TrainingSet(train.interactions, FeatureSet({name: every[name] for name in attributes}, 48), "chosen")
    found = predicted(chosen, chosen.cold_items)
    assert found.shape == (8,)
    assert np.isfinite(found).all()
    assert (np.ptp(found) > 0) == bool({"a", "year"} & set(attributes))


def test_no_click_at_all_is_refused():
    items = random_features(np.random.default_rng(0), 5)
    with pytest.raises(DataError, match="No item has a click"):
        learned(TrainingSet(sp.csr_array((3, 5), dtype=np.float32), items, "no click"))


def test_what_does_not_fit_in_memory_is_refused_before_it_is_made():
    train = random_training_set(11)
    with pytest.raises(CatalogTooLargeError, match=r"items by 1,000,000,000 trees needs .* Use fewer trees"):
        learned(train, trees=10**9)


def test_the_memory_of_a_forest_is_no_less_than_what_its_arrays_take():
    generator = np.random.default_rng(2)
    design = generator.standard_normal((300, 4)).astype(np.float32)
    regressor = ExtraTreesRegressor(8, min_samples_leaf=2, random_state=0).fit(design, generator.random(300))
    stored = sum(array.nbytes for array in Forest.of(regressor).arrays().values())
    assert 2 * stored < forest_bytes(300, 8, 2) < 20 * stored


def test_labels_that_say_nothing_are_not_believed():
    """Each label is on three items and clicks are random: trees that saw an item's own clicks in its labels' encodings
    would trust them."""
    generator = np.random.default_rng(12)
    labels = np.zeros((300, 450), np.float32)
    for label in range(450):
        labels[generator.choice(300, 3, replace=False), label] = 1
    train = popular({"label": vector_feature(labels)}, 3 + generator.normal(0, 1, 300), cold=100)
    spread = np.log1p(train.clicks[train.warm_items]).std()
    assert predicted(train, train.cold_items).std() < 0.12 * spread
