"""What `paramcast serve` gives a browser: the page, and bundles by the sha256 of their files."""

from __future__ import annotations

import gzip
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from artifacts import make_artifact
from bundles import MODEL, make_bundle

from paramcast.errors import InputError
from paramcast.server import BrowserBundle
from paramcast.server.admin.page import STATIC

sys.path.insert(0, str(Path(__file__).parents[1] / "server"))
import processes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_artifact(tmp_path_factory.mktemp("serve") / "artifact") / "device"


@pytest.fixture(scope="module")
def http(folder: Path) -> Iterator[httpx2.Client]:
    with (
        processes.service(folder.parents[1]) as running,
        httpx2.Client(base_url=running.url) as client,
    ):
        yield client


def test_the_page_may_load_nothing_from_elsewhere(http: httpx2.Client) -> None:
    reply = http.get("/")
    assert reply.status_code == 200
    assert reply.headers["content-type"].startswith("text/html")
    rules = dict(rule.split(" ", 1) for rule in reply.headers["content-security-policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    assert "http" not in reply.headers["content-security-policy"]
    assert reply.headers["cross-origin-opener-policy"] == "same-origin"
    assert reply.headers["cross-origin-embedder-policy"] == "require-corp"
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("encoding", ["gzip", "identity"])
def test_every_file_of_the_page_is_served_as_it_was_built(http: httpx2.Client, encoding: str) -> None:
    for path in (STATIC / "assets").iterdir():
        name = path.name.removesuffix(".gz")
        reply = http.get(f"/assets/{name}", headers={"accept-encoding": encoding})
        data = path.read_bytes()
        assert reply.content == (gzip.decompress(data) if path.suffix == ".gz" else data), name
        assert ("content-encoding" in reply.headers) == (encoding == "gzip")
        assert "immutable" in reply.headers["cache-control"]


def test_what_a_browser_has_it_is_not_sent_again(http: httpx2.Client) -> None:
    first = http.get("/")
    again = http.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    "path",
    ["/assets/none.js", "/assets/..%2Findex.html", "/assets/%2e%2e/page.py", "/v1/files/x", "/v1/bundles/x"],
)
def test_there_is_nothing_else(http: httpx2.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_a_bundle_is_found_by_its_model_and_its_files_by_their_content(
    http: httpx2.Client, folder: Path
) -> None:
    assert http.get("/v1/bundles").json() == {"bundles": [{"model": MODEL, "task": "qa", "form": "full"}]}
    reply = http.get(f"/v1/bundles/{MODEL}")
    assert reply.content == (folder / "manifest.json").read_bytes()
    assert reply.headers["cache-control"] == "no-cache"
    for name, digest in reply.json()["files"].items():
        file = http.get(f"/v1/files/{digest}")
        assert hashlib.sha256(file.content).hexdigest() == digest, name
        assert "immutable" in file.headers["cache-control"]


@pytest.mark.parametrize("fault", ["no manifest", "not an object", "a changed file", "a path outside"])
def test_a_bundle_that_is_none_is_refused_at_the_start(tmp_path: Path, fault: str) -> None:
    folder = make_bundle(tmp_path / "bundle")
    manifest = folder / "manifest.json"
    if fault == "no manifest":
        manifest.unlink()
    elif fault == "not an object":
        manifest.write_text("[]")
    elif fault == "a changed file":
        (folder / "answer.onnx").write_bytes(b"changed")
    else:
        told = json.loads(manifest.read_text())
        told["files"]["../bundle/answer.onnx"] = told["files"]["answer.onnx"]
        manifest.write_text(json.dumps(told))
    with pytest.raises(InputError, match="bundle"):
        BrowserBundle.open(folder)
