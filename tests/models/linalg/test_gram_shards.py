"""Sums over shards of users: exact, wherever shards lie and however they are cut, and with workers that are lost."""

import sys
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import ray
import ray.cloudpickle
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.core.errors import (
    CatalogTooLargeError,
    ClusterError,
    ConfigError,
    DataFileError,
    DataFormatError,
    TrainingFailedError,
)
from coldray.models.computations import Computations
from coldray.models.kernel_align.smoothing import co_clicks
from coldray.models.linalg import gram_shards
from coldray.models.linalg import products as sparse_products
from coldray.models.linalg import sharded as shard_sums
from coldray.models.linalg.gram_shards import CoClicks, gram, sharded_co_clicks
from coldray.models.linalg.sharded import ParquetShard, _read_shard, click_shards, parquet_shards
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.training.options import FitOptions
from contracts.losses import Deadly
from contracts.problems import random_training_set
from contracts.recommender import all_items

# The tests are not installed where Ray's workers run.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def random_clicks(seed, n_users=40, n_items=13, share=0.3):
    generator = np.random.default_rng(seed)
    return sp.csr_array((generator.random((n_users, n_items)) < share).astype(np.float32))


def cut(clicks, bounds):
    """Return the shards between `bounds`, of which some may be empty."""
    ends = [0, *sorted(bounds), clicks.shape[0]]
    return [clicks[first:last] for first, last in pairwise(ends)]


def reference(clicks):
    dense = clicks.toarray().astype(np.float64)
    return dense.T @ dense


def written(folder, clicks, bounds=(), **columns):
    """Write a parquet file a shard, a row a click, in random order; return their paths."""
    generator, paths = np.random.default_rng(0), []
    rows, items = clicks.nonzero()
    ends = [0, *sorted(bounds), clicks.shape[0]]
    for number, (first, last) in enumerate(pairwise(ends)):
        chosen = generator.permutation(np.flatnonzero((rows >= first) & (rows < last)))
        table = pl.DataFrame({"user": rows[chosen].astype(np.int64), "item": items[chosen].astype(np.int64)})
        paths.append(folder / f"{number}.parquet")
        table.rename(columns).write_parquet(paths[-1])
    return paths


# ---- in one process


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(0, 50), st.integers(1, 20)),
    share=st.floats(0, 1),
    cuts=st.lists(st.floats(0, 1), max_size=6),
    rows=st.sampled_from([1, 3, 256]),
    users=st.sampled_from([2, 7, 2**24]),
    gain=st.sampled_from([0, 10**9]),
)
def test_counts_are_exact_however_users_are_cut(seed, sizes, share, cuts, rows, users, gain):
    """Into shards of any size, and blocks of users and items within a shard, dense or sparse."""
    clicks = random_clicks(seed, *sizes, share)
    shards = cut(clicks, [round(place * sizes[0]) for place in cuts])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gram_shards, "COUNTED_ROWS", rows)
        patch.setattr(gram_shards, "_COUNTED_USERS", users)
        patch.setattr(sparse_products, "_VECTOR_GAIN", gain)
        found = gram(shards, sizes[1])
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, reference(clicks))


def test_no_shard_and_no_user_are_a_sum_of_zeros():
    assert (gram([], 4) == np.zeros((4, 4))).all()
    assert (gram([sp.csr_array((0, 4), dtype=np.float32)], 4) == 0).all()


def test_shards_of_other_items_are_refused():
    with pytest.raises(DataFormatError, match="clicks on 13 items, and there are 14"):
        gram([random_clicks(0)], 14)


@given(seed=st.integers(0, 10**6), wanted=st.integers(1, 12), most=st.sampled_from([1, 9, 50, 10**6]))
def test_a_matrix_is_cut_into_shards_of_whole_users(seed, wanted, most):
    clicks = random_clicks(seed)
    shards = click_shards(clicks, at_least=wanted, shard_clicks=most)
    np.testing.assert_array_equal(sp.vstack(shards).toarray(), clicks.toarray())
    assert all(shard.shape[0] for shard in shards)
    longest = np.diff(clicks.indptr).max()
    assert all(shard.nnz <= min(most, clicks.nnz / wanted + 1) + longest for shard in shards)


# ---- from parquet files


def test_files_that_keep_users_together_are_a_shard_each(tmp_path):
    clicks = random_clicks(1)
    shards = parquet_shards(written(tmp_path, clicks, [5, 5, 31], user="who"), n_items=13, user_column="who")
    assert len(shards) == 4
    assert _read_shard(shards[1]).shape == (0, 13)
    np.testing.assert_array_equal(_read_shard(shards[0]).toarray(), clicks[:5].toarray())
    np.testing.assert_array_equal(gram(shards, 13), reference(clicks))


