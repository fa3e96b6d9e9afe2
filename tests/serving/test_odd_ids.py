"""Ids of any text and of 19 digits, in every endpoint over real HTTP and on the page; what is none is refused."""

import logging
import math
import os
from dataclasses import replace
from urllib.parse import quote

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coldray.bundle.fitting import fit_bundle
from coldray.bundle.io import save_bundle
from coldray.cli.jobs.serve import fast_serve, serving
from coldray.core.errors import DataFormatError
from coldray.data.sources.sample import sample_dataset
from coldray.features.builder import FeatureConfig, FeatureEncoder
from coldray.models.kernel_align.model import KernelAlign, KernelAlignConfig
from coldray.serving.api.schemas import Feedback, RatedItem, RecommendRequest
from coldray.serving.api.settings import ServiceSettings
from coldray.serving.batch.lists import BatchLists, Counts
from coldray.serving.engine.engine import Engine
from coldray.serving.engine.ids import MAX_ID, as_known, refuse_new_id, warn_of_odd_ids, whole_number
from coldray.serving.engine.queries import Query
from coldray.serving.live.cache import _list_key
from coldray.serving.live.model import LiveModel, ModelVersion
from contracts.feedback import put_event, send_event
from contracts.service import Client, free_port

ODD = ["a/b", "/a", "a/", "//", "a#b", "a%b", "a%2Fb", "%00", "100%", "a?b=c&d", "a b", "é", "a+b", "a;b", "a\\b",
       "<b>", "a/../b", '"q"', "'", "a,b", "{x}", "5", "a\u200db", "docs", "x" * MAX_ID, "日" * MAX_ID]  # fmt: skip
FIRST = 2**62
"""The first of ids of 19 digits, of which JavaScript knows 16."""
N = 60


def made(item_ids, user_ids=None):
    users = {} if user_ids is None else {"user_ids": user_ids}
    dataset = replace(sample_dataset(0, 80, N), item_ids=item_ids, **users)
    return fit_bundle(
        KernelAlign(KernelAlignConfig(n_factors=8, steps=5)), dataset, FeatureEncoder(FeatureConfig()), {}
    )


@pytest.fixture(scope="module")
def texts():
    return made(np.array(sorted([*ODD, *(f"item-{place}" for place in range(N - len(ODD)))])))


@pytest.fixture(scope="module")
def numbers():
    return made(np.arange(FIRST, FIRST + N), np.arange(FIRST, FIRST + 80))


@pytest.fixture(scope="module", params=["texts", "numbers"])
def served(request, tmp_path_factory, ray_cluster):
    bundle = request.getfixturevalue(request.param)
    root = tmp_path_factory.mktemp("odd")
    save_bundle(bundle, root / "bundle")
    chosen = ServiceSettings(bundle=root / "bundle", store=f"sqlite:///{root / 'store.db'}", poll_s=60)
    with serving(chosen, host="127.0.0.1", port=free_port()) as address:
        yield bundle, address


def everywhere(call, item):
    """Name an item in every endpoint that reads; each answers with it or without an error."""
    named = quote(str(item), safe="")
    assert call(f"/v1/items/{named}")[1]["item_id"] == item
    assert call(f"/v1/similar/{named}?k=3")[0] == 200
    assert call(f"/v1/search?q={named}")[1]["items"][0]["item_id"] == item
    for form in (item, str(item)):
        assert item not in call.items(history=[form], exclude=[form], k=N)
        assert call.items(candidates=[form], history=[]) == [item]


def test_items_of_the_data_are_named_in_every_endpoint(served):
    bundle, address = served
    call = Client(address)
    items = ODD if bundle.item_ids.dtype.kind == "U" else [FIRST, FIRST + N - 1]
    assert set(items) <= set(bundle.plain_ids)
    for item in items:
        everywhere(call, item)


