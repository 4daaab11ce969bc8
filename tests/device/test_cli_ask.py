"""`paramcast ask` and `search`: a real video, a bundle, one command."""

from __future__ import annotations

from pathlib import Path

import pytest
from bundles import ANSWERS, make_bundle
from click.testing import CliRunner, Result
from test_device_video import write

from paramcast.cli.ask import command as ask
from paramcast.cli.search import command as search
from paramcast.errors import InputError


@pytest.fixture
def video(tmp_path: Path) -> Path:
    (tmp_path / "videos").mkdir()
    write(str(tmp_path / "videos" / "v.mp4"), 4)
    return tmp_path / "videos" / "v.mp4"


def run(command: object, *words: object) -> Result:
    return CliRunner().invoke(command, list(map(str, words)))  # type: ignore[arg-type]


def test_an_answer_a_question(tmp_path: Path, video: Path) -> None:
    bundle = make_bundle(tmp_path / "b")
    done = run(ask, "--bundle", bundle, "--video", video, "who is there?", "what is it?", "--start", 1)
    assert done.exit_code == 0, done.exception
    first, second = done.output.splitlines()
    assert first.startswith("who is there? ")
    assert second.split("? ")[1].split(" (")[0] in ANSWERS


def test_options(tmp_path: Path, video: Path) -> None:
    bundle = make_bundle(tmp_path / "b", task="choice")
    words = ("--bundle", bundle, "--video", video, "who is there?")
    done = run(ask, *words, "--option", "dog", "--option", "cat")
    assert done.output.split("? ")[1].split(" (")[0] in ("dog", "cat")
    assert "add: --option" in str(run(ask, *words).exception)


def test_search(tmp_path: Path, video: Path) -> None:
    bundle = make_bundle(tmp_path / "b", task="retrieval")
    (video.parent / "deep").mkdir()
    write(str(video.parent / "deep" / "w.mkv"), 2)
    done = run(search, "--bundle", bundle, "--videos", video.parent, "a red ball")
    assert done.exit_code == 0, done.exception
    assert sorted(line.split()[1] for line in done.output.splitlines()) == ["deep/w.mkv", "v.mp4"]


def test_what_does_not_fit_names_the_other_command(tmp_path: Path, video: Path) -> None:
    finds, answers = make_bundle(tmp_path / "r", task="retrieval"), make_bundle(tmp_path / "q")
    asked = run(ask, "--bundle", finds, "--video", video, "who?").exception
    sought = run(search, "--bundle", answers, "--videos", video.parent, "x").exception
    late = run(ask, "--bundle", answers, "--video", video, "who?", "--start", 60).exception
    gone = run(ask, "--bundle", answers, "--video", tmp_path / "gone.mp4", "who?").exception
    assert all(isinstance(each, InputError) for each in (asked, sought, late, gone))
    assert "paramcast search" in str(asked)
    assert "paramcast ask" in str(sought)
    assert "v.mp4: start 60 s lies after the end of the video, 4 s; correct start and end" in str(late)
    assert "there is no file" in str(gone)
