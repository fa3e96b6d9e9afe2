"""SessionGRU on histories in files, beside SessionGRU on the same histories in memory."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
import torch

from coldray.core.errors import ConfigError, DataFormatError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig, SessionTask
from coldray.models.neural.session_gru_files import FilesSessionTask, fit_session_gru_on_files
from coldray.training.files.examples import ExampleFiles

N_USERS, N_ITEMS = 60, 15
CONFIG = SessionGRUConfig(
    embedding_dim=8, hidden_dim=16, epochs=30, validation_share=0.0, batch_size=12, learning_rate=0.02, dropout=0.0
)


@pytest.fixture(scope="module")
def sessions():
    """Return walks around a circle of items: after an item comes the next one."""
    generator = np.random.default_rng(3)
    starts, lengths = generator.integers(0, N_ITEMS, N_USERS), generator.integers(2, 9, N_USERS)
    return [((start + np.arange(length)) % N_ITEMS).tolist() for start, length in zip(starts, lengths, strict=True)]


def as_matrix(sessions):
    """Return the places of clicks ``[U, I]``, as a training in memory reads them."""
    rows = np.repeat(np.arange(len(sessions)), [*map(len, sessions)])
    places = np.concatenate([np.arange(1, len(session) + 1) for session in sessions]).astype(np.float32)
    return sp.csr_array((places, (rows, np.concatenate(sessions))), shape=(len(sessions), N_ITEMS))


def written(folder, sessions):
    for number, part in enumerate((sessions[:10], sessions[10:])):
        pl.DataFrame({"items": part}).write_parquet(folder / f"{number}.parquet")
    return folder


def test_the_model_predicts_the_next_item_like_that_of_histories_in_memory(sessions, tmp_path):
    clicks = as_matrix(sessions)
    held = SessionGRU(CONFIG).fit(TrainingSet(clicks, FeatureSet({}, N_ITEMS), "held"))
    read = fit_session_gru_on_files(written(tmp_path, sessions), CONFIG, n_items=N_ITEMS, window=25)
    assert read.state().keys() == held.state().keys()
    following = [(session[-1] + 1) % N_ITEMS for session in sessions]
    for model in (held, read):
        assert (model.score(clicks, np.arange(N_ITEMS)).argmax(axis=1) == following).mean() > 0.95


def test_a_batch_of_files_is_that_of_the_same_histories_in_memory(sessions, tmp_path):
    """So that workers, whom Ray Data sends rows of files, compute what one computes in memory."""
    examples = ExampleFiles.found(written(tmp_path, sessions), ("items",), window=60)
    read = FilesSessionTask(CONFIG, N_ITEMS, examples)
    held = SessionTask(CONFIG, TrainingSet(as_matrix(sessions), FeatureSet({}, N_ITEMS), "held"), None)
    assert read.n_examples == held.n_examples == N_USERS
    order = np.random.default_rng(0).permutation(N_USERS)[:20]
    found = read.of_rows(
        {"items": np.array([*(np.array(sessions[user]) for user in order), None], object)[:-1]},
        torch.tensor(order),
        torch.Generator(),
    )
    expected = held.batch(torch.tensor(order), torch.Generator())
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_an_item_may_come_again(tmp_path):
    pl.DataFrame({"items": [[0, 1, 0, 1, 0, 1]] * 8}).write_parquet(tmp_path / "0.parquet")
    model = fit_session_gru_on_files(tmp_path, CONFIG, n_items=3)
    last_was_0 = sp.csr_array((np.array([1.0], np.float32), ([0], [0])), shape=(1, 3))
    assert model.score(last_was_0, np.arange(3)).argmax() == 1


@pytest.mark.parametrize(
    ("column", "changes", "error", "message"),
    [
        ([[0, 7]], {}, DataFormatError, "items of .* are 0 to 7; 0 to 4"),
        ([[1, 2], [3], []], {}, DataFormatError, "2 histories of .* have fewer than 2 clicks"),
        ([[1, 2]], {"validation_share": 0.1}, ConfigError, "validation_share is 0.1"),
        ([[1, 2]], {"negatives": 4}, ConfigError, "negatives is 4"),
    ],
)
def test_histories_that_cannot_be_learnt_from(tmp_path, column, changes, error, message):
    pl.DataFrame({"items": column}).write_parquet(tmp_path / "0.parquet")
    with pytest.raises(error, match=message):
        fit_session_gru_on_files(tmp_path, CONFIG.model_copy(update=changes), n_items=5)
