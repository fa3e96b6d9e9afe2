"""Models with roles: who is answered by which version, and what becomes of a role when its alias moves."""

import asyncio
import logging
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import BundleError, ConfigError, TrackingError, UnknownIdError
from coldray.serving.api.schemas import RecommendRequest
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.engine.queries import Query
from coldray.serving.live.model import LiveModel, ModelVersion
from coldray.serving.live.registry import FolderSource
from coldray.serving.live.versions import _MOST_LOADING, ServedModels, _place_of, answered
from contracts.feedback import put_event

REQUESTS = [RecommendRequest(user_id=f"user-{number:04d}") for number in range(120)]


class Registry:
    """A source whose versions 1 to 9 are one bundle, whose aliases move, and which may be away."""

    def __init__(self, bundle, **aliases):
        self.bundle, self.aliases = bundle, {"champion": "1", **aliases}
        self.bad, self.away, self.loaded = set(), False, []
        self.gate = threading.Event()
        self.gate.set()

    def aliased(self, alias):
        if self.away:
            raise TrackingError("away")
        return ModelVersion("m", self.aliases[alias]) if alias in self.aliases else None

    def current(self):
        found = self.aliased("champion")
        if found is None:
            raise TrackingError("no champion")
        return found

    def named(self, version):
        if self.away:
            raise TrackingError("away")
        if version not in "123456789":
            raise UnknownIdError(f"version: there is no version {version!r}")
        return ModelVersion("m", version)

    def load(self, version):
        self.gate.wait(10)
        if self.away:
            raise TrackingError("away")
        if version.version in self.bad:
            raise BundleError("damaged")
        self.loaded.append(version.version)
        return self.bundle


def models(registry, store, **options):
    aliases = {"canary": "challenger", "shadow": "shade"}
    return ServedModels(registry, lambda bundle, version: LiveModel(bundle, version, store), aliases, **options)


def roles(served):
    return {role: version.version for role, version, _ in served.roles()}


def answering(served):
    return [served.chosen(request).version.version for request in REQUESTS]


def named(served, *versions):
    async def ask():
        found = [await served.asked(RecommendRequest(version=version)) for version in versions]
        return [live.version.version for live in found]

    return asyncio.run(ask())


# ---- roles


def test_each_role_follows_its_alias(bundle, store):
    registry = Registry(bundle)
    served = models(registry, store, canary_share=0.5)
    steps = [
        ({"challenger": "2"}, {"champion": "1", "canary": "2"}),
        ({"challenger": "2", "shade": "3"}, {"champion": "1", "canary": "2", "shadow": "3"}),
        ({"challenger": "4", "shade": "3"}, {"champion": "1", "canary": "4", "shadow": "3"}),
        ({"champion": "4", "challenger": "4"}, {"champion": "4", "canary": "4"}),
        ({"champion": "1"}, {"champion": "1"}),
    ]
    for aliases, expected in steps:
        registry.aliases = {"champion": "1", **aliases}
        asyncio.run(served.follow())
        assert roles(served) == expected
    assert registry.loaded == ["1", "2", "3", "4", "1"]  # the promoted canary was there already


def test_shares_are_told_with_the_roles(bundle, store):
    served = models(Registry(bundle, shade="3"), store, canary_share=0.25)
    asyncio.run(served.follow())
    assert [(role, share) for role, _, share in served.roles()] == [("champion", 1.0), ("shadow", 0.0)]
    served.source.aliases["challenger"] = "2"
    asyncio.run(served.follow())
    assert [share for _, _, share in served.roles()] == [0.75, 0.25, 0.0]


@pytest.mark.parametrize(("alias", "role"), [("challenger", "canary"), ("shade", "shadow")])
def test_a_bad_version_gets_no_role_and_is_tried_once(bundle, store, caplog, alias, role):
    registry = Registry(bundle, **{alias: "2"})
    registry.bad = {"3"}
    served = models(registry, store, canary_share=1.0)
    asyncio.run(served.follow())
    registry.aliases[alias] = "3"
    for _ in range(3):
        asyncio.run(served.follow())
    assert roles(served) == {"champion": "1"}
    assert set(answering(served)) == {"1"}
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [f"is refused as {role}: damaged" in record.getMessage() for record in errors] == [True]
    registry.aliases[alias] = "2"
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "1", role: "2"}


