"""What alias a version gets, on a real registry: as was decided, unless the champion is another one by then."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.tracking import MlflowClient

from coldray.experiments.promotion.outcome import Promotion
from coldray.tracking.limits import TAG_LIMIT
from coldray.tracking.placement import champion_key, place, present_version, version_tags


@pytest.fixture(scope="module")
def client(tracking_uri):
    return MlflowClient(tracking_uri, tracking_uri)


@pytest.fixture
def name(client, request):
    name = f"placed-{abs(hash(request.node.name))}"
    client.create_registered_model(name)
    yield name
    client.delete_registered_model(name)


def made(client, name):
    run = client.create_run("0")
    return str(client.create_model_version(name, f"{run.info.artifact_uri}/m", run.info.run_id).version)


def key_of(client, name):
    found = present_version(client, name)
    return None if found is None else champion_key(found)


def placed(client, name, alias="champion", mode="if-better", champion=None, asked=True):
    return place(client, name, made(client, name), asdict(Promotion(mode, alias, "as decided", champion, asked)))


def test_the_decision_holds_while_the_champion_is_the_one_it_was_made_against(client, name):
    assert placed(client, name).alias == "champion"
    second = placed(client, name, champion=key_of(client, name))
    assert (second.version, second.alias, second.reason) == ("2", "champion", "as decided")
    third = placed(client, name, "challenger", champion=key_of(client, name))
    assert third.alias == "challenger"
    aliases = client.get_registered_model(name).aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "2", "challenger": "3"}
    version = client.get_model_version(name, "3")
    assert version.tags["coldray.promotion"] == "as decided"
    assert client.get_run(version.run_id).data.tags["coldray.alias"] == "challenger"


def test_a_reason_that_is_too_long_for_a_tag_says_so(client, name):
    reason = "why " * 2000
    found = place(client, name, made(client, name), asdict(Promotion("if-better", "champion", reason)))
    assert found.reason == reason
    told = client.get_model_version(name, "1").tags["coldray.promotion"]
    assert told.endswith(" … (the first of 8,000 characters)")
    assert len(told) == TAG_LIMIT


def test_a_champion_that_came_meanwhile_stays(client, name):
    placed(client, name)
    before = key_of(client, name)
    placed(client, name, champion=before)
    late = placed(client, name, champion=before)
    assert late.alias == "challenger"
    assert "the champion changed since it was tested: it was 1 of run" in late.reason
    assert str(present_version(client, name).version) == "2"
    first = placed(client, name, champion=None)
    assert (first.alias, "there was none, it is 2 of run" in first.reason) == ("challenger", True)


def test_a_champion_deleted_and_made_again_under_its_number_is_another_one(client, name):
    placed(client, name)
    key = key_of(client, name)
    client.delete_registered_model(name)
    client.create_registered_model(name)
    placed(client, name)
    assert str(present_version(client, name).version) == "1"
    assert placed(client, name, champion=key).alias == "challenger"


@pytest.mark.parametrize(
    ("promotion", "told"), [(Promotion("if-better", "champion", "x", None, False), None), (None, None)]
)
def test_what_was_held_against_nobody_replaces_nobody(client, name, promotion, told):
    plain = None if promotion is None else asdict(promotion)
    assert place(client, name, made(client, name), plain).alias == "champion"
    later = place(client, name, made(client, name), plain)
    assert later.alias == "challenger"
    assert "not held against the champion, version 1" in later.reason


def test_modes_overrule_what_there_is(client, name):
    assert placed(client, name, "challenger", mode="never", asked=False).alias == "challenger"
    assert present_version(client, name) is None
    assert placed(client, name, mode="always", asked=False).alias == "champion"
    assert placed(client, name, mode="always", asked=False).version == "3"
    assert str(present_version(client, name).version) == "3"


def test_the_same_call_made_again_changes_nothing(client, name):
    placed(client, name)
    version = made(client, name)
    plain = asdict(Promotion("if-better", "champion", "as decided", key_of(client, name)))
    assert {place(client, name, version, plain).alias for _ in range(3)} == {"champion"}


@settings(max_examples=6)
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=4))
def test_the_alias_moves_only_from_the_champion_that_was_named(client, steps):
    """Whatever order records come in: a reference with a variable of its own."""
    name = "placed-orders"
    client.create_registered_model(name)
    try:
        champion, old = None, None
        for stale, worse, asked in steps:
            named = None if not asked else old if stale else key_of(client, name)
            expected = not worse and (champion is None or (asked and named == key_of(client, name)))
            old = key_of(client, name)
            found = placed(client, name, "challenger" if worse else "champion", champion=named, asked=asked)
            if expected:
                champion = found.version
            present = present_version(client, name)
            assert (None if present is None else str(present.version)) == champion
    finally:
        client.delete_registered_model(name)


def test_a_version_is_tagged_by_its_data_and_its_digest(tmp_path):
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"dataset": {"name": "shop", "synthetic": True}}))
    tags = version_tags(path)
    assert (tags["coldray.dataset"], tags["coldray.synthetic"]) == ("shop", "true")
    path.write_text("{}")
    assert list(version_tags(path)) == ["coldray.manifest"]
    assert version_tags(path) != tags
