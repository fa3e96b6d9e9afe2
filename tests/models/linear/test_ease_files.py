"""EASE on clicks in files, beside EASE on the same clicks in memory."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from coldray.core.errors import CatalogTooLargeError, ConfigError, DataError
from coldray.models.linalg.sharded import ParquetShard
from coldray.models.linear.ease import EASE, EASEConfig
from coldray.models.linear.ease_files import fit_ease_on_shards
from contracts.problems import random_training_set

CONFIG = EASEConfig(regularization=3.0)


@pytest.fixture(scope="module")
def train():
    return random_training_set(4, n_users=90, n_warm=30, n_cold=5)


def shards_of(folder, clicks, count=3):
    """Write users in turns to files, a row each click; a shard is a file."""
    cells = clicks.tocoo()
    found = []
    for number in range(count):
        mine = cells.coords[0] % count == number
        path = folder / f"{number}.parquet"
        pl.DataFrame({"user": cells.coords[0][mine], "item": cells.coords[1][mine]}).write_parquet(path)
        found.append(ParquetShard((str(path),), clicks.shape[1]))
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_weights_are_those_of_all_clicks_at_once(train, tmp_path, ray_cluster, workers):
    held = EASE(CONFIG).fit(train)
    read = fit_ease_on_shards(shards_of(tmp_path, train.interactions), CONFIG, n_items=35, workers=workers)
    assert read.state()["warm_items"].tolist() == held.state()["warm_items"].tolist()
    every = np.arange(35)
    found, expected = (model.score(train.interactions, every) for model in (read, held))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_cannot_be_fitted_is_refused_before_anything_is_read(tmp_path, monkeypatch):
    absent = [ParquetShard((str(tmp_path / "absent.parquet"),), 5)]
    with pytest.raises(ConfigError, match="solver is 'blocks'"):
        fit_ease_on_shards(absent, EASEConfig(solver="blocks"), n_items=5)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match="5,000 items"):
        fit_ease_on_shards(absent, CONFIG, n_items=5000)


def test_files_without_a_click_are_refused(tmp_path):
    with pytest.raises(DataError, match="No item has a click"):
        fit_ease_on_shards(shards_of(tmp_path, sp.csr_array((4, 6), dtype=np.float32)), CONFIG, n_items=6)
