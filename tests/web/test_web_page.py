"""The whole in a real browser: real trunks, real video files, a real service, and what leaves the tab."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ask, call, frames_of, load, query, said
from playwright.sync_api import Page, Request, expect

from paramcast.bench.untrained import untrained_model
from paramcast.device import DeviceRuntime
from paramcast.device.bundle import Bundle
from paramcast.device.graphs import Graphs
from paramcast.protocol import AdaptRequest, make_key, public_key_hex
from paramcast.server import BrowserBundle, create_app
from paramcast.video.data.collection import Clip
from paramcast.video.training.export import export_bundle
from paramcast.video.training.serving import OnnxBackend

KEY = make_key()
QUESTIONS = ["what is the red thing?", "How many of them MOVE?"]
TOLERANCE = 1e-3
NewPage = Callable[..., Page]


@dataclass
class Heard:
    """A request as it came to the service; `answer` is the body that it was sent."""

    method: str
    path: str
    size: int  # of path, query and headers
    body: bytearray = field(default_factory=bytearray)
    answer: bytearray = field(default_factory=bytearray)


class Recorder:
    """An application, and every byte that reaches it."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.heard: list[Heard] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        size = len(scope["raw_path"]) + len(scope["query_string"])
        size += sum(len(name) + len(value) for name, value in scope["headers"])
        one = Heard(scope["method"], scope["path"], size)
        self.heard.append(one)
        announced = int(dict(scope["headers"]).get(b"content-length", 0))

        async def listen() -> Any:
            message = await receive()
            one.body += message.get("body", b"")
            return message

        async def answer(message: Any) -> None:
            if one.path == "/v1/adapt":
                one.answer += message.get("body", b"")
            await send(message)

        await self.app(scope, listen, answer)
        assert len(one.body) == announced, "there is more to this request than was listened to"


