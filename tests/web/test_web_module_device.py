"""The library in a real browser: what it predicts is what torch gives, and what may not run does not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import onnx
import processes
import pytest
from bundles import make_bundle
from library import (
    TOLERANCE,
    WEB,
    Served,
    adapt,
    assert_same,
    leaves,
    packed_library,
    predict,
    route,
    run,
    start,
)
from pages import ROOT
from playwright.sync_api import Browser, Page, expect
from worlds import add_server, arrays, make_world

from paramcast.artifact.effect import Effects
from paramcast.artifact.read import model_digest
from paramcast.device import ModuleRuntime, WrongEffect
from paramcast.protocol import AdaptRequest

CASES = ["conv", "statistics", "gru", "two"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    worlds = {}
    for case in CASES:
        out = folder / ("artifact" if case == "conv" else case)
        worlds[case] = make_world(out, case, labels=list("abcde") if case == "conv" else None)
        add_server(worlds[case])
    others = [folder / case for case in CASES if case != "conv"]
    with processes.service(folder, *others) as running:
        yield Served(running.url, worlds, packed_library(folder / "library"))


@pytest.fixture(scope="module")
def shared(served: Served, browser: Browser) -> Iterator[Page]:
    """A page with the library, for tests that leave nothing behind."""
    page = browser.new_page()
    yield route(served, page)
    page.close()


@pytest.mark.parametrize("case", CASES)
def test_it_predicts_what_torch_gives_before_and_after(served: Served, shared: Page, case: str) -> None:
    world = served.worlds[case]
    x = arrays(world.inputs)
    assert start(shared, server=served.url, model=world.model, id=f"tab-{case}") is None
    assert_same(predict(shared, x), world.truth(world.inputs))
    run(shared, "await device.observe(a);", x)
    sent = AdaptRequest.decode(bytes(run(shared, "return [...device.request()];")))
    own = adapt(shared, world)
    got, base = predict(shared, x), world.truth(world.inputs)
    assert_same(got, world.truth(world.inputs, own))
    assert max(np.abs(a - b).max() for a, b in zip(leaves(got), leaves(base), strict=True)) > 0.01
    status = run(shared, "return device.status;")
    assert (status["source"], status["sequence"], status["packages"]) == ("cloud", 1, [1])
    assert (status["task"], status["adapter"]) == (case, world.adapted.adapter.name)

    python = ModuleRuntime.load(world.out, f"tab-{case}")
    python.observe(x)
    ours = python.request()
    assert sent.queries.shape == ours.queries.shape == (0, 1)
    step = np.abs(ours.anchors).max(axis=1, keepdims=True) / 100
    assert (np.abs(sent.anchors - ours.anchors) <= step).all()

    run(shared, "await device.rollBack();")
    assert_same(predict(shared, x), base)
    assert run(shared, "return device.status.why;") == "rolled back to the base model"


def test_an_update_is_kept_over_a_reload(served: Served, new_page: Callable[..., Page]) -> None:
    world, page = served.worlds["gru"], route(served, new_page())
    x, options = (
        arrays(world.inputs),
        {"server": served.url, "model": world.model, "id": "kept", "store": True},
    )
    assert start(page, **options) is None
    run(page, "await device.observe(a);", x)
    first, second = adapt(page, world), adapt(page, world)
    np.testing.assert_array_equal(*(next(iter(one.values())) for one in (first, second)))
    page.reload()
    page.wait_for_function("globalThis.ready")
    assert start(page, **options) is None
    status = run(page, "return device.status;")
    assert (status["source"], status["sequence"], status["packages"]) == ("store", 2, [1, 2])
    assert status["publicKey"] is not None
    assert_same(predict(page, x), world.truth(world.inputs, second))
    run(page, "await device.rollBack(0);")
    page.reload()
    page.wait_for_function("globalThis.ready")
    assert start(page, **options) is None
    assert_same(predict(page, x), world.truth(world.inputs))
    missing = run(page, "return (await failing(() => device.rollBack(7)))[1];")
    assert missing == "DeviceInputError: there is no package 7; there are: 1, 2"


IMAGE = np.zeros((2, 3, 8, 8), "f4")
PAIR = {"image": np.zeros((2, 6), "f4"), "sound": np.zeros((2, 2, 9), "f4")}
WRONG = [
    ("conv", 3, "input image must be an array, { data: typed array, shape: [...] }, not a number"),
    ("conv", IMAGE[:, :2], "input image must have the shape [any, 3, 8, 8], not [2, 2, 8, 8]"),
    ("conv", IMAGE[:0], "input image is empty"),
    ("conv", IMAGE.astype("i8"), "input image must be float32, not int64"),
    ("conv", [IMAGE, IMAGE], "1 arrays are needed, not 2"),
    ("conv", {"picture": IMAGE}, "image is missing; needed are image"),
    ("two", PAIR["image"], "a list or an object of arrays is needed (image, sound), not an array"),
    ("two", {"image": PAIR["image"]}, "sound is missing; needed are image, sound"),
    ("two", PAIR | {"smell": PAIR["image"]}, "smell is not known"),
    ("two", PAIR | {"image": PAIR["image"][:1]}, "image has 1, sound has 2"),
    ("conv", np.full((1, 3, 8, 8), np.nan, "f4"), "the features of example 0 are not finite"),
]


@pytest.mark.parametrize(("case", "x", "message"), WRONG)
def test_wrong_inputs_are_named(served: Served, shared: Page, case: str, x: Any, message: str) -> None:
    assert start(shared, server=served.url, model=served.worlds[case].model, id="wrong") is None
    error = run(shared, "return (await failing(() => device.observe(a)))[1];", x)
    assert error.startswith("DeviceInputError: ")
    assert message in error


def test_inputs_may_be_given_by_place_and_name_and_as_other_numbers(served: Served, shared: Page) -> None:
    world = served.worlds["two"]
    assert start(shared, url=f"{served.url}/folder", id="places") is None  # any web server's folder
    x = arrays(world.inputs)
    wanted = world.truth(world.inputs)
    for given in (x, list(x.values()), {name: value.astype("f8") for name, value in reversed(x.items())}):
        assert_same(predict(shared, given), wanted)
    refused = run(shared, "return (await failing(() => device.adapt()))[1];")
    assert refused.startswith("DeviceInputError: this device has no server")


def files_of(folder: Path) -> dict[str, Any]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def resealed(files: dict[str, bytes], **changes: Any) -> dict[str, bytes]:
    """The files with a manifest that fits them."""
    manifest = json.loads(files["manifest.json"]) | changes
    manifest["files"] = {name: sha256(files[name]).hexdigest() for name in manifest["files"]}
    manifest["model"] = model_digest(manifest)
    return files | {"manifest.json": json.dumps(manifest).encode()}


def with_a_default(files: dict[str, bytes], *, required: bool) -> dict[str, bytes]:
    """The graph holds a target: as a default that may be overridden, or as a constant."""
    model = onnx.load_from_string(files["model.onnx"])
    name = json.loads(files["manifest.json"])["targets"][0]["input"]
    given = next(node for node in model.graph.input if node.name == name)
    sizes = [dim.dim_value for dim in given.type.tensor_type.shape.dim]
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(sizes, "f4"), name))
    if not required:
        model.graph.input.remove(given)
    return resealed(files | {"model.onnx": model.SerializeToString()})


def without_effect(files: dict[str, bytes]) -> dict[str, bytes]:
    """The graph reads every target, but its output does not depend on them: as on a wrong graph."""
    model = onnx.load_from_string(files["model.onnx"])
    last = next(node for node in model.graph.node if "output" in node.output)
    last.output[0] = "lost"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((4, 5), "f4"), "zeros"))
    model.graph.node.append(onnx.helper.make_node("Identity", ["zeros"], ["output"]))
    return resealed(files | {"model.onnx": model.SerializeToString()})


@pytest.mark.parametrize(
    "fault", ["default", "constant", "byte", "manifest", "missing", "kinds", "video", "graph"]
)
def test_a_folder_that_may_not_run_is_refused(
    served: Served, shared: Page, tmp_path: Path, fault: str
) -> None:
    files = files_of(served.worlds["conv"].out / "device")
    manifest = json.loads(files["manifest.json"])
    if fault in ("default", "constant"):
        files, message = with_a_default(files, required=fault == "default"), "updates would have no effect: "
    elif fault == "byte":
        files["base.safetensors"] = files["base.safetensors"][:-1] + b"\x01"
        message = "base.safetensors is not the file that was exported"
    elif fault == "manifest":
        files["manifest.json"] = json.dumps(manifest | {"adapter": "full"}).encode()
        message = "'model' is not the sha256"
    elif fault == "missing":
        del files["context.onnx"]
        message = "context.onnx is not among the files"
    elif fault == "kinds":
        targets = [target | {"kinds": ["magic"]} for target in manifest["targets"]]
        files, message = resealed(files, targets=targets), "'targets' is missing or malformed"
    elif fault == "graph":
        files, message = (
            resealed(files | {"model.onnx": b"no graph"}),
            "model.onnx is refused by ONNX Runtime",
        )
    else:
        files, message = files_of(make_bundle(tmp_path / "video")), "belongs to the video application"
    error = start(shared, files=files, id="refused")
    assert error is not None
    assert error.startswith("ArtifactError: ")
    assert message in error


def test_updates_that_may_not_run_change_nothing(served: Served, shared: Page) -> None:
    world = served.worlds["conv"]
    files, x = files_of(world.out / "device"), arrays(world.inputs)
    assert start(shared, files=files, id="cam-1", publicKey=world.public_key) is None
    script = "return (await failing(() => device.apply(a)))[1];"
    huge = world.update(values={"codes": np.full(8, 3e38, "f4")}, sequence=1)
    assert run(shared, script, huge).startswith("ProbeFailed: the package makes ")
    assert run(shared, script, world.update(model="0" * 64, sequence=1)).startswith("WrongModel: ")
    other = world.update("cam-2", sequence=1)
    assert run(shared, script, other).startswith("WrongDevice: ")
    assert run(shared, "return device.status.refused.error;") == "WrongDevice"
    assert_same(predict(shared, x), world.truth(world.inputs))
    nothing = world.update(values={"codes": np.zeros(8, "f4")}, sequence=1)  # where nothing would be gained
    assert run(shared, script, nothing) is None
    good = world.update(sequence=2)
    assert run(shared, script, good) is None
    assert_same(predict(shared, x), world.truth(world.inputs, world.values(2)))
    assert run(shared, script, good).startswith("StaleSequence: ")

    wrong = without_effect(files)
    model = json.loads(wrong["manifest.json"])["model"]
    assert start(shared, files=wrong, id="cam-1", publicKey=world.public_key) is None
    refused = run(shared, script, world.update(model=model, sequence=1))
    assert refused.startswith("NoEffect: the package changes parameters but no output")
    assert run(shared, "return device.status.sequence;") == 0


def test_an_update_must_do_what_the_server_has_signed(served: Served, shared: Page) -> None:
    for case in ("conv", "two"):
        world = served.worlds[case]
        effects = Effects.open(world.out)
        assert effects is not None
        nothing = {k: v.numpy() for k, v in world.adapted.adapter.base_values().items()}
        own, other = effects.of(world.values(1)), effects.of(world.values(2))
        assert own is not None
        verdicts = [
            (world.values(1), other, "WrongEffect"),
            (nothing, own, "WrongEffect"),
            (world.values(1), own[:-2], "WrongEffect"),
            (world.values(1), b"other" + own, None),
            (world.values(1), own, None),
            (nothing, effects.of(nothing), None),
            (world.values(3, size=0.01), effects.of(world.values(3, size=0.01)), None),
        ]
        files = files_of(world.out / "device")
        assert start(shared, files=files, id="cam-1", publicKey=world.public_key) is None
        python = ModuleRuntime.load(world.out, "cam-1", public_key=world.public_key)
        for sequence, (values, effect, rule) in enumerate(verdicts, start=1):
            data = world.update(values=values, sequence=sequence, issued=1_900_000_000, effect=effect)
            told = run(shared, "return (await failing(() => device.apply(a)))[1];", data)
            assert (told and told.partition(":")[0]) == rule
            with nullcontext() if rule is None else pytest.raises(WrongEffect) as refused:
                python.apply(data)
            if refused is not None:
                assert told == f"WrongEffect: {refused.value}"


def test_options_are_checked(served: Served, shared: Page) -> None:
    for options, message in [
        ({"id": "no id", "server": served.url}, "a device's id begins with"),
        ({"id": "a"}, "give url, files or server"),
        ({"id": "a", "server": served.url, "publicKey": "key"}, "64 lower-case hex digits"),
        ({"id": "a", "server": served.url, "model": "0" * 64}, "offers no model"),
        ({"id": "a", "url": f"{served.url}/nothing"}, "answers 404"),
    ]:
        error = start(shared, **options)
        assert error is not None
        assert message in error


def test_the_server_hands_out_any_model(served: Served) -> None:
    with httpx2.Client(base_url=served.url) as http:
        listed = {entry["model"]: entry for entry in http.get("/v1/bundles").json()["bundles"]}
        for case, world in served.worlds.items():
            assert listed[world.model] == {
                "model": world.model,
                "task": case,
                "form": world.adapted.adapter.name,
            }
            manifest = http.get(f"/v1/bundles/{world.model}").json()
            for name, digest in manifest["files"].items():
                data = http.get(f"/v1/files/{digest}").content
                assert data == (world.out / "device" / name).read_bytes()


def test_the_page_shows_a_model_that_takes_arrays(served: Served, new_page: Callable[..., Page]) -> None:
    world, page = served.worlds["conv"], new_page()
    page.goto(f"{served.url}/?model={world.model}")
    expect(page.get_by_text("This model takes arrays, not videos: use the library.")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    expect(page.get_by_role("list", name="The model in this tab")).to_contain_text(world.model[:12])
    expect(page.get_by_role("table", name="Inputs")).to_contain_text("[any, 3, 8, 8]")
    expect(page.get_by_role("table", name="Outputs")).to_contain_text("[any, 5]")
    expect(page.get_by_text("Classes: a, b, c, d, e.")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("The model is ready")


def test_the_dashboard_tells_of_any_model(
    served: Served, shared: Page, new_page: Callable[..., Page]
) -> None:
    world = served.worlds["statistics"]
    assert start(shared, server=served.url, model=world.model, id="seen") is None
    run(shared, "await device.observe(a);", arrays(world.inputs))
    adapt(shared, world)
    (state,) = world.out.parent.glob("*.db")
    token = processes.run("access", "grant", "ann", "--role", "viewer", "--state", state).split()[-1]
    page = new_page()
    page.goto(f"{served.url}/#/models")
    page.get_by_label("Operator's token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    row = page.get_by_role("region", name="Table of versions").get_by_role("row", name=world.model[:12])
    expect(row).to_contain_text("statistics")
    expect(row).to_contain_text("lowrank+statistics")
    page.goto(f"{served.url}/#/devices/seen")
    issued = page.get_by_role("region", name="Table of packages").get_by_role("row").nth(1)
    expect(issued).to_contain_text("4 examples")
    page.goto(f"{served.url}/#/fleet")
    expect(page.get_by_role("heading", name="Where the devices are")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_example_of_the_readme_runs(served: Served, new_page: Callable[..., Page]) -> None:
    text = (WEB / "package" / "README.md").read_text(encoding="utf-8")
    code = re.search(r"```js\n(.*?)```", text, re.DOTALL)
    assert code is not None
    lines = [line for line in code[1].splitlines() if line]
    assert len(lines) <= 20
    assert code[0] in (ROOT / "docs" / "device.md").read_text(encoding="utf-8")
    page = route(served, new_page())
    script = code[1].replace("http://127.0.0.1:8000", served.url)
    heard: list[str] = []
    page.on("console", lambda told: heard.append(told.text))
    page.add_script_tag(content=f"{script}\nglobalThis.done = true;", type="module")
    page.wait_for_function("globalThis.done")
    assert heard == ["[4, 5] [a, b, c, d, e]", "1 Float32Array(20)", "cloud package 1 came from the cloud"]


def test_it_runs_in_node(served: Served, tmp_path: Path) -> None:
    world = served.worlds["statistics"]
    x = arrays(world.inputs)
    script = f"""