@pytest.mark.parametrize("text", [False, True])
def test_files_over_which_users_are_spread_are_read_by_buckets(tmp_path, text):
    clicks = random_clicks(2)
    rows, items = clicks.nonzero()
    users = [f"user {row}" for row in rows] if text else rows
    pairs = pl.DataFrame({"user": users, "item": items}).sample(fraction=1.0, shuffle=True, seed=1)
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    pairs[: len(pairs) // 2].write_parquet(paths[0])
    pairs[len(pairs) // 2 - 3 :].write_parquet(paths[1])  # three clicks come twice
    shards = parquet_shards(paths, n_items=13, buckets=4)
    sizes = [_read_shard(shard).shape[0] for shard in shards]
    assert sum(sizes) == len(np.unique(rows))
    assert max(sizes) < sum(sizes)
    np.testing.assert_array_equal(gram(shards, 13), reference(clicks))
    apart = parquet_shards(paths, n_items=13)
    assert (gram(apart, 13) != reference(clicks)).any(), "the files were meant to tear users apart"


@pytest.mark.parametrize(
    "ids", [tuple(f"item {n}" for n in range(13)), tuple(range(100, 113))], ids=["text", "numbers"]
)
def test_items_are_known_by_their_ids(tmp_path, ids):
    clicks = random_clicks(3)
    rows, items = clicks.nonzero()
    pl.DataFrame({"user": rows, "item": [ids[item] for item in items]}).write_parquet(tmp_path / "clicks.parquet")
    shards = parquet_shards([tmp_path / "clicks.parquet"], n_items=13, item_ids=ids)
    np.testing.assert_array_equal(gram(shards, 13), reference(clicks))
    with pytest.raises(DataFormatError, match=r"has \d+ clicks on items that item_ids does not name"):
        gram(parquet_shards([tmp_path / "clicks.parquet"], n_items=13, item_ids=ids[:7]), 13)


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ({"user": [1, None], "item": [0, 1]}, DataFormatError, "rows without user"),
        ({"user": [1, 2], "item": [None, 1]}, DataFormatError, "rows without item"),
        ({"user": [1, 2], "item": [0, 4]}, DataFormatError, r"items from 0 to 4; with n_items=4 .* from 0 to 3"),
        ({"user": [1, 2], "item": [-1, 2]}, DataFormatError, "items from -1 to 2"),
        ({"user": [1, 2], "item": ["a", "b"]}, DataFormatError, "type String, not indices. Give their ids"),
        ({"user": [1, 2], "thing": [0, 1]}, DataFormatError, "no column 'item', but user, thing"),
        (None, DataFileError, "cannot be read"),
    ],
    ids=["user", "item", "large", "negative", "text", "column", "absent"],
)
def test_files_that_are_not_clicks_are_refused(tmp_path, columns, error, message):
    path = tmp_path / "clicks.parquet"
    if columns:
        pl.DataFrame(columns).write_parquet(path)
    with pytest.raises(error, match=message):
        gram(parquet_shards([path], n_items=4), 4)


def test_a_file_that_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "clicks.parquet").write_text("user,item\n1,2\n")
    with pytest.raises(DataFileError, match=r"clicks\.parquet cannot be read"):
        gram(parquet_shards([tmp_path / "clicks.parquet"], n_items=4), 4)


# ---- by the workers of a cluster


def test_sums_are_sent_in_panels_of_rows(monkeypatch):
    monkeypatch.setattr(shard_sums, "_PANEL_BYTES", 300)
    rows = [(0, slice(first, min(first + 2, 5))) for first in (0, 2, 4)]
    assert shard_sums._panels([(5, 13), (0, 13), (3,), (2, 100)]) == [
        *rows,
        (2, slice(0, 3)),
        (3, slice(0, 1)),
        (3, slice(1, 2)),
    ]


@pytest.mark.parametrize("panel_bytes", [1, 500, 2**26])
def test_workers_find_what_one_process_does(ray_cluster, tmp_path, monkeypatch, panel_bytes):
    """From matrices, references and files at once: uneven shards, empty ones, and one of a single user."""
    monkeypatch.setattr(shard_sums, "_PANEL_BYTES", panel_bytes)
    clicks = random_clicks(4)
    matrices = cut(clicks, [0, 3, 4, 4, 30])
    (tmp_path / "files").mkdir()
    files = parquet_shards(written(tmp_path / "files", matrices[-1]), n_items=13)
    shards = [matrices[0], ray.put(matrices[1]), *matrices[2:-1], ray.put(files[0])]
    np.testing.assert_array_equal(gram(shards, 13, workers=2), reference(clicks))


