"""VAE on histories in files, beside VAE on the same histories in memory."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from coldray.core.errors import ConfigError, DataFormatError
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.neural.vae import VAE, VAEConfig
from coldray.models.neural.vae_files import fit_vae_on_files

N_USERS, N_ITEMS = 60, 24
CONFIG = VAEConfig(latent_dim=8, epochs=60, validation_share=0.0, batch_size=12, kl_warmup=5, learning_rate=0.02)


@pytest.fixture(scope="module")
def clicks():
    """Return clicks of three groups of users, each with items of its own; nobody clicked the last item."""
    generator = np.random.default_rng(3)
    group = np.arange(N_USERS)[:, None] % 3 == np.arange(N_ITEMS) % 3
    found = (generator.random((N_USERS, N_ITEMS)) < np.where(group, 0.7, 0.02)).astype(np.float32)
    found[:, -1] = 0
    found[np.arange(N_USERS), np.arange(N_USERS) % 3] = 1  # nobody is without a click
    return sp.csr_array(found)


def written(folder, clicks, lengths=(1, 2, 5)):
    order = np.random.default_rng(0).permutation(clicks.shape[0])
    ends = np.cumsum([0, *lengths]) * len(order) // sum(lengths)
    for number, (start, stop) in enumerate(pairwise(ends)):
        lists = [clicks[[user]].indices.tolist() for user in order[start:stop]]
        pl.DataFrame({"items": lists}).write_parquet(folder / f"{number}.parquet")
    return folder


def test_the_model_ranks_like_that_of_histories_in_memory(clicks, tmp_path):
    held = VAE(CONFIG).fit(TrainingSet(clicks, FeatureSet({}, N_ITEMS), "held"))
    read = fit_vae_on_files(written(tmp_path, clicks), CONFIG, n_items=N_ITEMS, window=25)
    assert read.state().keys() == held.state().keys()
    assert read.state()["clicks"].tolist() == held.state()["clicks"].tolist()
    everything = np.arange(N_ITEMS - 1)
    own = np.arange(N_USERS)[:, None] % 3 == everything % 3
    for model in (held, read):
        scores = model.score(clicks, everything)
        assert scores[own].mean() > scores[~own].mean() + 1
    found, expected = (model.score(clicks, everything).ravel() for model in (read, held))
    assert np.corrcoef(found, expected)[0, 1] > 0.97


def test_two_workers_reading_by_ray_data_train_the_same_network(clicks, tmp_path, ray_cluster):
    few = CONFIG.model_copy(update={"epochs": 3})
    folder = written(tmp_path, clicks)
    alone = fit_vae_on_files(folder, few, n_items=N_ITEMS, window=25)
    together = fit_vae_on_files(folder, few.model_copy(update={"workers": 2}), n_items=N_ITEMS, window=25)
    assert together.history["loss"] == pytest.approx(alone.history["loss"], rel=1e-2)
    scores = [model.score(clicks, np.arange(N_ITEMS)) for model in (alone, together)]
    assert np.corrcoef(scores[0].ravel(), scores[1].ravel())[0, 1] > 0.99


def test_an_item_listed_twice_counts_once(clicks, tmp_path):
    for name, times in (("once", 1), ("twice", 2)):
        (tmp_path / name).mkdir()
        lists = [clicks[[user]].indices.tolist() * times for user in range(N_USERS)]
        pl.DataFrame({"items": lists}).write_parquet(tmp_path / name / "0.parquet")
    few = CONFIG.model_copy(update={"epochs": 2})
    one, two = (fit_vae_on_files(tmp_path / name, few, n_items=N_ITEMS).state() for name in ("once", "twice"))
    assert all((one[name] == two[name]).all() for name in one)


@pytest.mark.parametrize(
    ("column", "config", "error", "message"),
    [
        ([[0, 7]], CONFIG, DataFormatError, "items of .* are 0 to 7; 0 to 4"),
        ([[-1, 1]], CONFIG, DataFormatError, "items of .* are -1 to 1"),
        ([[1], [], []], CONFIG, DataFormatError, "2 histories of .* are empty"),
        ([1, 2], CONFIG, DataFormatError, "holds numbers; a history is a list"),
        ([["a"]], CONFIG, DataFormatError, "examples are numbers, or lists of whole numbers"),
        ([[1], [2]], VAEConfig(), ConfigError, "validation_share is 0.1"),
    ],
)
def test_histories_that_cannot_be_learnt_from(tmp_path, column, config, error, message):
    pl.DataFrame({"items": column}).write_parquet(tmp_path / "0.parquet")
    with pytest.raises(error, match=message):
        fit_vae_on_files(tmp_path, config, n_items=5)
