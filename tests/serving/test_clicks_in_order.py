"""A model that reads the order of clicks: its bundle, its lists one by one, and its lists of all."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from coldray.data.sample import sample_dataset
from coldray.errors import ConfigError
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.session_gru import SessionGRU
from coldray.models.session_gru_network import SessionGRUConfig
from coldray.serving.batch_lists import BatchLists, Counts
from coldray.serving.engine import Engine
from coldray.serving.queries import Query
from coldray.tracking.bundle import fit_bundle, load_bundle, save_bundle

K = 5


@pytest.fixture(scope="module")
def dataset():
    """Return the sample, its users having clicked in an order of their own."""
    data = sample_dataset(0, 40, 30)
    clicks = data.interactions
    times = np.random.default_rng(0).permutation(clicks.nnz).astype(np.int64)
    return replace(data, timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape))


def model():
    return SessionGRU(SessionGRUConfig(embedding_dim=8, hidden_dim=8, epochs=3, validation_share=0))


@pytest.fixture(scope="module")
def bundle(dataset):
    return fit_bundle(model(), dataset, FeatureEncoder(FeatureConfig()), {})


def in_time(dataset, user):
    """Return the ids of the items of a user, the first click first."""
    row = slice(dataset.interactions.indptr[user], dataset.interactions.indptr[user + 1])
    order = np.argsort(dataset.timestamps.data[row])
    return dataset.item_ids[dataset.interactions.indices[row][order]].tolist()


def expected(bundle, items):
    """Return the items after those, best first, by the model's own scores."""
    known = bundle.item_ids.tolist()
    row = np.zeros((1, len(known)), np.float32)
    for place, item in enumerate(items, start=1):
        row[0, known.index(item)] = place
    scores = np.where(row > 0, -np.inf, bundle.model.score(sp.csr_array(row), np.arange(len(known))))
    return [known[place] for place in np.argsort(-scores[0], kind="stable")[:K]]


def test_a_bundle_keeps_the_order(dataset, bundle, tmp_path):
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    for user in range(0, 40, 7):
        history = in_time(dataset, user)
        assert loaded.history(dataset.user_ids[user]) == bundle.history(dataset.user_ids[user]) == history
        for given in (history, history[::-1]):
            (found,) = loaded.recommend([given], K)
            assert [place.item for place in found] == expected(bundle, given)
    assert any(expected(bundle, in_time(dataset, user)) != expected(bundle, in_time(dataset, user)[::-1])
               for user in range(40))  # fmt: skip


def test_a_user_is_served_by_the_order_of_his_clicks(dataset, bundle):
    engine = Engine(bundle)
    for user in range(0, 40, 7):
        history = in_time(dataset, user)
        (known,) = engine.answer([Query(user_id=dataset.user_ids[user], k=K)])
        assert [place.item for place in known.places] == expected(bundle, history)
        backwards = dict.fromkeys(history[::-1])
        (given,) = engine.answer([Query(history=backwards, k=K)])
        assert [place.item for place in given.places] == expected(bundle, history[::-1])


def test_what_a_user_does_comes_last(dataset, bundle):
    engine = Engine(bundle)
    history = in_time(dataset, 3)
    new = [item for item in dataset.item_ids.tolist() if item not in history][:2][::-1]
    for item in new:
        engine.observe(dataset.user_ids[3], item, None)
    (answer,) = engine.answer([Query(user_id=dataset.user_ids[3], k=K)])
    assert [place.item for place in answer.places] == expected(bundle, history + new)


def test_rows_of_histories_are_in_their_order(dataset, bundle):
    rows = [(user, item) for user in (4, 9) for item in in_time(dataset, user)]
    rows.append(rows[0])  # once more: where it came first counts
    frame = pl.DataFrame(
        {"user_id": [str(dataset.user_ids[user]) for user, _ in rows], "item_id": [item for _, item in rows]}
    )
    (table,) = BatchLists.of(bundle, k=K).of_histories(frame, Counts())
    lists = dict(zip(table["user_id"].to_list(), table["items"].to_list(), strict=True))
    for user in (4, 9):
        assert lists[str(dataset.user_ids[user])] == expected(bundle, in_time(dataset, user))


def test_without_timestamps_there_is_no_bundle(dataset):
    with pytest.raises(ConfigError, match=r"has no timestamps, .* --timestamp-column"):
        fit_bundle(model(), replace(dataset, timestamps=None), FeatureEncoder(FeatureConfig()), {})
