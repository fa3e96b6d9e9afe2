"""Evaluating a fitted model on a fold: who is asked, what competes, and lists that αβ merely merges anew."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.core.errors import EmptyDatasetError, NumericalError
from coldray.data.dataset import Dataset
from coldray.data.splits.items import _ColdItemFold
from coldray.experiments.evaluation import EvaluationFold, RankingCache, _rank_task, evaluate
from coldray.models.base import TrainingSet
from coldray.models.computations import Computations
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from contracts.problems import random_features, random_training_set


def fold_of(clicks, warm, held_out):
    clicks = np.asarray(clicks, np.float32)
    n_users, n_items = clicks.shape
    dataset = Dataset("small", np.arange(n_users), np.arange(n_items), sp.csr_array(clicks), {})
    return _ColdItemFold(dataset, np.asarray(warm, np.int32), np.asarray(held_out, np.int32), split=2, seed=42)


def task_of(fold):
    features = random_features(np.random.default_rng(0), fold.dataset.n_items)
    return EvaluationFold.of(fold, TrainingSet(fold.train, features, fold.name))


@pytest.fixture(scope="module")
def task():
    """Return a fold with 24 warm items, 7 held-out ones, and 3 cold ones that only compete."""
    clicks = random_training_set(0, n_users=40, n_warm=34, n_cold=0).interactions.toarray()
    order = np.random.default_rng(1).permutation(34)
    warm, held_out = np.sort(order[:24]), np.sort(order[24:31])
    for item in warm:
        clicks[item % 40, item] = 1
    return task_of(fold_of(clicks, warm, held_out))


class Fixed:
    """Scores every item by its place in a table, whatever the history, and counts the rankings."""

    cold_scale = 1.0

    def __init__(self, table, *, key=None):
        self.table, self.key, self.scored = np.asarray(table, np.float32), key, 0
        self.n_items = len(self.table)

    def ranking_key(self):
        return self.key

    def scorer(self, items):
        self.scored += 1
        return lambda histories: np.tile(self.table[items], (histories.shape[0], 1))


# ---- the task


def test_users_have_a_train_click_and_a_held_out_click():
    clicks = [
        [1, 0, 1, 0],
        [0, 0, 1, 1],  # nothing in train
        [1, 1, 0, 0],  # nothing held out
        [0, 1, 0, 1],  # only a cold item that is not held out
        [0, 1, 1, 0],
    ]
    fold = fold_of(clicks, warm=[0, 1], held_out=[2])
    task = task_of(fold)
    assert task.users.tolist() == [0, 4]
    assert task.users.dtype == np.int32
    assert task.held_out_items.tolist() == [2]
    assert task.held_out.toarray()[:, 2].tolist() == [1, 1, 0, 0, 1]
    assert task.held_out.toarray()[:, [0, 1, 3]].sum() == 0
    assert (task.split, task.seed) == (2, 42)


def test_a_fold_without_such_a_user_is_refused():
    with pytest.raises(EmptyDatasetError, match="seed 42 / split 2"):
        task_of(fold_of([[1, 0, 0], [0, 0, 1]], warm=[0, 1], held_out=[2]))


def test_a_sample_of_the_users_is_drawn_by_seed_and_split_and_nobody_else_is_looked_for():
    generator = np.random.default_rng(0)
    clicks = (generator.random((60, 8)) < 0.5).astype(int)
    fold = fold_of(clicks.tolist(), warm=[0, 1, 2, 3], held_out=[4, 5, 6])
    train = task_of(fold).train
    everybody = EvaluationFold.of(fold, train)
    sampled, again = (EvaluationFold.of(fold, train, limit=10) for _ in range(2))
    assert sampled.users.tolist() == again.users.tolist() == sorted(set(sampled.users.tolist()))
    assert len(sampled.users) == 10
    assert set(sampled.users) < set(everybody.users)
    kept = everybody.held_out.toarray()
    kept[np.setdiff1d(np.arange(60), sampled.users)] = 0
    np.testing.assert_array_equal(sampled.held_out.toarray(), kept)
    assert (sampled.train.interactions != everybody.train.interactions).nnz == 0
    other = EvaluationFold.of(replace(fold, seed=fold.seed + 1), train, limit=10)
    assert other.users.tolist() != sampled.users.tolist()
    assert EvaluationFold.of(fold, train, limit=10**6).users.tolist() == everybody.users.tolist()


# ---- ranking


def direct(model, task, candidates, k):
    """Sort the scores of every candidate; return items and scores."""
    users = task.train.interactions.toarray()[task.users]
    items = task.held_out_items if candidates == "cold" else np.arange(model.n_items)
    scores = model.score(sp.csr_array(users), items).astype(float)
    if candidates == "all":
        scores[users > 0] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, axis=1)
    return np.where(np.isfinite(best), items[order], -1), best


def assert_ranks(ranking, expected, k):
    """Compare; where two items score alike but for rounding, either may come first."""
    items, scores = expected
    width = min(k, items.shape[1])
    np.testing.assert_allclose(ranking.scores[:, :width], scores, rtol=1e-5, atol=1e-7)
    assert (ranking.items[:, width:] == -1).all()
    rounding = 1e-5 * np.abs(scores[np.isfinite(scores)]).max()
    edge = np.full((len(scores), 1), np.inf)
    finite = np.where(np.isfinite(scores), scores, np.finfo(float).min)
    apart = np.abs(np.diff(finite, axis=1)) > rounding
    apart = np.hstack([edge > 0, apart]) & np.hstack([apart, edge < 0])  # what would have come next is not known
    np.testing.assert_array_equal(ranking.items[:, :width][apart], items[apart])
    for row in ranking.items:
        listed = row[row >= 0]
        assert len(set(listed.tolist())) == len(listed)


@pytest.mark.parametrize("candidates", ["cold", "all"])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_merged_sides_equal_one_ranking_of_everything(task, candidates, k):
    """The lists of a whole grid of λ₁ and αβ, from two rankings for each λ₁."""
    cache, shared = RankingCache(), Computations()
    shown = set()
    for lambda_1 in (0.5, 200.0):
        for alpha, beta in ((1.0, 100.0), (0.1, 0.4), (3.0, 1.0), (1.0, 3.0), (1.0, 0.01)):
            model = MARec(MARecConfig(lambda_1=lambda_1, alpha=alpha, beta=beta, delta=1.0)).fit(task.train, shared)
            ranking = _rank_task(model, task, candidates=candidates, k=k, cache=cache)
            assert ranking.users.tolist() == task.users.tolist()
            assert ranking.items.shape == (len(task.users), k)
            assert_ranks(ranking, direct(model, task, candidates, k), k)
            alone = _rank_task(model, task, candidates=candidates, k=k)
            assert_ranks(alone, direct(model, task, candidates, k), k)
            shown.add(ranking.items.tobytes())
    if candidates == "all" and k == 5:
        assert len(shown) > 4, "αβ decides between warm and cold items"


@pytest.mark.parametrize("candidates", ["cold", "all"])
def test_a_model_that_promises_nothing_is_ranked_as_a_whole(task, candidates):
    cache = RankingCache()
    for lambda_0, beta in ((0.5, 0.02), (0.5, 0.08)):
        model = MARec(MARecConfig(lambda_0=lambda_0, beta=beta, delta=1.0)).fit(task.train)
        assert model.ranking_key() is None
        ranking = _rank_task(model, task, candidates=candidates, k=9, cache=cache)
        assert_ranks(ranking, direct(model, task, candidates, 9), 9)
    assert not cache._rankings


@pytest.mark.parametrize("key", [None, "same"])
def test_train_positives_are_never_shown_and_cold_items_compete(task, key):
    n_items = task.train.interactions.shape[1]
    model = Fixed(np.arange(n_items), key=key)
    everything = _rank_task(model, task, candidates="all", k=n_items)
    clicked = task.train.interactions.toarray()[task.users] > 0
    for row, mine in zip(everything.items, clicked, strict=True):
        allowed = np.flatnonzero(~mine)[::-1]
        assert row[: len(allowed)].tolist() == allowed.tolist()
        assert (row[len(allowed) :] == -1).all()
    cold = _rank_task(model, task, candidates="cold", k=7)
    assert (cold.items == task.held_out_items[::-1]).all()


def test_a_ranking_is_made_once_for_each_key_side_and_length(task):
    n_items, cache = task.train.interactions.shape[1], RankingCache()
    model = Fixed(np.arange(n_items), key="one")
    for _ in range(3):
        _rank_task(model, task, candidates="all", k=5, cache=cache)
    assert model.scored == 2
    _rank_task(model, task, candidates="cold", k=5, cache=cache)
    _rank_task(model, task, candidates="all", k=6, cache=cache)
    assert model.scored == 5
    other = Fixed(-np.arange(n_items), key="other")
    flipped = _rank_task(other, task, candidates="cold", k=7, cache=cache)
    assert (flipped.items == task.held_out_items).all()


def test_the_oldest_ranking_is_forgotten(task):
    cache = RankingCache(size=2)
    ranking = _rank_task(Fixed(np.arange(34)), task, candidates="cold", k=2)
    cache.put(("a",), ranking, 1.0)
    cache.put(("b",), ranking, 2.0)
    assert cache.get(("a",)) == (ranking, 1.0)
    cache.put(("c",), ranking, 3.0)
    assert cache.get(("b",)) is None, "it was used longest ago"
    assert cache.get(("a",)) == (ranking, 1.0)
    assert cache.get(("c",)) == (ranking, 3.0)


# ---- the metrics


def test_coverage_is_of_the_items_that_competed(task):
    """Of equal lists for all users, k items are shown; of lists without the train positives, more."""
    n_items = task.train.interactions.shape[1]
    model = Fixed(np.arange(n_items))
    cold = evaluate(model, task, candidates="cold", cutoffs=(2, 5))
    assert cold.coverage == {"coverage@2": pytest.approx(2 / 7), "coverage@5": pytest.approx(5 / 7)}
    shown = len(np.unique(_rank_task(model, task, candidates="all", k=5).items))
    everything = evaluate(model, task, candidates="all", cutoffs=(5,))
    assert everything.coverage == {"coverage@5": pytest.approx(shown / n_items)}
    assert cold.users.tolist() == task.users.tolist()


def test_a_model_that_knows_the_answer_is_perfect_and_its_opposite_is_not(task):
    """The most clicked held-out item is first; of its users, hr@1 is exactly their share."""
    counts = np.asarray(task.held_out.toarray()[task.users].sum(axis=0))
    best = int(counts.argmax())
    table = np.zeros(len(counts))
    table[best] = 1
    hit = task.held_out.toarray()[task.users, best] > 0
    metrics = evaluate(Fixed(table), task, candidates="cold", cutoffs=(1, 7))
    np.testing.assert_array_equal(metrics.per_user["hr@1"], hit)
    np.testing.assert_array_equal(metrics.per_user["hr@7"], np.ones(len(hit)))
    opposite = evaluate(Fixed(-table), task, candidates="cold", cutoffs=(6,))
    only = np.asarray(task.held_out.toarray()[task.users].sum(axis=1)) == hit
    assert (opposite.per_user["hr@6"][only & hit] == 0).all()
    assert opposite.means()["hr@6"] < 1


@pytest.mark.parametrize("first", [1.0, 3.0])
def test_a_scale_beyond_all_numbers_is_refused_whatever_was_ranked_before(task, first):
    """Which configurations a worker has seen is up to the cluster: what it kept must not decide what fails."""
    cache, shared = RankingCache(), Computations()

    def measured(alpha):
        model = MARec(MARecConfig(order=1, delta=5.0, alpha=alpha)).fit(task.train, shared)
        return evaluate(model, task, candidates="cold", cutoffs=(5,), cache=cache).means()

    before = measured(first)
    with pytest.raises(NumericalError, match="NaN"), np.errstate(over="ignore", invalid="ignore"):
        measured(1e300)
    assert measured(first) == before
