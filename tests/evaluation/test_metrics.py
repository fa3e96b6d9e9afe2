"""Every measure against its definition written out user by user in plain Python."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from coldray.core.errors import ConfigError, EmptyDatasetError
from coldray.evaluation import metrics as module
from coldray.evaluation.metrics import METRICS, ranking_metrics
from coldray.evaluation.ranking import Ranking, rank


def slow_measures(items, relevant, k):
    """Measure one list `items` (no padding) against the set `relevant`."""
    top = items[:k]
    ideal = min(k, len(relevant))
    ranks = [place for place, item in enumerate(top, start=1) if item in relevant]
    return {
        "hr": len(ranks) / ideal,
        "ndcg": sum(1 / math.log2(1 + r) for r in ranks) / sum(1 / math.log2(1 + r) for r in range(1, ideal + 1)),
        "recall": len(ranks) / len(relevant),
        "precision": len(ranks) / k,
        "map": sum((number + 1) / r for number, r in enumerate(ranks)) / ideal,
        "mrr": 1 / ranks[0] if ranks else 0.0,
    }


def ranking_of(lists, users=None):
    items = np.asarray(lists, np.int32)
    chosen = np.arange(len(items)) if users is None else users
    return Ranking(items, np.where(items < 0, -np.inf, 0).astype(np.float32), np.asarray(chosen, np.int32))


def random_problem(seed, n_users=17, n_items=30, list_length=12):
    generator = np.random.default_rng(seed)
    relevant = generator.random((n_users, n_items)) < generator.choice([0.02, 0.2, 0.9])
    relevant[0] = False
    relevant[1, 3] = True
    users = np.append(generator.permutation(n_users), generator.integers(n_users))
    lists = np.array([generator.permutation(n_items)[:list_length] for _ in users])
    for row, length in enumerate(generator.integers(0, 2 * list_length, len(users))):
        lists[row, length:] = -1
    return ranking_of(lists, users), relevant


@given(seed=st.integers(0, 2**32 - 1), block_bytes=st.sampled_from([1, 70, 2 << 20]))
def test_equals_the_definitions(seed, block_bytes):
    ranking, relevant = random_problem(seed)
    cutoffs = (1, 5, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block_bytes)
        found = ranking_metrics(ranking, sp.csr_array(relevant.astype(np.float32)), cutoffs, n_candidates=30)
    rows = [row for row, user in enumerate(ranking.users) if relevant[user].any()]
    assert found.users.tolist() == ranking.users[rows].tolist()
    assert set(found.per_user) == {f"{name}@{k}" for name in METRICS for k in cutoffs}
    means = found.means()
    for k in cutoffs:
        expected = [
            slow_measures(
                [item for item in ranking.items[row] if item >= 0], set(np.flatnonzero(relevant[ranking.users[row]])), k
            )
            for row in rows
        ]
        for name in METRICS:
            values = found.per_user[f"{name}@{k}"]
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, [one[name] for one in expected], rtol=1e-6)
            assert math.isclose(
                means[f"{name}@{k}"], math.fsum(one[name] for one in expected) / len(rows), rel_tol=1e-6
            )
        assert means[f"coverage@{k}"] == len({i for i in ranking.items[:, :k].ravel().tolist() if i >= 0}) / 30


WEIGHTS = st.lists(st.sampled_from([0.5, 1.0, 3.0, 20.0]), min_size=510, max_size=510)  # of 17 users and 30 items


@given(seed=st.integers(0, 2**32 - 1), weights=WEIGHTS, block_bytes=st.sampled_from([1, 500, 2 << 20]))
def test_graded_relevance_changes_ndcg_alone_and_as_it_is_defined(seed, weights, block_bytes):
    ranking, clicked = random_problem(seed)
    relevant = sp.csr_array(np.where(clicked, np.reshape(weights, clicked.shape), 0).astype(np.float32))
    cutoffs = (1, 5, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", block_bytes)
        found = ranking_metrics(ranking, relevant, cutoffs, n_candidates=30, graded=True)
    plain = ranking_metrics(ranking, relevant, cutoffs, n_candidates=30)
    dense = relevant.toarray()
    for name, values in found.per_user.items():
        if not name.startswith("ndcg"):
            np.testing.assert_array_equal(values, plain.per_user[name])
    for k in cutoffs:
        expected = []
        for items, user in zip(ranking.items, ranking.users, strict=True):
            worth = sorted(dense[user].tolist(), reverse=True)[:k]
            if worth[0] > 0:
                gains = [dense[user, item] if item >= 0 else 0.0 for item in items[:k]]
                dcg, ideal = (sum(g / math.log2(2 + r) for r, g in enumerate(one)) for one in (gains, worth))
                expected.append(dcg / ideal)
        np.testing.assert_allclose(found.per_user[f"ndcg@{k}"], expected, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), weight=st.sampled_from([0.25, 1.0, 3.0, 7.0]))
def test_weights_that_are_all_alike_grade_nothing(seed, weight):
    ranking, clicked = random_problem(seed)
    plain, graded = (
        ranking_metrics(
            ranking, sp.csr_array(clicked.astype(np.float32) * w), (1, 12), n_candidates=30, graded=w != 0.5
        )
        for w in (0.5, weight)
    )
    for name, values in plain.per_user.items():
        np.testing.assert_allclose(graded.per_user[name], values, rtol=1e-6)


def test_graded_lists_are_measured_as_scikit_learn_does():
    rng = np.random.default_rng(3)
    relevance = rng.choice([0, 0, 1, 2.5, 5], (40, 60)).astype(np.float32)
    relevance[:, 0] = 1
    scores = rng.permuted(np.arange(2400, dtype=np.float32).reshape(40, 60), axis=1)
    ranking = rank(
        lambda block: scores[: block.shape[0]], sp.csr_array((40, 60), dtype=np.float32), np.arange(60), k=25
    )
    found = ranking_metrics(ranking, sp.csr_array(relevance), (5, 25), n_candidates=60, graded=True).means()
    for k in (5, 25):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(relevance, scores, k=k), rel=1e-5)


def test_what_is_worth_most_comes_first_in_a_perfect_list():
    relevant = sp.csr_array(np.array([[1, 5, 0, 2]], np.float32))

    def ndcg(*items):
        return ranking_metrics(ranking_of([items]), relevant, (3,), n_candidates=4, graded=True).means()["ndcg@3"]

    assert ndcg(1, 3, 0) == 1
    assert 1 > ndcg(1, 0, 3) > ndcg(3, 1, 0) > ndcg(0, 3, 1) > 0
    with pytest.raises(ConfigError, match="worth -2 to its user"):
        ranking_metrics(ranking_of([[0]]), -relevant * 0.4, (1,), n_candidates=4, graded=True)


def test_measures_stay_between_zero_and_one_and_orders_hold():
    for seed in range(30):
        ranking, relevant = random_problem(seed)
        found = ranking_metrics(ranking, sp.csr_array(relevant.astype(np.float32)), (1, 4, 12), n_candidates=30)
        assert all(((values >= 0) & (values <= 1)).all() for values in found.per_user.values())
        for k in (1, 4, 12):
            assert (found.per_user[f"recall@{k}"] <= found.per_user[f"hr@{k}"]).all()
            assert (found.per_user[f"map@{k}"] <= found.per_user[f"hr@{k}"]).all()
        np.testing.assert_array_equal(found.per_user["hr@1"], found.per_user["mrr@1"])


def test_a_perfect_ranking_is_worth_exactly_one():
    relevant = sp.csr_array((np.random.default_rng(0).random((50, 200)) < 0.1).astype(np.float32))
    ranking = rank(lambda block: block.toarray(), relevant, np.arange(200), k=50)
    found = ranking_metrics(ranking, relevant, (1, 10, 25, 50), ("hr", "ndcg", "map", "mrr"), n_candidates=200)
    assert all((values == 1).all() for values in found.per_user.values())


def test_a_hit_one_place_later_is_worth_less():
    relevant = sp.csr_array(np.array([[0, 0, 0, 1, 0]], np.float32))
    first, second = (
        ranking_metrics(ranking_of([items]), relevant, (3,), n_candidates=5).means() for items in ([3, 0, 1], [0, 3, 1])
    )
    assert first == {
        **dict.fromkeys(("hr@3", "ndcg@3", "recall@3", "map@3", "mrr@3"), 1.0),
        "precision@3": pytest.approx(1 / 3),
        "coverage@3": 0.6,
    }
    assert second["hr@3"] == 1.0
    assert second["mrr@3"] == second["map@3"] == 0.5
    assert second["ndcg@3"] == pytest.approx(1 / math.log2(3))


def test_hr_is_truncated_recall_and_not_a_hit_indicator():
    relevant = sp.csr_array(np.ones((1, 20), np.float32))
    found = ranking_metrics(ranking_of([[5, -1, -1, -1]]), relevant, (4,), n_candidates=20).means()
    assert found["hr@4"] == 0.25
    assert found["recall@4"] == pytest.approx(0.05)


def test_ndcg_agrees_with_scikit_learn():
    generator = np.random.default_rng(4)
    scores = generator.permuted(np.tile(np.arange(60, dtype=np.float32), (40, 1)), axis=1)
    relevant = (generator.random((40, 60)) < 0.15).astype(np.float32)
    relevant[:, 0] = 1
    ranking = rank(lambda _: scores, sp.csr_array(relevant), np.arange(60), k=25, block_size=40)
    found = ranking_metrics(ranking, sp.csr_array(relevant), (3, 10, 25), ("ndcg",), n_candidates=60).means()
    for k in (3, 10, 25):
        assert found[f"ndcg@{k}"] == pytest.approx(ndcg_score(relevant, scores, k=k), rel=1e-6)


def test_padding_is_never_a_hit_even_if_the_last_item_is_relevant():
    relevant = sp.csr_array(np.array([[0, 0, 1]], np.float32))
    found = ranking_metrics(ranking_of([[0, -1, -1]]), relevant, (3,), n_candidates=3).means()
    assert found["hr@3"] == 0
    assert found["coverage@3"] == pytest.approx(1 / 3)


def test_users_without_relevant_items_are_left_out_but_their_lists_cover_items():
    relevant = sp.csr_array(np.array([[0, 0, 0], [0, 1, 0]], np.float32))
    found = ranking_metrics(ranking_of([[0], [1]]), relevant, (1,), ("hr",), n_candidates=4)
    assert found.users.tolist() == [1]
    assert found.means() == {"hr@1": 1.0, "coverage@1": 0.5}


def test_explicit_zeros_and_cells_stored_twice_do_not_count():
    relevant = sp.csr_array((np.array([0, 1, 1], np.float32), np.array([0, 1, 1]), np.array([0, 3, 3])), shape=(2, 3))
    found = ranking_metrics(ranking_of([[0, 1], [0, 1]]), relevant, (2,), ("recall", "precision"), n_candidates=3)
    assert found.users.tolist() == [0]
    assert found.means() == {"recall@2": 1.0, "precision@2": 0.5, "coverage@2": pytest.approx(2 / 3)}


def test_one_candidate_is_enough():
    found = ranking_metrics(ranking_of([[0]]), sp.csr_array(np.ones((1, 1), np.float32)), (1,), n_candidates=1)
    assert found.means()["coverage@1"] == found.means()["hr@1"] == 1


def test_nobody_with_relevant_items_is_an_error():
    with pytest.raises(EmptyDatasetError, match="None of the 2 ranked users"):
        ranking_metrics(ranking_of([[0], [1]]), sp.csr_array((2, 3), dtype=np.float32), (1,), n_candidates=3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cutoffs": (1, 3)}, "Cutoff 3 .* 2 places"),
        ({"cutoffs": (0,)}, "Cutoff 0"),
        ({"cutoffs": ()}, "no cutoff"),
        ({"names": ("ndgc",)}, "Unknown metric 'ndgc'. Did you mean 'ndcg'"),
        ({"n_candidates": 1}, "2 different items"),
        ({"n_candidates": 0}, "n_candidates is 0"),
        ({"relevant": sp.csr_array((1, 3))}, "user indices"),
        ({"relevant": sp.csr_array((2, 1))}, "item indices"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(changes, message):
    options = {
        "ranking": ranking_of([[0, 1], [1, 0]]),
        "relevant": sp.csr_array(np.ones((2, 3), np.float32)),
        "cutoffs": (1,),
        "n_candidates": 3,
    }
    with pytest.raises(ConfigError, match=message):
        ranking_metrics(**(options | changes))
