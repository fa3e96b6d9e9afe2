"""Models that read the order of clicks, one of them ratings too: bundles, lists one by one, and lists of all."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.core.errors import DataFormatError, MissingFieldError
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.neural.session_gru import SessionGRU, SessionGRUConfig
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.model import TextGraph
from coldray.models.popularity.model import Popularity, PopularityConfig
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from contracts.lists import places_of
from models.learned import one_thread  # noqa: F401

K = 5
MODELS = {
    "order": lambda: SessionGRU(SessionGRUConfig(embedding_dim=8, hidden_dim=8, epochs=3, validation_share=0)),
    "order and ratings": lambda: TextGraph(
        TextGraphConfig(
            heads=2, head_dim=8, batch_size=16, epochs=4, learning_rate=0.02, validation_share=0, negatives=8,
            rating_embedding=True, time_buckets=3,
        )
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset():
    """Return the sample, its users having clicked in an order of their own, and rated what they clicked."""
    data = sample_dataset(0, 40, 30)
    clicks, generator = data.interactions, np.random.default_rng(0)
    times = generator.permutation(clicks.nnz).astype(np.int64)
    ratings = generator.integers(1, 6, clicks.nnz).astype(np.float32)
    return replace(
        data,
        timestamps=sp.csr_array((times, clicks.indices, clicks.indptr), shape=clicks.shape),
        ratings=sp.csr_array((ratings, clicks.indices, clicks.indptr), shape=clicks.shape),
    )


@pytest.fixture(scope="module", params=MODELS)
def bundle(dataset, request):
    return fit_bundle(MODELS[request.param](), dataset, FeatureEncoder(FeatureConfig()), {})


def in_time(dataset, user):
    """Return the rating of each item of a user, by its id, the first click first."""
    row = slice(dataset.interactions.indptr[user], dataset.interactions.indptr[user + 1])
    order = np.argsort(dataset.timestamps.data[row])
    items = dataset.item_ids[dataset.interactions.indices[row][order]].tolist()
    return dict(zip(items, dataset.ratings.data[row][order].tolist(), strict=True))


def backwards(history):
    return dict(reversed(history.items()))


def expected(bundle, history):
    """Return the items after those, best first, by the model's own scores."""
    known, reads = bundle.item_ids.tolist(), bundle.model.reads
    row = np.zeros((1, len(known)), np.complex64 if reads.ratings else np.float32)
    for place, item in enumerate(history, start=1):
        rating = history[item] if isinstance(history, Mapping) else np.nan
        row[0, known.index(item)] = rating + 1j * place if reads.ratings else place
    scores = np.where(row != 0, -np.inf, bundle.model.score(sp.csr_array(row), np.arange(len(known))))
    return [known[place] for place in np.argsort(-scores[0], kind="stable")[:K]]


def test_a_bundle_keeps_what_is_read(dataset, bundle, tmp_path):
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    for user in range(0, 40, 7):
        history, found = in_time(dataset, user), loaded.history(dataset.user_ids[user])
        assert found == bundle.history(dataset.user_ids[user])
        assert found == history if bundle.model.reads.ratings else list(history)
        assert list(found) == list(history)
        for given in (history, backwards(history), list(history)):
            (places,) = places_of(loaded, [given], K)
            assert [place.item for place in places] == expected(bundle, given)


def test_the_order_matters_and_so_do_ratings_that_are_read(dataset, bundle):
    histories = [in_time(dataset, user) for user in range(40)]
    assert any(expected(bundle, one) != expected(bundle, backwards(one)) for one in histories)
    for change in (lambda rating: 6 - rating, lambda _: np.nan):
        changed = [{item: change(rating) for item, rating in one.items()} for one in histories]
        differ = any(expected(bundle, a) != expected(bundle, b) for a, b in zip(histories, changed, strict=True))
        assert differ == bundle.model.reads.ratings


def test_a_user_is_served_by_what_he_did_and_when(dataset, bundle):
    engine = Engine(bundle)
    for user in range(0, 40, 7):
        history = in_time(dataset, user)
        (known,) = engine.answer([Query(user_id=dataset.user_ids[user], k=K)])
        assert [place.item for place in known.places] == expected(bundle, history)
        for given in (backwards(history), dict.fromkeys(history)):
            (answer,) = engine.answer([Query(history=given, k=K)])
            bare = list(given) if None in given.values() else given
            assert [place.item for place in answer.places] == expected(bundle, bare)


def test_what_a_user_does_comes_last(dataset, bundle):
    engine = Engine(bundle)
    history = in_time(dataset, 3)
    new = [item for item in dataset.item_ids.tolist() if item not in history][:2][::-1]
    for item, rating in zip(new, (2.0, None), strict=True):
        engine.observe(dataset.user_ids[3], item, rating)
    (answer,) = engine.answer([Query(user_id=dataset.user_ids[3], k=K)])
    later = {new[0]: 2.0, new[1]: np.nan}
    assert [place.item for place in answer.places] == expected(bundle, history | later)


