"""Controls the page in which a device runs."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PATIENCE_MS = 60_000
FLAGS = [
    "--no-sandbox",  # the sandbox does not work for root
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
ROOT = Path(__file__).parents[2]
_BROUGHT = (
    ROOT / ".venv" / "browser" / "chromium"
)  # by `make test`, where no package of the system may be installed

expect.set_options(timeout=PATIENCE_MS)


def browser_path() -> str | None:
    """Return the path of a Chromium for the tests, or None."""
    given = os.environ.get("PARAMCAST_BROWSER")
    found = (
        given or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    )
    return found or (str(_BROUGHT) if _BROUGHT.exists() else None)


@contextmanager
def launched(*flags: str) -> Iterator[Browser]:
    """Launch Chromium with further flags; skip if it is not installed."""
    path = browser_path()
    if path is None:
        pytest.skip("there is no Chromium here: install Debian's package chromium, or set PARAMCAST_BROWSER")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*FLAGS, *flags])
        yield browser
        browser.close()


def load(page: Page, url: str) -> None:
    """Open the page and wait until its model runs."""
    page.goto(url)
    expect(page.get_by_role("heading", name="Show it something")).to_be_visible()


def call(page: Page, method: str, *arguments: Any) -> Any:
    """Call the device in the page; arrays come back as lists."""
    script = """async ([method, given]) => {
        const value = await paramcast.tab[method](...given);
        return ArrayBuffer.isView(value) ? Array.from(value) : value;
    }"""
    return page.evaluate(script, [method, list(arguments)])


def refusal(page: Page, method: str, *arguments: Any) -> str:
    """Call the device in the page; return the name of the error that it raises, or an empty string."""
    script = """async ([method, given]) => {
        const unpacked = given.map((one) => (one?.base64 ? Uint8Array.fromBase64(one.base64) : one));
        try { await paramcast.tab[method](...unpacked); return ""; } catch (error) { return error.name; }
    }"""
    return str(page.evaluate(script, [method, list(arguments)]))


def packed(data: bytes) -> dict[str, str]:
    return {"base64": base64.b64encode(data).decode()}


def apply(page: Page, sealed: bytes) -> str:
    """Let the page apply an update; return the name of the error if it refuses the update."""
    return refusal(page, "apply", packed(sealed))


def add_clip(page: Page, frames: np.ndarray) -> int:
    """Show frames (T, H, W, 3) uint8 to the device; return the clip's number."""
    count, height, width, _ = frames.shape
    script = """async ({ base64, ...shape }) => {
        const { clip } = await paramcast.tab.addClip({ rgb: Uint8Array.fromBase64(base64), ...shape });
        return clip;
    }"""
    shape = {"count": count, "height": height, "width": width}
    return int(page.evaluate(script, packed(np.ascontiguousarray(frames).tobytes()) | shape))


def frames_of(page: Page, video: Path, count: int, sampling: str = "uniform") -> np.ndarray:
    """Return the frames (T, H, W, 3) uint8 that the page takes from a video file."""
    script = """async ([{ base64 }, name, count, sampling]) => {
        const file = new File([Uint8Array.fromBase64(base64)], name);
        const { frames } = await paramcast.framesOfFile(file, count, sampling);
        return { ...frames, rgb: frames.rgb.toBase64() };
    }"""
    told = page.evaluate(script, [packed(video.read_bytes()), video.name, count, sampling])
    pixels = np.frombuffer(base64.b64decode(told["rgb"]), np.uint8)
    return pixels.reshape(told["count"], told["height"], told["width"], 3)


def query(text: str, clip: int | None = 0, options: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"clip": clip, "text": text, "options": list(options)}


def ask(page: Page, question: str) -> None:
    """Ask a question in the page's form, and wait for the answer."""
    page.get_by_label("Question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page.locator(".answer h3").first).to_contain_text(question)


def said(page: Page, text: str) -> None:
    """Wait until the page's status contains the text."""
    expect(page.get_by_role("status")).to_contain_text(text)
