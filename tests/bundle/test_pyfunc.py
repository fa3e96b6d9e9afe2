"""The MLflow model of bundles that read ratings, loaded and asked as its users do: with the schema enforced."""

from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import polars as pl
import pytest
from mlflow.types import DataType

import coldray
from coldray.bundle.io import save_bundle
from coldray.bundle.pyfunc import BundleModel
from coldray.core.errors import DataFormatError
from coldray.data.dataset import NumberAttribute
from coldray.experiments.promotion.outcome import Promotion
from coldray.experiments.space import StudyConfig
from coldray.tracking.receiver import RefusedError
from coldray.tracking.runs import StudyTracker
from coldray.tracking.server import active_server
from contracts.lists import places_of
from contracts.networks import full_sample, one_thread, small_bundle  # noqa: F401

K = 6
MODELS = {
    "ratings": ("mf", {"n_factors": 4}),
    "ratings and order": ("text_graph", {"rating_embedding": True, "time_buckets": 3}),
}
ALWAYS = Promotion("always", "champion", "--promote always", asked=False)
STRINGS = (DataType.string, DataType.string)


@pytest.fixture(scope="module")
def dataset():
    return full_sample()


@pytest.fixture(scope="module", params=MODELS)
def bundle(dataset, one_thread, request):  # noqa: F811
    name, parameters = MODELS[request.param]
    return small_bundle(dataset, name, **parameters)


