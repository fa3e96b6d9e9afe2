"""Items that are alike, new items of a table, and scores taken apart, by ids and as frames."""

import html
import logging

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, DataFormatError, UnknownAttributeError, UnknownIdError
from contracts.bundles import small_bundle

MODELS = {
    "ease": {},
    "marec": {"order": 1, "delta": 5.0},
    "kernel_align": {"n_factors": 8, "steps": 5},
    "popularity": {},
    "als": {"n_factors": 8},
}
"""By kind of explanation: a sum over the history twice, by attribute, the same for all, and no sum."""
FRAMES = {"mapping": dict, "polars": pl.DataFrame, "pandas": pd.DataFrame, "arrow": pa.table}


@pytest.fixture(scope="module")
def sample():
    return coldray.load_dataset("sample")


@pytest.fixture(scope="module", params=MODELS)
def fitted(request, sample):
    return coldray.fit(request.param, sample, **MODELS[request.param])


def test_parts_add_up_to_the_score_or_none_are_given(fitted):
    by_list = fitted.recommend(["user-0003"], k=3)
    for item, score in by_list.select("item", "score").rows():
        found = fitted.explain("user-0003", item)
        assert found.score == pytest.approx(score, rel=1e-4)
        if fitted.model.name in ("popularity", "als"):
            assert (found.parts.height, found.reasons.height) == (0, 0)
            assert "everybody" in found.note or "no sum" in found.note
            continue
        assert found.parts["added"].sum() == pytest.approx(found.score, rel=2e-3)
        assert found.parts["share"].sum() == pytest.approx(1, rel=2e-3)
        assert set(found.reasons["item"]) <= set(fitted.history("user-0003"))
        assert found.reasons["title"].null_count() == 0
        assert (found.reasons["part"].null_count() == 0) == (fitted.model.name == "kernel_align")
    assert "Score" in repr(found)
    assert html.escape(found.note) in found._repr_html_()


def test_a_history_is_explained_like_the_user_who_has_it(fitted):
    item = fitted.recommend(["user-0003"], k=1)["item"][0]
    by_user = fitted.explain("user-0003", item)
    by_history = fitted.explain(item=item, history=fitted.history("user-0003"))
    assert by_history.parts.equals(by_user.parts)
    assert fitted.explain(item=item, history=[]).parts.height == 0


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"user": "user-0001"}, ConfigError, "takes an item"),
        ({"item": "item-0001"}, ConfigError, "user or a history"),
        ({"user": "user-0001", "item": "item-0001", "history": []}, ConfigError, "user or a history"),
        ({"user": "nobody", "item": "item-0001"}, UnknownIdError, "'nobody'"),
        ({"user": "user-0001", "item": "nothing"}, UnknownIdError, "'nothing'"),
        ({"history": ["nothing"], "item": "item-0001"}, UnknownIdError, "'nothing'"),
    ],
)
def test_what_cannot_be_explained_is_refused(asked, error, words):
    with pytest.raises(error, match=words):
        small_bundle().explain(**asked)


def test_a_copy_of_an_item_is_the_one_most_like_it():
    bundle = small_bundle()
    twin = {"item_id": ["twin"], **{name: [value] for name, value in known(bundle, "item-0007").items()}}
    more = bundle.add_items(twin)
    found = more.similar("twin", k=4)
    assert found.columns == ["rank", "item", "score", "cold", "title"]
    assert found["rank"].to_list() == [1, 2, 3, 4]
    assert (found["item"][0], found["score"][0]) == ("item-0007", pytest.approx(1))
    assert found["score"].is_sorted(descending=True)
    assert "twin" in more.similar("item-0007", k=90)["item"].to_list()
    with pytest.raises(UnknownIdError, match="twin"):
        bundle.similar("twin")


def known(bundle, item):
    """Return the attributes of an item by name."""
    place, found = bundle.item_places[item], {}
    for name, attribute in bundle.attributes.items():
        if hasattr(attribute, "labels"):
            found[name] = attribute.labels[attribute.matrix[[place]].indices].tolist()
        else:
            values = attribute.values if hasattr(attribute, "values") else attribute.texts
            found[name] = values[place]
    return {name: None if value != value else value for name, value in found.items()}


@st.composite
def tables(draw):
    n = draw(st.integers(1, 5))
    ids = draw(st.lists(st.text("abcxyz", min_size=1, max_size=4), min_size=n, max_size=n, unique=True))
    genre = st.lists(st.sampled_from(["drama", "war", "crime", "unheard", "of"]), max_size=3, unique=True)
    labels = draw(st.lists(st.none() | genre, min_size=n, max_size=n))
    titles = draw(st.lists(st.none() | st.text("rst ", min_size=1, max_size=5), min_size=n, max_size=n))
    return [f"new-{one}" for one in ids], labels, titles


@given(tables(), st.sampled_from(sorted(FRAMES)), st.booleans())
def test_a_table_of_new_items_is_what_the_same_records_are(table, kind, joined):
    ids, labels, titles = table
    bundle = small_bundle()
    as_text = [None if one is None else "|".join(one) or None for one in labels]
    columns = {"film": ids, "genres": as_text if joined else labels, "title": titles}
    found = bundle.add_items(FRAMES[kind](columns), item="film")
    records = {
        item: {name: value for name, value in (("genres", some), ("title", title)) if value is not None}
        for item, some, title in zip(ids, labels, titles, strict=True)
    }
    expected = bundle.add_items(records)
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    for item in ids:
        assert known(found, item) == known(expected, item)
    asked = {"users": ["user-0001"], "candidates": tuple(ids)}
    assert found.recommend(**asked).equals(expected.recommend(**asked))


def test_labels_that_the_model_was_not_fitted_with_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        small_bundle().add_items({"item_id": ["n"], "genres": [["no such", "nor such"]], "title": ["no such"]})
    assert [record.getMessage() for record in caplog.records] == [
        "2 labels of 'genres' are unknown to the model, which makes nothing of them; the first is 'no such'."
    ]
    caplog.clear()
    genre = sorted(small_bundle().encoder.labels_read["genres"])[0]
    small_bundle().add_items({"item_id": ["n"], "genres": [[genre]]})
    assert caplog.records == []


@pytest.mark.parametrize(
    ("columns", "error", "words"),
    [
        ({"genres": [["drama"]]}, DataFormatError, "no column 'item_id'"),
        ({"item_ids": ["x"]}, DataFormatError, "Did you mean 'item_ids'"),
        ({"item_id": ["x"], "genre": [["drama"]]}, UnknownAttributeError, "Did you mean 'genres'"),
        ({"item_id": ["x", "x"]}, DataFormatError, "'x' more than once"),
        ({"item_id": ["x", " x"]}, DataFormatError, "'x' more than once"),
        ({"item_id": ["x", None]}, DataFormatError, "no id"),
        ({"item_id": [7]}, DataFormatError, "numbers, and those of the bundle are text"),
        ({"item_id": ["item-0001"]}, UnknownIdError, "in the bundle already"),
        ({"item_id": ["x"], "genres": [7]}, DataFormatError, "genres"),
        ({"item_id": ["x"], "genres": ["['drama', 'war']"]}, DataFormatError, "list written as text"),
        ({"item_id": ["x"], "title": [[1, 2]]}, DataFormatError, "title"),
        ({"item_id": ["x", "y"], "title": ["X"]}, DataFormatError, "as many"),
    ],
)
def test_a_table_that_is_wrong_is_refused(columns, error, words):
    bundle = small_bundle()
    with pytest.raises(error, match=words):
        bundle.add_items(columns)