def test_a_bad_champion_leaves_the_one_before(bundle, store):
    registry = Registry(bundle)
    served = models(registry, store)
    registry.bad, registry.aliases["champion"] = {"2"}, "2"
    for _ in range(2):
        asyncio.run(served.follow())
        assert roles(served) == {"champion": "1"}
    registry.aliases["champion"] = "3"
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "3"}
    del registry.aliases["champion"]
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "3"}


def test_while_the_registry_is_away_all_goes_on_with_one_warning(bundle, store, caplog):
    registry = Registry(bundle, challenger="2", shade="3")
    served = models(registry, store, canary_share=0.5)
    asyncio.run(served.follow())
    before, shares = roles(served), answering(served)
    caplog.clear()
    registry.away = True
    for _ in range(5):
        asyncio.run(served.follow())
    assert (roles(served), answering(served)) == (before, shares)
    assert len(caplog.records) == 1
    put_event(store, "e", "user-0003", "item-0001", None)
    asyncio.run(served.follow())  # the store is followed still
    assert served.champion.revisions.of("user-0003") == served.shadow.revisions.of("user-0003") != 0


def test_a_model_that_takes_a_role_has_all_that_came_while_it_was_loaded(bundle, store):
    registry = Registry(bundle)

    def living(bundle, version):
        live = LiveModel(bundle, version, store)
        put_event(store, f"e{version.version}", "stranger", f"item-000{version.version}", None)
        return live

    served = ServedModels(registry, living, {"canary": "challenger"})
    registry.aliases["champion"] = "2"
    known, aliased = [], registry.aliased

    def asked(alias):  # for the canary when the champion has its role
        if alias == "challenger":
            known.extend(len(answer.history) for answer in served.champion.engine.answer([Query(user_id="stranger")]))
        return aliased(alias)

    registry.aliased = asked
    asyncio.run(served.follow())
    assert served.champion.version.version == "2"
    assert known == [2]


# ---- the canary's share


ids = st.one_of(st.integers(-(2**63), 2**63 - 1), st.text(min_size=1, max_size=8))


@given(ids, st.integers(1, 50), st.lists(st.text(min_size=1, max_size=4), max_size=3) | st.none())
def test_a_user_stays_with_one_model_whatever_he_asks_for(user, k, history):
    place = _place_of(RecommendRequest(user_id=user))
    assert place == _place_of(RecommendRequest(user_id=user, k=k, history=history))
    assert place == _place_of(RecommendRequest(user_id=str(user)))


@given(st.lists(ids, max_size=4, unique=True), st.lists(ids, max_size=4, unique=True))
def test_those_without_an_id_are_told_apart_by_what_they_ask(one, other):
    places = [_place_of(RecommendRequest(history=history)) for history in (one, other)]
    assert all(0 <= place < 1 for place in places)
    assert (places[0] == places[1]) == (one == other)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 1.0])
def test_the_canary_answers_its_share_of_users(bundle, store, share):
    """Within five standard deviations of what chance gives."""
    served = models(Registry(bundle, challenger="2"), store, canary_share=share)
    asyncio.run(served.follow())
    places = [served.chosen(RecommendRequest(user_id=user)).version.version == "2" for user in range(2000)]
    assert abs(sum(places) - 2000 * share) <= 5 * (2000 * share * (1 - share)) ** 0.5


def test_a_larger_share_keeps_the_users_of_a_smaller_one(bundle, store):
    answers = []
    for share in (0.2, 0.6):
        served = models(Registry(bundle, challenger="2"), store, canary_share=share)
        asyncio.run(served.follow())
        answers.append({place for place, version in enumerate(answering(served)) if version == "2"})
    assert 0 < len(answers[0]) < len(answers[1]) < len(REQUESTS)
    assert answers[0] < answers[1]


# ---- versions by name


def test_a_named_version_is_loaded_once_and_the_last_two_are_kept(bundle, store):
    registry = Registry(bundle, challenger="2")
    served = models(registry, store, named=2)
    asyncio.run(served.follow())
    assert named(served, "1", "2", "3", "3", "4", "3", "5", "3", "4") == ["1", "2", "3", "3", "4", "3", "5", "3", "4"]
    assert registry.loaded == ["1", "2", "3", "4", "5", "4"]
    registry.aliases["champion"] = "3"
    asyncio.run(served.follow())
    assert registry.loaded[-1] == "4"  # the one that was asked for is the champion now
    registry.away = True
    assert named(served, "3", "4") == ["3", "4"]
    with pytest.raises(TrackingError):
        named(served, "7")
    registry.away = False
    assert named(served, "7") == ["7"]