def test_rows_of_histories_are_in_their_order(dataset, bundle):
    rows = [(user, *click) for user in (4, 9) for click in in_time(dataset, user).items()]
    rows.append(rows[0])  # once more: where it came first counts
    users, items, ratings = zip(*rows, strict=True)
    frame = pl.DataFrame({"user_id": [str(dataset.user_ids[user]) for user in users], "item_id": items})
    for rated in (True, False):
        given = frame.with_columns(pl.Series("rating", ratings)) if rated else frame
        (table,) = BatchLists.of(bundle, k=K).of_histories(given, Counts())
        lists = dict(zip(table["user_id"].to_list(), table["items"].to_list(), strict=True))
        for user in (4, 9):
            history = in_time(dataset, user)
            assert lists[str(dataset.user_ids[user])] == expected(bundle, history if rated else list(history))


def lists_of(bundle, rows):
    (table,) = BatchLists.of(bundle, k=K).of_histories(rows, Counts())
    return dict(zip(table["user_id"].to_list(), table["items"].to_list(), strict=True))


def rows_of_all(dataset):
    """Return a row a click of the dataset, by user and item, with the time of the click."""
    clicks = dataset.interactions
    users = np.repeat(dataset.user_ids, np.diff(clicks.indptr)).tolist()
    return pl.DataFrame(
        {
            "user_id": users,
            "item_id": dataset.item_ids[clicks.indices].tolist(),
            "rating": dataset.ratings.data,
            "timestamp": dataset.timestamps.data,
        }
    )


def test_the_places_of_a_user_are_told_apart_from_those_of_others_between_whose_rows_his_lie(dataset, bundle):
    rows = rows_of_all(dataset).sort("timestamp")  # the clicks of all users, as they came in
    users = dataset.user_ids.tolist()
    own = places_of(bundle, [bundle.history(user) for user in users], K)
    wanted = {user: [place.item for place in places] for user, places in zip(users, own, strict=True)}
    unread = pl.DataFrame({"user_id": users, "item_id": "unknown", "rating": None, "timestamp": -1}, schema=rows.schema)
    for given in (rows, rows.drop("timestamp"), pl.concat([unread, rows])):
        assert lists_of(bundle, given) == wanted
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    assert lists_of(bundle, shuffled) == wanted
    days = shuffled.with_columns(pl.from_epoch("timestamp", "d").dt.date())
    assert lists_of(bundle, days) == wanted


def test_of_clicks_at_the_same_time_that_on_the_lower_item_comes_first_as_in_studies(dataset):
    coarse = replace(dataset, timestamps=dataset.timestamps.copy())
    coarse.timestamps.data //= 40
    rows = rows_of_all(coarse).sample(fraction=1, shuffle=True, seed=1)
    for made in MODELS.values():
        bundle = fit_bundle(made(), coarse, FeatureEncoder(FeatureConfig()), {})
        own = places_of(bundle, [bundle.history(user) for user in coarse.user_ids], K)
        wanted = {user: [place.item for place in places] for user, places in zip(coarse.user_ids, own, strict=True)}
        assert lists_of(bundle, rows) == wanted


def test_a_click_without_a_time_among_others_is_refused_where_the_order_is_read(dataset, bundle):
    rows = rows_of_all(dataset)
    nobody = pl.DataFrame({name: ["nobody"] if name == "user_id" else [None] for name in rows.columns}, rows.schema)
    assert lists_of(bundle, pl.concat([rows, nobody]))["nobody"] == [place.item for place in bundle.most_clicked(K)]
    undated = rows.with_columns(pl.col("timestamp").replace(3, None))
    with pytest.raises(DataFormatError, match=rf"1 of {len(rows):,} clicks have no time, and the model reads"):
        lists_of(bundle, undated)
    popular = fit_bundle(Popularity(PopularityConfig()), dataset, FeatureEncoder(FeatureConfig()), {})
    assert lists_of(popular, undated) == lists_of(popular, rows)


@pytest.mark.parametrize("name", MODELS)
def test_without_timestamps_there_is_no_bundle(dataset, name):
    with pytest.raises(MissingFieldError, match=r"has no timestamps, .* --timestamp-column"):
        fit_bundle(MODELS[name](), replace(dataset, timestamps=None), FeatureEncoder(FeatureConfig()), {})


def test_without_ratings_there_is_no_bundle_that_reads_them(dataset):
    with pytest.raises(MissingFieldError, match=r"has no ratings.* --rating-column"):
        fit_bundle(MODELS["order and ratings"](), replace(dataset, ratings=None), FeatureEncoder(FeatureConfig()), {})
