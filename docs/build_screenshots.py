"""Make the pictures in docs/figures/screens/. Run it by hand.

It needs paramcast[dev], a Chromium and the built page.

python docs/build_screenshots.py                 # the dashboard, with a fleet as in the tests
python docs/build_screenshots.py --model MODEL   # the page that is a device, with a model of the demo world
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
for room in ("web", "device"):
    sys.path.insert(0, str(ROOT / "tests" / room))

import pages  # noqa: E402
from backends import serving  # noqa: E402
from fleet import Fleet  # noqa: E402
from PIL import Image  # noqa: E402
from playwright.sync_api import Browser, Page, expect  # noqa: E402

from paramcast.protocol import make_key  # noqa: E402
from paramcast.server import Models, create_app  # noqa: E402
from paramcast.video.shifts.vocabulary import Vocabulary  # noqa: E402
from paramcast.video.training.artifact import export_artifact  # noqa: E402
from paramcast.video.training.model import TrainedModel  # noqa: E402
from paramcast.video.world import make_world  # noqa: E402

SCREENS = ROOT / "docs" / "figures" / "screens"
WIDTHS = {1280: "light", 390: "dark"}
PAGES = {  # address, and a heading that shows when the page is loaded
    "fleet": ("/#/fleet", "Where the devices are"),
    "devices": ("/#/devices?search=0001", "Devices"),
    "device": ("/#/devices/cam-00007", "Packages issued"),
    "models": ("/#/models", "Compare two"),
    "events": ("/#/events", "Events"),
}


def main() -> None:
    """Make the requested pictures at both widths."""
    parser = argparse.ArgumentParser(description="Make the pictures in docs/figures/screens/.")
    parser.add_argument("--model", type=Path, help="a trained model of questions: pictures of Try it")
    model = parser.parse_args().model
    SCREENS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, pages.launched() as browser:
        if model:
            shoot_device(browser, Path(name), model)
        else:
            shoot_dashboard(browser, Path(name))


def shoot_dashboard(browser: Browser, folder: Path) -> None:
    """Make a picture of every page of the dashboard, at each width."""
    key = make_key()
    fleet = Fleet(folder, key, devices=300, rounds=4)
    token = fleet.grant("admin")
    with serving(create_app(fleet.models, key, database=fleet.database)) as url:
        for width in WIDTHS:
            page = opened(browser, width)
            page.goto(f"{url}/#/fleet")
            page.get_by_label("Operator's token").fill(token)
            page.get_by_role("button", name="Sign in").click()
            for name, (path, heading) in PAGES.items():
                page.goto(url + path)
                expect(page.get_by_role("heading", name=heading, exact=True).first).to_be_visible()
                if name in ("fleet", "device"):
                    expect(page.locator(".map svg")).to_be_visible()
                keep(page, name, width)
            page.close()
    fleet.database.close()


def shoot_device(browser: Browser, folder: Path, model: Path) -> None:
    """Make pictures of the page that is a device: it sees a few clips, adapts, and answers.

    Its user asks in a vocabulary that differs from the training.
    """
    words = Vocabulary(seed=3, strength=1.0)
    models = Models.of_artifacts([export_artifact(TrainedModel.load(model), folder / "artifact")])
    clips = make_world(folder / "world", clips=8, seed=7).clips
    with serving(create_app(models, make_key())) as url:
        for width in WIDTHS:
            page = opened(browser, width)
            pages.load(page, f"{url}/")
            for clip in clips:
                page.get_by_label("Video files").set_input_files([clip.paths[0]])
                pages.said(page, "frames seen")
                pages.ask(page, words.rewrite(clip.qa[0].question))
            page.get_by_role("button", name="Ask the cloud").click()
            pages.said(page, "Package 1 runs")
            pages.ask(page, words.rewrite(clips[-1].qa[0].question))
            keep(page, "try", width, most=2000)
            page.close()


def opened(browser: Browser, width: int) -> Page:
    """Open a page of the given width, in the color scheme of that width."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=WIDTHS[width])
    page.set_default_timeout(pages.PATIENCE_MS)
    return page


def keep(page: Page, name: str, width: int, most: int | None = None) -> None:
    """Save a picture of the whole page, or of its first `most` pixels, after its tables are visible."""
    expect(page.locator("main table").last).to_be_visible()
    path = SCREENS / f"{name}-{width}.png"
    height = page.evaluate("document.documentElement.scrollHeight")
    page.set_viewport_size(
        {"width": width, "height": height}
    )  # so that elements at the window's foot are at the page's foot
    page.screenshot(path=path)
    page.set_viewport_size({"width": width, "height": 800})
    picture = Image.open(path).convert("RGB")
    picture = picture.crop((0, 0, width, min(most or height, height)))
    picture.quantize(256).save(path, optimize=True)  # it has a third of the size


if __name__ == "__main__":
    main()