def refused(given_id):
    """Return whether an id is refused as that of something new."""
    try:
        refuse_new_id(given_id, "item_id")
    except DataFormatError as error:
        return "could not be named in every request" in str(error)
    return False


def test_a_new_item_is_named_in_every_endpoint_or_refused(served):
    bundle, address = served
    call, known = Client(address), set(bundle.item_ids.tolist())
    numbers = bundle.item_ids.dtype.kind == "i"
    ids = st.integers(1, 2**63 - 1) | st.integers(1, 2**63 - 1).map(str) if numbers else st.text(min_size=1)

    @settings(max_examples=12, database=None, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ids)
    @example(str(2**63 - 1))
    @example(".." if not numbers else 7)
    @example("a\nb/#%")
    @example("/" * MAX_ID)
    def holds(given_id):
        item = whole_number(given_id) if numbers else given_id
        assume(item not in known)
        status, answer = call("/v1/items", {"item_id": given_id, "attributes": {"year": 1999}})
        if not isinstance(item, int) if numbers else refused(item):
            assert status == 422
            assert answer["error"]["message"].startswith("item_id: ")
        else:
            assert (status, answer["item_id"]) == (201, item)
            everywhere(call, item)
            event = {"event_id": quote(str(item))[:90], "user_id": bundle.user_ids.tolist()[0], "item_id": given_id}
            assert call("/v1/feedback", event)[0] == 202
            assert item not in call.items(user_id=str(event["user_id"]), k=N + 20)
            assert call(f"/v1/items/{quote(str(item), safe='')}", method="DELETE")[0] == 204

    holds()


@pytest.mark.parametrize("wrong", [True, 1.5, [1], {}, "", "x" * (MAX_ID + 1), 2**64])
def test_what_is_no_id_is_refused_in_words(served, wrong):
    call = Client(served[1])
    for path, body, field in (
        ("/v1/recommend", {"user_id": wrong}, "user_id"),
        ("/v1/recommend", {"exclude": [wrong]}, "exclude.0"),
        ("/v1/items", {"item_id": wrong, "attributes": {}}, "item_id"),
        ("/v1/feedback", {"event_id": "e", "user_id": wrong, "item_id": 1}, "user_id"),
    ):
        status, answer = call(path, body)
        assert status == 422
        assert answer["error"]["message"].startswith(f"{field}: an id is a whole number of 64 bits, or text of 1 to")


def test_a_user_of_another_type_is_refused_and_a_new_one_is_not(served):
    bundle, address = served
    call, number = Client(address), bundle.user_ids.dtype.kind == "i"
    for wrong in ["abc", "007", "1.0", str(2**63)] if number else [5, "5"]:
        for path, body in (
            ("/v1/recommend", {"user_id": wrong}),
            ("/v1/recommend:batch", {"requests": [{"user_id": wrong}]}),
            ("/v1/feedback", {"event_id": "e", "user_id": wrong, "item_id": bundle.item_ids.tolist()[0]}),
        ):
            status, answer = call(path, body)
            assert status == 422, (path, wrong)
            assert answer["error"]["message"].startswith(f"user_id: {wrong!r} is ")
            assert repr(bundle.user_ids.tolist()[0]) in answer["error"]["message"]
    assert call("/v1/recommend", {"user_id": 7 if number else "abc"})[1]["path"] == "popularity"


def test_labels_that_are_lists_written_as_text_are_refused(served):
    body = {"item_id": 5, "attributes": {"genres": '["drama", "comedy"]'}}
    if served[0].item_ids.dtype.kind == "U":
        body["item_id"] = "listed"
    status, answer = Client(served[1])("/v1/items", body)
    assert status == 422
    assert "'genres': the label" in answer["error"]["message"]