def test_what_cannot_be_served_is_an_error_that_names_the_field(bundle, store):
    registry = Registry(bundle)
    registry.bad = {"3"}
    served = models(registry, store)
    with pytest.raises(UnknownIdError, match=r"version: there is no version 'x'"):
        named(served, "x")
    registry.load = counted = Counted(registry.load)
    for _ in range(3):
        with pytest.raises(ConfigError, match=r"version: '3' cannot be served"):
            named(served, "3")
    assert counted.calls == 1
    closed = models(Registry(bundle), store, named=0)
    assert named(closed, "1") == ["1"]
    with pytest.raises(ConfigError, match=r"version: '2' is not served now"):
        named(closed, "2")


class Counted:
    def __init__(self, act):
        self.act, self.calls = act, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.act(*arguments)


def test_many_who_ask_for_one_version_wait_for_one_load_and_one_who_leaves_stops_nothing(bundle, store):
    registry = Registry(bundle)
    served = models(registry, store)
    registry.gate.clear()

    async def ask():
        asking = [asyncio.create_task(served.asked(RecommendRequest(version="2"))) for _ in range(5)]
        await asyncio.sleep(0.1)
        asking[0].cancel()
        others = [
            asyncio.create_task(served.asked(RecommendRequest(version=str(3 + one)))) for one in range(_MOST_LOADING)
        ]
        await asyncio.sleep(0.1)
        registry.gate.set()
        return await asyncio.gather(*asking, *others, return_exceptions=True)

    first, *found = asyncio.run(ask())
    assert isinstance(first, asyncio.CancelledError)
    assert len({id(live) for live in found[:4]}) == 1
    assert [live.version.version for live in found[4:-1]] == ["3", "4", "5"]
    assert isinstance(found[-1], TrackingError)  # too many at once
    assert registry.loaded == ["1", "2", "3", "4", "5"]


def test_a_folder_has_its_own_version_alone(bundle, tmp_path):
    source = FolderSource(tmp_path / "fitted")
    assert source.named("-") == source.current() == ModelVersion("fitted", "-")
    assert source.aliased("champion") is None
    assert [one.version for one in source.registered()] == [source.current()]
    with pytest.raises(UnknownIdError, match="version: there is no version '1' of 'fitted'"):
        source.named("1")


def test_queries_to_several_models_are_answered_each_by_its_own(bundle, store):
    known, empty = (LiveModel(bundle, ModelVersion("m", version), store) for version in "12")
    known.engine.observe("stranger", "item-0001", None)
    queries = [Query(user_id="stranger"), Query(user_id="user-0003"), Query(user_id="stranger")]
    found = answered(list(zip((known, known, empty), queries, strict=True)))
    assert [answer.path for answer in found] == ["history", "model", "popularity"]
    assert answered([]) == []


def test_aliases_need_a_registry_and_names_of_their_own(tmp_path):
    with pytest.raises(ConfigError, match="canary_alias: a folder has no aliases"):
        ServiceSettings(bundle=tmp_path, canary_alias="challenger")
    with pytest.raises(ConfigError, match="shadow_alias: 'champion' is the alias of the model itself"):
        ServiceSettings(model_name="m", shadow_alias="champion")


# ---- who may follow whom


def of(bundle, *, name="shop", synthetic=False, ids=None):
    """Return the bundle as it would be of other data."""
    manifest = {"dataset": {"name": name, "synthetic": synthetic}}
    return replace(bundle, manifest=manifest, item_ids=bundle.item_ids if ids is None else ids)


class Catalogues(Registry):
    """A registry whose versions are of different data, and may be deleted and made again."""

    def __init__(self, bundles, **aliases):
        super().__init__(next(iter(bundles.values())), **aliases)
        self.bundles, self.made = bundles, dict.fromkeys(bundles, "first")

    def version(self, number):
        return ModelVersion("m", number, self.made[number])

    def aliased(self, alias):
        found = super().aliased(alias)
        return found and self.version(found.version)

    def named(self, number):
        if super().named(number).version not in self.made:
            raise UnknownIdError(f"version: there is no version {number!r}")
        return self.version(number)

    def load(self, version):
        super().load(version)
        return self.bundles[version.version]


