"""The library `@paramcast/device` in a separate page of a real server."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from pages import ROOT
from playwright.sync_api import Page, Route

from paramcast.server.admin.page import STATIC

if TYPE_CHECKING:
    from worlds import World

WEB = ROOT / "web"
TOLERANCE = 1e-4
IMPORTS = {
    "@paramcast/device": "/lib/index.js",
    "idb-keyval": "/modules/idb-keyval/dist/index.js",
    "onnxruntime-web/wasm": "/modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
}
(WASM,) = (STATIC / "assets").glob("ort-wasm-simd-threaded-*.wasm.gz")
HTML = f"""<!doctype html><script type="importmap">{json.dumps({"imports": IMPORTS})}</script>
<script type="module">
import * as lib from "@paramcast/device";
import {{ env }} from "onnxruntime-web/wasm";
env.wasm.wasmPaths = {{ wasm: "/assets/{WASM.stem}" }}; // the page's own; routing 12 MB here is slow
const ARRAYS = {{ float32: Float32Array, float64: Float64Array, int64: BigInt64Array }};
const read = (given) => {{
    if (Array.isArray(given)) return given.map(read);
    if (typeof given !== "object" || given === null) return given;
    if (!("base64" in given)) {{
        return Object.fromEntries(Object.entries(given).map(([key, part]) => [key, read(part)]));
    }}
    const bytes = Uint8Array.fromBase64(given.base64);
    return "dtype" in given ? {{ data: new ARRAYS[given.dtype](bytes.buffer), shape: given.shape }} : bytes;
}};
const told = (value) => {{
    if (value?.data) return {{ shape: value.shape, data: Array.from(value.data, Number) }};
    if (Array.isArray(value)) return value.map(told);
    return value && Object.fromEntries(Object.entries(value).map(([key, part]) => [key, told(part)]));
}};
const failing = async (work) => {{
    try {{ return [await work(), null]; }}
    catch (error) {{ return [null, `${{error.name}}: ${{error.message}}`]; }}
}};
Object.assign(globalThis, {{ lib, read, told, failing, ready: true }});
</script>"""


@dataclass
class Served:
    """A real server with several artifacts, and the folder of the library."""

    url: str
    worlds: dict[str, World]
    library: Path


def packed_library(folder: Path) -> Path:
    """Build the package `@paramcast/device`, and unpack it in `folder`; skip where this is impossible."""
    npm = shutil.which("npm")
    if npm is None or not (WEB / "node_modules").is_dir():
        pytest.skip("the library's packages are not here: they need Node and `npm --prefix web ci`")
    package = folder / "source"  # a separate folder, because several tests may build at once
    package.mkdir(parents=True)
    for name in ("package.json", "README.md"):
        shutil.copy(WEB / "package" / name, package)
    for command in (
        [npm, "run", "--silent", "build:device", "--", "--outDir", str(package / "dist"), "--emptyOutDir"],
        [npm, "pack", "--silent", str(package), "--pack-destination", str(folder)],
    ):
        done = subprocess.run(command, cwd=WEB, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    (tarball,) = folder.glob("*.tgz")
    shutil.unpack_archive(tarball, folder, "gztar", filter="data")
    return folder / "package"


def route(served: Served, page: Page) -> Page:
    """Route the library and its packages to the page, in addition to the server's routes."""

    def file(folder: Path, prefix: str) -> Callable[[Route], None]:
        def answer(route: Route) -> None:
            path = folder / route.request.url.split(prefix, 1)[1].split("?")[0]
            kind = "application/wasm" if path.suffix == ".wasm" else "text/javascript"
            route.fulfill(body=path.read_bytes(), content_type=kind)

        return answer

    page.route("**/lib/**", file(served.library / "dist", "/lib/"))
    page.route("**/modules/**", file(WEB / "node_modules", "/modules/"))
    page.route("**/folder/**", file(served.worlds["two"].out / "device", "/folder/"))
    page.route("**/own.html", lambda route: route.fulfill(body=HTML, content_type="text/html"))
    page.goto(f"{served.url}/own.html")
    page.wait_for_function("globalThis.ready")
    return page


def packed(x: Any) -> Any:
    """Convert nested arrays and bytes to the form that the page reads."""
    if isinstance(x, bytes):
        return {"base64": base64.b64encode(x).decode()}
    if isinstance(x, np.ndarray):
        x = np.ascontiguousarray(x)
        return packed(x.tobytes()) | {"dtype": str(x.dtype), "shape": list(x.shape)}
    if isinstance(x, dict):
        return {name: packed(part) for name, part in x.items()}
    return [packed(part) for part in x] if isinstance(x, list | tuple) else x


def unpacked(told: Any) -> Any:
    if isinstance(told, dict) and told.keys() == {"shape", "data"}:
        return np.array(told["data"]).reshape(told["shape"])
    if isinstance(told, dict):
        return {name: unpacked(part) for name, part in told.items()}
    return [unpacked(part) for part in told]


def leaves(value: Any) -> list[np.ndarray]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [np.asarray(value)]


def assert_same(got: Any, wanted: Any) -> None:
    assert isinstance(got, dict) == isinstance(wanted, dict)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
    for a, b in zip(leaves(got), leaves(wanted), strict=True):
        np.testing.assert_allclose(a, b, atol=TOLERANCE)


def run(page: Page, script: str, *given: Any) -> Any:
    """Evaluate a script in the page; its variables `a`, `b` and so on are the arguments."""
    return page.evaluate(
        f"async (given) => {{ const [{', '.join('abcd'[: len(given)])}] = read(given); {script} }}",
        packed(given),
    )


def start(page: Page, **options: Any) -> str | None:
    """Open a device in the page; return the error, if there is one."""
    store = options.pop("store", False)
    script = """const store = b ? { store: lib.browserTable() } : {};
        const [device, error] = await failing(() => lib.Device.open({ ...a, ...store }));
        globalThis.device = device; return error;"""
    error: str | None = run(page, script, options, store)
    return error


def predict(page: Page, x: Any) -> Any:
    return unpacked(run(page, "return told(await device.predict(a));", x))


def adapt(page: Page, world: World) -> dict[str, np.ndarray]:
    """Request an update from the server, and return its tensors."""
    tensors = run(page, "return [...(await device.adapt()).tensors].map(([n, v]) => [n, [...v]]);")
    shapes = world.adapted.adapter.shapes
    assert {name for name, _ in tensors} == shapes.keys()
    return {name: np.array(values, "f4").reshape(shapes[name]) for name, values in tensors}