@pytest.fixture(scope="module")
def tracker(dataset, tracking_uri, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pyfunc")
    config = StudyConfig.model_validate({"name": "pyfunc", "model": "ease", "space": {"regularization": 9.0}})
    with (
        StudyTracker(tracking_uri, "pyfunc", artifact_location=folder / "artifacts") as tracker,
        active_server(tracking_uri),
    ):
        tracker.study_started(config, dataset, "pyfunc-1", {})
        yield tracker


@pytest.fixture(scope="module")
def loaded(bundle, tracker, tmp_path_factory):
    folder = save_bundle(bundle, tmp_path_factory.mktemp("bundles") / "bundle")
    name = f"pyfunc-{bundle.model.name}"
    tracker.register(folder, STRINGS, name, ALWAYS)
    return mlflow.pyfunc.load_model(f"models:/{name}@champion")


def lists(table):
    return [part["item"].tolist() for _, part in table.sort_values(["row", "rank"]).groupby("row")]


def asked(loaded, **columns):
    return lists(loaded.predict(pd.DataFrame(columns), params={"k": K}))


def own(bundle, *histories):
    return [[place.item for place in places] for places in places_of(bundle, histories, K)]


def test_ratings_beside_histories_are_read(dataset, bundle, loaded):
    known = [bundle.history(user) for user in dataset.user_ids]
    items, ratings = [list(one) for one in known], [list(one.values()) for one in known]
    wanted = own(bundle, *known)
    assert asked(loaded, history=items, ratings=ratings) == wanted
    assert asked(loaded, user_id=dataset.user_ids.tolist()) == wanted
    assert asked(loaded, history=items, ratings=[np.asarray(row) for row in ratings]) == wanted
    assert asked(loaded, history=items, ratings=[[6 - one for one in row] for row in ratings]) != wanted
    table = loaded.predict(pd.DataFrame({"history": [items[0], []], "ratings": [ratings[0], []]}), params={"k": K})
    assert table["path"].tolist() == ["history"] * K + ["popularity"] * K


def test_ratings_that_are_not_told_are_unknown(dataset, bundle, loaded):
    known = [bundle.history(user) for user in dataset.user_ids]
    items, ratings = [list(one) for one in known], [list(one.values()) for one in known]
    unknown = bundle.model.click_value
    bare = own(bundle, *items)
    assert bare != own(bundle, *known)
    assert asked(loaded, history=items) == bare
    assert asked(loaded, history=items, ratings=[None] * len(items)) == bare
    assert asked(loaded, history=items, ratings=[[np.nan] * len(row) for row in items]) == bare
    partly = [{item: unknown if n % 2 else rating for n, (item, rating) in enumerate(one.items())} for one in known]
    for nothing in (None, np.nan):
        given = [[nothing if n % 2 else rating for n, rating in enumerate(row)] for row in ratings]
        assert asked(loaded, history=items, ratings=given) == own(bundle, *partly)
    mixed = [None, *ratings[1:]]
    assert asked(loaded, history=items, ratings=mixed) == [bare[0], *own(bundle, *known[1:])]


def test_a_row_with_another_number_of_ratings_than_of_items_is_named(bundle, loaded):
    items = bundle.item_ids.tolist()
    for row, numbers in ((1, [4.0]), (1, [4.0, 1.0, 2.0]), (1, [])):
        with pytest.raises(DataFormatError, match=rf"Row {row} has 2 items in 'history' and {len(numbers)} numbers in"):
            asked(loaded, history=[items[:1], items[:2]], ratings=[[5.0], numbers])


def test_of_an_item_that_is_twice_in_a_history_the_last_rating_counts(bundle, loaded):
    a, b = bundle.item_ids.tolist()[:2]
    assert asked(loaded, history=[[a, b, a]], ratings=[[1.0, 2.0, 5.0]]) == own(bundle, {a: 5.0, b: 2.0})


def test_the_schema_names_ratings_where_they_are_read_alone(dataset, loaded, tracker, tmp_path):
    assert loaded.metadata.signature.inputs.input_names() == ["user_id", "history", "ratings"]
    assert loaded.metadata.signature.inputs.required_input_names() == []
    bundle = small_bundle(dataset, "ease")
    tracker.register(save_bundle(bundle, tmp_path / "bundle"), STRINGS, "pyfunc-clicks", ALWAYS)
    clicks = mlflow.pyfunc.load_model("models:/pyfunc-clicks@champion")
    assert clicks.metadata.signature.inputs.input_names() == ["user_id", "history"]
    items = bundle.item_ids.tolist()[:3]
    assert asked(clicks, history=[items]) == own(bundle, items)
    assert asked(clicks, history=[items], ratings=[[1.0, 5.0, 3.0]]) == own(bundle, items)


def test_the_schema_takes_attributes_of_users_where_they_are_read(dataset, tracker, tmp_path):
    people = NumberAttribute(np.arange(dataset.n_users, dtype=float))
    bundle = coldray.fit("popularity_by_group", replace(dataset, user_attributes={"age": people}))
    tracker.register(save_bundle(bundle, tmp_path / "bundle"), STRINGS, "pyfunc-people", ALWAYS)
    loaded = mlflow.pyfunc.load_model("models:/pyfunc-people@champion")
    assert loaded.metadata.signature.inputs.input_names() == ["user_id", "history", "user_attributes"]
    profiles = [{"age": 1}, {"age": 90.5}, {}]
    wanted = bundle.recommend(profiles=profiles, k=K)
    assert asked(loaded, user_attributes=profiles) == [
        wanted.filter(pl.col("user") == row)["item"].to_list() for row in range(3)
    ]


def test_who_asks_without_a_schema_may_give_ratings_by_item(dataset, bundle):
    model, known = BundleModel(), [bundle.history(user) for user in dataset.user_ids[:3]]
    model.bundle = bundle
    given = pd.DataFrame({"history": [known[0], list(known[1]), known[2]]})
    assert lists(model.predict(None, given, {"k": K})) == own(bundle, known[0], list(known[1]), known[2])
    beside = given.assign(ratings=[None, list(known[1].values()), np.nan])
    assert lists(model.predict(None, beside, {"k": K})) == own(bundle, *known)


def test_a_bundle_whose_users_cannot_be_read_is_not_logged(bundle, tracker, tmp_path):
    folder = save_bundle(bundle, tmp_path / "bundle")
    (folder / "users.parquet").write_bytes(b"PAR1")
    with pytest.raises(RefusedError, match=r"users\.parquet is damaged"):
        tracker.server._logged(tracker.run_id, folder, ("string", "string"))
