"""ContentKNN: neighbours and scores against slow loops, its parameters, and the contract of all models."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import CatalogTooLargeError, ConfigError, DataError
from coldray.features.feature_set import FeatureSet, ScalarFeature
from coldray.models.base import TrainingSet
from coldray.models.neighbours.content import ContentKNN, ContentKNNConfig
from contracts.problems import genre_groups, random_features, random_training_set, vector_feature
from contracts.recommender import ColdItemContract, all_items, histories_of
from models.learned import CountingComputations


class TestContentKNN(ColdItemContract):
    model = ContentKNN
    config = ContentKNNConfig(k=12)


class TestNormalisedContentKNN(ColdItemContract):
    model = ContentKNN
    config = ContentKNNConfig(k=15, idf=False, delta=0.5, normalisation=1.0, alpha=0.3, user_normalisation=True)


def similarities(items, warm, config):
    """Return the similarity of each item to each warm item, from the formula."""
    parts = {name: compared(feature, warm.features[name], config) for name, feature in items.features.items()}
    weights = {name: config.weights.get(name, 1.0) for name in parts}
    return sum(weights[name] * part for name, part in parts.items()) / sum(weights.values())


def compared(items, warm, config):
    """Return the similarity in one attribute, cell by cell."""
    if isinstance(items, ScalarFeature):
        nearness = [[max(1 - abs(x - z) / warm.span, 0) for z in warm.values] for x in items.values]
        return np.nan_to_num(nearness)
    left, right = (feature.matrix.toarray().astype(float) for feature in (items, warm))
    if config.idf and (warm.matrix.data == 1).all():
        rarity = np.log((len(right) + 1) / ((right > 0).sum(axis=0) + 1))
        left, right = left * rarity, right * rarity
    return np.array([[x @ z / (np.linalg.norm(x) * np.linalg.norm(z) + config.delta) for z in right] for x in left])


def reference(train, config, histories):
    """Return the scores of all items, one by one."""
    warm, clicks = train.warm_items, histories.toarray()
    similar = similarities(train.features, train.features.take(warm), config)
    scores = np.zeros(clicks.shape)
    for i, found in enumerate(similar):
        found[warm == i] = -np.inf
        order = [j for j in np.argsort(-found, kind="stable")[: config.k] if warm[j] != i]
        total = found[order].sum() ** config.normalisation
        for j in order:
            scores[:, i] += clicks[:, warm[j]] * (train.clicks[warm[j]] + 5.0) ** -config.alpha * found[j] / total
    if config.user_normalisation:
        scores /= np.maximum(clicks.sum(axis=1), 1)[:, None]
    return scores


@settings(max_examples=15)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 30),
    idf=st.booleans(),
    delta=st.floats(0.1, 5),
    normalisation=st.sampled_from([0.0, 0.5, 1.0]),
    alpha=st.sampled_from([0.0, 0.4]),
    user_normalisation=st.booleans(),
)
def test_scores_are_those_of_the_formula(seed, **parameters):
    # Real-valued vectors: labels tie, and rounding then decides which of two equal neighbours is kept.
    generator = np.random.default_rng(seed)
    train = random_training_set(seed % 1000, n_users=8, n_warm=14, n_cold=4)
    features = dict(train.features.features)
    features["a"] = vector_feature(generator.random((18, 3)) + 0.05)
    features["year"] = ScalarFeature(np.where(generator.random(18) < 0.1, np.nan, generator.random(18)), 0.7)
    train = TrainingSet(train.interactions, FeatureSet(features, 18), f"knn {seed}")
    config = ContentKNNConfig(weights={"b": 0.5}, **parameters)
    scores = ContentKNN(config).fit(train).score(train.interactions, np.arange(18))
    np.testing.assert_allclose(scores, reference(train, config, train.interactions), rtol=2e-4, atol=1e-6)


def twins(labels):
    """Return items with these labels; one user an item but the last, which is cold."""
    n_items = len(labels)
    clicks = np.eye(n_items, dtype=np.float32)[:-1]
    return TrainingSet(sp.csr_array(clicks), FeatureSet({"label": vector_feature(labels)}, n_items), "twins")


def test_the_one_neighbour_of_an_item_is_its_twin_and_never_itself():
    labels = np.eye(4)[[0, 1, 0, 1, 2, 1]]
    train = twins(labels)
    scores = ContentKNN(ContentKNNConfig(k=1)).fit(train).score(train.interactions, np.arange(6))
    np.testing.assert_array_equal(np.argwhere(scores[:, :5] > 0), [[0, 2], [1, 3], [2, 0], [3, 1]])
    assert scores[:, 5].argmax() == 1  # of two equal ones the first
    assert np.count_nonzero(scores[:, 5]) == 1


def test_a_rare_label_in_common_counts_more_than_a_frequent_one():
    frequent, rare = np.array([1, 1, 1, 1, 0, 1.0]), np.array([0, 0, 0, 0, 1, 1.0])
    train = twins(np.column_stack([frequent, rare]))
    weighted, plain = (ContentKNN(ContentKNNConfig(k=5, idf=idf)).fit(train) for idf in (True, False))
    last = np.array([5])
    rare_first, alike = (model.score(train.interactions, last).ravel() for model in (weighted, plain))
    assert rare_first[4] > 2 * rare_first[0] > 0
    assert alike[4] == pytest.approx(alike[0])


def test_an_attribute_without_weight_is_not_read():
    train = random_training_set(5)
    rest = {name: feature for name, feature in train.features.features.items() if name != "b"}
    without = FeatureSet(rest, train.features.n_items)
    blind = TrainingSet(train.interactions, without, "without b")
    found = ContentKNN(ContentKNNConfig(k=6, weights={"b": 0.0})).fit(train)
    expected = ContentKNN(ContentKNNConfig(k=6)).fit(blind)
    items = all_items(found)
    np.testing.assert_allclose(
        found.score(train.interactions, items), expected.score(train.interactions, items), rtol=1e-5
    )


def test_learned_weights_prefer_the_attribute_that_clicks_follow():
    train, genres = genre_groups()
    model = ContentKNN(ContentKNNConfig(weights="correlation")).fit(train)
    weights = dict(zip(train.features.features, model.state()["weights"], strict=True))
    assert weights["genre"] > 2 * weights["noise"]
    equal = ContentKNN(ContentKNNConfig()).fit(train)
    own = genres[train.cold_items] == np.arange(36)[:, None] // 12
    learned, plain = (each.score(train.interactions, train.cold_items) for each in (model, equal))
    assert learned[~own].mean() / learned[own].mean() < 0.7 * plain[~own].mean() / plain[own].mean()


@pytest.mark.parametrize("weights", ["equal", "correlation", {"a": 3.0}])
def test_an_added_item_scores_like_a_cold_one_with_its_attributes(weights):
    train = random_training_set(10)
    model = ContentKNN(ContentKNNConfig(k=10, weights=weights)).fit(train)
    extended = model.add_items(train.features.take(train.cold_items))
    scores = extended.score(histories_of(train.warm_items[:9], n_items=38), np.arange(38))
    np.testing.assert_allclose(scores[:, 30:], scores[:, train.cold_items], rtol=1e-6)
    assert scores.max() > 0


def test_the_order_of_a_list_is_the_same_with_user_normalisation():
    train = random_training_set(6)
    plain, divided = (
        ContentKNN(ContentKNNConfig(k=8, user_normalisation=flag)).fit(train).score(train.interactions, np.arange(30))
        for flag in (False, True)
    )
    np.testing.assert_allclose(divided * train.interactions.sum(axis=1)[:, None], plain, rtol=1e-5)


def test_neighbours_are_found_alike_in_blocks(monkeypatch):
    train = random_training_set(7)
    whole = ContentKNN(ContentKNNConfig(k=9)).fit(train).state()
    monkeypatch.setattr("coldray.models.neighbours.content._ITEMS_PER_BLOCK", 7)
    parts = ContentKNN(ContentKNNConfig(k=9)).fit(train).state()
    np.testing.assert_array_equal(parts["neighbours"], whole["neighbours"])
    np.testing.assert_allclose(parts["similarities"], whole["similarities"], rtol=1e-6)


def test_trials_that_differ_in_what_is_summed_share_the_neighbours():
    train, shared = random_training_set(8), CountingComputations()
    for normalisation in (0.0, 1.0):
        for alpha in (0.0, 0.2):
            ContentKNN(ContentKNNConfig(normalisation=normalisation, alpha=alpha)).fit(train, shared)
    assert len(shared.computed["neighbours"]) == 1


def test_one_warm_item_and_no_attribute_at_all():
    clicks = sp.csr_array(np.array([[1, 0], [1, 0]], np.float32))
    alone = TrainingSet(clicks, FeatureSet({"label": vector_feature(np.ones((2, 1)))}, 2), "one warm item")
    assert np.isfinite(ContentKNN().fit(alone).score(clicks, np.arange(2))).all()
    blank = TrainingSet(clicks, FeatureSet({"label": vector_feature(np.zeros((2, 0)))}, 2), "blank")
    assert (ContentKNN().fit(blank).score(clicks, np.arange(2)) == 0).all()


def test_a_wrong_name_among_the_weights_is_told():
    train = random_training_set(9)
    model = ContentKNN(ContentKNNConfig(weights={"yeer": 2.0}))
    with pytest.raises(ConfigError, match=r"'yeer'.*year"):
        model.fit(train)
    with pytest.raises(ConfigError, match=r"'yeer'.*year"):
        model.check_attributes({"year": "number"})


def test_nothing_to_learn_from_and_too_much_of_it():
    items = random_features(np.random.default_rng(0), 5)
    with pytest.raises(DataError, match="No item has a click"):
        ContentKNN().fit(TrainingSet(sp.csr_array((3, 5), dtype=np.float32), items, "no click"))
    with pytest.raises(CatalogTooLargeError, match="neighbours of 1,000,000,000 items"):
        ContentKNN().check_size(10, 10**9)
