"""Two versions side by side on the page, in a real browser, before a real service that follows a registry."""

import pytest

from coldray.cli.jobs.serve import serving
from coldray.serving.api.settings import ServiceSettings
from contracts.browser import held, until
from contracts.service import Client, free_port, promote

NAME = "compared"


@pytest.fixture(scope="module")
def address(folders, tracking_uri, ray_cluster, tmp_path_factory):
    """Serve the first bundle; the second and a damaged one are registered beside it."""
    root = tmp_path_factory.mktemp("compared")
    settings = ServiceSettings(
        tracking_uri=tracking_uri, model_name=NAME, store=f"sqlite:///{root / 'store.db'}", poll_s=0.2
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for folder, alias in (("first", "champion"), ("second", "challenger"), ("damaged", None)):
            promote(tracking_uri, folders / folder, NAME, alias)
        with serving(settings, host="127.0.0.1", port=free_port()) as served:
            yield served


def ask(address, **body):
    status, answer = Client(address)("/v1/recommend", body)
    assert status == 200, answer
    return answer["items"]


def compare(page, version):
    page.get_by_label("Compare with").select_option(version)
    page.get_by_role("button", name="Recommend").click()
    page.locator("#pair:not([hidden]):not([aria-busy])").wait_for()


def columns(page):
    """Return name and mark of each place, of the two lists."""
    found = []
    for column in page.locator("#pair > div").all():
        places = column.locator("li").all()
        found.append([(place.locator(".name").inner_text(), place.locator(".mark").inner_text()) for place in places])
    return found


def test_both_lists_are_those_of_the_service_and_what_differs_is_marked(page, address):
    page.get_by_label("User id").fill("user-0005")
    compare(page, "2")
    lists = [ask(address, user_id="user-0005", version=version) for version in ("1", "2")]
    ranks = [{item["item_id"]: item["rank"] for item in items} for items in lists]
    expected = []
    for items, others in zip(lists, reversed(ranks), strict=True):
        marks = []
        for item in items:
            there = others.get(item["item_id"])
            by = abs(item["rank"] - (there or 0))
            places = "1 place" if by == 1 else f"{by} places"
            if there is None:
                marks.append((item["name"], "only here"))
            elif there == item["rank"]:
                marks.append((item["name"], "same place"))
            elif item["rank"] < there:
                marks.append((item["name"], f"▲ {by}\n{places} higher here"))
            else:
                marks.append((item["name"], f"▼ {by}\n{places} lower here"))
        expected.append(marks)
    assert columns(page) == expected
    kinds = {mark.split()[0] for marks in expected for _, mark in marks}
    assert {"only", "▲", "▼"} <= kinds
    both = len(ranks[0].keys() & ranks[1].keys())
    same = sum(ranks[1].get(item) == rank for item, rank in ranks[0].items())
    said = f"{both} of 10 items are in both lists, {same} of them at the same place."
    assert page.locator("#status").inner_text() == said
    assert page.locator("#pair h3").all_inner_texts() == ["Version 1 (champion)", "Version 2 (challenger)"]
    assert page.locator("#pair li.only").count() == 2 * (10 - both)
    assert page.locator("#list > li").count() == 0


def test_a_version_is_chosen_with_the_keyboard_and_given_up_again(page, address):
    page.get_by_label("Compare with").wait_for()  # it is there once the page knows the versions
    page.get_by_label("User id").fill("user-0007")
    page.get_by_role("button", name="Recommend").focus()
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "against"
    page.keyboard.press("End")  # versions are listed youngest first
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.locator("#pair h3").first.wait_for()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Home")
    page.locator("#list > li").first.wait_for()
    assert page.locator("#pair").is_hidden()
    names = page.locator("#list .name").all_inner_texts()
    assert names == [item["name"] for item in ask(address, user_id="user-0007")]


def test_a_version_that_cannot_be_served_is_said_in_words(page):
    page.get_by_label("User id").fill("user-0007")
    page.get_by_label("Compare with").select_option("3")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("alert").filter(has_text="version: '3' cannot be served").wait_for()
    assert page.locator("#pair").is_hidden()


def test_a_history_and_what_is_new_are_compared_too(page, address):
    page.get_by_label("a history", exact=True).check()
    page.get_by_role("combobox", name="Search").fill("the d")
    page.locator("#hit-0").click()
    compare(page, "2")
    page.get_by_label("Length").fill("4")
    page.get_by_label("Length").press("Tab")
    page.locator("#status").filter(has_text="of 4 items are in both lists").wait_for()
    assert [len(column) for column in columns(page)] == [4, 4]


def test_a_comparison_that_is_given_up_on_its_way_leaves_the_list_alone(page, address):
    page.get_by_label("User id").fill("user-0005")
    page.get_by_label("Compare with").select_option("2")
    with held(page, "**/v1/recommend") as waiting:
        page.get_by_role("button", name="Recommend").click()
        until(page, waiting, 2)
        page.get_by_label("Compare with").select_option("")
        until(page, waiting, 3)
    page.locator("#list > li").first.wait_for()
    assert page.locator("#pair").is_hidden()
    page.locator("#list:not([aria-busy])").wait_for(state="attached")
    assert page.locator("[aria-busy]").count() == 0
    assert page.locator("#list .name").all_inner_texts() == [item["name"] for item in ask(address, user_id="user-0005")]
