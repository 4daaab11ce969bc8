"""A real Chromium, and the bundles, generators and packages of the other tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

for room in ("device", "wire", "attacks"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))


# Of a module, not of the session: while it is open no other test of this process may run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = pages.browser_path()
    if path is None:
        pytest.skip("there is no Chromium here: install Debian's package chromium, or set PARAMCAST_BROWSER")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=pages.FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Makes pages of browsers without a past; one that has errors of its own fails the test."""
    contexts, errors = [], []

    def make(**options: object) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(pages.PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors
