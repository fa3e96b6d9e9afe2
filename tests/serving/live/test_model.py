"""A model that follows the store: new items, changed ones and removed ones, events, and what it refuses."""

import pytest

from coldray.bundle.fitting import fit_bundle
from coldray.core.errors import ConfigError, DataFormatError, UnknownAttributeError
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.linear.ease import EASE
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store
from contracts.feedback import put_event

VERSION = ModelVersion("m", "1")


@pytest.fixture
def live(bundle, store):
    return LiveModel(bundle, VERSION, store)


def record(bundle, place):
    """Return the attributes of a known item, as somebody would send those of a new one."""
    known = Engine(bundle).attributes(bundle.item_ids[place])
    return {name: known[name] for name in bundle.encoder.kinds if name in known}


def cold_items(live, **query):
    (answer,) = live.engine.answer([Query(user_id="user-0003", candidates="cold", k=50, **query)])
    return {place.item: place.score for place in answer.places}


def test_a_new_item_scores_as_in_a_bundle_that_has_it(live, bundle, store):
    assert cold_items(live) == {}
    store.put_item("new", record(bundle, 4))
    assert live.refresh()
    expected = Engine(bundle.add_items({"new": record(bundle, 4)}))
    (answer,) = expected.answer([Query(user_id="user-0003", candidates="cold")])
    assert cold_items(live) == pytest.approx({"new": answer.places[0].score}, rel=1e-5)
    assert live.engine.is_cold("new")
    assert not live.refresh()


def test_items_that_come_one_by_one_score_as_those_that_come_together(bundle, tmp_path):
    stores = [Store.at(tmp_path / name) for name in ("one", "other")]
    slow, fast = (LiveModel(bundle, VERSION, store) for store in stores)
    for place in range(4):
        for store in stores:
            store.put_item(f"new-{place}", record(bundle, place))
        slow.refresh()
    fast.refresh()
    assert cold_items(slow) == pytest.approx(cold_items(fast), rel=1e-4)
    assert len(cold_items(slow)) == 4
    for store in stores:
        store.close()


def test_a_changed_item_is_the_changed_one_alone(live, bundle, store):
    store.put_item("other", record(bundle, 9))
    store.put_item("new", record(bundle, 4))
    live.refresh()
    before = cold_items(live)
    store.put_item("new", record(bundle, 20))
    live.refresh()
    after = cold_items(live)
    assert after["other"] == pytest.approx(before["other"], rel=1e-4)
    assert after["new"] != pytest.approx(before["new"], rel=1e-3)
    assert live.engine.attributes("new") == record(bundle, 20)


def test_a_removed_item_is_gone_until_it_comes_again(live, bundle, store):
    store.put_item("new", record(bundle, 4))
    live.refresh()
    before = cold_items(live)
    store.put_item("new", None)
    store.put_item(bundle.item_ids.tolist()[0], None)
    live.refresh()
    assert cold_items(live) == {}
    assert not live.engine.knows_item(bundle.item_ids.tolist()[0])
    store.put_item("new", record(bundle, 4))
    live.refresh()
    assert cold_items(live) == pytest.approx(before, rel=1e-5)


def test_another_version_takes_in_all_that_the_store_has(live, bundle, store):
    store.put_item("new", record(bundle, 4))
    put_event(store, "e", "stranger", "new", None)
    put_event(store, "f", "stranger", bundle.item_ids.tolist()[2], None)
    live.refresh()
    restarted = LiveModel(bundle, ModelVersion("m", "2"), store)
    query = Query(user_id="stranger", k=5)
    (found,), (expected,) = restarted.engine.answer([query]), live.engine.answer([query])
    assert [place.item for place in found.places] == [place.item for place in expected.places]
    assert len(found.history) == 2


def test_what_cannot_be_a_new_item_is_refused(live, bundle):
    with pytest.raises(DataFormatError, match="is an item that the model was fitted with"):
        live.check_new(bundle.item_ids.tolist()[0], {})
    with pytest.raises(DataFormatError, match="ids of this catalogue are str, not int"):
        live.check_new(7, {})
    with pytest.raises(UnknownAttributeError, match="Did you mean 'genres'"):
        live.check_new("new", {"genre": ["a"]})
    with pytest.raises(DataFormatError, match="year"):
        live.check_new("new", {"year": "soon"})
    live.check_new("new", {})


def test_labels_sent_as_the_text_of_a_list_are_refused_but_stored_ones_still_served(live, bundle, store):
    name = next(name for name, kind in bundle.kinds.items() if kind == "labels")
    known = bundle.attributes[name].labels.tolist()
    for text in (f'["{known[0]}", "{known[1]}"]', f"['{known[0]}', 'other']", f"{known[0]};{known[1]}"):
        with pytest.raises(DataFormatError, match=f"'{name}': the label .* is a list written as text"):
            live.check_written({name: text})
    live.check_written({name: known[:2]})
    live.check_written({name: known[0]})
    store.put_item("new", {name: f"{known[0]};{known[1]}"})  # it was taken before
    assert live.refresh()
    assert live.engine.is_cold("new")


def test_a_model_of_clicks_takes_no_new_items_and_goes_on_without_those_of_others(bundle, store, caplog):
    from coldray.data.sources.sample import sample_dataset

    clicks = fit_bundle(EASE(), sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig(attributes=())), {})
    store.put_item("new", record(bundle, 4))
    live = LiveModel(clicks, VERSION, store)
    assert "A new item is not served by" in caplog.text
    assert not live.engine.knows_item("new")
    with pytest.raises(ConfigError, match="'ease' needs clicks"):
        live.check_new("new", {})
