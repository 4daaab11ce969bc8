"""The page for everybody: rules of accessibility, the keyboard alone, narrow screens, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import evaluations
import pytest
from pages import ROOT, load, said
from playwright.sync_api import Page, expect

from experiments.bytes_page import write_bytes_page
from paramcast.bench.report.compare import write_comparison
from paramcast.protocol import make_key
from paramcast.video.data.collection import Clip

AXE = ROOT / "web" / "node_modules" / "axe-core" / "axe.min.js"
QUESTION = "what colour is the ball"
NewPage = Callable[..., Page]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from backends import TinyBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, create_app

    bundle = make_bundle(tmp_path_factory.mktemp("access") / "bundle", form="codes")
    with serving(create_app(TinyBackend("codes"), make_key(), bundles=[BrowserBundle.open(bundle)])) as url:
        yield url


def faults(page: Page) -> list[str]:
    """What axe-core finds, by the rules of WCAG 2.2 AA and its own best practices."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run().then(({ violations }) => violations)")
    return [f"{one['id']}: {node['html']}" for one in found for node in one["nodes"]]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_page_at_work_has_no_fault(
    new_page: NewPage, url: str, videos: tuple[Clip, ...], width: int, scheme: str
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: npm --prefix web ci")
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    load(page, url)
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")
    assert faults(page) == []
    page.get_by_label("Video files").set_input_files([clip.paths[0] for clip in videos])
    said(page, "frames seen")
    page.get_by_label("Question").fill(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Base model")).to_be_visible()
    page.get_by_role("button", name="Ask the cloud").click()
    said(page, "Package 1 runs")
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def write_comparison_of_recipes(path: Path) -> None:
    write_comparison(path, results("compare/youcook2-0.json"))


def write_bytes(path: Path) -> None:
    write_bytes_page(path, results("bytes/0.json"))


def write_evaluation(path: Path) -> None:
    evaluations.page(path, evaluations.evaluation())


def results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "experiments/results" / name).read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
@pytest.mark.parametrize("write", [write_comparison_of_recipes, write_bytes, write_evaluation])
def test_a_report_has_no_fault(
    new_page: NewPage, tmp_path: Path, write: Callable[[Path], object], width: int, scheme: str
) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: npm --prefix web ci")
    write(tmp_path / "report.html")
    page = new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.goto((tmp_path / "report.html").as_uri())
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_what_cannot_be_loaded_is_said(bare_page: Page) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not here: npm --prefix web ci")
    assert faults(bare_page) == []


def test_the_keyboard_is_enough(new_page: NewPage, url: str, videos: tuple[Clip, ...]) -> None:
    page = new_page()
    # The browser hands choosers over from here on: asked for with the key press, it may come after it.
    page.on("filechooser", lambda _: None)
    load(page, url)
    names = []
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the page"
    page.keyboard.press("Enter")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
    chooser.value.set_files([videos[0].paths[0]])
    said(page, "frames seen")
    for _ in range(2):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.innerText || document.activeElement.type"))
    assert names == ["Use the camera", "text"]
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Base model")).to_be_visible()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    said(page, "Package 1 runs")
    expect(page.get_by_role("heading", name="Adapted, package 1")).to_be_visible()


def test_an_operator_s_token_is_asked_for_by_hand(
    new_page: NewPage, tmp_path: Path, videos: tuple[Clip, ...]
) -> None:
    import time
    from contextlib import closing

    from backends import TinyBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, Database, RequestGuard, create_app
    from paramcast.server.db import identities

    bundles = [BrowserBundle.open(make_bundle(tmp_path / "bundle"))]
    with closing(Database.open(f"sqlite:///{tmp_path}/state.db")) as database:
        app = create_app(
            TinyBackend(), make_key(), database=database, gate=RequestGuard(required=True), bundles=bundles
        )
        with database.writing() as connection:
            token = identities.new_enrolment(connection, None, int(1000 * time.time()), 3_600_000)
        with serving(app) as url:
            page = new_page()
            load(page, url)
            page.get_by_label("Video files").set_input_files([videos[0].paths[0]])
            said(page, "frames seen")
            page.get_by_role("button", name="Ask the cloud").click()
            expect(page.get_by_role("alert")).to_contain_text("must be signed")
            page.get_by_label("Token").fill(token)
            page.get_by_role("button", name="Enrol this tab").click()
            said(page, "enrolled")
            page.get_by_role("button", name="Ask the cloud").click()
            said(page, "Package 1 runs")
