"""Examples run, at a size at which they show nothing but that; and a reader gets through each."""

from __future__ import annotations

import ast
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
    "day_and_night.py": ["--steps", "8"],
    "gain_form.py": ["--steps", "8"],
    "peft_adapter.py": ["--steps", "8"],
    "flower_federation.py": ["--rounds", "1", "--samples", "60"],
    "video_search.py": ["--clips", "90", "--steps", "2"],
}
TOLD = {
    "day_and_night.py": r"(?m)^  24    0\.0( +[\d.]+ %){2} +\d+$",
    "gain_form.py": r"(?m)^gain .*, 341 bytes down$",
    "peft_adapter.py": r"logits: ([\d.]+e-0[6-9]|0\.0e\+00)\n",
    "flower_federation.py": r"the same: +100\.0 %",
    "video_search.py": r"bytes up, [\d,]+ down; of 40 videos:\n\n.*\n  base .*\n  own ",
}
CONTROLS = ("base (", "constant (", "shuffled (", "own (", "gain: own", "own - shuffled")


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example from elsewhere, on one thread."""
    command = [sys.executable, str(EXAMPLES / script), *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)


@pytest.mark.parametrize("script", RUNS)
def test_an_example_runs_and_shows_its_controls(script: str) -> None:
    done = run(script, *RUNS[script], "--seed", "3")
    assert done.returncode == 0, done.stderr
    for control in CONTROLS:
        assert control in done.stdout
    assert done.stdout.count("unseen people") == (2 if "sensor" in script else 0)


@pytest.mark.parametrize("script", OTHERS)
def test_an_example_does_what_it_says(script: str) -> None:
    done = run(script, *OTHERS[script])
    assert done.returncode == 0, done.stderr
    assert re.search(TOLD[script], done.stdout), done.stdout


@pytest.mark.parametrize("script", RUNS | OTHERS)
def test_an_example_says_what_it_takes(script: str) -> None:
    done = run(script, "--help")
    assert done.returncode == 0, done.stderr
    for option in (*(word for word in (RUNS | OTHERS)[script] if word.startswith("--")), "--seed"):
        assert option in done.stdout


def test_no_example_is_long() -> None:
    scripts = list(EXAMPLES.glob("*.py"))
    assert {path.name for path in scripts} >= RUNS.keys() | OTHERS.keys()
    assert [path.name for path in scripts if path.read_text(encoding="utf-8").count("\n") >= 100] == []


def test_the_page_s_code_runs_and_adaptation_pays_there(tmp_path: Path) -> None:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 40
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    controls, gain = done.stdout.splitlines()[:2]
    assert list(ast.literal_eval(controls)) == ["base", "constant", "shuffled", "own"]
    low = re.search(r"'low': (-?[\d.]+)", gain)
    assert low is not None
    assert float(low.group(1)) > 0
    assert "bytes up" in done.stdout
    assert (tmp_path / "model" / "config.json").is_file()