import {{ Device }} from {json.dumps(str(served.library / "dist" / "index.js"))};
const runtime = await import("onnxruntime-web");
const options = {{ server: {json.dumps(served.url)}, model: {json.dumps(world.model)}, id: "node-1" }};
const refused = await Device.open(options).catch((error) => error.message);
const device = await Device.open({{ ...options, runtime }});
const x = {{ data: Float32Array.from({json.dumps(x.ravel().tolist())}), shape: {list(x.shape)} }};
await device.observe(x);
const {{ tensors }} = await device.adapt();
const y = await device.predict(x);
const values = [...tensors].map(([name, numbers]) => [name, [...numbers]]);
console.log(JSON.stringify({{ refused, values, y: [...y.data] }}));
process.exit(0);
"""
    # Bare names are found from where the file lies.
    shutil.copytree(served.library, tmp_path / "library")
    (tmp_path / "node_modules").symlink_to((WEB / "node_modules").resolve())
    script = script.replace(str(served.library), str(tmp_path / "library"))
    (tmp_path / "run.mjs").write_text(script)
    done = subprocess.run(["node", "run.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["refused"].startswith("in Node give a runtime")
    shapes = world.adapted.adapter.shapes
    own = {name: np.array(numbers, "f4").reshape(shapes[name]) for name, numbers in told["values"]}
    np.testing.assert_allclose(told["y"], world.truth(world.inputs, own).numpy().ravel(), atol=TOLERANCE)
