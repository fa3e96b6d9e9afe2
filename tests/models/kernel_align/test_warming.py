"""KernelAlign that takes clicks: from attributes alone to ridge regression on clicks, by dense algebra and by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import ConfigError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.explanation import CLICKS
from coldray.models.kernel_align.clickers import ClickerPopularity
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.linear.ease import EASE, EASEConfig
from contracts.problems import random_features, random_training_set, vector_feature
from contracts.recommender import ColdItemContract
from models.learned import noisy

QUICK = {"n_factors": 8, "steps": 10, "ridge": 2.0}
TAKES = KernelAlignConfig(**QUICK, click_ridge=2.0)


class TestKernelAlignThatTakesClicks(ColdItemContract):
    model = KernelAlign
    config = KernelAlignConfig(n_factors=12, subset=100, steps=25, ridge=1.0, click_ridge=2.0, popularity=0.3)


def warmed(train, seed=0, share=0.4):
    """Return the training set with random clicks on some of its cold items."""
    generator = np.random.default_rng(seed)
    clicks = train.interactions.toarray()
    for item in train.cold_items[::2]:
        clicks[:, item] = generator.random(len(clicks)) < share
    return TrainingSet(sp.csr_array(clicks), train.features, f"{train.key} warmed {seed}")


@pytest.fixture(scope="module")
def train():
    return random_training_set(7)


@pytest.fixture(scope="module")
def model(train):
    return KernelAlign(TAKES).fit(train)


def dense_columns(train, knowing, config):
    """Return the weights of all items on the warm ones by the formulas, in double precision ``[W, I]``."""
    warm = train.warm_items
    known = train.features.take(warm)
    covariance = knowing._covariance()
    m = noisy(covariance, known).astype(float)
    between = covariance.between(known, train.features).astype(float)
    means = np.linalg.solve(m, between)
    for j, item in enumerate(warm):  # each given all others, by what is left of the matrix without it
        rest = np.delete(np.arange(len(warm)), j)
        means[rest, item] = np.linalg.solve(m[np.ix_(rest, rest)], between[rest, item])
        means[j, item] = 0
    x = train.interactions.toarray()[:, warm].astype(float)
    n = x.sum(axis=0)
    d = (n + 5) ** -config.alpha
    a = d[:, None] * (x.T @ x) * d
    prior = d[:, None] * np.linalg.solve(a + config.ridge * np.mean(np.diag(a)) * np.eye(len(warm)), a @ means)
    return warm, x, n, prior, float(np.exp(np.log(d).mean()))


def test_scores_are_those_of_the_formulas_by_dense_algebra(train, model):
    """``κ/(n + κ) m + ŵ`` of new items, and of warm ones ridge without the item itself, solved for each alone."""
    after = warmed(train)
    knowing = model.with_clicks(after)
    warm, x, n, prior, unit = dense_columns(train, knowing, TAKES)
    lam, kappa = TAKES.click_ridge * n.mean(), TAKES.prior_clicks * n.mean()
    expected = prior.copy()
    for j, item in enumerate(warm):
        rest = np.delete(np.arange(len(warm)), j)
        others = x[:, rest]
        column = np.zeros(len(warm))
        column[rest] = np.linalg.solve(others.T @ others + lam * np.eye(len(rest)), others.T @ x[:, j])
        expected[:, item] = (kappa / (n[j] + kappa) * prior[:, item] + unit * column) / TAKES.new_weight
    clicked = after.interactions.toarray()
    for item, new in knowing._warming.new_items.items():
        own = clicked[:, item].astype(float)
        ridge = np.linalg.solve(x.T @ x + lam * np.eye(len(warm)), x.T @ own)
        share = kappa / (own.sum() + kappa)
        expected[:, item] = (share * prior[:, item] + unit * ridge) * np.exp(TAKES.clickers * new.rise)
    scores = knowing.score(after.interactions, np.arange(knowing.n_items))
    np.testing.assert_allclose(scores, x @ expected, atol=3e-4 * np.abs(scores).max())
    assert len(knowing._warming.new_items) == len(train.cold_items[::2])


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), popularity=st.sampled_from([0.0, 0.2]))
def test_without_clicks_new_items_score_as_by_attributes_and_with_many_as_by_ridge(seed, popularity):
    train = random_training_set(seed % 7, n_users=20)
    plain = KernelAlign(KernelAlignConfig(**QUICK, popularity=popularity)).fit(train)
    config = KernelAlignConfig(**QUICK, popularity=popularity, click_ridge=2.0, new_weight=1.0, clickers=0.0)
    model = KernelAlign(config).fit(train)
    before = plain.score(train.interactions, train.cold_items)
    found = model.with_clicks(train).score(train.interactions, train.cold_items)
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-6 * np.abs(before).max())
    if popularity == 0:
        np.testing.assert_array_equal(found, before)
    after = warmed(train, seed)
    sure = model.config.model_copy(update={"prior_clicks": 1e-9})  # so that any click is as many as one likes
    knowing = KernelAlign(sure).fit(train).with_clicks(after)
    clicks = train.interactions.toarray().astype(float)
    lam = 2.0 * clicks[:, train.warm_items].sum(axis=0).mean()
    new = np.array(list(knowing._warming.new_items))
    x = clicks[:, train.warm_items]
    expected = x @ np.linalg.solve(x.T @ x + lam * np.eye(x.shape[1]), x.T @ after.interactions.toarray()[:, new])
    unit = knowing._warming.balance.unit
    scale = max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(knowing.score(train.interactions, new) / unit / scale, expected / scale, atol=1e-3)
    ease = EASE(EASEConfig(regularization=lam)).fit(train).score(train.interactions, train.warm_items)
    scores = knowing.score(train.interactions, train.warm_items) / unit
    np.testing.assert_allclose(scores, ease, atol=1e-3 * np.abs(ease).max())


@pytest.mark.parametrize("n_users", [30, 12])
def test_both_sides_of_the_factor_give_the_same(n_users):
    """With fewer users than items the users' side is factorised; the columns are those of the items' side."""
    train = random_training_set(7, n_users=n_users)
    after = warmed(train)
    model = KernelAlign(TAKES).fit(train)
    warming = model.with_clicks(after)._warming
    x = train.interactions.toarray()[:, train.warm_items].astype(float)
    lam = TAKES.click_ridge * x.sum(axis=0).mean()
    own = after.interactions.toarray()[:, list(warming.new_items)]
    expected = np.linalg.solve(x.T @ x + lam * np.eye(x.shape[1]), x.T @ own)
    columns = np.stack([new.column for new in warming.new_items.values()], axis=1)
    np.testing.assert_allclose(columns, expected, atol=1e-4 * np.abs(expected).max())


def test_a_click_moves_its_item_alone_and_clicks_are_replaced_not_added(train, model):
    after = warmed(train)
    once = model.with_clicks(after)
    twice = once.with_clicks(after)
    items = np.arange(model.n_items)
    before, scores = (one.score(train.interactions, items) for one in (model, once))
    np.testing.assert_array_equal(twice.score(train.interactions, items), scores)
    new = np.isin(items, train.cold_items[::2])
    np.testing.assert_allclose(scores[:, ~new], before[:, ~new], rtol=1e-5, atol=1e-7)
    assert (np.abs(scores[:, new] - before[:, new]).max(axis=0) > 1e-4).all()
    forgotten = once.with_clicks(train)
    np.testing.assert_allclose(forgotten.score(train.interactions, items), before, rtol=1e-5, atol=1e-7)


@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_clicks_that_come_one_by_one_say_what_all_at_once_say(train, model, seed):
    """In whatever order and bits they come; a bit is told with the clicks of its items alone, not of all."""
    generator = np.random.default_rng(seed)
    after = warmed(train, seed)
    matrix = after.interactions.toarray()
    pairs = [(user, item) for item in train.cold_items for user in np.flatnonzero(matrix[:, item])]
    generator.shuffle(pairs)
    knowing, items = model, np.arange(model.n_items)
    clicks = train.interactions.toarray()
    for start in range(0, len(pairs), 7):
        some = pairs[start : start + 7]
        clicks[tuple(np.transpose(some))] = 1
        told = np.unique([item for _, item in some])
        others = np.setdiff1d(train.cold_items, told)
        rows = clicks[(clicks[:, told] > 0).any(axis=1)]
        rows[:, others] = 0  # who clicked what else is no news
        before = knowing.score(train.interactions, items)
        knowing = knowing.with_clicks_on(told, sp.csr_array(rows))
        rest = np.setdiff1d(items, told)
        found = knowing.score(train.interactions, items)
        np.testing.assert_allclose(found[:, rest], before[:, rest], rtol=1e-6, atol=1e-7)
    expected = model.with_clicks(after).score(train.interactions, items)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    fresh = KernelAlign.from_state(knowing.config, knowing.state(), train.features)
    np.testing.assert_allclose(fresh.score(train.interactions, items), expected, atol=1e-5 * np.abs(expected).max())


def test_a_few_columns_do_not_take_the_place_of_all_that_are_held(train):
    """To explain an item is no reason to make the weights of a whole catalogue again when the next item comes."""
    model = KernelAlign(TAKES).fit(train)
    model.score(train.interactions, np.arange(model.n_items))
    held = [one.smoothed._held for one in (model._require(), model._warming)]
    model.explain(train.interactions[[0]], int(train.warm_items[3]))
    model.with_clicks(warmed(train)).score(train.interactions, np.arange(model.n_items))
    assert [one.smoothed._held for one in (model._require(), model._warming)] == held


def test_more_clicked_items_than_a_block_holds_have_their_own_columns_each():
    train = random_training_set(3, n_cold=70)
    model = KernelAlign(TAKES).fit(train)
    matrix = train.interactions.toarray()
    matrix[np.arange(140) % len(matrix), np.repeat(train.cold_items, 2)] = 1
    knowing = model
    for start in (0, 3, 40):  # the last 30 are told twice
        some = train.cold_items[start:]
        knowing = knowing.with_clicks_on(some, sp.csr_array(matrix))
        knowing.score(train.interactions, train.cold_items)
    blocks = knowing._warming.latest._latest[1].blocks
    assert [len(places) for places, _ in blocks] == [64, 6]
    alone = np.hstack(
        [
            model.with_clicks_on(np.array([item]), sp.csr_array(matrix)).score(train.interactions, np.array([item]))
            for item in train.cold_items
        ]
    )
    found = knowing.score(train.interactions, train.cold_items)
    np.testing.assert_allclose(found, alone, atol=1e-5 * np.abs(alone).max())


def test_explanations_add_up_for_warm_new_and_untouched_items(train, model):
    after = warmed(train)
    knowing = model.with_clicks(after)
    history = train.interactions[[2]]
    for item in (train.warm_items[0], train.cold_items[0], train.cold_items[1]):
        found = knowing.explain(history, int(item))
        expected = knowing.score(history, np.array([item]))[0, 0]
        assert found.score == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert sum(found.by_part.values()) == pytest.approx(found.score, rel=1e-6)
        assert (abs(found.by_part[CLICKS]) > 1e-6) == (item != train.cold_items[1])


def test_what_is_known_survives_added_items_and_storage(train, model):
    knowing = model.with_clicks(warmed(train))
    new = random_features(np.random.default_rng(1), 2)
    extended = knowing.add_items(new)
    history = sp.csr_array(sp.hstack([train.interactions, sp.csr_array((30, 2), dtype=np.float32)], format="csr"))
    scores = extended.score(history, np.arange(extended.n_items))
    known = knowing.score(train.interactions, np.arange(knowing.n_items))
    np.testing.assert_allclose(scores[:, : knowing.n_items], known, rtol=1e-5, atol=1e-7)
    again = KernelAlign.from_state(extended.config, extended.state(), train.features.append(new))
    np.testing.assert_allclose(again.score(history, np.arange(again.n_items)), scores, rtol=1e-5, atol=1e-7)
    clicked = history.toarray()
    clicked[:9, -1] = 1
    later = TrainingSet(sp.csr_array(clicked), train.features.append(new), "added and clicked")
    moved = again.with_clicks(later).score(history, np.array([again.n_items - 2, again.n_items - 1]))
    np.testing.assert_allclose(moved[:, 0], scores[:, -2], rtol=1e-5)
    assert np.abs(moved[:, 1] - scores[:, -1]).max() > 1e-4


def test_a_user_counts_once_whatever_is_sent(train, model):
    """Values of repeated clicks are told apart from one by nobody: a flood by one user is one click."""
    after = warmed(train)
    flood = after.interactions.copy()
    cold = np.isin(flood.indices, train.cold_items)
    flood.data[cold] = 50
    flooded = model.with_clicks(TrainingSet(flood, train.features, "a flood"))
    items = train.cold_items
    expected = model.with_clicks(after).score(train.interactions, items)
    np.testing.assert_allclose(flooded.score(train.interactions, items), expected, rtol=1e-5)


def test_who_clicked_tells_popular_items_from_others():
    """Planted: some people click popular items alone, others all; two new items have eight clicks each."""
    generator = np.random.default_rng(0)
    popularity = np.concatenate([np.exp(generator.uniform(np.log(0.02), np.log(0.7), 60)), [0.65, 0.05]])
    follows = (generator.random(300) < 0.6)[:, None]
    clicks = generator.random((300, 62)) < np.where(follows, 0.3 * (popularity > 0.2), popularity)
    known = clicks.astype(np.float32)
    known[:, 60:] = 0
    features = FeatureSet({"a": vector_feature(generator.random((62, 5)) < 0.4)}, 62)
    model = KernelAlign(TAKES).fit(TrainingSet(sp.csr_array(known), features, "a crowd"))
    for item in (60, 61):
        known[generator.permutation(np.flatnonzero(clicks[:, item]))[:8], item] = 1
    knowing = model.with_clicks(TrainingSet(sp.csr_array(known), features, "a crowd after eight"))
    popular, rare = (knowing._warming.new_items[item].rise for item in (60, 61))
    assert popular > 1 > 0 > rare
    assert knowing._warming.popularity.line[1] > 0


def test_the_rise_is_the_gaussian_posterior_by_hand(train, model):
    learned = model._warming.popularity
    after = warmed(train)
    knowing = model.with_clicks(after)._warming
    weights = model._require()
    x = train.interactions.toarray()[:, train.warm_items]
    y = np.log1p(x.sum(axis=0))
    np.testing.assert_allclose(learned.log_clicks, y)
    (a, b), (between, spread), v = learned.line, learned.noise, learned.unknown
    for item, new in knowing.new_items.items():
        means = [
            float(x[u] @ y / x[u].sum()) for u in np.flatnonzero(after.interactions.toarray()[:, item]) if x[u].any()
        ]
        place = int(np.flatnonzero(train.cold_items == item)[0])
        m = y.mean() + (y - y.mean()) @ weights.cold_means[:, place]
        precision = 1 / v + b**2 / (between + spread / len(means))
        posterior = (m / v + b * (np.mean(means) - a) / (between + spread / len(means))) / precision
        assert new.rise == pytest.approx(posterior - m, rel=1e-4, abs=1e-6)


def test_what_the_attributes_miss_is_measured_without_the_item_itself(train, model):
    """The mean square of each log click less the conditional mean given all others, solved without it."""
    known = train.features.take(train.warm_items)
    m = noisy(model._covariance(), known).astype(float)
    y = np.log1p(train.clicks[train.warm_items].astype(float))
    errors = []
    for j in range(len(y)):
        rest = np.delete(np.arange(len(y)), j)
        said = y.mean() + m[j, rest] @ np.linalg.solve(m[np.ix_(rest, rest)], y[rest] - y.mean())
        errors.append((y[j] - said) ** 2)
    assert model._warming.popularity.unknown == pytest.approx(np.mean(errors), rel=1e-3)


def test_where_all_items_are_as_popular_clickers_tell_nothing():
    features = random_features(np.random.default_rng(0), 8)
    clicks = np.kron(np.eye(4), np.ones((3, 2))).astype(np.float32)  # three clicks on each of eight items
    clicks[:, 7] = 0
    even = TrainingSet(sp.csr_array(clicks), features, "even")
    model = KernelAlign(TAKES).fit(even)
    clicks[2:9, 7] = 1
    knowing = model.with_clicks(TrainingSet(sp.csr_array(clicks), features, "even after seven"))
    assert model._warming.popularity.line[1] == 0
    assert [new.rise for new in knowing._warming.new_items.values()] == [0]
    assert ClickerPopularity.from_state(model._warming.popularity.state()).line == model._warming.popularity.line


def test_the_form_that_does_not_look_at_clicks_is_refused():
    with pytest.raises(ConfigError, match=r"click_ridge=2 .* form='inducing'.*leave click_ridge out"):
        KernelAlignConfig(click_ridge=2.0, form="inducing")


def test_clicks_on_items_that_the_model_does_not_know_are_refused(train, model):
    wider = random_training_set(7, n_cold=9)
    with pytest.raises(ConfigError, match=r"on 31 items, and the model knows 30\. Add new items first \(add_items\)"):
        model.with_clicks(wider)


def test_clicks_need_their_ridge(train):
    model = KernelAlign(KernelAlignConfig(**QUICK)).fit(train)
    assert not model.takes_clicks
    with pytest.raises(NotImplementedError, match="KernelAlign"):
        model.with_clicks(warmed(train))