@dataclass
class Service:
    url: str
    bundle: Path
    recorder: Recorder


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a model of the default size, whose packages are other ones for every context."""
    from backends import serving

    model = untrained_model("codes")
    bundle = export_bundle(model, tmp_path_factory.mktemp("page") / "bundle", public_key_hex(KEY))
    app = create_app(OnnxBackend(model), KEY, bundles=[BrowserBundle.open(bundle)])
    recorder = Recorder(app)
    with serving(recorder) as url:
        yield Service(url, bundle, recorder)


def show(page: Page, videos: tuple[Clip, ...]) -> None:
    page.get_by_label("Video files").set_input_files([clip.paths[0] for clip in videos])
    said(page, "frames seen")


def test_a_video_is_answered_adapted_and_answered_again_as_python_does(
    new_page: NewPage, service: Service, videos: tuple[Clip, ...]
) -> None:
    page = new_page()
    load(page, service.url)
    show(page, videos)
    for question in QUESTIONS:
        ask(page, question)
    expect(page.get_by_text("Adapted: not yet.").first).to_be_visible()
    page.get_by_role("button", name="Ask the cloud").click()
    said(page, "Package 1 runs")
    expect(page.get_by_role("heading", name="Adapted, package 1")).to_have_count(len(QUESTIONS))

    sent, sealed = [(one.body, one.answer) for one in service.recorder.heard if one.path == "/v1/adapt"][-1]
    expect(page.get_by_role("definition").nth(0)).to_have_text(f"{len(sent):,}")
    expect(page.get_by_role("definition").nth(1)).to_have_text(f"{len(sealed):,}")
    device = call(page, "status")["device"]
    runtime = DeviceRuntime.load(service.bundle, device)
    bundle, graphs = runtime.bundle, Graphs(Bundle.load(service.bundle))
    own = runtime.apply(bytes(sealed)).tensors
    for number in range(len(videos)):
        frames = frames_of(page, videos[number].paths[0], bundle.frames)
        features = graphs.image(frames)
        runtime.observe(frames, QUESTIONS if number == len(videos) - 1 else [])
        for question in QUESTIONS:
            got = {}
            for which, parameters in (("base", bundle.base), ("current", own)):
                expected = graphs.answer(features, graphs.text([question]), parameters)[0]
                got[which] = np.array(call(page, "logits", query(question, number), which))
                np.testing.assert_allclose(got[which], expected, atol=TOLERANCE)
            assert np.abs(got["current"] - got["base"]).max() > 10 * TOLERANCE
    asked, theirs = runtime.request(), AdaptRequest.decode(bytes(sent))
    for ours, rows in ((asked.anchors, theirs.anchors), (asked.queries, theirs.queries)):
        assert (np.abs(ours - rows) <= np.abs(ours).max(axis=1, keepdims=True) / 100).all()

    shown = page.locator(".answer").first.locator(".ranking").last.locator("li").first
    best = runtime.answer(frames_of(page, videos[-1].paths[0], bundle.frames), [QUESTIONS[-1]])[0]
    expect(shown).to_contain_text(best.text)
    page.get_by_role("button", name="Back to the base model").click()
    said(page, "The base model runs again.")
    expect(page.get_by_text("Adapted: not yet.").first).to_be_visible()


def test_pixels_never_leave_the_tab(new_page: NewPage, service: Service, videos: tuple[Clip, ...]) -> None:
    before = len(service.recorder.heard)
    page = new_page()
    seen: list[Request] = []
    page.context.on("request", lambda request: seen.append(request))
    load(page, service.url)
    show(page, videos)
    for question in QUESTIONS:
        ask(page, question)
    uplink = bytes(call(page, "request"))
    page.get_by_role("button", name="Ask the cloud").click()
    said(page, "Package 1 runs")
    page.get_by_role("button", name="Use the camera").click()
    said(page, "The camera is on")
    page.get_by_role("button", name="Take a clip").click()
    said(page, "camera 3: 8 frames seen")

    heard = service.recorder.heard[before:]
    assert len(heard) > 10
    assert b"".join(bytes(one.body) for one in heard) == uplink
    assert max(one.size for one in heard) < 1500
    assert len(uplink) < 1000
    frames = [frames_of(page, clip.paths[0], 8) for clip in videos]
    telling = [chunk for clip in frames for chunk in chunks(clip) if len(set(chunk)) >= 12]
    assert len(telling) > 1000
    assert not [chunk for chunk in telling if chunk in uplink]
    assert not re.search(rb"\xff\xd8\xff|\x89PNG|RIFF....WEBP|ftyp|\x1aE\xdf\xa3", uplink, re.DOTALL)

    assert {request.url.split("?")[0].rpartition("/")[0] for request in seen if own(request, service)} <= {
        service.url + path for path in ("", "/assets", "/v1", "/v1/bundles", "/v1/files", "/v1/notice")
    }
    elsewhere = [request.url for request in seen if not own(request, service)]
    assert all(url.startswith(f"blob:{service.url}") for url in elsewhere), elsewhere
    assert sum(len(request.post_data_buffer or b"") for request in seen) == len(uplink)


def test_a_clip_may_be_taken_before_the_camera_shows_its_first_picture(
    new_page: NewPage, service: Service
) -> None:
    page = new_page()
    load(page, service.url)
    page.evaluate("""() => new MutationObserver((_, observer) => {
        const take = document.querySelector(".camera button");
        if (!take || take.disabled) return;
        observer.disconnect();
        take.click();
    }).observe(document, { subtree: true, childList: true, attributes: true })""")
    page.get_by_role("button", name="Use the camera").click()
    said(page, "camera 1: 8 frames seen")


def own(request: Request, service: Service) -> bool:
    return request.url.startswith(service.url)


def chunks(clip: np.ndarray, size: int = 16) -> list[bytes]:
    pixels = clip.tobytes()
    return [pixels[start : start + size] for start in range(0, len(pixels) - size, size)]


def test_the_page_may_talk_to_nobody_else(bare_page: Page) -> None:
    from backends import TinyBackend, serving

    other = Recorder(create_app(TinyBackend(), KEY))
    with serving(other) as url:
        tries = """async (url) => {
            const failed = async (attempt) => attempt().then(() => false, () => true);
            const image = () => new Promise((resolve, reject) => {
                Object.assign(new Image(), { onload: resolve, onerror: reject, src: `${url}/x.png` });
            });
            return [await failed(() => fetch(`${url}/v1/model`)), await failed(image)];
        }"""
        assert bare_page.evaluate(tries, url) == [True, True]
    assert not other.heard
