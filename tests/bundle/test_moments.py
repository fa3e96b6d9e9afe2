"""Lists for a moment: in Python, from a stored bundle, by MLflow, the service's engine and the job of lists."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp

import coldray
from coldray.bundle.pyfunc import BundleModel
from coldray.core.errors import ConfigError, DataFormatError, UnknownAttributeError
from coldray.data.dataset import LabelAttribute
from coldray.features.graph.item_graph import GRAPH_WORDS
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query

MORNING, EVENING = {"part": "morning"}, {"part": ["evening"]}
DAY = 86_400
PARAMETERS = {"embedding_dim": 8, "epochs": 8, "learning_rate": 0.03, "validation_share": 0.0, "batch_size": 64}


@pytest.fixture(scope="module")
def data():
    """Return sixty people who click even items in the morning and odd ones in the evening."""
    generator = np.random.default_rng(1)
    users, items = np.nonzero(generator.random((60, 24)) < 0.4)
    hours = np.where(items % 2, 20, 8)
    times = (generator.integers(0, 300, len(users)) * DAY + hours * 3600).tolist()
    clicks = {"user_id": users.tolist(), "item_id": items.tolist(), "when": times}
    films = {"item_id": list(range(24)), "kind": [["long", "short", "old"][item % 3] for item in range(24)]}
    plain = coldray.load_dataset(clicks, films, labels=["kind"], timestamp="when")
    evening = plain.interactions.indices % 2
    part = LabelAttribute(sp.csr_array(np.eye(2, dtype=np.float32)), np.array(["evening", "morning"]))
    rows = sp.csr_array((1 - evening.astype(np.int64), plain.interactions.indices, plain.interactions.indptr))
    return replace(plain, context={"part": part}, context_rows=rows)


@pytest.fixture(scope="module")
def bundle(data):
    return coldray.fit("fm", data, moment_features={"attributes": ["part", "activity"]}, **PARAMETERS)


@pytest.fixture(scope="module")
def of_graph(data):
    words = ["part", "pagerank", "item_degree", *GRAPH_WORDS]
    return coldray.fit("fm", data, moment_features={"attributes": words}, **{**PARAMETERS, "epochs": 3})


def evens(frame, user=0):
    """Return the share of even items in a list."""
    return float((frame.filter(pl.col("user") == user)["item"] % 2 == 0).mean())


def test_a_list_is_of_the_moment_at_which_it_is_asked_for(bundle):
    frame = bundle.recommend(histories=[[1, 2]] * 2, contexts=[MORNING, EVENING], k=6)
    assert (evens(frame, 0), evens(frame, 1)) == (1.0, 0.0)
    known = bundle.recommend([5, 5], contexts=[MORNING, EVENING], k=5)
    first, second = known["item"].to_list()[:5], known["item"].to_list()[5:]
    assert all(item % 2 == 0 for item in first)
    assert all(item % 2 for item in second)


def test_what_is_missing_is_unknown_and_counted(bundle, caplog):
    with caplog.at_level(logging.WARNING):
        bundle.recommend(histories=[[1], [2], [3]], contexts=[MORNING, {}, {"time": "2026-05-04T18:30"}], k=3)
    assert "2 of 3 who ask have no 'part' in their context" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        bundle.recommend([4], contexts=[{"part": "noon"}], k=3)
    assert "No click the model was fitted on has 1 labels of 'part'; the first is 'noon'" in caplog.text


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"contexts": [{"prat": "morning"}]}, UnknownAttributeError, "Did you mean 'part'"),
        ({"contexts": [{"part": 5}]}, DataFormatError, r"^Context 0 \(counted from 0\): 'part'"),
        ({"contexts": [{"time": "noon"}]}, DataFormatError, r"^Context 0 .*: the time is 'noon'"),
        ({"contexts": [{"time": True}]}, DataFormatError, "the time must be seconds since 1970"),
        ({"contexts": [{"time": float("inf")}]}, DataFormatError, "the time must be seconds since 1970"),
        ({"contexts": ["morning"]}, DataFormatError, "is 'morning'; attributes are a dict"),
        ({"contexts": [MORNING, EVENING]}, ConfigError, "1 users and 2 contexts"),
        ({"contexts": MORNING}, ConfigError, "contexts takes a list with one for each user, not a dict"),
    ],
)
def test_what_makes_no_sense_is_refused(bundle, asked, error, words):
    with pytest.raises(error, match=words):
        bundle.recommend([5], k=3, **asked)


def test_a_model_that_reads_no_moments_takes_no_context(data):
    plain = coldray.fit("ease", data)
    with pytest.raises(ConfigError, match="'ease' reads no context: leave contexts out"):
        plain.recommend([5], contexts=[MORNING])
    with pytest.raises(ConfigError, match="context: the model 'ease' reads none"):
        Engine(plain).check(Query(user_id=5, context=MORNING))
    with pytest.raises(ConfigError, match="context: the model 'ease' reads none"):
        asked(plain, user_id=[5], context=[MORNING])


def asked(bundle, **columns):
    """Return the answer of the MLflow model to rows."""
    model = BundleModel()
    model.bundle = bundle
    return model.predict(None, pd.DataFrame(columns), {"k": 5})


@pytest.mark.parametrize("words", ["bundle", "of_graph"])
def test_all_who_make_lists_make_the_same(words, request, tmp_path):
    """Of a bundle and of what is read back of it: Python, MLflow and the service's engine."""
    bundle = request.getfixturevalue(words)
    time = 100.5 * DAY
    contexts = [{**MORNING, "time": time}, {**EVENING, "time": time}]
    stored = coldray.load_bundle(bundle.save(tmp_path / "bundle"))
    expected = bundle.recommend([5, 6], contexts=contexts, k=5)
    for one in (bundle, stored):
        assert one.recommend([5, 6], contexts=contexts, k=5).equals(expected)
        assert asked(one, user_id=[5, 6], context=contexts)["item"].to_list() == expected["item"].to_list()
        engine = Engine(one)
        queries = [Query(user_id=user, context=context, k=5) for user, context in zip([5, 6], contexts, strict=True)]
        for query in queries:
            engine.check(query)
        answers = engine.answer(queries)
        assert [place.item for answer in answers for place in answer.places] == expected["item"].to_list()
        scores = [place.score for answer in answers for place in answer.places]
        np.testing.assert_allclose(scores, expected["score"].to_numpy(), rtol=1e-5)


