"""Blocked ranking against one dense sort."""

import threading

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import ConfigError, ModelError, NumericalError
from coldray.evaluation import ranking as module
from coldray.evaluation.ranking import Ranking, rank


def slow_rank(scores, candidates, k, exclude):
    """Rank rows of `scores` ``[m, n]`` item by item; `exclude` is dense ``[m, I]``."""
    lists = []
    for row, row_scores in enumerate(scores.tolist()):
        allowed = [(-s, i) for s, i in zip(row_scores, candidates.tolist(), strict=True) if not exclude[row][i]]
        best = [item for _, item in sorted(allowed)[:k]]
        lists.append(best + [-1] * (k - len(best)))
    return lists


def integer_problem(seed, n_users=23, n_items=40):
    """Small whole numbers: sums are exact, so a score does not depend on the block, and ties are many."""
    generator = np.random.default_rng(seed)
    histories = sp.csr_array((generator.random((n_users, n_items)) < 0.2).astype(np.float32))
    weights = generator.integers(-2, 3, (n_items, n_items)).astype(np.float32)
    return generator, histories, weights


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 45),
    share=st.sampled_from([0.05, 0.5, 1.0]),
    masked=st.booleans(),
    some_users=st.booleans(),
    block_size=st.sampled_from([None, 1, 4, 23, 100]),
    n_threads=st.sampled_from([1, 2, 4]),
)
def test_equals_the_slow_ranking(seed, k, share, masked, some_users, block_size, n_threads):
    generator, histories, weights = integer_problem(seed)
    n_users, n_items = histories.shape
    candidates = np.sort(generator.permutation(n_items)[: max(1, int(share * n_items))]).astype(np.int32)
    users = generator.integers(n_users, size=9).astype(np.int32) if some_users else None
    found = rank(
        lambda block: block @ weights[:, candidates],
        histories,
        candidates,
        k=k,
        exclude=histories if masked else None,
        users=users,
        block_size=block_size,
        n_threads=n_threads,
    )
    chosen = np.arange(n_users) if users is None else users
    dense = histories.toarray()
    scores = (dense @ weights)[chosen][:, candidates]
    exclude = dense[chosen] if masked else np.zeros((len(chosen), n_items))
    assert found.items.tolist() == slow_rank(scores, candidates, k, exclude)
    assert found.users.tolist() == chosen.tolist()
    assert (found.items.dtype, found.scores.dtype, found.users.dtype) == (np.int32, np.float32, np.int32)
    listed = found.items >= 0
    rows, places = np.nonzero(listed)
    np.testing.assert_array_equal(
        found.scores[listed], scores[rows, np.searchsorted(candidates, found.items[rows, places])]
    )
    assert np.isneginf(found.scores[~listed]).all()


def test_block_size_and_threads_change_nothing():
    _, histories, weights = integer_problem(5, n_users=101, n_items=300)
    candidates = np.arange(0, 300, 2, dtype=np.int32)

    def ranking(block_size, n_threads):
        found = rank(
            lambda block: block @ weights[:, candidates],
            histories,
            candidates,
            k=7,
            exclude=histories,
            block_size=block_size,
            n_threads=n_threads,
        )
        return found.items.tobytes(), found.scores.tobytes(), found.users.tobytes()

    expected = ranking(101, 1)
    assert all(ranking(size, threads) == expected for size in (1, 10, 64, 500, None) for threads in (1, 2, 7))


def test_a_checkerboard_gives_each_user_the_item_withheld():
    board = np.zeros((40, 40), np.float32)
    board[::2, ::2] = 1
    board[1::2, 1::2] = 1
    withheld = board - np.eye(40, dtype=np.float32)
    histories = sp.csr_array(withheld)
    similarity = withheld.T @ withheld
    found = rank(lambda block: block @ similarity, histories, np.arange(40), k=1, exclude=histories)
    assert found.items.tolist() == [[user] for user in range(40)]


