"""Lists as frames, by ids, with a policy for ids that are unknown."""

import dataclasses
import logging

import polars as pl
import pytest
import scipy.sparse as sp
from hypothesis import assume, given
from hypothesis import strategies as st

import coldray
from coldray.core.errors import ConfigError, UnknownIdError

CLICKS = {"user_id": [1, 1, 2, 2, 3, 3, 3], "film": ["a", "b", "b", "c", "a", "c", "d"]}
FILMS = {"film": ["a", "b", "c", "d", "new"], "genre": [["x"], ["x", "y"], ["y"], ["y"], ["y"]], "title": list("ABCDN")}


@pytest.fixture(scope="module")
def bundle():
    dataset = coldray.load_dataset(CLICKS, FILMS, item="film", labels=["genre"], texts=["title"])
    return coldray.fit("content_knn", dataset, features={"attributes": ["genre"], "min_items": 1})


@pytest.fixture(scope="module")
def clicks_alone():
    return coldray.fit("ease", coldray.load_dataset(CLICKS, FILMS, item="film", labels=["genre"], texts=["title"]))


def lists(frame):
    return {user: rows["item"].to_list() for (user,), rows in frame.group_by("user", maintain_order=True)}


def test_lists_are_frames_of_external_ids(bundle):
    frame = bundle.recommend([3, 1], k=2)
    assert frame.columns == ["user", "rank", "item", "score", "cold", "origin", "title"]
    assert frame.schema["user"] == pl.Int64
    assert frame["user"].to_list() == [3, 3, 1, 1]
    assert frame["rank"].to_list() == [1, 2, 1, 2]
    own = {3: {"a", "c", "d"}, 1: {"a", "b"}}
    assert all(not set(items) & own[user] for user, items in lists(frame).items())
    assert frame.filter(pl.col("item") == "new")["cold"].all()
    assert frame["title"].to_list() == [item.upper()[0] for item in frame["item"]]
    places = [place for _, some in bundle.lists([bundle.history(3), bundle.history(1)], 2) for place in some]
    assert frame.select("item", "score", "cold").rows() == [(one.item, one.score, one.cold) for one in places]


def test_a_history_is_a_user_as_well(bundle):
    by_history, by_id = bundle.recommend(histories=[["a", "b"]], k=3), bundle.recommend([1], k=3)
    assert by_history.drop("user", "origin").equals(by_id.drop("user", "origin"))
    assert by_history["user"].to_list() == [0, 0, 0]
    assert (by_history["origin"][0], by_id["origin"][0]) == ("history", "model")


def test_candidates_and_what_nobody_is_to_be_shown(bundle):
    assert set(bundle.recommend([1], candidates="cold")["item"]) == {"new"}
    assert set(bundle.recommend([1], candidates=("c", "d"))["item"]) == {"c", "d"}
    assert "c" not in bundle.recommend([1], exclude=["c"])["item"].to_list()


def test_new_items_are_in_the_next_list(bundle):
    more = bundle.add_items({"late": {"genre": ["x"], "title": "L"}})
    assert "late" in more.recommend([1], candidates="cold")["item"].to_list()
    assert "late" not in bundle.recommend([1], candidates="cold")["item"].to_list()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"users": [1, 9]}, "1 of 2 users are unknown"),
        ({"histories": [["a", "zz"], []]}, "1 of 2 items in histories"),
        ({"histories": [["a"], []]}, "1 of 2 histories have no known item"),
    ],
)
def test_ids_that_are_unknown_are_refused_told_or_passed_over(bundle, asked, words, caplog):
    with pytest.raises(UnknownIdError, match=words):
        bundle.recommend(**asked, policy="raise")
    with caplog.at_level(logging.WARNING):
        told = bundle.recommend(**asked)
    assert words in caplog.text
    caplog.clear()
    assert bundle.recommend(**asked, policy="ignore").equals(told)
    assert caplog.text == ""
    last = told["user"].max()
    assert set(told.filter(pl.col("user") == last)["origin"]) == {"popularity"}


