"""New items that warm up: clicks on them change everybody's lists without a fit, alike in all replicas, for good."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.bundle.fitting import fit_bundle
from coldray.core.errors import UnknownIdError
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.popularity.model import Popularity
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store
from contracts.feedback import put_event, send_event

VERSION = ModelVersion("m", "1")
TAKES = KernelAlignConfig(n_factors=8, steps=5, click_ridge=2.0)
CLICKERS = ["user-0001", "user-0004", "user-0007", "user-0011"]


@pytest.fixture(scope="module")
def warming_bundle():
    return fit_bundle(KernelAlign(TAKES), sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig()), {})


def record(bundle, place):
    known = Engine(bundle).attributes(bundle.item_ids[place])
    return {name: known[name] for name in bundle.encoder.kinds if name in known}


def scores(live, user="user-0003"):
    (answer,) = live.engine.answer([Query(user_id=user, candidates="all", k=200)])
    return {place.item: place.score for place in answer.places}


def click(store, users, item="new"):
    for user in users:
        put_event(store, f"{user} on {item}", user, item, None)


def told_at_once(bundle, items, pairs):
    """Return the engine of a fit that is given new items and all clicks on them at once, outside the service."""
    extended = bundle.add_items(items) if items else bundle
    clicks = extended.interactions.tolil()
    for user, item in pairs:
        clicks[extended.user_places[user], extended.item_places[item]] = 1
    train = TrainingSet(sp.csr_array(clicks.tocsr()), extended.features, "told at once")
    return Engine(replace(extended, model=extended.model.with_clicks(train)))


def expected_scores(bundle, live, user="user-0003"):
    engine = told_at_once(bundle, {"new": record(bundle, 4)}, [(user, "new") for user in CLICKERS])
    (answer,) = engine.answer([Query(user_id=user, candidates="all", k=200)])
    return {place.item: place.score for place in answer.places}


def test_clicks_on_a_new_item_move_it_for_everybody_as_if_told_at_once(warming_bundle, store):
    live = LiveModel(warming_bundle, VERSION, store)
    store.put_item("new", record(warming_bundle, 4))
    live.refresh()
    before, revision = scores(live), live.revisions.catalogue
    click(store, CLICKERS)
    assert live.refresh()
    after = scores(live)
    assert after == pytest.approx(expected_scores(warming_bundle, live), rel=1e-4, abs=1e-6)
    assert abs(after["new"] - before["new"]) > 1e-3
    others = {item: score for item, score in after.items() if item != "new"}
    assert others == pytest.approx({item: before[item] for item in others}, rel=1e-4, abs=1e-6)
    assert live.revisions.catalogue != revision, "lists of others that are kept would be given on"


def test_replicas_agree_whatever_comes_first_and_a_new_one_knows_all(warming_bundle, tmp_path):
    store = Store.at(tmp_path / "shared.db")
    early, late = (LiveModel(warming_bundle, VERSION, store) for _ in range(2))
    click(store, CLICKERS[:2])  # before there is such an item
    early.refresh()
    store.put_item("new", record(warming_bundle, 4))
    early.refresh()
    click(store, CLICKERS[2:])
    early.refresh()
    late.refresh()
    fresh = LiveModel(warming_bundle, VERSION, store)
    for live in (late, fresh):
        assert scores(live) == pytest.approx(scores(early), rel=1e-4, abs=1e-6)
        assert live.revisions.catalogue == early.revisions.catalogue
    assert scores(early) == pytest.approx(expected_scores(warming_bundle, early), rel=1e-4, abs=1e-6)
    store.close()


def test_a_changed_item_keeps_its_clicks_and_doubled_feedback_counts_once(warming_bundle, store):
    live = LiveModel(warming_bundle, VERSION, store)
    store.put_item("new", record(warming_bundle, 9))
    click(store, CLICKERS)
    live.refresh()
    store.put_item("new", record(warming_bundle, 4))
    click(store, CLICKERS)
    for user in CLICKERS:
        put_event(store, f"{user} again", user, "new", None)
    live.refresh()
    assert scores(live) == pytest.approx(expected_scores(warming_bundle, live), rel=1e-4, abs=1e-6)


def test_a_model_that_takes_no_clicks_is_left_as_it_is(bundle, store):
    live = LiveModel(bundle, VERSION, store)
    store.put_item("new", record(bundle, 4))
    live.refresh()
    before, revision = scores(live), live.revisions.catalogue
    click(store, CLICKERS)
    live.refresh()
    assert scores(live) == before
    assert live.revisions.catalogue == revision


NEW = st.sampled_from(["new-a", "new-b"])
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("item"), NEW, st.sampled_from([4, 9, None])),
        st.tuples(st.just("click"), st.sampled_from([*CLICKERS, "somebody", "nobody"]), NEW | st.just("item-0003")),
        st.tuples(st.just("again"), st.integers(0, 9), st.none()),
        st.tuples(st.just("look"), st.integers(0, 1), st.none()),
    ),
    max_size=16,
)


@settings(max_examples=12)
@given(actions=ACTIONS)
def test_in_whatever_order_all_replicas_and_a_restart_come_to_what_a_fit_with_those_clicks_gives(
    warming_bundle, actions
):
    """Items come, change and go, clicks come before and twice, replicas look now and then: only what was said counts.

    A fit with those clicks is the fit that there was, told at once who clicked the new items of those whom it knows.
    """
    store = Store("sqlite://")
    replicas = [LiveModel(warming_bundle, VERSION, store) for _ in range(2)]
    clicks: list[tuple[str, str]] = []
    added: dict[str, int] = {}
    gone: set[str] = set()
    for kind, who, what in actions:
        if kind == "item" and what is not None:
            store.put_item(who, record(warming_bundle, what))
            added[who] = what
            gone.discard(who)
        elif kind == "item" and who in added:
            store.put_item(who, None)
            gone.add(who)
        elif kind == "click":
            click(store, [who], what)
            clicks.append((who, what))
        elif kind == "again" and clicks:
            click(store, [clicks[who % len(clicks)][0]], clicks[who % len(clicks)][1])
        elif kind == "look":
            replicas[who].refresh()
    replicas.append(LiveModel(warming_bundle, VERSION, store))
    for live in replicas[:2]:
        live.refresh()
    counted = [(user, item) for user, item in clicks if user in CLICKERS and item in added]
    fit = told_at_once(
        warming_bundle, {item: record(warming_bundle, place) for item, place in added.items()}, set(counted)
    )
    fit.alive[[fit.place(item) for item in gone]] = False
    (expected,) = fit.answer([Query(user_id="user-0003", candidates="all", k=200)])
    for live in replicas:
        assert scores(live) == pytest.approx({p.item: p.score for p in expected.places}, rel=1e-4, abs=1e-6)
        assert scores(live, CLICKERS[0]) == pytest.approx(scores(replicas[0], CLICKERS[0]), rel=1e-4, abs=1e-6)
        assert live.revisions.catalogue == replicas[0].revisions.catalogue
        assert live.clicks_told == replicas[0].clicks_told
    store.close()


def test_a_click_makes_the_columns_of_its_item_alone(warming_bundle, store):
    """What has as many columns as the catalogue is the same array before and after."""
    live = LiveModel(warming_bundle, VERSION, store)
    for item in ("new", "other"):
        store.put_item(item, record(warming_bundle, 4))
    click(store, CLICKERS[:2], "other")
    live.refresh()
    before, engine = live.engine.bundle.model._warming.latest._latest[1], live.engine
    click(store, CLICKERS[:1])
    live.refresh()
    after = live.engine.bundle.model._warming.latest._latest[1]
    assert after.whole is before.whole
    assert [live.engine.ids[place] for place in after.blocks[0][0]] == ["other", "new"]
    np.testing.assert_array_equal(after.blocks[0][1][:, 0], before.blocks[0][1][:, 0])
    assert live.engine is not engine
    assert live.engine.bundle.item_places is engine.bundle.item_places
    click(store, ["somebody"])
    click(store, CLICKERS[:1], "item-0003")
    known = live.engine
    live.refresh()
    assert live.engine is known, "neither a click of an unknown user nor one on a known item is for everybody"


def test_what_does_not_count_is_told(warming_bundle, store):
    live = LiveModel(warming_bundle, VERSION, store)
    click(store, CLICKERS[:2])  # before there is such an item
    store.put_item("new", record(warming_bundle, 4))
    click(store, ["somebody", CLICKERS[2]])
    click(store, ["nobody", CLICKERS[3]], "item-0003")
    live.refresh()
    assert live.clicks_told == (
        "3 clicks on 1 items that had none in the fit move them in all lists. 1 of users without a click in the fit do "
        "not, and 2 are older than their items."
    )


def test_feedback_on_an_item_that_is_gone_is_refused_and_says_so(warming_bundle, store):
    numbered = replace(warming_bundle, item_ids=np.arange(len(warming_bundle.item_ids)))
    live = LiveModel(numbered, VERSION, store)
    store.put_item(5, None)
    live.refresh()
    for item in (5, "5"):
        with pytest.raises(UnknownIdError, match=rf"{item!r} was removed, and takes no feedback"):
            send_event(live, f"{item!r}", CLICKERS[0], item, None)
    with pytest.raises(UnknownIdError, match="there is no item 999"):
        send_event(live, "e", CLICKERS[0], 999, None)
    assert store.events_since(0) == []


def listed(live, users, item="new"):
    """Return the share of the lists of ten of some users that have an item."""
    answers = live.engine.answer([Query(user_id=user, candidates="all", k=10) for user in users])
    return np.mean([any(place.item == item for place in answer.places) for answer in answers])


@pytest.mark.parametrize("model", [KernelAlign(TAKES), Popularity()], ids=["kernel_align", "popularity"])
def test_made_up_users_take_no_place_in_the_lists_of_others_and_known_ones_do(model, store):
    """The share of lists that n users who are new since the fit can take is 0, whatever else they click before."""
    bundle = fit_bundle(model, sample_dataset(0, 500, 90), FeatureEncoder(FeatureConfig()), {})
    live, users = LiveModel(bundle, VERSION, store), bundle.user_ids.tolist()
    store.put_item("new", record(bundle, 4))
    live.refresh()
    before = listed(live, users)
    loved = [bundle.plain_ids[place] for place in np.argsort(-bundle.clicks)[:3]]
    for number in range(200):
        for item in (*loved, "new"):
            send_event(live, f"{number} {item}", f"made-up-{number}", item, None)
    for number in range(50):  # and one whom the fit knows, again and again
        send_event(live, f"again {number}", users[0], "new", None)
    live.refresh()
    flooded = listed(live, users[1:])
    assert live.clicks_told.startswith("1 clicks on 1 items"), "a user is one, however often they click"
    once = told_at_once(bundle, {"new": record(bundle, 4)}, [(users[0], "new")])
    answers = once.answer([Query(user_id=user, candidates="all", k=10) for user in users[1:]])
    assert flooded == np.mean([any(place.item == "new" for place in answer.places) for answer in answers])
    click(store, users[1:251])
    live.refresh()
    assert listed(live, users[251:]) > max(before, flooded)
