"""LinUCB and Thompson sampling, held against slow references that go event by event."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from coldray.serving.exploration.explore import _BetaThompson, _LinUCB, _Pool
from coldray.serving.exploration.outcomes import contexts, on_grid

N_ITEMS, WIDTH = 6, 3
VECTORS = on_grid(np.random.default_rng(0).uniform(-1, 1, (N_ITEMS, WIDTH))).astype(np.float32)


@st.composite
def events(draw):
    """Return the item, the context and the click of some events."""
    share = st.integers(0, 1024).map(lambda number: number / 1024)
    rows = draw(st.lists(st.tuples(st.integers(0, N_ITEMS - 1), share, share, st.booleans()), max_size=25))
    return [(item, contexts(np.array([score]), history)[0], clicked) for item, score, history, clicked in rows]


def sums_of(found):
    """Return items and their sums, as bandits take them."""
    items = sorted({item for item, _, _ in found})
    sums = [sum(np.outer(y, y) for other, c, r in found if other == item for y in [np.append(c, r)]) for item in items]
    return np.array(items, np.intp), np.array(sums)


def pool(items, scores, history=0.5, draw=0):
    scores = np.asarray(scores, np.float32)
    return _Pool(np.asarray(items), scores, contexts(on_grid(scores), history), draw)


def upper_bounds(found, asked, alpha, ridge, own_ridge):
    """Return the bounds by an explicit inverse an event, each item having a column of its own besides all others."""

    def features(item, context):
        return np.concatenate([VECTORS[item], context, np.eye(N_ITEMS)[item]])

    ridges = np.concatenate([np.full(WIDTH + 3, ridge), np.full(N_ITEMS, own_ridge)])
    A, b = np.diag(ridges), np.zeros(len(ridges))
    b[WIDTH + 1] = ridge  # the score, after the one
    inverse = np.linalg.inv(A)
    for item, context, clicked in found:
        x = features(item, context)
        A = A + np.outer(x, x)
        b = b + float(clicked) * x
        inverse = np.linalg.inv(A)
    asked = [features(*row) for row in zip(asked.items, asked.contexts, strict=True)]
    return [x @ inverse @ b + alpha * np.sqrt(x @ inverse @ x) for x in asked]


@given(events(), st.floats(0, 3), st.floats(0.01, 10), st.floats(0.01, 100), st.integers(0, 25))
def test_the_bounds_are_those_of_a_regression_made_anew_with_each_event(found, alpha, ridge, own_ridge, cut):
    bandit = _LinUCB(VECTORS, alpha=alpha, ridge=ridge, own_ridge=own_ridge)
    for part in (found[:cut], found[cut:]):
        if part:
            bandit.add(*sums_of(part))
            bandit.settle()
    asked = pool([4, 0, 2, 5], [0.9, 0.4, 0.1, -0.3])
    expected = upper_bounds(found, asked, alpha, ridge, own_ridge)
    np.testing.assert_allclose(bandit.values(asked), expected, rtol=1e-7, atol=1e-8)


def test_before_any_feedback_the_order_is_the_models():
    alike = _LinUCB(np.full((N_ITEMS, WIDTH), 0.5, np.float32), alpha=0.3, ridge=1.0, own_ridge=10.0)
    scores = [0.9, 0.5, 0.4, 0.1]
    values = alike.values(pool([3, 1, 2, 0], scores))
    assert values.tolist() == sorted(values, reverse=True)
    certain = _LinUCB(VECTORS, alpha=0.0, ridge=1.0, own_ridge=10.0)
    np.testing.assert_allclose(certain.values(pool([3, 1, 2, 0], scores)), scores, atol=1 / 1024)


def outcomes(item, n_shown, n_clicked, score=0.5):
    context = contexts(np.array([score]), 0.5)[0]
    return [(item, context, place < n_clicked) for place in range(n_shown)]


def test_what_is_tried_often_is_known_and_what_is_not_is_worth_a_try():
    vectors = np.eye(3, dtype=np.float32)
    bandit = _LinUCB(vectors, alpha=1.0, ridge=1.0, own_ridge=10.0)
    bandit.add(*sums_of(outcomes(0, 40, 20) + outcomes(1, 4, 2)))
    bandit.settle()
    asked = pool([0, 1, 2], [0.5, 0.5, 0.5])
    optimistic = bandit.values(asked)
    assert optimistic[0] < optimistic[1] < optimistic[2]
    bandit.add(*sums_of(outcomes(2, 40, 0)))
    bandit.settle()
    assert bandit.values(asked)[2] < min(bandit.values(asked)[:2])


def test_what_is_learned_of_an_item_is_learned_of_those_like_it_until_they_differ():
    vectors = np.array([[1, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    bandit = _LinUCB(vectors, alpha=0.1, ridge=1.0, own_ridge=10.0)
    asked = pool([0, 1, 2], [0.5, 0.5, 0.5])
    bandit.add(*sums_of(outcomes(0, 30, 27) + outcomes(2, 30, 0)))
    bandit.settle()
    first, twin, other = bandit.values(asked)
    assert first > twin > other + 0.3
    bandit.add(*sums_of(outcomes(1, 60, 0)))
    bandit.settle()
    first, twin, other = bandit.values(asked)
    assert first > twin + 0.3


@given(events(), st.integers(0, 5), st.integers(0, 1000))
def test_shares_are_drawn_from_the_counts_of_each_item(found, seed, draw):
    a, b = 2.0, 8.0
    bandit = _BetaThompson(N_ITEMS, prior=(a, b), seed=seed)
    for part in (found[::2], found[1::2]):
        if part:
            bandit.add(*sums_of(part))
            bandit.settle()
    asked = pool([1, 4, 3], [0.8, 0.5, -0.2], draw=draw)
    generator, expected = np.random.default_rng([seed, draw]), []
    for item, standing in zip([1, 4, 3], [1.0, 0.7, 0.0], strict=True):
        clicks = sum(clicked for other, _, clicked in found if other == item)
        misses = sum(not clicked for other, _, clicked in found if other == item)
        prior = a * (0.1 + 0.9 * standing)
        expected.append(generator.beta(prior + clicks, a + b - prior + misses))
    np.testing.assert_allclose(bandit.values(asked), expected, rtol=1e-6)


def test_draws_are_about_the_share_of_clicks_and_closer_the_more_is_known():
    bandit = _BetaThompson(3, prior=(1.0, 9.0), seed=0)
    bandit.add(*sums_of(outcomes(0, 1000, 300) + outcomes(1, 10, 3)))
    drawn = np.array([bandit.values(pool([0, 1, 2], [1.0, 1.0, 1.0], draw=draw)) for draw in range(2000)])
    np.testing.assert_allclose(drawn.mean(axis=0), [301 / 1010, 4 / 20, 1 / 10], atol=0.01)
    assert drawn.std(axis=0)[0] < 0.02 < drawn.std(axis=0)[1] < drawn.std(axis=0)[2]


def test_a_draw_is_given_by_its_number_and_the_seed():
    first, second = (_BetaThompson(4, prior=(1.0, 1.0), seed=7) for _ in range(2))
    other = _BetaThompson(4, prior=(1.0, 1.0), seed=8)
    scores, items = [0.4, 0.3, 0.2, 0.1], [0, 1, 2, 3]
    assert first.values(pool(items, scores, draw=5)).tolist() == second.values(pool(items, scores, draw=5)).tolist()
    assert first.values(pool(items, scores, draw=5)).tolist() != first.values(pool(items, scores, draw=6)).tolist()
    assert first.values(pool(items, scores, draw=5)).tolist() != other.values(pool(items, scores, draw=5)).tolist()
