"""A real Chromium, and a page in it that may make no mistake."""

import shutil
from contextlib import contextmanager

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium():
    """Start a browser; the test is skipped, with the reason, where there is none."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"There is no browser here: none of {', '.join(BROWSERS)}.")
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed.")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, timeout=60_000)
        yield started
        started.close()


@contextmanager
def opened(browser, address, width):
    """Open the page at a width; it must not scroll sideways, break its policy or throw an error."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.set_default_timeout(15_000)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.goto(address)
    page.get_by_placeholder("for example user-0001").wait_for()
    yield page
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()
    assert wrong == []


@contextmanager
def held(page, path):
    """Keep the answers to what is asked of a path until the end of the block; yield what waits for them."""
    waiting = []

    def hold(route):
        waiting.append(route)

    page.route(path, hold)
    try:
        yield waiting
    finally:
        for route in waiting:  # more may come while they go on
            route.continue_()
        page.unroute(path)


def until(page, waiting, count=1):
    """Return when so many requests wait."""
    while len(waiting) < count:
        page.wait_for_timeout(20)
