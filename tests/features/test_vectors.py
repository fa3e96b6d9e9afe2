"""Vectors that were computed elsewhere: in models, in bundles and in a service, for items that nobody has clicked."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pydantic import ValidationError

import coldray
from coldray.core.errors import ConfigError, DataFormatError
from coldray.data.attributes import VectorAttribute
from coldray.data.dataset import Dataset
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder, attributes_from_records
from coldray.features.vectors import VectorEncoder
from coldray.models.kernel_align.kernels import KernelBasis
from coldray.models.neural.inputs import AttributeInputs
from coldray.serving.api.schemas import NewItem
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Condition, Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.store import Store

LARGE = float(np.finfo(np.float32).max)


@given(hnp.arrays(np.float32, (5, 3), elements=st.floats(-LARGE, LARGE, width=32)), st.integers(0, 4))
def test_rows_are_unit_vectors_in_the_direction_they_had(vectors, missing):
    vectors[missing] = np.nan
    attribute = VectorAttribute(vectors)
    encoder = VectorEncoder().fit(attribute)
    rows = encoder.transform(attribute).matrix.toarray().astype(np.float64)
    wide = np.nan_to_num(vectors.astype(np.float64))
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    np.testing.assert_allclose(rows, wide / np.where(norms > 0, norms, 1), atol=2e-6)
    restored = VectorEncoder.from_state(encoder.state()).transform(attribute)
    assert (restored.matrix != encoder.transform(attribute).matrix).nnz == 0


def test_dimensions_without_negative_values_are_no_words():
    """As networks for pictures end in ReLU: frequencies of dimensions say nothing, and are not to weigh them."""
    attribute = VectorAttribute(np.random.default_rng(0).uniform(0.1, 1, (30, 4)).astype(np.float32))
    data = replace(sample_dataset(0, 60, 30), attributes={"image": attribute}, default_attributes=("image",))
    features = FeatureEncoder(FeatureConfig()).fit(data).transform(data.attributes, 30)
    assert AttributeInputs.fitted(features, "items").parameters["image"].tolist() == [1, 1, 1, 1]
    assert [term.kind for term in KernelBasis.of(features).terms] == ["centred"]
    assert features.labels == (0, 0)


def test_what_no_item_has_and_words_of_vectors_are_refused():
    empty = VectorAttribute(np.full((30, 2), np.nan, np.float32))
    data = replace(sample_dataset(0, 60, 30), attributes={"image": empty}, default_attributes=())
    encoder = FeatureEncoder(FeatureConfig(attributes=("image",))).fit(data)
    with pytest.raises(ConfigError, match="'image' has no vectors"):
        encoder.check_usable()
    with pytest.raises(ConfigError, match="names 'image', which is a vector and has no words"):
        FeatureEncoder(FeatureConfig(attributes=(), joined={"about": ("image",)})).fit(data)


N_GROUPS, DIM = 4, 8


def planted(n_users=80, n_items=60):
    """Return clicks of users who like one group of items each, and vectors that lie near the centre of the group.

    All lie in one half of the space, as those of networks for pictures do.
    """
    generator = np.random.default_rng(1)
    groups, likes = np.arange(n_items) % N_GROUPS, np.arange(n_users) % N_GROUPS
    chance = np.where(likes[:, None] == groups[None, :], 0.7, 0.02)
    clicks = (generator.random((n_users, n_items)) < chance) & (np.arange(n_items) < 40)  # the last 20 are new
    centres = generator.uniform(0, 1, (N_GROUPS, DIM))
    vectors = 3 + centres[groups] + 0.02 * generator.normal(size=(n_items, DIM))
    users, items = np.nonzero(clicks)
    frame = {"user_id": users, "item_id": items}
    return frame, groups, likes, vectors.astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    frame, _, _, vectors = planted()
    path = tmp_path_factory.mktemp("planted") / "v.npz"
    np.savez(path, ids=np.arange(len(vectors)), vectors=vectors)
    return coldray.load_dataset(frame, vectors={"image": path})


@pytest.mark.parametrize("model", ["kernel_align", "content_knn"])
def test_new_items_are_found_by_vectors_alone(data: Dataset, model):
    _, groups, likes, _ = planted()
    bundle = coldray.fit(model, data)
    lists = bundle.recommend(users=list(range(20)), k=5, candidates="cold")
    right = [groups[item] == likes[user] for user, item in lists.select("user", "item").iter_rows()]
    assert np.mean(right) > 0.95  # a quarter by chance


def test_a_bundle_and_a_service_take_new_items_with_a_vector(data, tmp_path):
    _, _, _, vectors = planted()
    bundle = coldray.fit("kernel_align", data)
    kept = coldray.load_bundle(bundle.save(tmp_path / "bundle"))
    np.testing.assert_array_equal(kept.attributes["image"].vectors, bundle.attributes["image"].vectors)
    asked = {"users": [0, 1], "k": 7, "candidates": "cold"}
    assert kept.recommend(**asked)["item"].to_list() == bundle.recommend(**asked)["item"].to_list()
    twin = {"image": vectors[41].tolist()}
    assert kept.add_items({900: twin}).similar(900, k=1)["item"].to_list() == [41]
    from_frame = kept.add_items({"item_id": [900], "image": [vectors[41].tolist()]})
    assert from_frame.attributes["image"].vectors[-1].tolist() == vectors[41].tolist()
    assert kept.add_items({901: {}}).attributes["image"].known[-1] == np.False_
    store = Store("sqlite://")
    live = LiveModel(kept, ModelVersion("m", "1"), store)
    live.check_new(900, NewItem(item_id=900, attributes=twin).attributes)
    store.put_item(900, twin)
    assert live.refresh()
    assert live.engine.bundle.similarity.similar(live.engine.bundle, live.engine.place(900), 1).places[0].item == 41
    assert live.engine.attributes(900) == {}, "no list of hundreds of numbers in every answer"
    for wrong, said in (
        ([1.0, 2.0], "'image' has vectors of 2 numbers; those the model was fitted on have 8"),
        ("a", r"'image' must be a list of numbers, not 'a' \(str\)"),
        ([1.0] * 7 + ["x"], "'image' has 'x' at place 7"),
        ([1.0] * 7 + [float("nan")], "'image' has nan at place 7"),
        ([1.0] * 7 + [1e39], "'image' has 1e[+]39 at place 7; a vector is finite numbers of at most 3.4e[+]38"),
        ([True] * 8, "'image' has True at place 0"),
        ([], "'image' has no number"),
    ):
        for take in (live.check_new, lambda item, attributes: kept.add_items({item: attributes})):
            with pytest.raises(DataFormatError, match=said):
                take(902, {"image": wrong})
    with pytest.raises(ValidationError):
        NewItem(item_id=900, attributes={"image": [[1.0]]})
    with pytest.raises(ConfigError, match="'image' is a vector, and vectors cannot be filtered on"):
        Engine(kept).answer([Query(user_id=0, k=1, conditions={"image": Condition(any=("a",))})])
    store.close()


@given(st.lists(st.one_of(st.none(), st.lists(st.floats(-5, 5), min_size=2, max_size=2)), min_size=1, max_size=4))
def test_new_items_are_read_as_they_are_given(rows):
    (attribute,) = attributes_from_records([{"image": row} for row in rows], {"image": "vector"}).values()
    assert attribute.known.tolist() == [row is not None for row in rows]
    assert [tuple(one) for one in attribute.vectors[attribute.known]] == [
        tuple(np.float32(row)) for row in rows if row is not None
    ]
