"""The page that is packed with paramcast is the one that its source gives, and it is small."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pages import ROOT

from paramcast.server.admin.page import STATIC

WEB = ROOT / "web"
FIRST_VIEW = 300_000


@pytest.fixture(scope="module")
def npm() -> str:
    """npm, with the page's packages installed."""
    found = shutil.which("npm")
    if found is None or not (WEB / "node_modules").is_dir():
        pytest.skip("the page's packages are not here: they need Node and `npm --prefix web ci`")
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = map(int, told.removeprefix("v").split(".")[:2])
    if (major, minor) < (20, 19):
        pytest.skip(f"the page is built with Node 20.19 or later, this is {told.strip()}")
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """Every file; what is packed compressed is compared as what it holds, as compressors differ."""
    return {
        path.relative_to(folder).as_posix(): gzip.decompress(path.read_bytes())
        if path.suffix == ".gz"
        else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_is_packed_is_what_the_source_gives(npm: str, tmp_path: Path) -> None:
    command = [npm, "--prefix", str(WEB), "run", "build", "--", "--outDir", str(tmp_path / "built")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    built, packed = contents(tmp_path / "built"), contents(STATIC)
    assert sorted(built) == sorted(packed), "run: make web"
    assert [name for name in built if built[name] != packed[name]] == [], "run: make web"


def test_the_source_is_sound(npm: str) -> None:
    done = subprocess.run([npm, "--prefix", str(WEB), "run", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_lock_names_versions_and_no_place_to_get_them() -> None:
    lock = json.loads((WEB / "package-lock.json").read_text())
    told = json.loads((WEB / "package.json").read_text())
    wanted = told["dependencies"] | told["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    for name, version in wanted.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    assert all("resolved" not in package for package in lock["packages"].values())


def test_the_first_view_is_small() -> None:
    """All that is loaded before the model and WebAssembly, compressed as it is served."""
    scripts = [path for path in STATIC.rglob("*") if path.suffix in (".html", ".js", ".mjs", ".css")]
    assert len(scripts) > 5
    assert sum(len(gzip.compress(path.read_bytes())) for path in scripts) < FIRST_VIEW


def test_every_package_in_the_page_has_its_licence() -> None:
    notices = (STATIC / "licenses.md").read_text()
    for name in ("preact", "onnxruntime-web", "@huggingface/tokenizers", "@awesome.me/webawesome", "comlink"):
        version = json.loads((WEB / "package.json").read_text())["dependencies"][name]
        assert f"## {name} {version} (" in notices
    parts = notices.split("\n## ")[1:]
    assert all(len(part.split("\n", 1)[1]) > 400 for part in parts)
