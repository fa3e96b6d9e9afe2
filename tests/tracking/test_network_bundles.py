"""Bundles of all networks: fitted, written, read back, and asked about users and items that the training never saw."""

import numpy as np
import pytest

from coldray.bundle.io import load_bundle, save_bundle
from coldray.core.errors import UnknownIdError
from coldray.models.registry import NETWORKS, model_type
from contracts.lists import places_of
from contracts.networks import full_sample, one_thread, small_bundle  # noqa: F401

K = 8
VARIANTS = {
    **{name: (name, {}) for name in NETWORKS},
    "text_graph of ratings and times": ("text_graph", {"rating_embedding": True, "time_buckets": 3}),
    "lightgcn with weights": ("lightgcn", {"kind": "gcn"}),
}


OF_ATTRIBUTES = [name for name, (model, _) in VARIANTS.items() if model_type(model).scores_cold_items]
"""Those that score items by their attributes."""


@pytest.fixture(scope="module")
def dataset():
    return full_sample()


@pytest.fixture(scope="module", params=VARIANTS)
def bundle(dataset, one_thread, request):  # noqa: F811
    name, fields = VARIANTS[request.param]
    return small_bundle(dataset, name, **fields)


@pytest.fixture(scope="module")
def loaded(bundle, tmp_path_factory):
    return load_bundle(save_bundle(bundle, tmp_path_factory.mktemp("bundles") / "bundle"))


@pytest.fixture(scope="module")
def unseen(dataset):
    """Return histories, with and without ratings, that are nobody's: items far apart, one item, and none."""
    some = dataset.item_ids[[3, 17, 44, 8]].tolist()
    assert not any(set(some) <= set(dataset.item_ids[row.indices]) for row in dataset.interactions)
    return [some, dict(zip(some, (5.0, 1.0, 3.0, 4.0), strict=True)), some[:1], []]


def test_lists_are_the_same_after_a_trip_to_disk(dataset, bundle, loaded):
    known = [bundle.history(user) for user in dataset.user_ids]
    assert [loaded.history(user) for user in dataset.user_ids] == known
    assert loaded.model.config == bundle.model.config
    assert loaded.manifest["model"] == bundle.model.name
    lists = places_of(bundle, known, K)
    assert places_of(loaded, known, K) == lists
    for history, places in zip(known, lists, strict=True):
        assert len(places) == K
        assert not {place.item for place in places} & set(history)
        assert np.isfinite([place.score for place in places]).all()
    assert len({tuple(place.item for place in places) for places in lists}) > 1


def test_a_user_whom_the_training_never_saw_is_served_alike(bundle, loaded, unseen):
    lists = places_of(bundle, unseen, K)
    assert places_of(loaded, unseen, K) == lists
    for history, places in zip(unseen, lists, strict=True):
        assert len(places) == K
        assert not {place.item for place in places} & set(history)
        (alone,) = places_of(loaded, [history], K)  # in another batch, sums may round differently
        scores = [place.score for place in places]
        assert [place.score for place in alone] == pytest.approx(scores, rel=1e-4, abs=1e-5)
    assert (lists[0] == lists[1]) == (not bundle.model.reads.ratings)


@pytest.fixture(scope="module")
def records(dataset):
    genres = dataset.attributes["genres"]
    labels = genres.labels[genres.matrix[[3]].indices].tolist()
    return {"new-1": {"genres": labels, "year": 2001.0, "title": "New"}, "new-2": {"genres": labels[:1]}}


@pytest.mark.parametrize("bundle", [name for name in VARIANTS if name not in OF_ATTRIBUTES], indirect=True)
def test_an_item_that_is_added_later_is_refused_by_a_model_of_clicks(loaded, records):
    with pytest.raises(NotImplementedError, match="needs clicks to score an item"):
        loaded.add_items(records)


@pytest.mark.parametrize("bundle", OF_ATTRIBUTES, indirect=True)
def test_an_item_that_is_added_later_is_scored_by_its_attributes(bundle, loaded, unseen, records, tmp_path):
    extended = loaded.add_items(records)
    everything = places_of(extended, unseen, len(extended.item_ids))
    for history, places in zip(unseen, everything, strict=True):
        assert {place.item for place in places} == set(extended.item_ids.tolist()) - set(history)
        assert {place.item for place in places if place.cold} >= set(records)
        assert np.isfinite([place.score for place in places]).all()
    told = [{place.item: place.score for place in places} for places in everything]
    assert any(abs(scores["new-1"] - scores["new-2"]) > 1e-6 for scores in told)
    assert places_of(bundle.add_items(records), unseen, K) == places_of(extended, unseen, K)
    again = load_bundle(save_bundle(extended, tmp_path / "bundle"))
    assert places_of(again, [*unseen, ["new-1"]], K) == places_of(extended, [*unseen, ["new-1"]], K)
    with pytest.raises(UnknownIdError, match="'new-1' is in the bundle already"):
        again.add_items(records)
