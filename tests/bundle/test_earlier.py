"""Bundles that an earlier version made load, and give the lists they gave there; so do models registered then."""

import importlib
import json
from pathlib import Path

import pytest

from coldray.bundle import io
from coldray.bundle.io import load_bundle
from contracts.lists import places_of

EARLIER = Path(__file__).parent / "earlier"
EXPECTED = json.loads((EARLIER / "lists.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_bundle_of_an_earlier_version_gives_the_same_lists(name):
    bundle = load_bundle(EARLIER / name)
    lists = places_of(bundle, EXPECTED[name]["histories"], 8)
    for found, expected in zip(lists, EXPECTED[name]["lists"], strict=True):
        assert [place.item for place in found] == [item for item, _ in expected]
        assert [place.score for place in found] == pytest.approx([score for _, score in expected], rel=1e-4, abs=1e-5)


def test_there_is_a_bundle_of_each_family_that_keeps_its_state_in_another_way():
    assert sorted(EXPECTED) == sorted(folder.name for folder in EARLIER.iterdir() if folder.is_dir())
    assert len(EXPECTED) >= 5


def test_the_code_that_a_registered_model_of_an_earlier_version_holds_finds_what_it_imports():
    """MLflow runs the file that was logged with the model, which names modules and methods as they were called then."""
    module = importlib.import_module("coldray.tracking.bundle")
    errors = importlib.import_module("coldray.errors")
    name = next(iter(EXPECTED))
    bundle, histories = module.load_bundle(EARLIER / name), EXPECTED[name]["histories"]
    assert bundle.recommend(histories, 8) == places_of(io.load_bundle(EARLIER / name), histories, 8)
    assert {"Bundle", "History", "load_bundle"} <= set(module.__all__)
    assert {"DataFormatError", "UnknownIdError"} <= set(errors.__all__)
