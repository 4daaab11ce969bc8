from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from clip_makers import picture_clip, texture, write_clips

from paramcast.cli.data import command
from paramcast.video.data.check import check_collection
from paramcast.video.data.collection import CollectionError


@pytest.fixture
def spoilt_root(collection_root: Path) -> Path:
    """The three clips, with one of each kind of problem."""
    lines = (collection_root / "clips.jsonl").read_text().splitlines()
    (collection_root / "c.mp4").write_bytes((collection_root / "c.mp4").read_bytes()[:900])
    picture = picture_clip(collection_root, [texture(9)], "d")
    return write_clips(
        collection_root,
        *lines,
        "{bad",
        {"id": "a", "frames": picture.frames},
        {"id": "e", "frames": ["gone-0.png", "gone-1.png"]},
        {"id": "f", "frames": picture.frames, "frame_captions": ["x", "y"], "device": [3]},
    )


def test_a_good_collection_has_no_problems(collection_root: Path) -> None:
    assert check_collection(collection_root) == []


def test_every_problem_is_listed_by_line(spoilt_root: Path) -> None:
    found = [(problem.line, problem.id) for problem in check_collection(spoilt_root)]
    assert found == [(3, "c"), (4, None), (5, "a"), (6, "e"), (6, "e"), (7, "f"), (7, "f")]


def test_a_folder_without_clips_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CollectionError):
        check_collection(tmp_path)
    with pytest.raises(CollectionError):
        check_collection(write_clips(tmp_path))


def test_the_command_sums_up(collection_root: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        command, ["check", str(collection_root), "--json", str(tmp_path / "out.json")]
    )
    assert result.exit_code == 0, result.output
    assert "3 clips, 5 frames, 1 video, 1 question, 4 captions" in result.output
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["clips"], written["categories"], written["problems"]) == (3, {"3": 1, "kitchen": 1}, [])


def test_the_command_lists_problems_and_exits_2(spoilt_root: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["check", str(spoilt_root), "--json", str(tmp_path / "out.json")])
    assert result.exit_code == 2
    assert "clips.jsonl:5: clip 'a': the id is already that of line 1" in result.output
    assert "7 problems" in result.output
    assert [each["line"] for each in json.loads((tmp_path / "out.json").read_text())["problems"]][:2] == [
        3,
        4,
    ]


def test_a_missing_folder_is_one_line_and_exit_2(tmp_path: Path) -> None:
    code = "import sys; sys.argv[0] = 'paramcast'; from paramcast.cli import main; main()"
    run = [sys.executable, "-c", code, "data", "check", str(tmp_path / "none")]
    done = subprocess.run(run, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "a collection is a folder with clips.jsonl" in done.stderr
