"""Lists for people who have just arrived: in Python, from a stored bundle, by the service's engine and in a study."""

import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import polars as pl
import pytest

import coldray
from coldray.bundle.pyfunc import BundleModel
from coldray.core.errors import ConfigError, DataFormatError, MissingFieldError, UnknownAttributeError
from coldray.experiments.space import StudyConfig
from coldray.experiments.study import prepare_study, run_study
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.queries import Query

PARAMETERS = {"n_factors": 4, "steps": 5}
NORTH, SOUTH = {"town": "north", "age": 20}, {"town": ["south"], "age": 60}


@pytest.fixture(scope="module")
def data():
    """Return sixty people of two towns, who click what is of their town."""
    generator = np.random.default_rng(1)
    chance = np.where(np.arange(60)[:, None] % 2 == np.arange(24) % 2, 0.5, 0.06)
    users, items = np.nonzero(generator.random((60, 24)) < chance)
    people = {"user_id": list(range(60)), "town": ["north", "south"] * 30, "age": generator.integers(18, 70, 60)}
    clicks = {"user_id": users.tolist(), "item_id": items.tolist()}
    films = {"item_id": list(range(24)), "kind": [["long", "short", "old"][item % 3] for item in range(24)]}
    columns = {"labels": ["kind"], "user_labels": ["town"], "user_numbers": ["age"]}
    return coldray.load_dataset(clicks, films, users=people, **columns)


@pytest.fixture(scope="module")
def bundle(data):
    return coldray.fit("kernel_align_users", data, **PARAMETERS)


def items_of(frame, user):
    return frame.filter(pl.col("user") == user)["item"].to_list()


def test_a_profile_is_enough_for_a_list(bundle):
    frame = bundle.recommend(profiles=[NORTH, SOUTH], k=8)
    assert set(frame["origin"]) == {"profile"}
    assert {item % 2 for item in items_of(frame, 0)} == {0}
    assert {item % 2 for item in items_of(frame, 1)} == {1}


def test_of_whom_nothing_is_known_gets_what_most_click_and_it_is_told(bundle, caplog):
    with caplog.at_level(logging.WARNING):
        frame = bundle.recommend(profiles=[{}], k=3)
    assert set(frame["origin"]) == {"popularity"}
    assert "1 of 1 users have neither a known item nor a known attribute" in caplog.text
    with caplog.at_level(logging.WARNING):
        bundle.recommend(profiles=[{"town": ["north", "atlantis"]}], k=3)
    assert "1 labels of 'town'; the first is 'atlantis'" in caplog.text


def test_a_profile_stands_beside_a_history(bundle):
    both = bundle.recommend(histories=[[1, 3]], profiles=[NORTH], k=5)
    assert set(both["origin"]) == {"history"}
    assert not {1, 3} & set(both["item"])
    alone = bundle.recommend(histories=[[1, 3]], k=5)
    assert both["score"].to_list() != alone["score"].to_list()


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"profiles": [{"twon": "north"}]}, UnknownAttributeError, "Did you mean 'town'"),
        ({"profiles": [{"age": "old"}]}, DataFormatError, "'age'"),
        ({"profiles": [NORTH, {"town": 5}]}, DataFormatError, r"^Profile 1 \(counted from 0\): 'town'"),
        ({"profiles": [NORTH], "histories": [[], []]}, ConfigError, "2 histories and 1 profiles"),
        ({"users": [1], "profiles": [NORTH]}, ConfigError, "users or histories"),
        ({"profiles": [None]}, DataFormatError, r"^Profile 0 \(counted from 0\) is None; attributes are a dict"),
        ({"profiles": ["north"]}, DataFormatError, "is 'north'; attributes are a dict"),
        ({"profiles": NORTH}, ConfigError, "profiles takes a list with one for each user, not a dict"),
        ({"profiles": pl.DataFrame([NORTH])}, ConfigError, "not a DataFrame"),
        ({"histories": {"u": [1, 3]}}, ConfigError, "histories takes a list with one for each user, not a dict"),
        ({"histories": pl.DataFrame({"user": [1], "item": [3]})}, ConfigError, "not a DataFrame"),
    ],
)
def test_what_makes_no_sense_is_refused(bundle, asked, error, words):
    with pytest.raises(error, match=words):
        bundle.recommend(**asked)


def test_a_model_that_reads_no_profiles_says_so(data):
    with pytest.raises(ConfigError, match="reads no attributes of users"):
        coldray.fit("ease", data).recommend(profiles=[NORTH])
    with pytest.raises(MissingFieldError, match="knows nothing of its users"):
        coldray.fit("kernel_align_users", replace(data, user_attributes={}))


def test_all_who_make_lists_make_the_same(bundle, tmp_path):
    """Python, a stored bundle, the MLflow model, the service and the job of lists, for users of the bundle."""
    users = [3, 4, 11]
    expected = {user: items_of(bundle.recommend(users, k=6), user) for user in users}
    stored = coldray.load_bundle(bundle.save(tmp_path / "bundle"))
    assert {user: items_of(stored.recommend(users, k=6), user) for user in users} == expected
    assert stored.recommend(profiles=[SOUTH]).equals(bundle.recommend(profiles=[SOUTH]))
    answers = Engine(stored).answer([Query(k=6, user_id=user) for user in users])
    assert {user: [place.item for place in one.places] for user, one in zip(users, answers, strict=True)} == expected
    logged = BundleModel()
    logged.bundle = stored
    table = pl.from_pandas(logged.predict(None, pl.DataFrame({"user_id": users}).to_pandas(), {"k": 6}))
    assert [table.filter(pl.col("row") == row)["item"].to_list() for row in range(3)] == list(expected.values())
    rows = pl.DataFrame([{"user": user, "item": item} for user in users for item in bundle.history(user)])
    (listed,) = BatchLists.of(stored, k=6).of_histories(rows.rename({"user": "user_id", "item": "item_id"}), Counts())
    assert dict(zip(listed["user_id"].to_list(), [one.to_list() for one in listed["items"]], strict=True)) == expected


