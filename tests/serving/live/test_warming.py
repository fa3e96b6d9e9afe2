"""New items that warm up: clicks on them change everybody's lists without a fit, alike in all replicas, for good."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from coldray.bundle.fitting import fit_bundle
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.base import TrainingSet
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store

VERSION = ModelVersion("m", "1")
CLICKERS = ["user-0001", "user-0004", "user-0007", "user-0011"]


@pytest.fixture(scope="module")
def warming_bundle():
    model = KernelAlign(KernelAlignConfig(n_factors=8, steps=5, click_ridge=2.0))
    return fit_bundle(model, sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig()), {})


def record(bundle, place):
    known = Engine(bundle).attributes(bundle.item_ids[place])
    return {name: known[name] for name in bundle.encoder.kinds if name in known}


def scores(live, user="user-0003"):
    (answer,) = live.engine.answer([Query(user_id=user, candidates="all", k=200)])
    return {place.item: place.score for place in answer.places}


def click(store, users, item="new"):
    for user in users:
        store.put_event(f"{user} on {item}", user, item, None)


def expected_scores(bundle, live, user="user-0003"):
    """Return what a model is told that is given all clicks at once, outside the service."""
    extended = bundle.add_items({"new": record(bundle, 4)})
    clicks = extended.interactions.tolil()
    rows = np.flatnonzero(np.isin(extended.user_ids, CLICKERS))
    clicks[rows, extended.model.n_items - 1] = 1
    train = TrainingSet(sp.csr_array(clicks.tocsr()), extended.features, "told at once")
    knowing = replace(extended, model=extended.model.with_clicks(train))
    (answer,) = Engine(knowing).answer([Query(user_id=user, candidates="all", k=200)])
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
        store.put_event(f"{user} again", user, "new", None)
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
