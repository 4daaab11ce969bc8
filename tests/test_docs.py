"""The documentation: its code runs, and the site builds without a warning."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from documentation import DOCS, run_page
from paramcast.adapters.configs import CONFIGS
from paramcast.hypernet.generators import GENERATORS
from paramcast.protocol.changes import KINDS

METHODS = {"add_a_method.md", "m3bat.md", "cmda_ot.md", "mm_adapter.md"}
ELSEWHERE = METHODS | {"device.md", "fleet.md", "own_model.md"}
"""Pages whose code needs a server or data, or is looked at more closely, in other tests."""


PAGES = ["own_videos.md", "how_it_works.md", "formats.md", "extend.md"]


@pytest.fixture
def registries() -> Iterator[None]:
    """Pages may add to the registries: they are as before afterwards."""
    registries = (KINDS, CONFIGS, GENERATORS)
    before = [dict(registry) for registry in registries]
    yield
    for registry, entries in zip(registries, before, strict=True):
        registry.clear()
        registry.update(entries)


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_page(page) > 0


def test_every_page_with_code_is_run() -> None:
    pages = {path.name for path in DOCS.rglob("*.md") if "```python" in path.read_text(encoding="utf-8")}
    assert pages - ELSEWHERE == set(PAGES)


def test_the_site_builds_without_a_warning_and_asks_nobody_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=DOCS.parent, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]* src=\"?https?:", text), page
        assert not re.findall(r"<link[^>]* rel=\"?stylesheet[^>]* href=\"?https?:", text), page
