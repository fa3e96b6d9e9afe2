"""Top-k lists against a sort written out in plain Python."""

import math
import threading

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from coldray.core.errors import ConfigError, ModelError, NumericalError
from coldray.evaluation import topk
from coldray.evaluation.topk import merge_top_k, nonzero_pattern, run_blocks, top_k

TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, math.inf, -math.inf])
ANY = st.floats(width=32, allow_nan=False)


def slow_top_k(scores, k, exclude=None):
    indices, values = [], []
    for row, row_scores in enumerate(scores.tolist()):
        allowed = [c for c in range(len(row_scores)) if exclude is None or exclude[row][c] == 0]
        best = sorted(allowed, key=lambda c: (-row_scores[c], c))[:k]
        padding = k - len(best)
        indices.append(best + [-1] * padding)
        values.append([row_scores[c] for c in best] + [-math.inf] * padding)
    return indices, values


def assert_equals_slow(scores, k, exclude=None, **options):
    indices, values = top_k(scores, k, exclude=None if exclude is None else sp.csr_array(exclude), **options)
    expected_indices, expected_values = slow_top_k(scores, k, exclude)
    assert indices.dtype == np.int32
    assert values.dtype == np.float32
    assert indices.tolist() == expected_indices
    assert values.tolist() == expected_values


matrices = hnp.array_shapes(min_dims=2, max_dims=2, max_side=40).flatmap(
    lambda shape: st.sampled_from([TIED, ANY]).flatmap(
        lambda elements: hnp.arrays(np.float32, shape, elements=elements, fill=elements)
    )
)


