"""Lists in which items are tried out: what they are chosen among, what they show, and that it pays."""

import dataclasses
import json

import numpy as np
import pytest
from pydantic import ValidationError

import coldray.serving.engine.engine as engine_module
from coldray.serving.api.answers import answer_json
from coldray.serving.api.schemas import RecommendResponse
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Condition, Query
from coldray.serving.exploration.explore import ExplorationConfig, context_of, uncertainty_of
from coldray.serving.live.model import LiveModel
from coldray.serving.live.store import Store
from contracts.exploring import LINUCB, METHODS, THOMPSON, VERSION, feed, items_of, record
from contracts.feedback import send_event


def taught(bundle, store, config):
    """Return a live model that has had some feedback."""
    live = LiveModel(bundle, VERSION, store, config)
    items = bundle.item_ids.tolist()
    feed(live, "user-0001", items[10:20], clicked=False)
    feed(live, "user-0002", items[60:64], clicked=True)
    return live


@pytest.mark.parametrize("config", [LINUCB, THOMPSON], ids=METHODS)
def test_a_list_is_chosen_among_the_best_that_are_allowed_and_shows_their_scores(
    bundle, open_store, config, monkeypatch
):
    monkeypatch.setattr(engine_module, "_POOL", 2)
    monkeypatch.setattr(engine_module, "_LEAST_POOL", 20)
    live = taught(bundle, open_store(), config)
    user, items = bundle.user_ids[6], bundle.item_ids.tolist()
    labels = tuple(bundle.attributes["genres"].labels[:2].tolist())
    others = []
    for query in (
        Query(user_id=user),
        Query(user_id=user, k=15, exclude=tuple(items[:30])),
        Query(user_id=user, candidates=tuple(items[5:45])),
        Query(user_id=user, k=7, conditions={"genres": Condition(any=labels)}),
        Query(user_id=user, diversity=0.5),
        Query(history=dict.fromkeys(items[:3])),
        Query(),
    ):
        (explored,), (plain,), (whole,) = (
            live.engine.answer([one])
            for one in (
                query,
                dataclasses.replace(query, explore=False),
                dataclasses.replace(query, explore=False, diversity=0, k=len(items)),
            )
        )
        assert (explored.exploration, plain.exploration) == (config.method, None)
        assert explored.path == plain.path
        best = dict([(place.item, place.score) for place in whole.places][: max(2 * query.k, 20)])
        assert {place.item: place.score for place in explored.places}.items() <= best.items()
        assert len(explored.places) == len(set(items_of(explored))) == len(plain.places) > 0
        others.append(items_of(explored) != items_of(plain))
    assert all(others)


def test_with_nothing_to_choose_from_nothing_is_tried_out(bundle, open_store):
    live = taught(bundle, open_store(), LINUCB)
    item = bundle.item_ids.tolist()[0]
    (nothing,) = live.engine.answer([Query(candidates=(item,), exclude=(item,))])
    assert (nothing.places, nothing.exploration) == ((), None)


def test_exploration_is_off_by_default_and_then_keeps_nothing(bundle, open_store):
    store = open_store()
    live = LiveModel(bundle, VERSION, store)
    assert live.engine.explorer is None
    assert not live.explores
    feed(live, "user-0001", ["item-0010"], clicked=True)
    assert [event.context for event in store.events_since(0)] == [None]
    (answer,) = live.engine.answer([Query(user_id="user-0003")])
    assert answer.exploration is None
    assert items_of(answer) == items_of(Engine(bundle).answer([Query(user_id="user-0003")])[0])
    assert "exploration" not in json.loads(answer_json(live, answer))


def test_the_answer_says_that_items_were_tried_out(bundle, open_store):
    live = taught(bundle, open_store(), THOMPSON)
    (answer,) = live.engine.answer([Query(user_id="user-0003")])
    assert RecommendResponse.model_validate(json.loads(answer_json(live, answer))).exploration == "thompson"


def test_draws_are_given_by_the_seed_and_the_number_of_the_list(bundle, open_store):
    store = open_store()
    first = taught(bundle, store, THOMPSON)
    second = LiveModel(bundle, VERSION, store, THOMPSON)
    other = LiveModel(bundle, VERSION, store, ExplorationConfig(method="thompson", seed=1))
    queries = [Query(user_id=user) for user in bundle.user_ids[:3]] * 2

    def lists(live, *asked):
        return [items_of(answer) for answer in live.engine.answer(asked)]

    following = lists(first, *queries)
    assert [lists(second, query)[0] for query in queries] == following
    assert lists(other, *queries) != following
    assert following[:3] != following[3:]
    assert lists(first, *(dataclasses.replace(query, draw=place) for place, query in enumerate(queries))) == following
    assert lists(second, dataclasses.replace(queries[4], draw=4)) == [following[4]]


def test_what_was_not_clicked_is_no_history(bundle, open_store):
    live = LiveModel(bundle, VERSION, open_store(), LINUCB)
    before = live.engine.answer([Query(user_id="user-0003", explore=False), Query(user_id="x", explore=False)])
    feed(live, "user-0003", items_of(before[0])[:3], clicked=False)
    feed(live, "x", items_of(before[1])[:3], clicked=False)
    after = live.engine.answer([Query(user_id="user-0003", explore=False), Query(user_id="x", explore=False)])
    assert [items_of(answer) for answer in after] == [items_of(answer) for answer in before]
    assert after[1].path == "popularity"
    restarted = LiveModel(bundle, VERSION, live.store, LINUCB)
    assert items_of(restarted.engine.answer([Query(user_id="x", explore=False)])[0]) == items_of(after[1])


