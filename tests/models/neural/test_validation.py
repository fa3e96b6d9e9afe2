"""Held-out clicks: which they are, and the ndcg of lists held against them, by plain loops."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

from coldray.models.neural.validation import _CUTOFF, Validation, hold_out_clicks, hold_out_items
from contracts.problems import clicks_alone, random_ratings, random_training_set

EVERYBODY = 1000
seeds = st.integers(0, 10_000)
each = pytest.mark.parametrize("hold_out", [hold_out_clicks, hold_out_items])


def problem(seed=0, **sizes):
    return random_training_set(seed, **{"n_users": 25, "n_warm": 20, "n_cold": 4, **sizes})


def held_out_of(train, rest):
    """Return the clicks ``[U, I]`` that are no longer there."""
    return train.interactions.toarray() - rest.interactions.toarray()


@each
@given(seed=seeds, share=st.floats(0.05, 0.5), most=st.sampled_from([1, 6, EVERYBODY]))
def test_what_is_left_and_what_is_asked_about_make_up_the_clicks(hold_out, seed, share, most):
    train = problem(seed % 5)
    untouched = train.interactions.toarray()
    rest, validation = hold_out(train, share, most, np.random.default_rng(seed))
    np.testing.assert_array_equal(train.interactions.toarray(), untouched)
    assume(validation is not None)
    assert 0 < len(validation) <= most
    held = held_out_of(train, rest)
    assert set(np.unique(held)) == {0, 1}
    assert rest.features is train.features
    assert rest.key != train.key
    assert rest.interactions.nnz == (rest.interactions.toarray() != 0).sum()
    # Users can be told by what they clicked: each one asked about is a user with both parts.
    whole = [tuple(row) for row in train.interactions.toarray()]
    for history, wanted in zip(validation.histories.toarray(), validation.clicks.toarray(), strict=True):
        user = whole.index(tuple(history + wanted))
        np.testing.assert_array_equal(history, rest.interactions.toarray()[user])
        np.testing.assert_array_equal(wanted, held[user])
        assert history.any()
        assert wanted.any()
    if hold_out is hold_out_clicks or most == EVERYBODY:
        assert len(validation) == (held.any(axis=1) & rest.interactions.toarray().any(axis=1)).sum()


@each
@given(seed=seeds, share=st.floats(0.05, 0.5))
def test_of_users_of_a_single_click_nothing_is_held_out(hold_out, seed, share):
    train = clicks_alone(np.eye(8)[np.random.default_rng(seed).integers(0, 8, 12)])
    rest, validation = hold_out(train, share, EVERYBODY, np.random.default_rng(seed))
    assert validation is None
    assert rest is train


@given(seeds, st.integers(1, 30))
def test_clicks_are_taken_from_few_users_and_leave_a_history(seed, most):
    train = problem()
    rest, _ = hold_out_clicks(train, 0.5, most, np.random.default_rng(seed))
    held = held_out_of(train, rest)
    assert (held.any(axis=1)).sum() <= most
    assert (np.diff(rest.interactions.indptr) >= np.minimum(np.diff(train.interactions.indptr), 1)).all()


def test_users_of_a_single_click_take_nobodys_place():
    few = clicks_alone(np.vstack([np.eye(8)[np.arange(60) % 8], np.ones((3, 8))]))
    _, validation = hold_out_clicks(few, 0.5, 3, np.random.default_rng(0))
    assert len(validation) == 3


def test_the_share_of_clicks_is_held_out():
    """A tenth of 40,000, the first of each 200 left aside: 3,980 by 6 standard deviations of 60."""
    train = clicks_alone(np.ones((200, 200)))
    rest, validation = hold_out_clicks(train, 0.1, EVERYBODY, np.random.default_rng(0))
    assert validation.clicks.nnz == 40_000 - rest.interactions.nnz
    assert abs(validation.clicks.nnz - 3980) < 360
    assert abs(int(validation.clicks.toarray()[:, 0].sum()) - 20) < 26, "the one that stays is no fixed item"
    assert (validation.clicks.toarray().sum(axis=0) > 0).all()


def test_warm_items_compete_for_held_out_clicks():
    train = problem()
    rest, validation = hold_out_clicks(train, 0.3, EVERYBODY, np.random.default_rng(1))
    np.testing.assert_array_equal(validation.candidates, np.flatnonzero(rest.interactions.toarray().any(axis=0)))


@given(seeds)
def test_held_out_items_have_no_click_left_and_alone_compete(seed):
    train = problem()
    rest, validation = hold_out_items(train, 0.25, EVERYBODY, np.random.default_rng(seed))
    candidates = validation.candidates
    assert len(candidates) == 5
    assert (np.diff(candidates) > 0).all()
    assert np.isin(candidates, train.warm_items).all()
    assert not rest.interactions.toarray()[:, candidates].any()
    others = np.setdiff1d(np.arange(24), candidates)
    np.testing.assert_array_equal(rest.interactions.toarray()[:, others], train.interactions.toarray()[:, others])


def test_ratings_stay_what_they_are_in_histories_and_count_one_where_they_are_wanted():
    train = random_ratings(3)
    rest, validation = hold_out_clicks(train, 0.4, EVERYBODY, np.random.default_rng(0))
    assert set(validation.histories.data) == set(rest.interactions.data) == {1.0, 2.0, 3.0, 4.0, 5.0}
    assert set(validation.clicks.data) == {1.0}


@each
def test_nobody_to_ask_leaves_nothing_held_out(hold_out):
    singles = clicks_alone(np.eye(6))
    rest, validation = hold_out(singles, 0.5, EVERYBODY, np.random.default_rng(0))
    assert rest is singles
    assert validation is None


@each
def test_the_generator_decides(hold_out):
    train = problem()
    first, again, other = (
        held_out_of(train, hold_out(train, 0.3, 8, np.random.default_rng(seed))[0]) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@given(seeds)
def test_the_ndcg_of_users_by_plain_loops(seed):
    generator = np.random.default_rng(seed)
    known = (generator.random((9, 24)) < 0.2).astype(np.float32)
    clicks = ((generator.random((9, 24)) < 0.2) & (known == 0)).astype(np.float32)
    clicks[:, 3] = 1 - known[:, 3]
    clicks[np.flatnonzero(clicks.sum(axis=1) == 0), 5] = 1
    known[clicks > 0] = 0
    candidates = np.sort(generator.permutation(24)[:18])
    weights = generator.normal(size=(9, 24)).astype(np.float32)  # no two scores are equal
    validation = Validation(sp.csr_array(known), sp.csr_array(clicks), candidates, np.arange(9))
    asked = slice(2, 8)
    found = validation.ndcg(lambda histories: weights[asked][:, candidates], asked)
    expected = []
    for user in range(2, 8):
        order = sorted((item for item in candidates if not known[user, item]), key=lambda item: -weights[user, item])
        gain = sum(1 / math.log2(place + 2) for place, item in enumerate(order[:_CUTOFF]) if clicks[user, item])
        expected.append(gain / sum(1 / math.log2(place + 2) for place in range(min(_CUTOFF, int(clicks[user].sum())))))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    rated = sp.csr_array(known)
    rated.data[:] = 0  # a rating of 0 is known too
    of_ratings = Validation(rated, sp.csr_array(clicks), candidates, np.arange(9))
    np.testing.assert_array_equal(of_ratings.ndcg(lambda histories: weights[asked][:, candidates], asked), found)