def test_a_question_knows_the_clicks_before_it_alone(bundle):
    """The clicks of a user after the moment at which they ask change no feature of it."""
    moments = bundle.moments
    row = 7
    times = moments.known.times[moments.starts[row] : moments.starts[row + 1]]
    early, late = float(times.min()), float(times.max()) + 1
    asking = bundle.people.asking([row] * 3, contexts=[{"time": early}, {"time": late}, {}])
    activity = asking.features["at:activity"].values
    np.testing.assert_allclose(activity, np.log1p([0, len(times), len(times)]))
    given = bundle.people.asking([None], contexts=[{"time": early}], histories=[{1: None, 2: None}])
    assert given.features["at:activity"].values[0] == pytest.approx(np.log1p(2))


def test_the_graph_is_read_with_a_given_history_and_with_the_clicks_before_the_moment(of_graph, data):
    """Of somebody new who is given the clicks that a user had made, all that is known of the graph is the same."""
    moments, row = of_graph.moments, 7
    own = slice(moments.starts[row], moments.starts[row + 1])
    times, items = moments.known.times[own], moments.known.items[own]
    now = float(np.sort(times)[-2])
    order = np.argsort(times)
    before = {int(item): None for item in items[order][: np.count_nonzero(times < now)]}
    asked = of_graph.people.asking([row, None], contexts=[{"time": now}] * 2, histories=[{}, before])
    earlier = asked.features["at:earlier"].matrix.toarray()
    assert sorted(np.flatnonzero(earlier[0])) == sorted(before)
    np.testing.assert_array_equal(np.flatnonzero(earlier[1]), np.flatnonzero(earlier[0]))
    rank = asked.features["at:pagerank"].values
    assert rank[0] == pytest.approx(rank[1])
    wider = of_graph.add_items({99: {"kind": ["old"]}})
    frame = wider.recommend(histories=[[1, 99]], contexts=[MORNING], k=25)
    assert frame["score"].is_finite().all()
    assert 99 not in frame["item"].to_list()


def test_the_service_says_what_of_the_context_it_was_not_told(bundle):
    engine = Engine(bundle)
    (told,) = engine.answer([Query(user_id=5, context=MORNING)])
    (untold,) = engine.answer([Query(user_id=5)])
    assert told.unknown_context == ()
    assert untold.unknown_context == ("part",)
    with pytest.raises(DataFormatError, match="context: no click the model was fitted on has the label 'noon'"):
        engine.check(Query(user_id=5, context={"part": "noon"}))
    with pytest.raises(UnknownAttributeError, match="'part'"):
        engine.check(Query(user_id=5, context={"prat": "noon"}))


def test_lists_for_all_users_know_their_clicks_and_no_moment(bundle):
    lists, counts = BatchLists.of(bundle, k=5), Counts()
    rows = pl.DataFrame({"user_id": [5, 5, 6], "item_id": [1, 2, 3]})
    (table,) = lists.of_histories(rows, counts)
    assert counts.users == 2
    assert [len(row) for row in table["items"].to_list()] == [5, 5]


def test_it_is_measured_at_the_moments_of_what_is_held_out(data):
    split = coldray.split(data, "holdout", seed=3)
    told = coldray.fit("fm", split, moment_features={"attributes": ["part"]}, **PARAMETERS)
    untold = coldray.fit("fm", split, moment_features={"attributes": ["activity"]}, **PARAMETERS)
    values = [coldray.evaluate(model, split, ["ndcg@5"])["ndcg@5"] for model in (told, untold)]
    assert values[0] > 1.2 * values[1]
