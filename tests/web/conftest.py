"""Fixtures with a real Chromium; makes the helpers of other tests importable."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pages
import pytest
from playwright.sync_api import Browser, Page, expect

from paramcast.video.data.collection import Clip, Collection
from paramcast.video.world import make_world

for room in ("bench", "device", "protocol", "attacks", "artifact", "adapters", "server", "video"):
    sys.path.insert(0, str(Path(__file__).parents[1] / room))


# Module scope, not session: while it is open, no other test of this process may run an event loop.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with pages.launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def bare_page(browser: Browser) -> Iterator[Page]:
    """Open the page of a service without a model: it shows an alert, and its other parts still work."""
    from backends import TinyBackend, serving

    from paramcast.protocol import make_key
    from paramcast.server import create_app

    with serving(create_app(TinyBackend(), make_key())) as url:
        page = browser.new_page()
        page.set_default_timeout(pages.PATIENCE_MS)
        page.goto(url)
        expect(page.get_by_role("alert")).to_contain_text("paramcast serve ARTIFACT")
        yield page
        page.close()


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, ...]:
    """Make clips of the demo world, which are MP4 files."""
    folder = tmp_path_factory.mktemp("world")
    make_world(folder, clips=2)
    return Collection.open(folder).clips


@pytest.fixture
def new_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Return a function that makes pages in new browser contexts; errors in the pages fail the test."""
    contexts, errors = [], []

    def make(**options: object) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(pages.PATIENCE_MS)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda told: errors.append(told.text) if "Content Security" in told.text else None)
        return page

    yield make
    for context in contexts:
        context.close()
    assert not errors