def test_only_one_block_of_scores_a_thread_is_held():
    histories = sp.csr_array((50, 8), dtype=np.float32)
    sizes = []

    def score(block):
        sizes.append(block.shape[0])
        return np.zeros(block.shape, np.float32)

    rank(score, histories, np.arange(8), k=2, block_size=7)
    assert sorted(sizes) == [1] + [7] * 7


def test_threads_work_at_the_same_time():
    barrier, met = threading.Barrier(2, timeout=20), []

    def score(block):
        met.append(barrier.wait())  # breaks unless a second block is being scored meanwhile
        return np.zeros(block.shape, np.float32)

    rank(score, sp.csr_array((4, 3), dtype=np.float32), np.arange(3), k=1, block_size=2, n_threads=2)
    assert sorted(met) == [0, 1]


def test_the_default_block_fits_its_budget():
    for n_candidates in (0, 1, 3260, 60_000, 10**8):
        size = module._block_size(n_candidates)
        assert 1 <= size <= module._BLOCK_USERS
        assert size == 1 or 4 * size * n_candidates <= module._BLOCK_BYTES


def test_no_users_gives_an_empty_ranking():
    histories = sp.csr_array((3, 4), dtype=np.float32)
    found = rank(lambda _: None, histories, np.arange(4), k=2, users=np.zeros(0, np.int32))
    assert found.items.shape == (0, 2)
    assert found.k == 2


def test_a_user_with_everything_excluded_gets_an_empty_list():
    histories = sp.csr_array(np.array([[1, 1, 0], [0, 1, 0]], np.float32))
    found = rank(
        lambda block: np.ones((block.shape[0], 2), np.float32), histories, np.array([0, 1]), k=2, exclude=histories
    )
    assert found.items.tolist() == [[-1, -1], [0, -1]]


def test_nan_names_the_user():
    histories = sp.csr_array(np.eye(30, dtype=np.float32))

    def score(block):
        scores = np.ones(block.shape, np.float32)
        scores[block.toarray()[:, 17] > 0] = np.nan
        return scores

    for users in (None, np.arange(29, 3, -1)):
        with pytest.raises(NumericalError, match="row 17 "):
            rank(score, histories, np.arange(30), k=3, users=users, block_size=4)


@pytest.mark.parametrize(
    "score",
    [
        lambda block: np.zeros(block.shape),
        lambda block: np.zeros((block.shape[0], 2), np.float32),
        lambda block: np.zeros((1, 3), np.float32),
    ],
)
def test_scores_of_the_wrong_kind_are_refused(score):
    with pytest.raises(ModelError, match="float32 of shape"):
        rank(score, sp.csr_array((4, 3), dtype=np.float32), np.arange(3), k=1)


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        (ConfigError, {"candidates": np.array([1, 0])}),
        (ConfigError, {"candidates": np.array([1, 1])}),
        (ConfigError, {"candidates": np.array([0, 3])}),
        (ConfigError, {"candidates": np.array([-1, 0])}),
        (ConfigError, {"candidates": np.array([], np.int32)}),
        (ConfigError, {"candidates": np.array([True, False, True])}),
        (ConfigError, {"users": np.array([4])}),
        (ConfigError, {"users": np.array([-1])}),
        (ConfigError, {"users": np.array([True, False, True, True])}),
        (ConfigError, {"k": 0}),
        (ConfigError, {"block_size": 0}),
        (ConfigError, {"n_threads": 0}),
        (ModelError, {"exclude": sp.csr_array((4, 2))}),
    ],
)
def test_what_cannot_be_ranked_is_refused(error, changes):
    options = {"candidates": np.arange(3), "k": 1} | changes
    candidates = options.pop("candidates")
    with pytest.raises(error):
        rank(
            lambda block: np.zeros(block.shape, np.float32),
            sp.csr_array((4, 3), dtype=np.float32),
            candidates,
            **options,
        )


def test_a_ranking_whose_parts_do_not_fit_is_refused():
    with pytest.raises(ModelError, match="no ranking"):
        Ranking(np.zeros((2, 3), np.int32), np.zeros((2, 3), np.float32), np.zeros(3, np.int32))
