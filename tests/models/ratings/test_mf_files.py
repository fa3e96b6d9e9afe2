"""MF on ratings in files, beside MF on the same ratings in memory."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError, DataError, DataFormatError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.ratings.mf import MF, MFConfig
from coldray.models.ratings.mf_files import fit_mf_on_files

N_USERS, N_ITEMS = 40, 30
CONFIG = MFConfig(n_factors=3, epochs=80, validation_share=0.0, batch_size=64, weight_decay=0.02, bias_decay=0.02)


@pytest.fixture(scope="module")
def ratings():
    """Return ratings of two factors, on half of all pairs of which the last user and item have none."""
    generator = np.random.default_rng(3)
    values = (
        3 + generator.normal(size=(N_USERS, 2)) @ generator.normal(size=(2, N_ITEMS)) + generator.normal(size=N_ITEMS)
    )
    rows, columns = np.nonzero(generator.random((N_USERS - 1, N_ITEMS - 1)) < 0.5)
    return rows, columns, values[rows, columns].astype(np.float32)


def written(folder, rows, columns, values, lengths=(1, 2, 5)):
    order = np.random.default_rng(0).permutation(len(rows))
    ends = np.cumsum([0, *lengths]) * len(rows) // sum(lengths)
    for number, (start, stop) in enumerate(pairwise(ends)):
        some = order[start:stop]
        table = pl.DataFrame({"user": rows[some], "item": columns[some], "rating": values[some]})
        table.write_parquet(folder / f"{number}.parquet")
    return folder


def test_the_model_predicts_like_that_of_ratings_in_memory(ratings, tmp_path):
    rows, columns, values = ratings
    matrix = sp.csr_array((values, (rows, columns)), shape=(N_USERS, N_ITEMS))
    held = MF(CONFIG).fit(TrainingSet(matrix, FeatureSet({}, N_ITEMS), "held"))
    read = fit_mf_on_files(written(tmp_path, *ratings), CONFIG, n_users=N_USERS, n_items=N_ITEMS, window=100)
    assert read.scale.array() == pytest.approx(held.scale.array())
    assert read.state().keys() == held.state().keys()
    assert read.history["train_mse"][-1] < 1.5 * held.history["train_mse"][-1] < 0.01 * values.var()
    found, expected = (model.predict_ratings(matrix, rows, columns) for model in (read, held))
    assert np.corrcoef(found, expected)[0, 1] > 0.99
    assert np.mean((found - values) ** 2) < 0.1 * values.var()
    assert not read.state()["factors"][N_ITEMS - 1].any()
    assert read.state()["factors"].shape == (N_ITEMS, 3)


@pytest.mark.parametrize(
    ("table", "config", "error", "message"),
    [
        (
            {"user": [0, 7], "item": [0, 1], "rating": [1.0, 2.0]},
            CONFIG,
            DataFormatError,
            "users of .* are 0 to 7; 0 to 4",
        ),
        ({"user": [0, 1], "item": [-1, 1], "rating": [1.0, 2.0]}, CONFIG, DataFormatError, "items of .* are -1 to 1"),
        ({"user": [0, 1], "item": [0, 1], "rating": [2.0, 2.0]}, CONFIG, DataError, "All ratings of .* are 2, so"),
        ({"user": [0, 1], "item": [0, 1], "rating": [1.0, 2.0]}, MFConfig(), ConfigError, "validation_share is 0.05"),
    ],
)
def test_ratings_that_cannot_be_learnt_from(tmp_path, table, config, error, message):
    pl.DataFrame(table).write_parquet(tmp_path / "0.parquet")
    with pytest.raises(error, match=message):
        fit_mf_on_files(tmp_path, config, n_users=5, n_items=5)
