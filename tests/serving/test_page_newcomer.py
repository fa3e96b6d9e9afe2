"""Somebody who has just signed up, on the page in a real browser, before a real service."""

import numpy as np
import pytest

import coldray
from coldray.bundle.io import save_bundle
from coldray.cli.jobs.serve import serving
from coldray.serving.api.settings import ServiceSettings
from contracts.service import Client, free_port


@pytest.fixture(scope="module")
def address(ray_cluster, tmp_path_factory):
    """Serve a model that reads town and age of users, who click what is of their town."""
    generator = np.random.default_rng(1)
    chance = np.where(np.arange(60)[:, None] % 2 == np.arange(24) % 2, 0.5, 0.06)
    users, items = np.nonzero(generator.random((60, 24)) < chance)
    names = [f"user-{user + 1:04d}" for user in range(60)]
    people = {"user_id": names, "town": ["north", "south"] * 30, "age": generator.integers(18, 70, 60)}
    clicks = {"user_id": [names[user] for user in users], "item_id": [f"film {item}" for item in items]}
    data = coldray.load_dataset(clicks, users=people, user_labels=["town"], user_numbers=["age"])
    bundle = coldray.fit("kernel_align_users", data, n_factors=4, steps=5)
    folder = tmp_path_factory.mktemp("newcomer")
    save_bundle(bundle, folder / "bundle")
    settings = ServiceSettings(bundle=folder / "bundle", store=f"sqlite:///{folder / 'store.db'}", poll_s=0.2)
    with serving(settings, host="127.0.0.1", port=free_port()) as served:
        yield served


def asked(address, **body):
    status, answer = Client(address)("/v1/recommend", body)
    assert status == 200, answer
    return [item["name"] for item in answer["items"]]


def shown(page):
    page.locator("#list:not([aria-busy]) > li").first.wait_for()
    return page.locator("#list .name").all_inner_texts()


def test_who_signs_up_gets_a_list_from_the_profile_that_follows_profile_and_clicks(page, address):
    page.get_by_label("somebody new", exact=True).check()
    page.get_by_label("town", exact=False).fill("north")
    page.get_by_label("age", exact=False).fill("30")
    page.get_by_role("button", name="Recommend").click()
    page.locator("#status").filter(has_text="10 items, from what is known of who asks").wait_for()
    north = asked(address, user_attributes={"town": "north", "age": 30})
    assert shown(page) == north
    page.get_by_label("town", exact=False).fill("south")
    page.get_by_label("town", exact=False).blur()
    south = asked(address, user_attributes={"town": "south", "age": 30})
    page.locator("#list .name").filter(has_text=next(name for name in south if name not in north)).first.wait_for()
    assert shown(page) == south
    page.get_by_role("button", name=f"Add {south[0]} to the history", exact=True).click()
    page.locator("#status").filter(has_text="from the history").wait_for()
    assert page.get_by_label("somebody new", exact=True).is_checked()
    assert shown(page) == asked(address, user_attributes={"town": "south", "age": 30}, history=[south[0]])


def test_what_can_be_chosen_is_offered_and_what_nobody_has_is_refused_in_words(page):
    page.get_by_label("somebody new", exact=True).check()
    field = page.get_by_label("town", exact=False)
    offered = page.locator(f"#{field.get_attribute('list')} option")
    assert [option.get_attribute("value") for option in offered.all()] == ["north", "south"]
    field.fill("atlantis")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("alert").filter(has_text="has the label 'atlantis' of 'town'").wait_for()
    field.fill("north")
    page.get_by_label("age", exact=False).fill("young")
    page.get_by_role("button", name="Recommend").click()
    page.get_by_role("alert").filter(has_text="'age' must be an int or float").wait_for()