def test_the_page_names_items_and_users_of_any_id(served, browser):
    bundle, address = served
    call, number = Client(address), bundle.item_ids.dtype.kind == "i"
    new = 2**63 - 5 if number else "n/e#w%2F" + "x" * (MAX_ID - 8)
    user = bundle.user_ids.tolist()[3]
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.goto(address)
    page.get_by_placeholder(f"for example {bundle.user_ids.tolist()[0]}").wait_for()
    page.get_by_label("User id").fill(str(user))
    page.get_by_label("Id", exact=True).fill(str(new))
    page.get_by_label("year").fill("1999")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("is in the catalogue. Its place among all items").wait_for()
    assert call.items(candidates=[new], user_id=user) == [new]
    page.get_by_label("Length").fill("20")
    page.get_by_label("Among").select_option("cold")
    fresh = page.locator("#list > li.fresh")
    fresh.wait_for()
    assert fresh.locator(".name").inner_text() == str(new)
    assert fresh.locator(".name").bounding_box()["height"] < 120
    assert len(page.locator("#added").inner_text()) < 250
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    fresh.get_by_role("button", name="More like").click()
    page.get_by_text("Items like").wait_for()
    names = page.locator("#list .name").all_inner_texts()
    likes = call(f"/v1/similar/{quote(str(new), safe='')}?k=20")[1]["items"]
    assert names == [item["name"] for item in likes]
    page.get_by_role("button", name="Recommend").click()
    fresh.wait_for()
    fresh.get_by_role("button", name="Remove").click()
    page.get_by_text("was removed").wait_for()
    assert call(f"/v1/items/{quote(str(new), safe='')}")[0] == 404
    page.get_by_label("a history", exact=True).check()
    page.get_by_role("combobox", name="Search").fill("q" * MAX_ID)
    page.get_by_text("No item is called").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


# ---- without a server


@pytest.mark.parametrize("rating", [1e31, -1e300, math.inf])
def test_a_rating_beyond_single_precision_is_refused_as_in_files(rating):
    for schema, fields in (
        (RatedItem, {"item_id": 1}), (Feedback, {"event_id": "e", "user_id": 1, "item_id": 1})
    ):  # fmt: skip
        assert schema(**fields, rating=1e30).rating == 1e30
        with pytest.raises(ValidationError, match="rating"):
            schema(**fields, rating=rating)


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_number_and_its_digits_are_one_id(number):
    assert whole_number(str(number)) == number
    for numbers in (True, False):
        assert as_known(number, numbers=numbers) == as_known(str(number), numbers=numbers)


@given(st.text(max_size=6))
def test_other_text_is_no_number(text):
    found = whole_number(text)
    assert found == text or str(found) == text


@pytest.mark.parametrize(
    "given",
    ["", " ", "\u3000", " a", "a ", "a\nb", "a\tb", "\x00", "\ufeffa", "a\u2028b", ".", "..", "\u200b", "a\u200b"],
)
def test_what_cannot_be_named_everywhere_is_no_new_id(given):
    assert refused(given)


@pytest.mark.parametrize("given", [*ODD, "...", "a.b", "a\u00a0b", "👩\u200d🔬"])
def test_all_else_is(given):
    assert not refused(given)


def test_ids_of_the_data_that_not_every_request_can_name_are_counted(caplog):
    with caplog.at_level(logging.WARNING):
        warn_of_odd_ids(np.array(["a", " b", "c\nd", "..", "e" * (MAX_ID + 1)]), "item")
    assert [record.getMessage().split(":")[0][:60] for record in caplog.records] == [
        "1 item ids are such that the id begins or ends with a blank "[:60],
        "1 item ids are such that the id holds a control character or"[:60],
        "1 item ids are such that the id is a step in an address, whi"[:60],
        "1 item ids are such that the id has more than 2,000 characte"[:60],
    ]
    caplog.clear()
    warn_of_odd_ids(np.array(["a", "b/c"]), "item")
    warn_of_odd_ids(np.arange(3), "user")
    assert caplog.records == []