@pytest.fixture
def catalogues(bundle):
    n_items = len(bundle.item_ids)
    other = np.char.add("z", bundle.item_ids)
    few, most = (np.where(np.arange(n_items) < n_items * share, bundle.item_ids, other) for share in (0.4, 0.6))
    return {
        "1": of(bundle),
        "2": of(bundle, name="sample", synthetic=True),
        "3": of(bundle, ids=np.arange(n_items)),
        "4": of(bundle, ids=few),
        "5": of(bundle, ids=most),
        "6": of(bundle),
    }


ROLES = [("champion", "champion"), ("challenger", "canary"), ("shade", "shadow")]


@pytest.mark.parametrize("wanted", ["5", "6"])
@pytest.mark.parametrize(("alias", "role"), ROLES)
def test_a_version_of_the_same_catalogue_gets_its_role(catalogues, store, wanted, alias, role):
    served = models(Catalogues(catalogues), store, canary_share=1.0)
    served.source.aliases[alias] = wanted
    asyncio.run(served.follow())
    assert (roles(served).get(role), served.refusals) == (wanted, {})


@pytest.mark.parametrize(
    ("wanted", "told"), [("2", "are generated"), ("3", "item ids of 'shop' are integer"), ("4", "other items")]
)
@pytest.mark.parametrize(("alias", "role"), ROLES)
def test_a_version_of_other_data_gets_no_role_and_the_one_before_goes_on(
    catalogues, store, caplog, wanted, told, alias, role
):
    served = models(Catalogues(catalogues), store, canary_share=1.0)
    served.source.aliases[alias] = wanted
    for _ in range(3):
        asyncio.run(served.follow())
    assert roles(served).get(role) == ("1" if role == "champion" else None)
    assert set(answering(served)) == {"1"}
    assert told in served.refusals[served.source.version(wanted)]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert [told in message and "m 1 goes on" in message for message in errors] == [True]
    served.source.aliases = {"champion": "6"}
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "6"}


def test_the_gate_may_be_opened(catalogues, store):
    served = models(Catalogues(catalogues), store, min_item_overlap=0.0)
    served.source.aliases["champion"] = "3"
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "3"}
    stricter = models(Catalogues(catalogues), store, min_item_overlap=0.7)
    stricter.source.aliases["champion"] = "5"
    asyncio.run(stricter.follow())
    assert roles(stricter) == {"champion": "1"}


@pytest.mark.parametrize("wanted", ["2", "3", "5"])
def test_a_replica_that_starts_serves_what_the_others_do(catalogues, store, wanted):
    """A replica that dies is started again: it must not take up what all have refused."""
    registry = Catalogues(catalogues)
    first = models(registry, store, memory=store)
    registry.aliases["champion"] = wanted
    asyncio.run(first.follow())
    second = models(registry, store, memory=store)
    assert roles(second) == roles(first) == {"champion": "5" if wanted == "5" else "1"}
    assert second.refusals == first.refusals
    asyncio.run(second.follow())
    assert roles(second) == roles(first)
    assert store.champion("m") == (roles(first)["champion"], "first")
    registry.made["1"] = "again"  # what was served last is no more
    third = models(registry, store, memory=store)
    assert roles(third) == {"champion": wanted}


# ---- the same number, another version


def test_a_version_made_again_under_its_number_is_another_one(catalogues, store):
    registry = Catalogues(catalogues, challenger="6")
    served = models(registry, store, named=2)
    asyncio.run(served.follow())
    assert named(served, "5") == ["5"]
    before = served.champion
    assert registry.loaded == ["1", "6", "5"]
    registry.made |= {"1": "again", "5": "again"}
    asyncio.run(served.follow())
    assert served.champion is not before
    assert served.champion.version == ModelVersion("m", "1", "again")
    assert registry.loaded == ["1", "6", "5", "1"]
    assert named(served, "5") == ["5"]
    assert registry.loaded == ["1", "6", "5", "1", "5"]
    del registry.made["5"]
    asyncio.run(served.follow())
    with pytest.raises(UnknownIdError):
        named(served, "5")


def test_a_version_that_was_refused_and_is_made_again_is_tried_again(catalogues, store):
    registry = Catalogues(catalogues)
    served = models(registry, store)
    registry.aliases["champion"] = "3"
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "1"}
    registry.bundles, registry.made["3"] = {**catalogues, "3": catalogues["6"]}, "again"
    asyncio.run(served.follow())
    assert roles(served) == {"champion": "3"}
