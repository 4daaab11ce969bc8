"""The pictures of the dashboard in docs/figures/screens/, of a fleet as the tests make it. Run by hand.

python docs/build_screenshots.py; needs paramcast[dev], a Chromium and the built page.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for room in ("web", "device"):
    sys.path.insert(0, str(ROOT / "tests" / room))

import pages  # noqa: E402
from backends import serving  # noqa: E402
from bundles import make_bundle  # noqa: E402
from fleet import Fleet  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from paramcast.cloud import BrowserBundle, create_app  # noqa: E402
from paramcast.data.world import make_world  # noqa: E402
from paramcast.wire import make_key  # noqa: E402

SCREENS = ROOT / "docs" / "figures" / "screens"
WIDTHS = {1280: "light", 390: "dark"}
PAGES = {  # address, and a heading that stands where all is loaded
    "fleet": ("/#/fleet", "Where the devices are"),
    "devices": ("/#/devices?search=0001", "Devices"),
    "device": ("/#/devices/cam-00007", "Packages issued"),
    "models": ("/#/models", "Compare two"),
}


def main() -> None:
    """Make them all."""
    SCREENS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, pages.launched() as browser:
        folder, key = Path(name), make_key()
        fleet = Fleet(folder, key, devices=300, rounds=4)
        bundles = [BrowserBundle.open(make_bundle(folder / "bundle", form="codes"))]
        video = make_world(folder / "world", clips=1).clips[0].paths[0]
        token = fleet.grant("admin")
        app = create_app(fleet.models, key, database=fleet.database, bundles=bundles)
        with serving(app) as url:
            for width, scheme in WIDTHS.items():
                shoot(browser, url, token, video, width, scheme)
        fleet.database.close()


def shoot(browser: Browser, url: str, token: str, video: Path, width: int, scheme: str) -> None:
    """Every page at one width, light or dark."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page.set_default_timeout(pages.PATIENCE_MS)
    page.goto(f"{url}/#/fleet")
    page.get_by_label("Operator's token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    for name, (path, heading) in PAGES.items():
        page.goto(url + path)
        expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()
        if name in ("fleet", "device"):
            expect(page.locator(".map svg")).to_be_visible()
        keep(page, name, width)
    page.goto(f"{url}/#/")
    pages.load(page, page.url)
    page.get_by_label("Video files").set_input_files([video])
    pages.said(page, "frames seen")
    page.get_by_role("button", name="Ask the cloud").click()
    pages.said(page, "Package 1 runs")
    pages.ask(page, "what colour is the ball")
    keep(page, "try", width)
    page.close()


def keep(page: Page, name: str, width: int) -> None:
    """The whole page, once its tables are there."""
    expect(page.locator("main table").last).to_be_visible()
    path = SCREENS / f"{name}-{width}.png"
    page.screenshot(path=path, full_page=True)
    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