def test_the_context_of_an_event_is_that_of_the_user_before_it(bundle, open_store):
    store = open_store()
    live = LiveModel(bundle, VERSION, store, LINUCB)
    feed(live, "stranger", ["item-0007"], clicked=True)
    items = bundle.item_ids.tolist()
    (whole,) = live.engine.answer([Query(user_id="stranger", k=len(items), explore=False)])
    feed(live, "stranger", ["item-0020"], clicked=True)
    scores = {place.item: place.score for place in whole.places}
    assert "item-0007" not in scores
    mean, best = np.mean(list(scores.values())), max(scores.values())
    context = store.events_since(0)[-1].context
    expected = max((scores["item-0020"] - mean) / (best - mean), -1)
    assert context == pytest.approx({"score": expected, "history": 1 / 11}, abs=1e-3)


def test_uncertainty_is_larger_the_less_the_model_knows(bundle):
    live = Engine(bundle.add_items({"bare": {}, "like": record(bundle, 4)}))
    found = uncertainty_of(live.bundle.model, live.warm)
    assert found.shape == (live.n_items,)
    assert ((found > 0) & (found < 1)).all()
    assert found[-2] > found[-1]
    np.testing.assert_array_equal(found[:-2], uncertainty_of(bundle.model, live.warm[:-2]))
    assert uncertainty_of(object(), np.array([True, False])).tolist() == [0, 1]


@pytest.mark.parametrize(("config", "asked"), [(ExplorationConfig(), 0), (THOMPSON, 0), (LINUCB, 1)])
def test_variances_are_asked_for_by_the_method_that_reads_them_alone(bundle, open_store, config, asked, monkeypatch):
    calls, variance = [], type(bundle.model).variance
    monkeypatch.setattr(type(bundle.model), "variance", lambda *args: calls.append(args) or variance(*args))
    LiveModel(bundle, VERSION, open_store(), config)
    assert len(calls) == asked


def test_the_context_of_an_item_is_as_it_is_served(bundle):
    scores = np.array([0, 1, 2, 5], np.float32)
    context = context_of(2, scores, np.array([True, True, True, False]), 10)
    assert context == {"score": 1.0, "history": 0.5}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"method": "ucb"}, "method"), ({"alpha": -1}, "alpha"), ({"alpha": float("nan")}, "alpha"),
        ({"ridge": 0}, "ridge"), ({"own_ridge": 0}, "own_ridge"), ({"prior": (1, 0)}, "prior"),
        ({"prior": (1,)}, "prior"), ({"seed": -1}, "seed"),
        ({"epsilon": 0.1}, "epsilon"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_named(fields, named):
    with pytest.raises(ValidationError, match=named):
        ExplorationConfig(**fields)


class Town:
    """Users who click what they like, on items whose appeal the model does not know: the best is new, one is a dud."""

    def __init__(self, bundle):
        self.bundle, known = bundle, Engine(bundle)
        rng = np.random.default_rng(1)
        self.share = dict(zip(known.ids, rng.uniform(0.02, 0.2, known.n_items).tolist(), strict=True))
        first = [known.answer([Query(user_id=user, k=1)])[0].places[0].item for user in bundle.user_ids]
        self.dud = max(sorted(set(first)), key=first.count)
        self.share |= {"gem": 0.8, self.dud: 0.0}

    def live(self, store, config, rounds=240, k=3):
        """Return the regret, whether the gem and the dud were in the list of each round, and the live model."""
        live = LiveModel(self.bundle, VERSION, store, config)
        store.put_item("gem", record(self.bundle, 4))
        live.refresh()
        rng, regret, gem, dud = np.random.default_rng(2), 0.0, [], []
        for number in range(rounds):
            user = self.bundle.user_ids[number % len(self.bundle.user_ids)]
            (answer,) = live.engine.answer([Query(user_id=user, k=k)])
            clicked = {live.engine.ids[place] for place in answer.history}
            best = sorted((share for item, share in self.share.items() if item not in clicked), reverse=True)
            regret += sum(best[:k]) - sum(self.share[item] for item in items_of(answer))
            for place in answer.places:
                liked = bool(rng.random() < self.share[place.item])
                send_event(live, f"{number}-{place.item}", user, place.item, None, clicked=liked)
            live.refresh()
            gem.append("gem" in items_of(answer))
            dud.append(self.dud in items_of(answer))
        return regret, np.array(gem), np.array(dud), live


@pytest.fixture(scope="module")
def town(bundle):
    return Town(bundle)


@pytest.fixture(scope="module")
def greedy(town):
    store = Store("sqlite://")
    yield town.live(store, ExplorationConfig())
    store.close()


@pytest.mark.parametrize("config", [LINUCB, THOMPSON], ids=METHODS)
def test_a_new_item_that_the_model_underrates_is_found_and_a_bad_one_dropped(town, greedy, config, open_store):
    regret, gem, dud, live = town.live(open_store(), config)
    assert gem.mean() > 0.4 > 0.1 > greedy[1].mean()
    assert regret < 0.6 * greedy[0]
    third = len(dud) // 3
    assert dud[:third].any()
    assert dud[-third:].mean() < 0.05 < 0.2 < greedy[2][-third:].mean()
    strangers = live.engine.answer([Query(user_id="stranger", k=3, draw=draw) for draw in range(20)])
    assert sum(items_of(answer)[0] == "gem" for answer in strangers) >= 18
