"""The device in the page does what the Python device does: answers, requests, refusals, what it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import add_clip, apply, call, load, query, refusal
from playwright.sync_api import Page, expect

from paramcast.device import DeviceRuntime
from paramcast.device.bundle import Bundle
from paramcast.device.graphs import Graphs
from paramcast.protocol import (
    AdaptRequest,
    Package,
    PackageError,
    SigningKey,
    endorse,
    make_key,
    public_key_hex,
    seal,
)

KEY, OTHER_KEY = make_key(), make_key()
QUESTIONS = ["who is there", "what colour is the ball", "How MANY dogs are doing unknown things?"]
OPTIONS = ("red", "a blue dog", "the cat")
NewPage = Callable[..., Page]


@dataclass
class World:
    """A page and a Python device of the same id, with the same bundle."""

    page: Page
    url: str
    backend: Any
    graphs: Graphs
    runtime: DeviceRuntime

    def sealed(self, sequence: int = 1, key: SigningKey = KEY, **changes: Any) -> bytes:
        """A package for the device, made for what the page would send now."""
        (tensors,) = self.backend.generate([AdaptRequest.decode(bytes(call(self.page, "request")))])
        bundle, device = self.runtime.bundle, self.runtime.device_id
        expires = int(time.time()) + 60
        fields: dict[str, Any] = {
            "device": device,
            "model": bundle.model,
            "sequence": sequence,
            "expires": expires,
            "form": bundle.form,
            "quantization": "int8",
            "tensors": tensors,
        }
        return seal(Package(**fields | changes), key)


@contextmanager
def world(new_page: NewPage, folder: Path, task: str = "qa", form: str = "full") -> Iterator[World]:
    from backends import TinyBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, create_app

    folder = make_bundle(folder / "bundle", task=task, form=form, public_key=public_key_hex(KEY))
    backend = TinyBackend(form, task)
    with serving(create_app(backend, KEY, bundles=[BrowserBundle.open(folder)])) as url:
        page = new_page()
        load(page, url)
        device = call(page, "status")["device"]
        yield World(page, url, backend, Graphs(Bundle.load(folder)), DeviceRuntime.load(folder, device))


def clip(seed: int, frames: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 200, 3)
    return (colour + rng.integers(0, 55, (frames, 20, 30, 3))).astype(np.uint8)


def python_s(world: World, frames: np.ndarray, question: str, parameters: Any) -> np.ndarray:
    """The logits, or the cosine of a text and the clip, by ONNX Runtime in Python."""
    graphs, task = world.graphs, world.runtime.bundle.task
    features, texts = graphs.image(frames), graphs.text([question])
    if task == "qa":
        return graphs.answer(features, texts, parameters)[0]
    if task == "choice":
        return graphs.choose(features, texts[0], graphs.text(OPTIONS), parameters)
    (clip,) = graphs.embed_clips([features], parameters)
    return graphs.embed_texts(texts, parameters) @ clip


def the_page_s(world: World, number: int, question: str, which: str) -> np.ndarray:
    if world.runtime.bundle.task == "retrieval":
        return np.array(call(world.page, "scores", question, which)[number : number + 1])
    options = OPTIONS if world.runtime.bundle.task == "choice" else ()
    return np.array(call(world.page, "logits", query(question, number, options), which))


CASES = [
    ("qa", "full"),
    ("qa", "residual"),
    ("qa", "lowrank"),
    ("qa", "codes"),
    ("choice", "codes"),
    ("retrieval", "lowrank"),
]


@pytest.mark.parametrize(("task", "form"), CASES)
def test_it_answers_as_python_does_before_and_after(
    new_page: NewPage, tmp_path: Path, task: str, form: str
) -> None:
    with world(new_page, tmp_path, task, form) as here:
        clips = [clip(seed, frames) for seed, frames in ((0, 5), (1, 1), (2, 20))]
        for number, frames in enumerate(clips):
            assert add_clip(here.page, frames) == number
            here.runtime.observe(frames, [QUESTIONS[number]])
            clip_asked = None if task == "retrieval" else number
            options = OPTIONS if task == "choice" else ()
            call(here.page, "compare", query(QUESTIONS[number], clip_asked, options))
        if task != "retrieval":  # there every clip is searched with every text
            ours, theirs = here.runtime.request(), AdaptRequest.decode(bytes(call(here.page, "request")))
            for kind in ("anchors", "queries"):
                rows, others = getattr(ours, kind), getattr(theirs, kind)
                step = np.abs(rows).max(axis=1, keepdims=True) / 127
                assert (np.abs(rows - others) <= step).all()
            np.testing.assert_array_equal(ours.clip_of_query, theirs.clip_of_query)
        sealed = here.sealed()
        own = here.runtime.apply(sealed).tensors
        assert apply(here.page, sealed) == ""
        base, changed = here.runtime.bundle.base, 0.0
        for number, frames in enumerate(clips):
            for question in QUESTIONS:
                for which, parameters in (("base", base), ("current", own)):
                    expected = python_s(here, frames, question, parameters)
                    got = the_page_s(here, number, question, which)
                    np.testing.assert_allclose(got, expected, atol=1e-5)
                changed = max(changed, float(np.abs(got - the_page_s(here, number, question, "base")).max()))
        assert changed > 1e-3


def test_it_cuts_texts_where_python_does(new_page: NewPage, tmp_path: Path) -> None:
    with world(new_page, tmp_path) as here:
        for text in ["", "who", "the red ball " * 30, "a " * 62, "a " * 63, "x" * 500]:
            assert call(here.page, "tokens", text) == here.graphs._tokens(text)["input_ids"][0].tolist(), text


REFUSED: dict[str, Callable[[World], tuple[bytes, str]]] = {
    "noise": lambda here: (b"noise", "BadFormat"),
    "another key's": lambda here: (here.sealed(key=OTHER_KEY), "BadSignature"),
    "another device's": lambda here: (here.sealed(device="cam-1"), "WrongDevice"),
    "another model's": lambda here: (here.sealed(model="b" * 64), "WrongModel"),
    "expired": lambda here: (here.sealed(expires=int(time.time()) - 1), "Expired"),
    "one that makes no finite answer": lambda here: (
        here.sealed(
            quantization="fp32",
            tensors={
                name: np.full(values.shape, 3e38, "f4") for name, values in here.runtime.bundle.base.items()
            },
        ),
        "ProbeFailed",
    ),
    "with a tensor too few": lambda here: (
        here.sealed(tensors={"hidden.bias": np.ones(10, "f4")}),
        "MissingTensor",
    ),
    "of another shape": lambda here: (
        here.sealed(tensors={"hidden.bias": np.ones(10, "f4"), "hidden.weight": np.ones((2, 2), "f4")}),
        "WrongShape",
    ),
}


def test_it_refuses_what_python_refuses_and_keeps_what_runs(new_page: NewPage, tmp_path: Path) -> None:
    with world(new_page, tmp_path) as here:
        add_clip(here.page, clip(0))
        here.runtime.observe(clip(0), [])
        good = here.sealed(3)
        here.runtime.apply(good)
        assert apply(here.page, good) == ""
        before = call(here.page, "logits", query("who"), "current")
        attacks = {**REFUSED, "replayed": lambda here: (good, "StaleSequence")}
        attacks["rolled back"] = lambda here: (here.sealed(2), "StaleSequence")
        for name, make in attacks.items():
            data, rule = make(here) if name in ("replayed", "rolled back") else _later(here, make)
            with pytest.raises(PackageError) as caught:
                here.runtime.apply(data)
            assert type(caught.value).__name__ == rule, name
            assert apply(here.page, data) == rule, name
            assert call(here.page, "status")["refused"]["error"] == rule
            assert call(here.page, "status")["sequence"] == 3
        assert call(here.page, "logits", query("who"), "current") == before


def _later(here: World, make: Callable[[World], tuple[bytes, str]]) -> tuple[bytes, str]:
    """What `make` makes, with a sequence number that is not what it is refused for."""
    sealed = here.sealed
    here.sealed = lambda *given, **changes: sealed(4, **changes)  # type: ignore[method-assign]
    try:
        return make(here)
    finally:
        here.sealed = sealed  # type: ignore[method-assign]


def test_over_a_reload_it_goes_on_with_its_package_and_takes_no_older_one(
    new_page: NewPage, tmp_path: Path
) -> None:
    with world(new_page, tmp_path) as here:
        add_clip(here.page, clip(0))
        first = here.sealed(1)
        assert apply(here.page, first) == ""
        assert apply(here.page, here.sealed(5)) == ""
        load(here.page, here.url)
        status = call(here.page, "status")
        assert (status["source"], status["sequence"], status["device"]) == (
            "store",
            5,
            here.runtime.device_id,
        )
        assert apply(here.page, first) == "StaleSequence"
        assert refusal(here.page, "rollBack", 2) == "DeviceInputError"
        assert refusal(here.page, "rollBack", 1) == ""
        assert call(here.page, "status")["sequence"] == 1
        assert refusal(here.page, "rollBack", 0) == ""
        load(here.page, here.url)
        assert call(here.page, "status")["source"] == "base"
        assert call(here.page, "status")["packages"] == [1, 5]
        add_clip(here.page, clip(0))
        assert AdaptRequest.decode(bytes(call(here.page, "request"))).sequence == 5


def test_two_tabs_are_not_one_device(new_page: NewPage, tmp_path: Path) -> None:
    with world(new_page, tmp_path) as here:
        other = here.page.context.new_page()
        other.goto(here.url)
        expect(other.get_by_role("alert")).to_contain_text("open in another tab")


@pytest.mark.parametrize("file", ["answer.onnx", "tokenizer.json"])
def test_a_damaged_file_is_no_model(new_page: NewPage, tmp_path: Path, file: str) -> None:
    with world(new_page, tmp_path) as here:
        path = tmp_path / "bundle" / file
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        page = new_page()
        page.goto(here.url)
        expect(page.get_by_role("alert")).to_contain_text(f"{file} is not the file that was exported")


def test_where_devices_are_enrolled_it_asks_for_a_token_and_signs(new_page: NewPage, tmp_path: Path) -> None:
    from backends import TinyBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, Database, RequestGuard, create_app
    from paramcast.server.db import identities

    year_s = 365 * 86400
    gate = RequestGuard(
        required=True, clock=lambda: time.time() + year_s
    )  # to the service the tab's clock is wrong
    bundle = BrowserBundle.open(make_bundle(tmp_path / "bundle"))
    with closing(Database.open(f"sqlite:///{tmp_path}/state.db")) as database:
        app = create_app(TinyBackend(), KEY, database=database, gate=gate, bundles=[bundle])
        with serving(app) as url:
            page = new_page()
            load(page, url)
            add_clip(page, clip(0))
            assert refusal(page, "adapt") == "NotEnrolled"
            with database.writing() as connection:
                now_ms = int(1000 * time.time())
                token = identities.new_enrolment(connection, None, now_ms, 3_600_000)
            assert refusal(page, "enrol", "wrong") == "CloudError"
            assert refusal(page, "enrol", token) == ""
            assert call(page, "adapt")["sequence"] == 1
            statuses = [exchange["status"] for exchange in call(page, "log")]
            assert statuses[-2:] == [401, 200]  # the first one told the time
            load(page, url)
            add_clip(page, clip(1))
            assert call(page, "adapt")["sequence"] == 2


def test_it_follows_the_cloud_to_its_next_key(new_page: NewPage, tmp_path: Path) -> None:
    from backends import TinyBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, Database, create_app
    from paramcast.server.db import identities

    bundle = BrowserBundle.open(make_bundle(tmp_path / "bundle", public_key=public_key_hex(KEY)))
    with (
        closing(Database.open(f"sqlite:///{tmp_path}/state.db")) as database,
        serving(create_app(TinyBackend(), OTHER_KEY, database=database, bundles=[bundle])) as url,
    ):
        page = new_page()
        load(page, url)
        add_clip(page, clip(0))
        assert refusal(page, "adapt") == "BadSignature"
        with database.writing() as connection:
            identities.add_endorsement(connection, endorse(KEY, public_key_hex(OTHER_KEY)), 1)
        assert call(page, "adapt")["sequence"] == 2
        assert call(page, "status")["publicKey"] == public_key_hex(OTHER_KEY)


def test_a_cloud_that_is_away_or_fails_changes_nothing(new_page: NewPage, tmp_path: Path) -> None:
    from backends import BrokenBackend, serving
    from bundles import make_bundle

    from paramcast.server import BrowserBundle, create_app

    bundle = BrowserBundle.open(make_bundle(tmp_path / "bundle"))
    page = new_page()
    with serving(create_app(BrokenBackend("raises"), KEY, bundles=[bundle])) as url:
        load(page, url)
        add_clip(page, clip(0))
        page.get_by_label("Video files").wait_for()
        before = call(page, "logits", query("who"), "current")
        assert refusal(page, "adapt") == "CloudError"
    assert refusal(page, "adapt") == "CloudError"  # nobody is there
    assert [exchange["status"] for exchange in call(page, "log")][-2:] == [500, 0]
    assert call(page, "logits", query("who"), "current") == before
    assert call(page, "status")["source"] == "base"


def test_it_tells_a_package_of_the_base_model_s_parameters(new_page: NewPage, tmp_path: Path) -> None:
    from backends import TinyBackend, serving
    from bundles import base_parameters, make_bundle

    from paramcast.server import BrowserBundle, create_app

    class Unmoved(TinyBackend):
        """Expects no gain of the first request, as a gate does that stays shut."""

        def generate(self, requests: list[AdaptRequest]) -> list[dict[str, np.ndarray]]:
            shut = any(request.sequence == 0 for request in requests)
            return [base_parameters("codes")] if shut else super().generate(requests)

    bundle = BrowserBundle.open(make_bundle(tmp_path / "bundle", form="codes"))
    with serving(create_app(Unmoved("codes"), KEY, bundles=[bundle])) as url:
        page = new_page()
        load(page, url)
        add_clip(page, clip(0))
        assert [call(page, "adapt")["isBase"] for _ in range(2)] == [True, False]


def test_a_bundle_whose_graph_holds_a_parameter_is_refused(new_page: NewPage, tmp_path: Path) -> None:
    """No runtime says that an update has no effect on it."""
    import onnx
    from backends import TinyBackend, serving
    from bundles import base_parameters, make_bundle, reseal

    from paramcast.server import BrowserBundle, create_app

    folder = make_bundle(tmp_path / "bundle")
    model = onnx.load(folder / "answer.onnx")
    value = base_parameters("full")["hidden.bias"]
    model.graph.initializer.append(onnx.numpy_helper.from_array(value, "hidden.bias"))
    onnx.save(model, folder / "answer.onnx")
    reseal(folder, "answer.onnx")
    with serving(create_app(TinyBackend(), KEY, bundles=[BrowserBundle.open(folder)])) as url:
        page = new_page()
        page.goto(url)
        told = "updates would have no effect: hidden.bias must be fed"
        expect(page.get_by_role("alert")).to_contain_text(told)
