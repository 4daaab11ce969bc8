"""Cost of a device in a browser tab: the page of `paramcast serve` in a Chromium, beside Python's device.

The answer is the same as in `bench device`: from 8 frames as pixels and a question as a string, trunks
included. The *head* starts from features. Both are timed at base and adapted in turns. A swap is all that
happens once an update is there: signature, checks, a trial run, the browser's storage.
"""

from __future__ import annotations

import base64
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from paramcast.bench.device import QUESTION
from paramcast.bench.processes import cloud_service
from paramcast.bench.rows import in_turns, row, rows_table, time_row
from paramcast.bench.untrained import FRAMES, untrained_model
from paramcast.cli.bench.options import tell
from paramcast.cli.common import json_option, seed_option
from paramcast.device import DeviceRuntime
from paramcast.errors import InputError
from paramcast.hypernet.forms import FORMS
from paramcast.video.training.artifact import export_artifact

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
COMPARED = "codes"
"""Form that is compared with Python's device."""
PATIENCE_MS = 120_000


def find_browser() -> str:
    """Find a Chromium on this machine: the program in PARAMCAST_BROWSER, else one with a usual name.

    Raises:
        InputError: If there is none.
    """
    found = os.environ.get("PARAMCAST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise InputError("there is no Chromium here: install one, or set PARAMCAST_BROWSER to its program")
    return found


def bench_browser(seed: int, rounds: int = 20) -> list[dict[str, Any]]:
    """Time the page with models of the default sizes, one for each form.

    Args:
        seed: Seed of the pixels and the models.
        rounds: Timed answers, and swaps, of each form.

    Raises:
        InputError: If there is no browser.
        ProcessError: If the service does not start.
    """
    from playwright.sync_api import sync_playwright

    frames = np.random.default_rng(seed).integers(0, 256, (FRAMES, 224, 224, 3), np.uint8)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser())
        for form in FORMS:
            rows += _form_rows(browser, Path(scratch) / form, form, frames, seed, rounds)
    return rows


def _form_rows(
    browser: Browser, folder: Path, form: str, frames: np.ndarray, seed: int, rounds: int
) -> list[dict[str, Any]]:
    model = untrained_model(form, seed=seed)
    artifact = export_artifact(model, folder / "artifact")
    with cloud_service(artifact, folder / "cloud") as url:
        context = browser.new_context()
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        starts = [_start(page, lambda: page.goto(url)), _start(page, page.reload)]
        clip = _show(page, frames)
        adapted = [_call(page, "adapt") for _ in range(rounds)]
        told = _call(page, "bench", clip, QUESTION, rounds)
        context.close()
    times = {one["name"]: np.array(one["times"]) for one in told}
    for name, kind in (("swap", "swapMs"), ("adapt", "milliseconds")):
        times[name] = np.array([one[kind] for one in adapted])
    rows = [_renamed(time_row(f"{kind}_adapted", times, f"{kind}_base"), form) for kind in ("answer", "head")]
    rows += [_renamed(time_row(kind, times), form) for kind in ("swap", "adapt")]
    return (
        rows
        if form != COMPARED
        else [*_shared_rows(times, artifact / "device", frames, starts, rounds), *rows]
    )


def _shared_rows(
    times: Mapping[str, np.ndarray], bundle: Path, frames: np.ndarray, starts: list[float], rounds: int
) -> list[dict[str, Any]]:
    """Make the rows that all forms share; Python's answer is timed right after the browser's."""
    runtime = DeviceRuntime.load(bundle, "bench")

    def call() -> None:
        runtime.clear_cache()
        runtime.answer(frames, [QUESTION])

    python = in_turns("Python's answers", {"answer_base_python": call}, rounds)
    ratio = float(np.median(times["answer_base"]) / np.median(python["answer_base_python"]))
    return [
        row("start", starts[0], "ms"),
        row("start_again", starts[1], "ms"),
        time_row("answer_base_python", python),
        row("answer_base", float(np.median(times["answer_base"])), "ms", "answer_base_python", ratio),
        *(time_row(name, times) for name in ("trunk", "text", "head_base")),
    ]


def _renamed(one: dict[str, Any], form: str) -> dict[str, Any]:
    return one | {"name": f"{one['name']}_{form}"}


def _start(page: Page, load: Callable[[], object]) -> float:
    """Measure the ms from the address to a model that answers; the second time the browser has the files."""
    start = time.perf_counter()
    load()
    page.get_by_role("heading", name="Show it something").wait_for()
    return 1e3 * (time.perf_counter() - start)


def _show(page: Page, frames: np.ndarray) -> dict[str, Any]:
    """Give the device a clip and a question to adapt with; return the clip in the form of the page."""
    count, height, width, _ = frames.shape
    clip = {
        "count": count,
        "height": height,
        "width": width,
        "rgb": base64.b64encode(frames.tobytes()).decode(),
    }
    _call(page, "addClip", clip)
    _call(page, "compare", {"clip": 0, "text": QUESTION, "options": []})
    return clip


def _call(page: Page, method: str, *arguments: object) -> Any:
    script = """([method, given]) => paramcast.tab[method](
        ...given.map((one) => (one?.rgb ? { ...one, rgb: Uint8Array.fromBase64(one.rgb) } : one)))"""
    return page.evaluate(script, [method, list(arguments)])


@click.command(name="browser", context_settings={"show_default": True})
@click.option("--rounds", default=20, type=click.IntRange(1), help="Timed answers and swaps of each form.")
@seed_option
@json_option
def command(rounds: int, seed: int, json_file: Path | None) -> None:
    """Time the page of `paramcast serve` in a Chromium (PARAMCAST_BROWSER, or an installed one)."""
    from playwright.sync_api import Error

    try:
        rows = bench_browser(seed, rounds)
    except Error as error:
        raise click.ClickException(f"the browser failed: {error}") from error
    tell(rows_table(rows), rows, seed, json_file)
