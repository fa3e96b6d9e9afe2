"""Which data may follow which: types of ids, items, attributes, and what they say under the same ids."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coldray.bundle.family import Family, refusal
from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import load_bundle, save_bundle
from coldray.data.dataset import NumberAttribute, TextAttribute
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.marec.config import MARecConfig
from coldray.models.marec.model import MARec


@pytest.fixture(scope="module")
def real():
    return replace(sample_dataset(0, 120, 100), name="shop", synthetic=False)


@pytest.fixture(scope="module")
def champions(real, tmp_path_factory):
    """Return the family of a champion as it is read from its files, and from its bundle."""
    manifest = {"dataset": {"name": real.name, "synthetic": False}}
    bundle = fit_bundle(MARec(MARecConfig(order=1, delta=5.0)), real, FeatureEncoder(FeatureConfig()), manifest)
    folder = save_bundle(bundle, tmp_path_factory.mktemp("family") / "bundle")
    return {"files": Family.of_folder(folder), "bundle": Family.of_bundle(load_bundle(folder))}


def numbered(data, **changes):
    return replace(data, **changes)


def shifted(data):
    """The same ids and attributes, but each item has those of another."""
    order = np.roll(np.arange(data.n_items), 7)
    return replace(data, attributes={name: value.take(order) for name, value in data.attributes.items()})


def without(data, name):
    kept = {other: value for other, value in data.attributes.items() if other != name}
    return replace(data, attributes=kept, default_attributes=tuple(n for n in data.default_attributes if n != name))


def retyped(data, name):
    return replace(data, attributes={**data.attributes, name: NumberAttribute(np.zeros(data.n_items))})


def titled(data):
    return replace(data, attributes={**data.attributes, "motto": TextAttribute(("x",) * data.n_items)})


CASES = {
    "the same": (lambda data: data, None),
    "a new attribute": (titled, None),
    "other users": (lambda data: replace(data, user_ids=np.char.add("x", data.user_ids)), None),
    "half of the items": (lambda data: data.take_items(np.arange(50)), None),
    "less than half": (lambda data: data.take_items(np.arange(49)), "49 of the 100 items of the champion"),
    "other items": (lambda data: replace(data, item_ids=np.char.add("x", data.item_ids)), "0 of the 100 items"),
    "items by number": (lambda data: replace(data, item_ids=np.arange(100)), "item ids of 'shop' are integer"),
    "users by number": (lambda data: replace(data, user_ids=np.arange(120)), "user ids of 'shop' are integer"),
    "generated": (lambda data: replace(data, synthetic=True), "are generated"),
    "an attribute less": (lambda data: without(data, "genres"), "lacks genres, which the champion reads"),
    "another kind": (lambda data: retyped(data, "genres"), "'genres' holds number, that of the champion labels"),
    "other items under the ids": (shifted, "other items under the same ids"),
}


@pytest.mark.parametrize("read", ["files", "bundle"])
@pytest.mark.parametrize("case", CASES)
def test_data_follow_those_of_the_same_catalogue(real, champions, read, case):
    change, told = CASES[case]
    found = refusal(Family.of_dataset(change(real)), champions[read])
    assert (found is None) if told is None else (told in (found or ""))


def test_real_data_follow_generated_ones_whatever_their_ids(real, champions):
    generated = replace(real, synthetic=True, item_ids=np.arange(100))
    assert refusal(champions["files"], Family.of_dataset(generated)) is None
    assert refusal(Family.of_dataset(generated), champions["files"]) is not None
    assert refusal(Family.of_dataset(generated), Family.of_dataset(generated)) is None


@settings(max_examples=30)
@given(st.integers(1, 100), st.floats(0, 1))
def test_the_overlap_is_the_share_of_the_champions_items_that_are_known(kept, wanted):
    real = replace(sample_dataset(0, 120, 100), synthetic=False)
    part, whole = Family.of_dataset(real.take_items(np.arange(kept))), Family.of_dataset(real)
    assert (refusal(part, whole, wanted) is None) == (kept / 100 >= wanted)
    assert refusal(whole, part, wanted) is None
