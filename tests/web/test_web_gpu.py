"""The trunk on WebGPU: here on the one that Chromium computes in software, so a small trunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pages
import pytest
from onnx import TensorProto, helper, numpy_helper
from pages import add_clip, call, load, query
from playwright.sync_api import Browser

from paramcast.device.bundle import Bundle
from paramcast.device.graphs import Graphs
from paramcast.protocol import make_key

GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"]


@pytest.fixture(scope="module")
def gpu_browser() -> Iterator[Browser]:
    with pages.launched(*GPU) as browser:
        yield browser


def trunk(features: int) -> onnx.ModelProto:
    """Frames uint8 (N, H, W, 3), shrunk as the real trunk does it, convolved, averaged: (N, features)."""
    rng = np.random.default_rng(0)
    shrink = {"mode": "linear", "antialias": 1, "exclude_outside": 1}
    nodes = [
        helper.make_node("Transpose", ["frames"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Shape", ["planes"], ["shape"], end=2),
        helper.make_node("Concat", ["shape", "side"], ["sizes"], axis=0),
        helper.make_node("Resize", ["pixels", "", "", "sizes"], ["small"], name="resized", **shrink),
        helper.make_node("Mul", ["small", "scale"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "kernel"], ["seen"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["seen"], ["active"]),
        helper.make_node("ReduceMean", ["active", "axes"], ["features"], keepdims=0),
    ]
    constants = {
        "side": np.array([8, 8], np.int64),
        "scale": np.array(1 / 64, "f4"),
        "kernel": rng.normal(size=(features, 3, 3, 3)).astype("f4"),
        "axes": np.array([2, 3], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "trunk",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", "h", "w", 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", features])],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_on_a_gpu_it_answers_as_on_a_processor(gpu_browser: Browser, tmp_path: Path) -> None:
    from backends import TinyBackend, serving
    from bundles import IMAGE_DIM, make_bundle, reseal

    from paramcast.server import BrowserBundle, create_app

    folder = make_bundle(tmp_path / "bundle", form="codes")
    (folder / "image.onnx").write_bytes(trunk(IMAGE_DIM).SerializeToString())
    reseal(folder, "image.onnx")
    bundle = Bundle.load(folder)
    graphs = Graphs(bundle)
    frames = np.random.default_rng(1).integers(0, 256, (4, 20, 30, 3), np.uint8)
    app = create_app(TinyBackend("codes"), make_key(), bundles=[BrowserBundle.open(folder)])
    with serving(app) as url:
        page = gpu_browser.new_page()
        page.set_default_timeout(pages.PATIENCE_MS)
        page.goto(url)
        if not page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => adapter !== null)"):
            pytest.skip("this Chromium has no WebGPU, not even in software")
        load(page, f"{url}/?backend=webgpu")
        page.get_by_text("WebGPU and WebAssembly").wait_for()
        add_clip(page, frames)
        for question in ("who is there", "what colour is the ball"):
            expected = graphs.answer(graphs.image(frames), graphs.text([question]), bundle.base)[0]
            got = call(page, "logits", query(question), "base")
            np.testing.assert_allclose(got, expected, atol=1e-3)
        load(page, url)  # a GPU in software is not worth it: left alone, the page runs on WebAssembly
        page.get_by_text("runs on WebAssembly").wait_for()
