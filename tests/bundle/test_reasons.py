"""Reasons add up to the scores of the list they explain, whatever the model."""

import pytest

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.reasons import EVERYBODY, HISTORY, explain
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.models.linear.als import ALS
from coldray.models.linear.ease import EASE
from coldray.models.marec.model import MARec
from coldray.models.popularity.model import Popularity, PopularityConfig
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query


def engine_of(model):
    engine = Engine(fit_bundle(model, sample_dataset(0, 120, 90), FeatureEncoder(FeatureConfig()), {}))
    known = engine.attributes("item-0004")
    return Engine(engine.bundle.add_items({"new": known})) if model.scores_cold_items else engine


@pytest.fixture(scope="module")
def aligned():
    return engine_of(KernelAlign(KernelAlignConfig(n_factors=8, steps=5, popularity=0.3)))


def reasons_of(engine, answer):
    return explain(engine.bundle, engine.maker, answer.history, answer.places)


def explained(engine, **query):
    (answer,) = engine.answer([Query(**query)])
    return answer, reasons_of(engine, answer)


def assert_adds_up(answer, found, n=5):
    assert len(found.items) == len(answer.places)
    for place, reasons in zip(answer.places, found.items, strict=True):
        assert sum(reasons.parts.values()) == pytest.approx(place.score, rel=2e-3)
        added = [reason.added for reason in reasons.strongest]
        assert added == sorted(added, reverse=True)
        assert 0 < len(added) <= n
        assert min(added) > 0


@pytest.mark.parametrize("candidates", ["all", "cold"])
def test_attributes_and_history_add_up_to_the_score(aligned, candidates):
    answer, found = explained(aligned, user_id="user-0003", candidates=candidates)
    assert found.kind == "attributes"
    assert_adds_up(answer, found)
    history = {aligned.ids[place] for place in answer.history}
    for reasons in found.items:
        assert {reason.item for reason in reasons.strongest} <= history
        assert {reason.part for reason in reasons.strongest} <= set(aligned.bundle.encoder.kinds)
        assert {"(all items)", "(popularity)"} <= reasons.parts.keys()


def test_a_reason_names_what_both_items_have(aligned):
    _, found = explained(aligned, user_id="user-0003", k=20)
    place = aligned.answer([Query(user_id="user-0003", k=20)])[0].places
    seen = 0
    for item, reasons in zip(place, found.items, strict=True):
        for reason in reasons.strongest:
            if reason.part in ("genres", "actors", "directors"):
                both = [set(aligned.attributes(one).get(reason.part, ())) for one in (item.item, reason.item)]
                assert set(reason.shared) <= both[0] & both[1]
                assert bool(reason.shared) == bool(both[0] & both[1])
                seen += 1
    assert seen > 10


@pytest.mark.parametrize("model", [EASE(), MARec()], ids=["ease", "marec"])
def test_a_linear_model_is_explained_by_the_items_of_the_history(model):
    engine = engine_of(model)
    answer, found = explained(engine, user_id="user-0003")
    assert found.kind == "history"
    assert_adds_up(answer, found)
    strongest = found.items[0].strongest[0]
    alone = engine.maker.scorer(engine.rows([{engine.place(strongest.item): None}]))[0]
    assert strongest.added == pytest.approx(float(alone[engine.place(answer.places[0].item)]), rel=1e-4)
    assert (strongest.part, set(found.items[0].parts)) == (None, {HISTORY, EVERYBODY})


@pytest.mark.parametrize(
    ("model", "query", "expected"),
    [
        (ALS(), {"user_id": "user-0003"}, "is no sum over the items"),
        (Popularity(PopularityConfig(trees=5)), {"user_id": "user-0003"}, "gives everybody the same"),
        (EASE(), {}, "Nothing is known of this user"),
    ],
    ids=["als", "popularity", "nobody"],
)
def test_what_cannot_be_explained_says_why(model, query, expected):
    _, found = explained(engine_of(model), **query)
    assert (found.kind, found.items) == ("none", ())
    assert expected in found.note