def asked(bundle, **columns):
    """Return the lists of the MLflow model, and where they come from."""
    logged = BundleModel()
    logged.bundle = bundle
    table = logged.predict(None, pd.DataFrame(columns), {"k": 6})
    parts = [part for _, part in table.groupby("row")]
    return [part["item"].tolist() for part in parts], [part["path"].iloc[0] for part in parts]


def answered(bundle, *queries):
    """Return the same of the service."""
    answers = Engine(bundle).answer(list(queries))
    return [[place.item for place in one.places] for one in answers], [one.path for one in answers]


def test_the_mlflow_model_gives_the_lists_of_the_service(bundle, caplog):
    given, ids = [NORTH, None, SOUTH, {}], [3, 4, "nobody", 11]
    alone = [Query(k=6, profile=one) for one in (NORTH, {}, SOUTH, {})]
    assert asked(bundle, user_attributes=given) == answered(bundle, *alone)
    known = [Query(k=6, user_id=3, profile=NORTH), Query(k=6, user_id=4), Query(k=6, profile=SOUTH)]
    known.append(Query(k=6, user_id=11, profile={}))
    assert asked(bundle, user_id=ids, user_attributes=given) == answered(bundle, *known)
    beside = [Query(k=6, history={1: None}, profile=NORTH), Query(k=6, history={3: None})]
    assert asked(bundle, history=[[1], [3]], user_attributes=[NORTH, np.nan]) == answered(bundle, *beside)
    with caplog.at_level(logging.WARNING):
        asked(bundle, user_attributes=[{"town": ["north", "atlantis"]}])
    assert "1 labels of 'town'; the first is 'atlantis'" in caplog.text


def test_the_mlflow_model_refuses_what_makes_no_sense(bundle, data):
    with pytest.raises(UnknownAttributeError, match="Did you mean 'town'"):
        asked(bundle, user_attributes=[{"twon": "north"}])
    with pytest.raises(DataFormatError, match=r"Profile 1 \(counted from 0\) is 'north'"):
        asked(bundle, user_attributes=[NORTH, "north"])
    with pytest.raises(ConfigError, match="user_attributes: the model 'ease' reads none"):
        asked(coldray.fit("ease", data), user_id=[3, 4], user_attributes=[None, NORTH])
    with pytest.raises(DataFormatError, match="or 'user_attributes' with a dict a row"):
        asked(bundle, age=[20])


def test_the_service_takes_who_asks(bundle):
    engine = Engine(bundle)
    query = Query(k=8, profile=SOUTH)
    engine.check(query)
    (answer,) = engine.answer([query])
    assert answer.path == "profile"
    assert {place.item % 2 for place in answer.places} == {1}
    with pytest.raises(DataFormatError, match=r"nobody the model was fitted on has the label 'atlantis'"):
        engine.check(Query(profile={"town": "atlantis"}))
    with pytest.raises(UnknownAttributeError, match="twon"):
        engine.check(Query(profile={"twon": "north"}))
    with pytest.raises(ConfigError, match="user_attributes: the model 'popularity' reads none"):
        Engine(coldray.fit("popularity", coldray.load_dataset("sample"))).check(Query(profile=NORTH))


def study(**changes):
    return StudyConfig.model_validate(
        {
            "name": "newcomers",
            "model": "kernel_align_users",
            "space": PARAMETERS,
            "splits": {"protocol": "user-cold", "n_splits": 1},
            "candidates": "all",
            "cutoffs": [5],
            "selection": {"metric": "ndcg@5"},
            **changes,
        }
    )


@pytest.mark.usefixtures("ray_cluster")
def test_people_who_have_just_arrived_are_measured_in_a_study(data):
    """They are given what is of their town, where popularity knows no towns; nothing is known of them but that."""
    found = run_study(prepare_study(study(), data), study_id="newcomers")
    popular = study(model="popularity", space={"seed": 0})
    plain = run_study(prepare_study(popular, data), study_id="popular")
    reached, by_all = (np.mean([fold.metrics["ndcg@5"] for fold in one.test]) for one in (found, plain))
    assert reached > 1.3 * by_all


def test_a_study_refuses_data_without_users_and_attributes_that_they_lack(data):
    with pytest.raises(MissingFieldError, match="knows nothing of its users"):
        prepare_study(study(), replace(data, user_attributes={}))
    with pytest.raises(UnknownAttributeError, match="twon"):
        prepare_study(study(user_features={"attributes": ["twon"]}), data)


@pytest.mark.parametrize(
    ("given", "first"), [({"new": {}}, "'new'"), ({24: {}, "25": {}}, "'25'"), ({True: {}}, "True")]
)
def test_new_items_have_ids_of_the_type_that_the_others_have(data, given, first):
    bundle = coldray.fit("popularity", data)
    with pytest.raises(DataFormatError, match=f"those of the bundle are numbers; the first of another type is {first}"):
        bundle.add_items(given)
    assert bundle.add_items({np.int64(24): {}}).item_ids[-1] == 24