@pytest.mark.parametrize("workers", [3, 4, 5])
def test_the_sums_of_any_number_of_workers_are_added_in_pairs(ray_cluster, monkeypatch, workers):
    monkeypatch.setattr(shard_sums, "_PANEL_BYTES", 300)
    pairs, real = [], shard_sums._finished
    monkeypatch.setattr(shard_sums, "_finished", lambda parts: pairs.append(len(parts)) or real(parts))
    clicks = random_clicks(5)
    sums = shard_sums.sum_over_shards(CoClicks(13), cut(clicks, range(3, 40, 5)), workers=workers, kind=np.float32)
    assert sums[0].dtype == np.float32
    np.testing.assert_array_equal(sums[0], reference(clicks))
    assert pairs == {3: [3, 1, 1], 4: [4, 2, 1], 5: [5, 2, 1, 1]}[workers]


def test_fewer_shards_than_workers_and_none_at_all(ray_cluster):
    clicks = random_clicks(6)
    np.testing.assert_array_equal(gram([clicks], 13, workers=2), reference(clicks))
    assert (gram([], 13, workers=2) == np.zeros((13, 13))).all()


def test_a_lost_worker_changes_nothing(ray_cluster, tmp_path):
    clicks = random_clicks(7)
    shards = [ray.put(shard) for shard in cut(clicks, [10, 20])]
    shards[1] = ray.put(Deadly(tmp_path, 2, clicks[10:20]))
    np.testing.assert_array_equal(gram(shards, 13, workers=2), reference(clicks))
    assert len(list(tmp_path.iterdir())) == 2


def test_workers_that_are_lost_again_and_again_are_told_of(ray_cluster, tmp_path):
    shards = [random_clicks(8), ray.put(Deadly(tmp_path, 10, random_clicks(8)))]
    with pytest.raises(TrainingFailedError, match="2 shards by 2 workers of the Ray cluster failed"):
        gram(shards, 13, workers=2)
    assert len(list(tmp_path.iterdir())) == 1 + shard_sums._RETRIES


def test_an_error_of_a_worker_is_the_error(ray_cluster, tmp_path):
    absent = ParquetShard((str(tmp_path / "absent.parquet"),), 13)
    with pytest.raises(DataFileError, match="absent"):
        gram([random_clicks(9), absent], 13, workers=2)
    with pytest.raises(DataFormatError, match="clicks on 13 items, and there are 14"):
        gram([random_clicks(9)] * 2, 14, workers=2)


def test_a_cluster_with_enough_cpus_is_needed(ray_cluster, monkeypatch):
    train = random_training_set(0)
    with pytest.raises(ConfigError, match="workers is 3, but the Ray cluster has 2 CPUs"):
        EASE().fit(train, options=FitOptions(workers=3))
    with pytest.raises(ConfigError, match="workers is 3"):
        gram([train.interactions], 30, workers=3)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterError, match="2 workers needs a Ray cluster"):
        gram([train.interactions], 30, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_sums_that_do_not_fit_are_refused_before_they_are_allocated(ray_cluster, monkeypatch, workers):
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 13 * 13 * 8 - 1)
    with pytest.raises(CatalogTooLargeError, match="sums over shards"):
        gram([random_clicks(0)], 13, workers=workers)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 13 * 13 * 8)
    assert gram([random_clicks(0)], 13, workers=workers).shape == (13, 13)


# ---- in EASE


def test_co_clicks_are_those_of_one_process(ray_cluster, monkeypatch):
    monkeypatch.setattr(gram_shards, "click_shards", lambda *given, **kw: click_shards(*given, **kw, shard_clicks=20))
    for train in (random_training_set(1), random_training_set(2, n_users=1)):
        found = sharded_co_clicks(train, workers=2)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, co_clicks(train))


@pytest.mark.parametrize("computations", [None, Computations])
def test_weights_of_ease_are_those_of_one_process(ray_cluster, computations):
    train, config = random_training_set(3), EASEConfig(regularization=2.0)
    alone, sharded = (
        EASE(config).fit(train, computations and computations(), FitOptions(workers=workers)) for workers in (1, 2)
    )
    np.testing.assert_array_equal(*(model.score(train.interactions, all_items(model)) for model in (alone, sharded)))
