"""TextGraph: what it reads and what it says it could not, and the contract of all models."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from coldray.core.errors import CatalogTooLargeError, ConfigError, DataError, EmptyDatasetError
from coldray.data.signals import Reads
from coldray.features.feature_set import FeatureSet
from coldray.models.base import TrainingSet
from coldray.models.forms import StudyOutlook
from coldray.models.neural.text_graph import model as text_graph
from coldray.models.neural.text_graph.config import TextGraphConfig
from coldray.models.neural.text_graph.model import TextGraph
from coldray.models.neural.text_graph.network import TEXT, Clicks
from coldray.models.neural.text_graph.texts import step_bytes
from coldray.models.transfer.similarity import arrays_under
from contracts.problems import as_read, genre_groups, random_training_set, scalar_feature, vector_feature
from contracts.recommender import ColdItemContract, all_items
from models.learned import one_thread  # noqa: F401

QUICK = {
    "heads": 2, "head_dim": 8, "batch_size": 32, "epochs": 20, "learning_rate": 0.02, "negatives": 8, "dropout": 0.1,
    "validation_share": 0.0, "weight_decay": 0.0,
}  # fmt: skip


class TestTextGraph(ColdItemContract):
    model = TextGraph
    config = TextGraphConfig(**QUICK)


class TestTextGraphThatStopsEarlyOnSamples(ColdItemContract):
    model = TextGraph
    config = TextGraphConfig(**{**QUICK, "neighbours": 3, "validation_share": 0.2, "patience": 8})


class TestTextGraphOfRatingsAndTimes(ColdItemContract):
    model = TextGraph
    config = TextGraphConfig(**{**QUICK, "validation_share": 0.2, "rating_embedding": True, "time_buckets": 3})


class TestTextGraphOfHardNegativesAlone(ColdItemContract):
    model = TextGraph
    config = TextGraphConfig(**{**QUICK, "negatives_kind": "hard", "contrast_weight": 0.0, "rating_embedding": True})


def embeddings(rows, *, blank=()):
    """Return unit vectors an item with values of both signs; empty rows where the text is blank."""
    rows = np.array(rows, np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[list(blank)] = 0
    return vector_feature(rows)


def told_by_texts(seed=0, *, n_others=2, blank=(), dim=12):
    """Return groups of users and genres that embedded texts alone tell: an overview, and reviews of some items."""
    train, genres = genre_groups(seed=seed)
    generator = np.random.default_rng(seed)
    centres = generator.standard_normal((genres.max() + 1, dim))
    features = {}
    for name in ("overview", *(f"review_{k}" for k in range(n_others))):
        rows = centres[genres] + 0.3 * generator.standard_normal((len(genres), dim))
        missing = blank if name == "overview" else np.flatnonzero(generator.random(len(genres)) < 0.3)
        features[name] = embeddings(rows, blank=missing)
    return TrainingSet(train.interactions, FeatureSet(features, len(genres)), f"texts {seed}"), genres


def fit(train, **changes):
    return TextGraph(TextGraphConfig(**{**QUICK, **changes})).fit(train)


def with_features(train, **features):
    return TrainingSet(train.interactions, FeatureSet({**train.features.features, **features}, len(train.clicks)), "x")


def best_cold(model, train):
    return train.cold_items[model.score(train.interactions, train.cold_items).argmax(axis=1)]


# ---- what is read


def test_texts_alone_tell_cold_items(caplog):
    train, genres = told_by_texts()
    model = fit(train)
    group = genres[train.interactions.indices[train.interactions.indptr[:-1]]]
    np.testing.assert_array_equal(genres[best_cold(model, train)], group)
    assert "No text is embedded" not in caplog.text


def test_without_embedded_texts_the_text_view_reads_attributes_and_says_so(caplog):
    train = random_training_set(3)
    with caplog.at_level(logging.WARNING):
        model = fit(train, epochs=1)
    assert "No text is embedded, so the text view reads a, b, year; 0 of 30 items have none of these." in caplog.text
    assert {name for name in model.state() if name.startswith("inputs.text.terms.")} == {
        f"inputs.text.terms.{name}" for name in ("a", "b", "year")
    }


def test_items_without_an_overview_and_without_any_text_are_counted(caplog):
    train, _ = told_by_texts(blank=[0, 4, 9])
    features = dict(train.features.features)
    for name in ("review_0", "review_1"):
        rows = features[name].matrix.toarray()
        rows[4] = 0
        rows[[0, 9]] = features["review_0"].matrix.toarray()[[1]]
        features[name] = vector_feature(rows)
    with caplog.at_level(logging.WARNING):
        fit(TrainingSet(train.interactions, FeatureSet(features, train.features.n_items), "gaps"), epochs=1)
    assert "3 of 30 items have no overview; 1 have no text at all" in caplog.text


def test_no_text_of_any_item_is_a_fallback_too(caplog):
    """An attribute that would be embedded, of which every text is blank, has no negative value."""
    train = with_features(random_training_set(3), overview=vector_feature(np.zeros((30, 12))))
    with caplog.at_level(logging.WARNING):
        fit(train, epochs=1)
    assert "No text is embedded" in caplog.text


def test_embeddings_of_another_width_are_refused():
    train, _ = told_by_texts(dim=12)
    with pytest.raises(ConfigError, match=r"'overview' have 12 dimensions, not 384.*text_dim"):
        fit(train, text_dim=384)
    wider = with_features(train, review_1=embeddings(np.random.default_rng(0).standard_normal((30, 13))))
    with pytest.raises(ConfigError, match=r"'review_1' have 13 dimensions, not 12"):
        fit(wider)
    fit(train, text_dim=12, epochs=1)


def test_at_most_ten_other_texts_are_read(caplog):
    train, _ = told_by_texts(n_others=12)
    with caplog.at_level(logging.WARNING):
        model = fit(train, epochs=1)
    assert sum(name.startswith("inputs.text.other.") for name in model.state()) == 10
    assert "Neither view reads review_10 and review_11" in caplog.text or "review_10, review_11" in caplog.text


def test_the_named_text_is_the_overview_and_the_first_one_where_it_is_not_embedded():
    train, _ = told_by_texts()
    assert "inputs.text.overview.review_1" in fit(train, overview="review_1", epochs=1).state()
    assert "inputs.text.overview.overview" in fit(train, overview="plot", epochs=1).state()


def test_an_attribute_of_which_no_label_is_on_two_items_is_left_out_and_named(caplog):
    train = with_features(random_training_set(3), own=vector_feature(np.eye(30)))
    with caplog.at_level(logging.WARNING):
        model = fit(train, epochs=1)
    assert not [name for name in model.state() if name.startswith("inputs.graph.kept.own")]
    told, _ = told_by_texts()
    with caplog.at_level(logging.WARNING):
        fit(with_features(told, own=vector_feature(np.eye(30))), epochs=1)
    assert "No label of own is on two items with clicks: these attributes are not used." in caplog.text


def test_numbers_that_come_with_an_audience_are_read_only_if_named(caplog):
    """Votes that give the right answer away: they change nothing unless they are said to be known before release."""
    train = random_training_set(5)
    votes = train.clicks.astype(float)
    model = fit(with_features(train, votes=scalar_feature(votes)), epochs=3)
    assert not [name for name in model.state() if "votes" in name]
    assert "Neither view reads votes" in caplog.text
    expected = fit(train, epochs=3).score(train.interactions, all_items(model))
    np.testing.assert_allclose(model.score(train.interactions, all_items(model)), expected, rtol=1e-5)
    named = fit(with_features(train, votes=scalar_feature(votes)), epochs=3, known_before_release=("votes",))
    assert "inputs.graph.bucket.votes" in named.state()
    assert "inputs.text.terms.votes" in named.state()


@pytest.mark.parametrize(("name", "reason"), [("vote", "not used.*votes"), ("genre", "no number")])
def test_what_is_named_as_known_must_be_a_number_there_is(name, reason):
    train, _ = genre_groups()
    train = with_features(train, votes=scalar_feature(np.arange(30.0)))
    model = TextGraph(TextGraphConfig(**QUICK, known_before_release=(name,)))
    with pytest.raises(ConfigError, match=reason):
        model.fit(train)
    with pytest.raises(ConfigError, match=reason):
        model.check_attributes({"genre": "labels", "votes": "number"})


def test_nothing_to_learn_from_is_refused():
    train, _ = genre_groups()
    with pytest.raises(DataError, match="Nothing can be learnt"):
        fit(TrainingSet(train.interactions, FeatureSet({}, 30), "bare"))


# ---- histories


def test_ratings_tell_histories_apart_where_they_are_given():
    """Users of two groups have clicked the same items; who likes which genre only their ratings tell."""
    generator = np.random.default_rng(1)
    genres = np.repeat([0, 1], 12)
    liked = np.repeat([0, 1], 20)[:, None] == genres
    given = generator.random(liked.shape) < 0.5
    given[:, [10, 11, 22, 23]] = False
    ratings = sp.csr_array((given * np.where(liked, 5, 1)).astype(np.float32))
    features = FeatureSet({"genre": vector_feature(np.eye(2)[genres])}, 24)
    train = TrainingSet(ratings, features, "rated")
    model = TextGraph(TextGraphConfig(**QUICK, rating_embedding=True)).fit(train)
    some = sp.csr_array(np.where(np.arange(24) % 3 == 0, 1.0, 0.0)[None].astype(np.float32))
    first, second = some.copy(), some.copy()
    first.data = np.where(genres[first.indices] == 0, 5, 1).astype(np.float32)
    second.data = np.where(genres[second.indices] == 0, 1, 5).astype(np.float32)
    difference = np.abs(model.score(first, train.cold_items) - model.score(second, train.cold_items)).max()
    assert difference > 1e-3
    plain = fit(train, epochs=1)
    np.testing.assert_array_equal(plain.score(first, train.cold_items), plain.score(second, train.cold_items))


def test_clicks_without_ratings_are_pointed_out(caplog):
    fit(random_training_set(3), epochs=1, rating_embedding=True)
    assert "all clicks of random 3 are rated 1" in caplog.text


def test_times_are_asked_for_in_vain_where_clicks_have_none():
    model = TextGraph(TextGraphConfig(**QUICK, time_buckets=8))
    with pytest.raises(ConfigError, match=r"time_buckets is 8.*without their places in time. Use time_buckets=0"):
        model.fit(random_training_set(3))
    halves = random_training_set(3)
    halves.interactions.data[:] = np.resize([0.5, 3.5], halves.interactions.nnz)
    with pytest.raises(ConfigError, match="without their places in time"):
        model.fit(halves)


def test_the_order_of_clicks_tells_histories_apart_where_it_is_given():
    train, _ = genre_groups()
    clicks = train.interactions.copy()
    clicks.data = np.concatenate([np.arange(1, n + 1) for n in np.diff(clicks.indptr)]).astype(np.float32)
    model = fit(TrainingSet(clicks, train.features, "in order"), time_buckets=3, epochs=5)
    forth = clicks[[0]]
    back = forth.copy()
    back.data = back.data[::-1].copy()
    later = forth.copy()
    later.data = later.data + 7
    scores = [model.score(history, all_items(model)) for history in (forth, back, later)]
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    np.testing.assert_array_equal(scores[0], scores[2])


def test_texts_that_do_not_fit_are_refused_before_they_are_copied(monkeypatch):
    """Of two texts of 1,000 dimensions and 64 items: 5 times a table of each, and 14 vectors of an item."""
    clicks = sp.csr_array(np.eye(64, dtype=np.float32))
    texts = {name: vector_feature(np.random.default_rng(0).normal(size=(64, 1000))) for name in ("overview", "review")}
    train = TrainingSet(clicks, FeatureSet(texts, 64), "two texts")
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 4 * 64 * 1000 * (5 * 2 + 14) - 1)
    with pytest.raises(CatalogTooLargeError, match="The embeddings of 2 texts of 64 items"):
        TextGraph(TextGraphConfig(**QUICK)).inputs(train)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 4 * 64 * 1000 * (5 * 2 + 14))
    inputs = TextGraph(TextGraphConfig(**QUICK)).inputs(train)
    assert step_bytes(arrays_under(TEXT, inputs)) == 4 * 64 * 1000 * 14


def test_places_may_be_missing_where_there_is_nothing_to_tell_apart():
    features = genre_groups()[0].features
    nothing = TrainingSet(sp.csr_array((3, features.n_items), dtype=np.float32), features, "nothing")
    with pytest.raises(EmptyDatasetError, match="no click to train text_graph on"):
        fit(nothing, time_buckets=4)
    once = sp.csr_array((np.ones(20, np.float32), np.arange(20) % features.n_items, np.arange(21)))
    once.resize(20, features.n_items)
    assert fit(TrainingSet(once, features, "one click a user"), time_buckets=4, epochs=2).n_items == features.n_items


def test_ratings_and_times_are_told_apart_at_once():
    """In the graph view alone times, in both views ratings; a rating that is not known is told by its item alone."""
    train = as_read(genre_groups()[0], Reads(ratings=True, order=True))
    model = fit(train, rating_embedding=True, time_buckets=3, epochs=5)
    items, history = all_items(model), train.interactions[[0]]
    rated, placed = history.data.real, history.data.imag
    texts, graphs = [], []
    network = model.fitted_network
    for ratings, places in ((rated, placed), (6 - rated, placed), (rated, placed.max() - placed), (np.nan, placed)):
        values = torch.complex(
            torch.from_numpy(np.broadcast_to(np.float32(ratings), rated.shape).copy()), torch.from_numpy(places.copy())
        )
        clicks = Clicks(torch.from_numpy(history.indices.astype(np.int64)), torch.tensor([0]))
        with torch.no_grad():
            text, graph = network._users(network.text(), network.graph(), clicks, values)
        texts.append(text), graphs.append(graph)
    for other in (1, 3):
        assert not torch.allclose(texts[0], texts[other], atol=1e-3)
    assert torch.equal(texts[0], texts[2])
    for other in (1, 2, 3):
        assert not torch.allclose(graphs[0], graphs[other], atol=1e-3)
    marks = network.rating_marks(torch.tensor([1.0, 5.0, torch.nan, 2.6, -3.0, 9.0]))
    assert marks.tolist() == [1, 5, 0, 3, 1, 5]
    assert np.isnan(model.click_value)
    unknown = sp.csr_array((np.full(history.nnz, np.nan + 0j, np.complex64), history.indices, history.indptr),
                           shape=history.shape)  # fmt: skip
    assert np.isfinite(model.score(unknown, items)).all()


def test_a_configuration_takes_from_a_training_set_what_it_reads():
    """A study gives all its configurations what any of them reads."""
    both = as_read(genre_groups()[0], Reads(ratings=True, order=True))
    for reads, config in (
        (Reads(ratings=True), {"rating_embedding": True}),
        (Reads(order=True), {"time_buckets": 3}),
        (Reads(), {}),
    ):
        alone = as_read(genre_groups()[0], reads)
        models = [fit(train, epochs=2, validation_share=0.2, **config) for train in (both, alone)]
        assert models[0].reads == reads
        scores = [model.score(alone.interactions, all_items(model)) for model in models]
        np.testing.assert_array_equal(scores[0], scores[1])


def test_the_buckets_of_time_double():
    train, _ = genre_groups()
    model = TextGraph(TextGraphConfig(**QUICK, time_buckets=4))
    network = model.network(model.inputs(train), 30)
    clicks = Clicks(torch.zeros(12, dtype=torch.int64), torch.tensor([0, 9, 9]))
    places = torch.tensor([20, 11, 13, 14, 17, 18, 19, 5, 4, 3, 9, 1.0])
    marks = network.time_marks(clicks, places)
    assert marks.tolist() == [1, 4, 4, 3, 3, 2, 2, 4, 4, 3, 1, 4]


def test_a_history_of_nothing_but_padding_is_served_by_what_is_learnt_for_it():
    train, _ = genre_groups()
    model = fit(train)
    empty = sp.csr_array((2, model.n_items), dtype=np.float32)
    scores = model.score(empty, all_items(model))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5, atol=1e-6)
    assert np.ptp(scores[0]) > 0


# ---- memory


@pytest.mark.parametrize(
    ("memory", "labels", "given", "form"),
    [
        (2**33, 3_000_000, {}, "whole"),
        (2**32, 3_000_000, {}, "sampled"),
        (2**33, None, {}, "sampled"),  # nobody counted: 32 labels an item
        (2**50, 3_000_000, {"neighbours": 8}, "sampled"),
        (1, 3_000_000, {"graph": "whole"}, "whole"),
        (2**50, 3_000_000, {"graph": "sampled"}, "sampled"),
    ],
)
def test_the_form_is_settled_by_the_graph_of_the_largest_fit(memory, labels, given, form):
    outlook = StudyOutlook(1000, 200_000, memory, labels=labels, label_kinds=20_000 if labels else 0)
    settled, (told,) = TextGraph.settle(TextGraphConfig(heads=2, head_dim=8, batch_size=16, **given), outlook)
    assert settled.graph == told.value == form
    assert told.exact == (form == "whole")
    assert TextGraph.settle(settled, replace(outlook, memory=1))[0] == settled


def test_a_fit_keeps_to_its_form_and_a_whole_graph_that_does_not_fit_is_refused(monkeypatch):
    train = random_training_set(3)
    model = TextGraph(TextGraphConfig(**QUICK))
    inputs = model.inputs(train)
    monkeypatch.setattr("coldray.core.memory._available_bytes", lambda: 1000)
    with pytest.raises(CatalogTooLargeError, match=r"whole graph of 30 items and .* edges .* Use graph='sampled'"):
        model.task(train, inputs, None)
    model = TextGraph(TextGraphConfig(**QUICK, graph="sampled"))
    assert model.task(train, inputs, None).sampler.neighbours == text_graph._SAMPLED


def test_a_fit_outside_a_study_samples_where_the_whole_graph_does_not_fit_and_says_so(monkeypatch, caplog):
    train = random_training_set(3)
    monkeypatch.setattr(TextGraph, "memory_bytes", lambda *_: 1)
    monkeypatch.setattr("coldray.models.base.fit_bytes", lambda: 1000)
    model = TextGraph(TextGraphConfig(**{**QUICK, "epochs": 1})).fit(train)
    assert (model.config.graph, model.forms[0].exact) == ("sampled", False)
    assert "graph=sampled (approximate): A step of text_graph over the whole graph of 30 items" in caplog.text


@pytest.mark.parametrize("stop_by", ["items", "clicks"])
def test_training_is_stopped_by_new_items_or_by_single_clicks(stop_by):
    train = random_training_set(3)
    rest, validation = TextGraph(TextGraphConfig(**{**QUICK, "validation_share": 0.2, "stop_by": stop_by})).hold_out(
        train
    )
    lost = (rest.clicks == 0) & (train.clicks > 0)
    assert lost[validation.candidates].all() == (stop_by == "items")
    assert validation.clicks.nnz