CANDIDATES = [
    ("content_knn", {"candidates": ("c", "zz")}, "1 of 2 candidates are unknown", {"c"}),
    ("content_knn", {"candidates": ("c", "d"), "exclude": ["d", "zz"]}, "1 of 2 excluded items are unknown", {"c"}),
    ("clicks", {"candidates": ("c", "new")}, "1 of 2 candidates have no clicks, by which alone ease knows", {"c"}),
]


@pytest.mark.parametrize(("model", "asked", "words", "listed"), CANDIDATES)
def test_so_are_items_that_may_be_listed(model, asked, words, listed, request, caplog):
    bundle = request.getfixturevalue("bundle" if model == "content_knn" else "clicks_alone")
    for policy in ("raise", {"items": "raise", "users": "ignore"}):
        with pytest.raises(UnknownIdError, match=words):
            bundle.recommend([1], **asked, policy=policy)
    with caplog.at_level(logging.WARNING):
        told = bundle.recommend([1], **asked)
    assert words in caplog.text
    assert set(told["item"]) == listed
    caplog.clear()
    for policy in ("ignore", {"items": "ignore"}, {"users": "raise", "items": "ignore"}):
        assert bundle.recommend([1], **asked, policy=policy).equals(told)
    assert caplog.text == ""


@given(st.lists(st.sampled_from(["a", "b", "c", "d", "new", "zz"]), min_size=1, unique=True), st.booleans())
def test_no_list_has_an_item_that_the_model_cannot_tell_apart(bundle, clicks_alone, candidates, by_clicks):
    chosen, known = (clicks_alone, set("abcd")) if by_clicks else (bundle, {*"abcd", "new"})
    assume(known & set(candidates))
    found = chosen.recommend([3], k=9, candidates=tuple(candidates), policy="ignore")
    assert set(found["item"]) == known & set(candidates) - {"a", "c", "d"}


def test_items_without_clicks_are_no_candidates_of_a_model_that_knows_clicks_alone(clicks_alone):
    with pytest.raises(ConfigError, match="'ease' knows items by their clicks alone, and cold items have none"):
        clicks_alone.recommend([1], candidates="cold")
    with pytest.raises(ConfigError, match="1 of the 2 candidates have none, 'new' first"):
        clicks_alone.list_maker(("a", "new"))


def test_a_user_without_clicks_is_told_apart_from_one_that_is_unknown(bundle, caplog):
    silent = dataclasses.replace(bundle, interactions=sp.csr_array(bundle.interactions.shape, dtype="float32"))
    with pytest.raises(UnknownIdError, match="2 of 2 users are known without a click"):
        silent.recommend([1, 2], policy={"users": "raise"})
    with caplog.at_level(logging.WARNING):
        assert set(silent.recommend([1, 9])["origin"]) == {"popularity"}
    assert "1 of 2 users are unknown" in caplog.text
    assert "1 of 2 users are known without a click" in caplog.text


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "users or histories"),
        ({"users": [1], "histories": [[]]}, "users or histories"),
        ({"users": "1"}, "a list of ids"),
        ({"users": [1], "candidates": ["a"]}, "a tuple of ids"),
        ({"users": [1, "a"]}, "of one type"),
        ({"users": [1], "policy": "skip"}, "raise, warn, ignore"),
        ({"users": [1], "policy": {"items": "skip"}}, "raise, warn, ignore"),
        ({"users": [1], "policy": {"films": "warn"}}, "policy names 'films'"),
    ],
)
def test_what_makes_no_sense_is_refused(bundle, asked, words):
    with pytest.raises(ConfigError, match=words):
        bundle.recommend(**asked)


def test_nobody_gets_an_empty_frame(bundle):
    assert bundle.recommend([]).height == 0
