"""The package `@paramcast/device`, and what an update means in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from library import WEB, packed_library
from pages import ROOT
from playwright.sync_api import Page

from paramcast import __version__
from paramcast.protocol.changes import KINDS, changed, tensor_name


def test_the_package_is_whole_typed_and_shaken(tmp_path: Path) -> None:
    library = packed_library(tmp_path / "packed")
    told = json.loads((library / "package.json").read_text())
    assert told["version"] == __version__
    assert (library / told["types"]).is_file()
    assert (library / "README.md").is_file()
    assert (library / "dist" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    beside = json.loads((WEB / "package.json").read_text())["dependencies"]
    assert {
        name: range.removeprefix("^") for name, range in told["dependencies"].items()
    }.items() <= beside.items()

    scope = tmp_path / "node_modules" / "@paramcast"
    scope.mkdir(parents=True)
    shutil.copytree(library, scope / "device")
    for name in ("onnxruntime-web", "onnxruntime-common", "idb-keyval"):
        (tmp_path / "node_modules" / name).symlink_to((WEB / "node_modules" / name).resolve())
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "use.ts").write_text(
        'import { Device, type NdArray, PackageError } from "@paramcast/device";\n'
        'const device = await Device.open({ server: "x", id: "a" });\n'
        "const y = (await device.predict({ data: new Float32Array(2), shape: [1, 2] })) as NdArray;\n"
        "export const shape: readonly number[] = y.shape;\n"
        "// @ts-expect-error a rule is one of the known ones\n"
        'export const rule = new PackageError("Magic", "");\n'
    )
    tsc = str(WEB / "node_modules" / ".bin" / "tsc")
    options = ["--noEmit", "--strict", "--module", "nodenext", "--target", "es2024", "--skipLibCheck"]
    done = subprocess.run([tsc, *options, "use.ts"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout

    (tmp_path / "small.js").write_text('export { PackageError } from "@paramcast/device";\n')
    rolldown = (WEB / "node_modules/rolldown/dist/index.mjs").resolve()
    script = f"""import {{ rolldown }} from {json.dumps(str(rolldown))};
        const made = await (await rolldown({{ input: "small.js" }})).generate();
        console.log(made.output[0].code);"""
    (tmp_path / "shake.mjs").write_text(script)
    done = subprocess.run(["node", "shake.mjs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "this.rule = rule" in done.stdout
    assert len(done.stdout) < 1000


CHANGED = """async ([kind, name, shape, base, values, constants]) => {
    const { changed } = await paramcast.protocol();
    const floats = ([key, all]) => [key, Float32Array.from(all)];
    const tensors = (table) => new Map(Object.entries(table).map(floats));
    const target = { name, shape, values: Float32Array.from(base) };
    return [...changed(kind, target, tensors(values), tensors(constants))];
}"""


SHAPES: list[tuple[int, ...]] = [(), (5,), (4, 3), (3, 2, 2, 2)]
MEANINGS = [(kind, shape) for kind in KINDS for shape in SHAPES if kind != "statistics" or shape == (5,)]


@pytest.mark.parametrize(("kind", "shape"), MEANINGS)
def test_an_update_means_what_python_says(bare_page: Page, kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape))
    rows, columns = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else (1, int(np.prod(shape)))
    size = rows * columns

    def drawn(*sizes: int) -> np.ndarray:
        return rng.normal(size=sizes).astype("f4")

    name = "net.running_mean" if kind == "statistics" else "net.odd name-1.weight"
    known = tensor_name(name)
    base, values, constants = drawn(*shape), {}, {}
    if kind == "basis":
        values = {"codes": drawn(6)}
        matrix = {f"{known}.u": drawn(6, rows), f"{known}.v": drawn(6, columns)}
        constants = matrix if len(shape) > 1 else {f"{known}.basis": drawn(6, size)}
    elif kind == "lowrank":
        matrix = {f"{known}.a": drawn(rows, 2), f"{known}.b": drawn(2, columns)}
        values = matrix if len(shape) > 1 else {known: drawn(*shape)}
    elif kind == "centre":
        values, constants = {"centre": drawn(3)}, {f"{known}.centre": drawn(3, size)}
    elif kind == "statistics":
        values = {"net.shift": drawn(*shape), "net.scale": drawn(*shape)}
        constants = {"net.running_mean.deviation": drawn(*shape)}
    else:
        values = {known: drawn(*shape)}
    for each in [name, "net.running_var"] if kind == "statistics" else [name]:
        flat = [
            {key: array.ravel().tolist() for key, array in table.items()} for table in (values, constants)
        ]
        got = bare_page.evaluate(CHANGED, [kind, each, list(shape), base.ravel().tolist(), *flat])
        np.testing.assert_allclose(
            got, changed(kind, each, base, values, constants).ravel(), rtol=1e-5, atol=1e-6
        )


def test_names_are_python_s(bare_page: Page) -> None:
    names = [
        "a",
        "a.b.weight",
        "odd name.x-y",
        "x" * 300,
        ".".join("abcdefgh" * 5),
        "ü.ß\U0001f600",
        "..a",
        "",
    ]
    script = (
        "async (all) => { const p = await paramcast.protocol(); return all.map((one) => p.tensorName(one)); }"
    )
    assert bare_page.evaluate(script, names) == [tensor_name(name) for name in names]