@given(scores=matrices, k=st.integers(1, 50), data=st.data())
def test_equals_the_slow_sort(scores, k, data):
    exclude = data.draw(st.none() | hnp.arrays(np.int8, scores.shape, elements=st.integers(0, 1)))
    assert_equals_slow(scores, k, exclude)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(8, 700),
    k=st.integers(1, 12),
    levels=st.sampled_from([1, 2, 5, 30, 1000, 10**6]),
    share_excluded=st.sampled_from([None, 0.05, 0.9, 1.0]),
)
def test_equals_the_slow_sort_where_groups_are_used(seed, n, k, levels, share_excluded):
    generator = np.random.default_rng(seed)
    scores = (generator.integers(0, levels, (4, n)) - levels // 2).astype(np.float32)
    scores[generator.integers(4)] = -np.inf
    exclude = None if share_excluded is None else (generator.random((4, n)) < share_excluded).astype(np.int8)
    assert_equals_slow(scores, k, exclude)


def test_a_block_may_mix_tied_rows_with_distinct_ones():
    generator = np.random.default_rng(0)
    scores = generator.standard_normal((6, 500), dtype=np.float32)
    scores[[1, 4]] = 0
    scores[3, :400] = -np.inf
    assert_equals_slow(scores, 5)
    assert_equals_slow(scores, 5, (generator.random(scores.shape) < 0.3).astype(np.int8))


@pytest.mark.parametrize("n", [64, 65, 127, 128, 1000, 3260])
def test_the_group_bound_is_never_above_the_kth_score(n):
    scores = np.random.default_rng(n).standard_normal((20, n), dtype=np.float32)
    for group in range(2, min(topk._LARGEST_GROUP, n) + 1):
        maxima = topk._group_maxima(scores, group)
        assert maxima.shape == (20, n // group)
        np.testing.assert_array_equal(maxima.max(axis=1), scores.max(axis=1))
        k = min(3, maxima.shape[1])
        assert (np.sort(maxima, axis=1)[:, -k] <= np.sort(scores, axis=1)[:, -k]).all()


def test_ties_at_the_last_place_go_to_the_lower_column():
    scores = np.zeros((2, 1000), np.float32)
    scores[0, [999, 500]] = 1
    indices, _ = top_k(scores, 4)
    assert indices.tolist() == [[500, 999, 0, 1], [0, 1, 2, 3]]


def test_both_zeros_are_one_score():
    scores = np.full((1, 400), -0.0, np.float32)
    scores[0, 1::2] = 0.0
    assert top_k(scores, 6)[0].tolist() == [[0, 1, 2, 3, 4, 5]]
    assert top_k(scores[:, :5], 3)[0].tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("n", [6, 600])
def test_a_real_minus_infinity_is_listed_and_an_excluded_cell_is_not(n):
    scores = np.full((1, n), -np.inf, np.float32)
    exclude = np.ones((1, n), np.int8)
    exclude[0, [2, 5]] = 0
    indices, values = top_k(scores, 4, exclude=sp.csr_array(exclude))
    assert indices.tolist() == [[2, 5, -1, -1]]
    assert np.isneginf(values).all()


@pytest.mark.parametrize("n", [3, 600])
def test_everything_excluded_leaves_nothing(n):
    scores = np.random.default_rng(0).standard_normal((2, n), dtype=np.float32)
    indices, values = top_k(scores, 2, exclude=sp.csr_array(np.ones((2, n), np.float32)))
    assert (indices == -1).all()
    assert np.isneginf(values).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_no_rows_or_no_columns(shape):
    indices, values = top_k(np.zeros(shape, np.float32), 2)
    assert indices.tolist() == [[-1, -1]] * shape[0]
    assert values.shape == (shape[0], 2)


@pytest.mark.parametrize("column", [0, 17, 639, 640, 699])
@pytest.mark.parametrize("n", [12, 700])
def test_nan_names_the_row(n, column):
    scores = np.random.default_rng(0).standard_normal((2000, n), dtype=np.float32)
    scores[1700:, min(column, n - 1)] = np.nan
    with pytest.raises(NumericalError, match="row 1700 "):
        top_k(scores, 3)
    with pytest.raises(NumericalError, match="row 3400 "):
        top_k(scores, 3, row_ids=2 * np.arange(2000))


def test_nan_in_an_excluded_cell_is_not_read():
    scores = np.array([[np.nan, 1, 2]], np.float32)
    exclude = sp.csr_array(np.array([[1, 0, 0]], np.float32))
    assert top_k(scores, 2, exclude=exclude)[0].tolist() == [[2, 1]]


def test_explicit_zeros_do_not_exclude():
    exclude = sp.csr_array((np.array([0.0, 1.0]), np.array([2, 1]), np.array([0, 2])), shape=(1, 3))
    assert top_k(np.array([[1, 2, 3]], np.float32), 3, exclude=exclude)[0].tolist() == [[2, 0, -1]]
    assert exclude.nnz == 2


def test_nonzero_pattern_sums_what_is_stored_twice():
    doubled = sp.csr_array((np.array([1.0, 1.0, 1.0, -1.0]), np.array([0, 0, 2, 2]), np.array([0, 4])), shape=(1, 3))
    pattern = nonzero_pattern(doubled)
    assert (pattern.indices.tolist(), pattern.data.tolist()) == ([0], [2])
    assert doubled.nnz == 4
    clean = sp.csr_array(np.eye(3))
    assert nonzero_pattern(clean) is clean


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("order", ["C", "F"])
def test_scores_are_not_modified_whatever_their_layout(order, exclude):
    generator = np.random.default_rng(3)
    scores = np.asarray(generator.standard_normal((30, 300), dtype=np.float32), order=order)
    scores.setflags(write=False)
    before = scores.copy()
    assert_equals_slow(scores, 4, (generator.random(scores.shape) < 0.2).astype(np.int8) if exclude else None)
    assert_equals_slow(scores[::2, ::-1], 4)
    np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("k", [1, 5, 400])
def test_threads_and_block_size_change_nothing(monkeypatch, k):
    generator = np.random.default_rng(1)
    scores = generator.integers(0, 40, (70, 333)).astype(np.float32)
    exclude = sp.random_array(scores.shape, density=0.2, format="csr", rng=generator)
    expected = top_k(scores, k, exclude=exclude, n_threads=1)
    for cells in (1, 333 * 3, 333 * 32):
        monkeypatch.setattr(topk, "_BLOCK_CELLS", cells)
        for threads in (1, 2, 5):
            found = top_k(scores, k, exclude=exclude, n_threads=threads)
            for one, other in zip(found, expected, strict=True):
                assert one.tobytes() == other.tobytes()


def test_the_first_failing_block_is_reported_whatever_the_threads():
    def work(block):
        if block.start >= 4:
            raise ValueError(f"block {block.start}")

    for threads in (1, 2, 8):
        with pytest.raises(ValueError, match="block 4"):
            run_blocks(work, 40, 2, threads)


def test_blocks_cover_every_row_once_in_the_threads_asked_for():
    seen, threads = [], set()

    def work(block):
        threads.add(threading.get_ident())
        seen.extend(range(block.start, block.stop))

    run_blocks(work, 11, 3, 1)
    assert threads == {threading.get_ident()}
    assert seen == list(range(11))
    seen.clear()
    run_blocks(work, 11, 3, 4)
    assert sorted(seen) == list(range(11))


@pytest.mark.parametrize(
    ("error", "arguments", "options"),
    [
        (ConfigError, (np.zeros((1, 2), np.float32), 0), {}),
        (ConfigError, (np.zeros((1, 2), np.float32), 1), {"n_threads": 0}),
        (ModelError, (np.zeros((1, 2)), 1), {}),
        (ModelError, (np.zeros(2, np.float32), 1), {}),
        (ModelError, (np.zeros((1, 2), np.float32), 1), {"exclude": sp.csr_array((2, 1))}),
        (ModelError, (np.zeros((1, 2), np.float32), 1), {"row_ids": np.arange(2)}),
    ],
)
def test_what_cannot_be_ranked_is_refused(error, arguments, options):
    with pytest.raises(error):
        top_k(*arguments, **options)


@given(
    seed=st.integers(0, 2**32 - 1),
    widths=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    k=st.integers(1, 30),
    levels=st.sampled_from([1, 3, 1000]),
)
def test_merged_halves_are_the_list_of_the_whole(seed, widths, k, levels):
    generator = np.random.default_rng(seed)
    scores = generator.integers(-levels, levels, (5, 40)).astype(np.float32)
    side = generator.random(40) < generator.random()
    halves = []
    for columns, width in zip((np.flatnonzero(side), np.flatnonzero(~side)), widths, strict=True):
        indices, values = top_k(np.ascontiguousarray(scores[:, columns]), max(k, width))
        halves += [np.append(columns, -1).astype(np.int32)[indices], values]
    merged, values = merge_top_k(*halves, k)
    expected, expected_values = top_k(scores, k)
    np.testing.assert_array_equal(merged, expected)
    np.testing.assert_array_equal(values, expected_values)
    assert merged.dtype == np.int32
    assert values.dtype == np.float32


def test_merge_follows_the_tie_rule_and_ignores_padding():
    a_idx, a_val = np.array([[7, 2, -1]], np.int32), np.array([[1, 0.5, np.nan]], np.float32)
    b_idx, b_val = np.array([[9, 1]], np.int32), np.array([[1, -np.inf]], np.float32)
    indices, values = merge_top_k(a_idx, a_val, b_idx, b_val, 6)
    assert indices.tolist() == [[7, 9, 2, 1, -1, -1]]
    assert values.tolist() == [[1, 1, 0.5, -math.inf, -math.inf, -math.inf]]


def test_merge_refuses_nan_misfits_and_an_empty_list():
    idx, val = np.array([[0], [1]], np.int32), np.array([[1], [np.nan]], np.float32)
    with pytest.raises(NumericalError, match="row 1 "):
        merge_top_k(idx, val, idx + 2, np.ones_like(val), 1)
    with pytest.raises(ModelError):
        merge_top_k(idx, val, idx[:1], val[:1], 1)
    with pytest.raises(ConfigError):
        merge_top_k(idx, val, idx, val, 0)
