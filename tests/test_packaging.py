"""What is built to be distributed: the same bytes twice, and all that it has to carry."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Path]]:
    """Twice a wheel and an sdist, by their suffix."""
    found = []
    for _ in range(2):
        folder = tmp_path_factory.mktemp("dist")
        command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        found.append({path.suffix: path for path in folder.iterdir()})
    return found


@pytest.mark.parametrize("suffix", [".whl", ".gz"])
def test_builds_are_reproducible(built: list[dict[str, Path]], suffix: str) -> None:
    one, other = (each[suffix].read_bytes() for each in built)
    assert one == other


def test_the_wheel_carries_types_licences_and_the_page_and_nothing_else(built: list[dict[str, Path]]) -> None:
    names = zipfile.ZipFile(built[0][".whl"]).namelist()
    for needed in (
        "paramcast/py.typed",
        "paramcast/server/static/index.html",
        "paramcast/server/static/licenses.md",
        "paramcast/video/encoders/bert_uncased_vocab.txt",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"paramcast"}
    assert not any("experiments" in name for name in names)
    assert {path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src").rglob("*.py")} <= set(names)


def test_the_sdist_can_be_tested(built: list[dict[str, Path]]) -> None:
    with tarfile.open(built[0][".gz"]) as archive:
        top = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"src", "tests", "docs", "experiments", "web", "Makefile", "constraints.txt", "LICENSE"} <= top


def test_the_package_is_imported_at_once() -> None:
    """Processor time: a busy machine may take longer by the clock."""
    script = "import time; a = time.process_time(); import paramcast; print(time.process_time() - a)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 0.1
    script = "import sys, paramcast; print({'numpy', 'onnxruntime', 'torch', 'click'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
