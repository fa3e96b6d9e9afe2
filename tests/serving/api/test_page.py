"""The page at / in a real browser, before a real service."""

import base64
import hashlib
import urllib.request

import pytest

from coldray.bundle.io import save_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.api.page import _HTML, _POLICY
from coldray.serving.api.settings import ServiceSettings
from contracts.browser import held, opened, until
from contracts.service import Client, free_port

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"


@pytest.fixture(scope="module")
def address(bundle, ray_cluster, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    save_bundle(bundle, folder / "bundle")
    settings = ServiceSettings(bundle=folder / "bundle", store=f"sqlite:///{folder / 'store.db'}", poll_s=0.2)
    with serving(settings, host="127.0.0.1", port=free_port()) as served:
        yield served


def ask(address, path, body=None):
    status, answer = Client(address)(path, body)
    assert status in (200, 201), answer
    return answer


def names(page):
    page.locator("#list:not([aria-busy])").wait_for(state="attached")
    return page.locator("#list .name").all_inner_texts()


def recommend(page, user):
    page.get_by_label("User id").fill(user)
    page.get_by_role("button", name="Recommend").click()
    page.locator("#list > li").first.wait_for()


def test_a_user_gets_the_list_of_the_service_with_parts_that_add_up(page, address):
    recommend(page, "user-0003")
    expected = ask(address, "/v1/recommend", {"user_id": "user-0003", "explain": True})
    assert names(page) == [item["name"] for item in expected["items"]]
    first = page.locator("#list > li").first
    assert expected["items"][0]["reasons"][0]["name"] in first.locator(".why").inner_text()
    first.locator("summary").click()
    shares = [float(text[:-2].replace("−", "-")) for text in first.locator(".parts > :nth-child(3n)").all_inner_texts()]
    assert len(shares) == len(expected["items"][0]["parts"])
    assert sum(shares) == pytest.approx(100, abs=2)
    assert page.locator("#status").inner_text().startswith("10 items, from what this user clicked")
    page.get_by_role("button", name=f"More like {expected['items'][0]['name']}", exact=True).click()
    like = ask(address, f"/v1/similar/{expected['items'][0]['item_id']}")
    page.get_by_text("Items like").wait_for()
    assert names(page) == [item["name"] for item in like["items"]]


def test_a_history_is_built_with_the_keyboard_alone(page, address):
    page.get_by_label("a user", exact=True).focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    hits = ask(address, "/v1/search?limit=8&q=the+d")["items"]
    page.keyboard.type("THE D")
    page.locator("#hit-1").wait_for()
    assert page.get_by_role("combobox", name="Search").get_attribute("aria-activedescendant") == "hit-0"
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.locator("#list > li").first.wait_for()
    chosen = hits[1]
    expected = ask(address, "/v1/recommend", {"history": [chosen["item_id"]]})
    assert names(page) == [item["name"] for item in expected["items"]]
    assert page.locator("#found").is_hidden()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Remove {chosen['name']}"
    page.keyboard.press("Enter")
    page.get_by_text("by how many people clicked them").wait_for()
    assert page.get_by_label("History; a button").get_by_role("button").count() == 0


def test_a_new_item_appears_marked_and_a_hostile_name_stays_text(page, address):
    recommend(page, "user-0003")
    page.get_by_label("Among").select_option("cold")
    page.locator("#status").filter(has_text="0 items, all of them new").wait_for()
    page.get_by_label("title", exact=False).first.fill(HOSTILE)
    page.get_by_label("genres").fill("drama, comedy, drama")
    page.get_by_label("year").fill("1999")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("is in the catalogue. Its place among all items").wait_for()
    page.locator("#list > li.fresh").wait_for()
    assert names(page) == [HOSTILE]
    assert page.locator("#list .badge").inner_text() == "new"
    made = ask(address, "/v1/search?q=onerror")["items"][0]
    assert made["attributes"] == {"genres": ["comedy", "drama"], "year": 1999, "title": HOSTILE}
    page.get_by_role("button", name="Add <img").click()
    page.get_by_role("button", name="Remove <img").first.wait_for()
    assert page.title() == "Recommendations"
    assert page.locator("img").count() == 0
    page.get_by_label("a user", exact=True).check()
    recommend(page, "user-0003")
    page.locator("#list").get_by_role("button", name="Remove <img").click()
    page.get_by_text("was removed").wait_for()
    assert ask(address, "/v1/search?q=onerror")["items"] == []


def test_an_error_is_said_in_words(page):
    recommend(page, "user-0003")
    page.get_by_label("Length").fill("0")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("alert").filter(has_text="k: Input should be greater than or equal to 1").wait_for()
    assert names(page) == []
    page.get_by_label("Id", exact=True).fill("item-0001")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("alert").filter(has_text="is an item that the model was fitted with").wait_for()
    page.get_by_label("Id", exact=True).fill("fresh")
    page.get_by_label("year").fill("soon")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("alert").filter(has_text="'year' must be an int or float").wait_for()


# ---- a change while an answer is on its way


@pytest.fixture
def wide(browser, address):
    with opened(browser, address, 1300) as page:
        yield page


def test_a_list_of_like_items_that_comes_late_does_not_replace_a_newer_one(wide, address):
    recommend(wide, "user-0003")
    expected = names(wide)
    with held(wide, "**/v1/similar/**") as waiting:
        wide.get_by_role("button", name="More like").first.click()
        until(wide, waiting)
        wide.get_by_role("button", name="Recommend").click()
        wide.get_by_text("from what this user clicked").wait_for()
    wide.wait_for_timeout(300)
    assert names(wide) == expected
    wide.get_by_role("button", name="More like").first.click()
    wide.get_by_text("Items like").wait_for()
    wide.get_by_label("Length").fill("4")
    wide.get_by_label("Length").press("Tab")
    wide.locator("#list > li:nth-child(5)").wait_for(state="detached")
    assert wide.locator("#status").inner_text().startswith("Items like")
    assert len(names(wide)) == 4


def test_a_user_or_a_mode_that_changes_while_the_list_is_on_its_way_counts(wide, address):
    expected = [item["name"] for item in ask(address, "/v1/recommend", {"user_id": "user-0005"})["items"]]
    with held(wide, "**/v1/recommend") as waiting:
        wide.get_by_label("User id").fill("user-0003")
        wide.get_by_role("button", name="Recommend").click()
        until(wide, waiting)
        wide.get_by_label("User id").fill("user-0005")
        wide.get_by_label("User id").blur()
        until(wide, waiting, 2)
    wide.get_by_text("from what this user clicked").wait_for()
    assert names(wide) == expected
    with held(wide, "**/v1/recommend") as waiting:
        wide.get_by_role("button", name="Recommend").click()
        until(wide, waiting)
        wide.get_by_label("a history", exact=True).check()
        until(wide, waiting, 2)
    wide.get_by_text("by how many people clicked them").wait_for()


def test_hits_of_an_earlier_search_are_not_picked_by_the_keyboard_and_do_not_come_back(wide, address):
    wide.get_by_label("a history", exact=True).check()
    box = wide.get_by_role("combobox", name="Search")
    box.press_sequentially("the")
    wide.locator("#hit-1").wait_for()
    with held(wide, "**/v1/search**") as waiting:
        box.press_sequentially(" d")
        until(wide, waiting)
        box.press("Enter")
        assert wide.locator("#chosen li").count() == 0
        wide.locator("#hit-1").click()
        wide.locator("#chosen li").wait_for()
    wide.wait_for_timeout(300)
    assert wide.locator("#found").is_hidden()
    assert wide.locator("#chosen li").count() == 1


def test_what_is_entered_while_an_item_is_added_stays(wide, address):
    recommend(wide, "user-0003")
    wide.get_by_label("title", exact=False).first.fill("The first")
    with held(wide, "**/v1/recommend") as waiting:
        wide.get_by_role("button", name="Add", exact=True).click()
        until(wide, waiting)
        wide.get_by_label("title", exact=False).first.fill("The second")
        assert wide.get_by_role("button", name="Add", exact=True).is_disabled()
    wide.get_by_text("The first is in the catalogue. Its place among all items").wait_for()
    wide.locator("#list:not([aria-busy])").wait_for(state="attached")
    assert wide.get_by_label("title", exact=False).first.input_value() == "The second"
    wide.locator("#add button:enabled").wait_for()


def test_every_field_has_a_name_that_is_said(page):
    unnamed = page.evaluate(
        "[...document.querySelectorAll('input, select, textarea')].filter(one => !one.labels.length).map(one => one.id)"
    )
    assert unnamed == []
    assert page.locator("[aria-live], [role=status], [role=alert]").count() >= 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, address, scheme):
    """Contrast of 4.5 at least (WCAG 2.2, 1.4.3) between each colour of text and the grounds it stands on."""
    context = browser.new_context(color_scheme=scheme)
    opened = context.new_page()
    opened.goto(address)
    pairs = [("ink", "ground"), ("ink", "sheet"), ("faint", "ground"), ("faint", "sheet"), ("accent", "sheet"),
             ("on-accent", "accent"), ("ink", "soft"), ("faint", "soft"), ("fresh", "fresh-soft"),
             ("ink", "fresh-soft"), ("faint", "fresh-soft"),
             ("accent", "fresh-soft"), ("sheet", "fresh"), ("bad", "bad-soft")]  # fmt: skip
    style = "getComputedStyle(document.documentElement).getPropertyValue"
    for pair in pairs:
        light, dark = sorted((luminance(opened.evaluate(f"{style}('--{name}')")) for name in pair), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, pair
    context.close()


def luminance(colour):
    parts = [int(colour.strip()[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_nothing_comes_from_elsewhere_and_only_the_script_of_the_page_runs(address):
    with urllib.request.urlopen(address + "/", timeout=20) as answer:
        policy, text = answer.headers["content-security-policy"], answer.read().decode()
    assert (policy, text) == (_POLICY, _HTML)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in text.replace("hits", "")
    assert "innerHTML" not in text
    assert _HTML.count("<script>") == _HTML.count("<style>") == 1
    digest = hashlib.sha256(text.split("<script>")[1].split("</script>")[0].encode()).digest()
    assert base64.b64encode(digest).decode() in policy
