"""Lists from a bundle, held against what the model says item by item."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, UnknownAttributeError, UnknownIdError
from coldray.data.dataset import LabelAttribute
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Condition, Query


@pytest.fixture(scope="module")
def engine(bundle):
    return Engine(bundle)


@pytest.fixture(scope="module")
def extended(bundle):
    """Return the bundle with two new items, made of the attributes of known ones."""
    known, items = Engine(bundle), bundle.item_ids.tolist()
    new = {"new-a": known.attributes(items[3]), "new-b": known.attributes(items[7])}
    encoded = {
        item: {name: record[name] for name in bundle.encoder.kinds if name in record} for item, record in new.items()
    }
    return bundle.add_items(encoded)


def items_of(answer):
    return [place.item for place in answer.places]


def by_hand(bundle, clicked, k, allowed=None):
    """Return the best items by sorting all scores of one history."""
    row = np.zeros((1, bundle.model.n_items), np.float32)
    row[0, clicked] = 1
    scores = bundle.model.score(sp.csr_array(row), np.arange(bundle.model.n_items))[0]
    order = sorted(range(len(scores)), key=lambda place: (-scores[place], place))
    kept = [place for place in order if place not in set(clicked) and (allowed is None or allowed[place])]
    return [bundle.item_ids[place] for place in kept[:k]]


@given(st.integers(0, 119), st.integers(1, 95))
def test_a_user_gets_the_best_items_that_he_has_not_clicked(user, k):
    bundle, engine = CACHE["bundle"], CACHE["engine"]
    clicks = bundle.interactions
    own = clicks.indices[clicks.indptr[user] : clicks.indptr[user + 1]]
    (answer,) = engine.answer([Query(k=k, user_id=bundle.user_ids[user])])
    assert items_of(answer) == by_hand(bundle, own, k)
    assert (answer.path, len(answer.history)) == ("model", len(own))


CACHE = {}


@pytest.fixture(scope="module", autouse=True)
def _keep(bundle, engine):
    CACHE.update(bundle=bundle, engine=engine)


def test_a_history_in_a_request_gets_the_list_of_a_user_with_that_history(bundle, engine):
    clicks = bundle.interactions
    own = clicks.indices[clicks.indptr[5] : clicks.indptr[6]]
    history = dict.fromkeys(bundle.item_ids[own].tolist())
    known, anonymous = engine.answer([Query(user_id=bundle.user_ids[5]), Query(history=history)])
    assert items_of(known) == items_of(anonymous)
    assert (known.path, anonymous.path) == ("model", "history")


def test_queries_answered_together_are_answered_as_alone(bundle, engine):
    queries = [
        Query(user_id=bundle.user_ids[3], k=4),
        Query(user_id="nobody", k=7),
        Query(history=dict.fromkeys(bundle.item_ids[:2].tolist()), candidates="warm", k=2),
        Query(user_id=bundle.user_ids[9], exclude=tuple(bundle.item_ids[:40].tolist()), diversity=0.4),
    ]
    together = engine.answer(queries)
    alone = [engine.answer([query])[0] for query in queries]
    assert [items_of(answer) for answer in together] == [items_of(answer) for answer in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose([p.score for p in one.places], [p.score for p in other.places], rtol=1e-4)


def test_without_a_history_everybody_gets_the_most_clicked_items(bundle, engine):
    clicks = np.bincount(bundle.interactions.indices, minlength=bundle.model.n_items)
    for query in (Query(), Query(user_id="nobody"), Query(history={})):
        (answer,) = engine.answer([query])
        assert (answer.path, len(answer.history)) == ("popularity", 0)
        places = [bundle.item_ids.tolist().index(item) for item in items_of(answer)]
        assert clicks[places].tolist() == sorted(clicks.tolist(), reverse=True)[:10]


def test_what_is_excluded_or_no_candidate_is_not_in_the_list(extended):
    engine = Engine(extended)
    user, items = extended.user_ids[4], extended.item_ids.tolist()
    (cold,) = engine.answer([Query(user_id=user, candidates="cold", k=50)])
    assert sorted(items_of(cold)) == ["new-a", "new-b"]
    assert all(place.cold for place in cold.places)
    assert cold.path == "attributes"
    (warm,) = engine.answer([Query(user_id=user, candidates="warm", k=200)])
    assert not any(place.cold for place in warm.places)
    assert {"new-a", "new-b"}.isdisjoint(items_of(warm))
    (few,) = engine.answer([Query(user_id=user, candidates=(items[30], "new-a"), exclude=("new-a",))])
    assert set(items_of(few)) <= {items[30]}
    (left,) = engine.answer([Query(history={items[0]: None}, candidates=(items[0], "new-a"))])
    assert (items_of(left), left.path) == (["new-a"], "attributes")  # the only one with clicks is in the history
    (nothing,) = engine.answer([Query(user_id=user, candidates=("new-a",), exclude=("new-a",))])
    assert nothing.places == ()


def test_removed_items_are_in_no_list_and_in_histories_still(bundle):
    user, (first, *_) = bundle.user_ids[2], bundle.item_ids.tolist()
    engine = Engine(bundle)
    (before,) = engine.answer([Query(user_id=user, k=1)])
    changed = Engine(bundle, removed=[first, before.places[0].item])
    (after,) = changed.answer([Query(user_id=user, k=300)])
    assert {first, before.places[0].item}.isdisjoint(items_of(after))
    assert not changed.knows_item(first)
    (told,) = changed.answer([Query(history={first: None}, k=300)])
    (whole,) = engine.answer([Query(history={first: None}, k=300)])
    assert items_of(told) == [item for item in items_of(whole) if changed.knows_item(item)]


def test_an_event_becomes_history_of_known_and_unknown_users(bundle):
    item, user = bundle.item_ids[11], bundle.user_ids[1]
    engine = Engine(bundle, events={"stranger": {item: None}})
    engine.observe(user, item, None)
    engine.observe(user, "no such item", None)
    stranger, known, direct = engine.answer(
        [Query(user_id="stranger", k=5), Query(user_id=user, k=300), Query(history={item: None}, k=5)]
    )
    assert items_of(stranger) == items_of(direct)
    assert stranger.path == "history"
    assert item not in items_of(known)


@pytest.mark.parametrize("name", ["genres", "actors"])
def test_a_condition_on_labels_is_met_by_every_item_of_the_list(bundle, engine, name):
    attribute = bundle.attributes[name]
    assert isinstance(attribute, LabelAttribute)
    labels = tuple(attribute.labels[:2].tolist())
    (answer,) = engine.answer([Query(user_id=bundle.user_ids[0], k=300, conditions={name: Condition(any=labels)})])
    met = {item for item in bundle.item_ids.tolist() if set(engine.attributes(item).get(name, ())) & set(labels)}
    clicked = set(bundle.history(bundle.user_ids[0]))
    assert set(items_of(answer)) == met - clicked


def test_a_condition_on_a_number_has_two_ends(bundle, engine):
    conditions = {"year": Condition(at_least=1990, at_most=2005)}
    (answer,) = engine.answer([Query(user_id=bundle.user_ids[0], k=300, conditions=conditions)])
    met = {item for item in bundle.item_ids.tolist() if 1990 <= engine.attributes(item).get("year", 0) <= 2005}
    assert set(items_of(answer)) == met - set(bundle.history(bundle.user_ids[0]))


@pytest.mark.parametrize(
    ("query", "error", "expected"),
    [
        (Query(history={"zzz": None}), UnknownIdError, "history: there is no item 'zzz'"),
        (Query(exclude=("zzz",)), UnknownIdError, "exclude: there is no item 'zzz'"),
        (Query(candidates=("zzz",)), UnknownIdError, "candidates: there is no item 'zzz'"),
        (Query(conditions={"genre": Condition(any=("a",))}), UnknownAttributeError, "Did you mean 'genres'"),
        (Query(conditions={"genres": Condition(at_least=1)}), ConfigError, "'genres' takes any"),
        (Query(conditions={"year": Condition(any=("a",))}), ConfigError, "'year' takes at_least or at_most"),
        (Query(conditions={"description": Condition(any=("a",))}), ConfigError, "'description' is a text"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(engine, query, error, expected):
    with pytest.raises(error, match=expected):
        engine.check(query)


def likeness(engine, items):
    """Return the mean cosine of labels between all pairs of items."""
    labels = [
        {(name, label) for name, value in engine.attributes(item).items() if isinstance(value, list) for label in value}
        for item in items
    ]
    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    return np.mean([len(a & b) / np.sqrt(len(a) * len(b)) for a, b in pairs])


def test_diversity_begins_with_the_best_item_and_makes_the_list_less_alike(bundle, engine):
    user = bundle.user_ids[6]
    plain, mixed, wide = engine.answer([Query(user_id=user, diversity=weight) for weight in (0, 0.5, 1)])
    assert items_of(mixed)[0] == items_of(wide)[0] == items_of(plain)[0]
    assert likeness(engine, items_of(wide)) < likeness(engine, items_of(plain))
    assert len(set(items_of(wide))) == 10


def test_ids_in_an_address_take_the_type_of_the_catalogue(bundle):
    numbered = dataclasses.replace(bundle, item_ids=np.arange(bundle.model.n_items))
    assert Engine(numbered).typed("12") == 12
    assert Engine(bundle).typed("item-0001") == "item-0001"
    assert Engine(numbered).typed("x") == "x"


@pytest.mark.parametrize("candidates", ["cold", ("b", "new")])
def test_items_that_a_model_of_clicks_alone_cannot_tell_apart_are_no_candidates(candidates):
    clicks, items = {"user_id": [1, 1, 2], "item_id": ["a", "b", "a"]}, {"item_id": ["a", "b", "new"]}
    engine = Engine(coldray.fit("ease", coldray.load_dataset(clicks, items)))
    with pytest.raises(ConfigError, match="knows items by their clicks alone"):
        engine.check(Query(k=3, user_id=2, candidates=candidates))
    assert items_of(engine.answer([Query(k=3, user_id=2, candidates=("b",))])[0]) == ["b"]