@pytest.mark.parametrize("sent", [FIRST + 1, str(FIRST + 1)])
def test_clicks_sent_in_one_form_change_the_list_and_its_key_in_both(numbers, store, sent):
    for bundle in (numbers, replace(numbers, user_ids=numbers.user_ids.astype(str))):
        live = LiveModel(bundle, ModelVersion("m", "1"), store)
        asked = [RecommendRequest(user_id=user) for user in (FIRST + 1, str(FIRST + 1))]
        before = [_list_key(live, request) for request in asked]
        item = live.engine.answer([asked[0].query()])[0].places[0].item
        assert send_event(live, f"{bundle.user_ids.dtype}-{sent!r}", sent, str(item), None)
        assert live.refresh()
        after = [_list_key(live, request) for request in asked]
        assert before[0] == before[1] != after[0] == after[1]
        answers = live.engine.answer([request.query() for request in asked])
        assert answers[0] == answers[1]
        assert item not in [place.item for place in answers[0].places]


def test_lists_for_all_users_have_the_ids_as_they_are(texts, tmp_path):
    lists, counts = BatchLists.of(texts, k=N), Counts()
    users = [f"{item}\n{item}" for item in ODD]
    histories = pl.DataFrame({"user_id": users, "item_id": ODD})
    (found,) = lists.of_histories(histories, counts)
    found.write_parquet(tmp_path / "lists.parquet")
    read = dict(pl.read_parquet(tmp_path / "lists.parquet").select("user_id", "items").iter_rows())
    assert counts.unknown_items == 0
    assert {user: set(items) for user, items in read.items()} == {
        user: set(texts.item_ids.tolist()) - {item} for user, item in zip(users, ODD, strict=True)
    }


def test_a_user_of_another_type_who_sent_feedback_before_is_served(numbers, store):
    put_event(store, "e", "visitor", FIRST, None)
    live = LiveModel(numbers, ModelVersion("m", "1"), store)
    live.engine.check(Query(user_id="visitor"))
    with pytest.raises(DataFormatError, match="user_id: 'other' is no whole number"):
        live.engine.check(Query(user_id="other"))


def test_the_proxy_takes_an_address_with_the_longest_id(monkeypatch):
    monkeypatch.delenv("RAY_SERVE_HAPROXY_TUNE_BUFSIZE", raising=False)
    with fast_serve():
        assert int(os.environ["RAY_SERVE_HAPROXY_TUNE_BUFSIZE"]) >= 12 * MAX_ID + 4096


def test_files_and_ports_of_another_service_are_not_inherited(monkeypatch):
    """A service that took them over would read the other's list of replicas, and ask those."""
    monkeypatch.setenv("RAY_SERVE_HAPROXY_CONFIG_FILE_LOC", "/another/haproxy.cfg")
    monkeypatch.setenv("RAY_SERVE_HAPROXY_RETRY_ON", "none")
    monkeypatch.delenv("RAY_SERVE_HAPROXY_METRICS_PORT", raising=False)
    before = dict(os.environ)
    with fast_serve():
        inside = dict(os.environ)
    with fast_serve():
        beside = dict(os.environ)
    assert dict(os.environ) == before
    assert inside["RAY_SERVE_HAPROXY_RETRY_ON"] == "none"
    for name in ("CONFIG_FILE_LOC", "SOCKET_PATH", "METRICS_PORT"):
        names = {each.get(f"RAY_SERVE_HAPROXY_{name}") for each in (before, inside, beside)}
        assert len(names) == 3


def test_answers_name_ids_of_the_data_of_any_length():
    bundle = made(np.array([f"{place:02d}" + "y" * 3000 for place in range(N)]))
    from coldray.serving.api.catalogue import _described as described
    from coldray.serving.api.catalogue import found_item
    from coldray.serving.live.store import Store

    live = LiveModel(bundle, ModelVersion("m", "1"), Store("sqlite://"))
    assert found_item(live.engine, live.engine.ids[0]).item_id == live.engine.ids[0]
    assert described(live).n_items == N
    assert Engine(bundle).typed("x" * 5000) == "x" * 5000
