"""The demo world: the same everywhere, decodable, and its answers follow from what happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from paramcast.errors import InputError, ParamcastError
from paramcast.training.seeding import generator_for
from paramcast.video import world
from paramcast.video.data.check import check_collection
from paramcast.video.data.collection import Collection
from paramcast.video.world import make
from paramcast.video.world.events import VERBS, events_of
from paramcast.video.world.language import NUMBERS
from paramcast.video.world.lore import (
    COLOURS,
    CREATURES,
    FAVOUR,
    LORE,
    PLAIN_LOOKS,
    SCENARIOS,
    SCENES,
    SHARED_LOOKS,
)
from paramcast.video.world.physics import FRAMES, SIZE, tell
from paramcast.video.world.sprites import draw

CLIPS = 24


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    return world.make_world(tmp_path_factory.mktemp("world"), clips=CLIPS, seed=1)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as video:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])


def lines(collection: Collection) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (collection.root / "clips.jsonl").read_text().splitlines()]


def test_every_clip_decodes_and_moves(small: Collection) -> None:
    assert len(small.clips) == CLIPS
    for clip in small.clips:
        frames = decoded(clip.paths[0])
        assert frames.shape == (FRAMES, SIZE, SIZE, 3)
        assert 20 < frames.mean() < 235
        assert np.abs(frames.astype(int) - frames[:1]).max() > 40


def test_the_same_seed_makes_the_same_world(small: Collection, tmp_path: Path) -> None:
    again = world.make_world(tmp_path / "again", clips=10, seed=1)
    other = world.make_world(tmp_path / "other", clips=10, seed=2)
    assert lines(again) == lines(small)[:10]
    assert lines(other) != lines(small)[:10]
    for clip in again.clips:
        assert np.array_equal(decoded(clip.paths[0]), decoded(small.by_id[clip.id].paths[0]))


def test_the_order_of_sets_has_no_part_in_it(tmp_path: Path) -> None:
    """Python orders sets of strings anew in every process; things that roll were drawn from one."""
    found = []
    for seed in ("1", "9"):  # the set of the looks that roll has one order with these, and the other
        (tmp_path / seed / "videos").mkdir(parents=True)
        command = [sys.executable, "-m", "paramcast.video.world", str(tmp_path / seed), "0", "8", "60", "2"]
        done = subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        videos = [(tmp_path / seed / line["video"]).read_bytes() for line in lines]
        found.append([lines, videos])
    assert found[0] == found[1]
    assert sum(line["log"]["scenario"] == "roll" for line in found[0][0]) > 2


def test_parallel_processes_make_the_same_clips(
    small: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make, "_CLIPS_A_PROCESS", 3)
    monkeypatch.setattr(make.os, "cpu_count", lambda: 2)
    again = world.make_world(tmp_path / "again", clips=6, seed=1)
    assert lines(again) == lines(small)[:6]
    for clip in again.clips:
        assert clip.paths[0].read_bytes() == small.by_id[clip.id].paths[0].read_bytes()


def test_the_checker_finds_no_fault(small: Collection) -> None:
    assert check_collection(small.root) == []


def test_a_failing_process_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "_CLIPS_A_PROCESS", 1)
    monkeypatch.setattr(make.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(make.sys, "executable", "false")
    with pytest.raises(ParamcastError, match="code 1"):
        world.make_world(tmp_path / "world", clips=2)
    assert not (tmp_path / "world" / "clips.jsonl").exists()


def test_lines_hold_questions_captions_and_scenes(small: Collection) -> None:
    assert {clip.category for clip in small.clips} == set(SCENES)
    for clip in small.clips:
        assert 4 <= len(clip.qa) <= 10
        assert len(clip.qa) == len({question.question for question in clip.qa})
        assert len(clip.captions) == 2
        assert all(" " not in question.answer for question in clip.qa)
    assert {clip.extra["plain"] for clip in small.clips} == {True, False}


def test_answers_follow_from_the_log(small: Collection) -> None:
    for line in lines(small):
        cast, events = line["log"]["cast"], line["log"]["events"]
        names = {actor["name"] for actor in cast}
        for question, kind in zip(line["qa"], line["kinds"], strict=True):
            text, answer = question["question"], question["answer"]
            assert _right(kind, text, answer, cast, events, names, line["category"]), (line["id"], question)


def _right(
    kind: str,
    text: str,
    answer: str,
    cast: list[dict[str, Any]],
    events: list[list[Any]],
    names: set[str],
    scene: str,
) -> bool:
    words = text.strip("?").split()
    if kind == "scene":
        return answer == scene
    if kind == "exists":
        here = words[-1] in names or words[-1] in {actor["colour"] for actor in cast}
        return answer == ("yes" if here else "no")
    if kind == "count":
        alive = Counter(actor["look"] in CREATURES for actor in cast)
        moving = sum(actor["way"] > 6 for actor in cast)
        return answer in {
            NUMBERS[alive[True]],
            NUMBERS[alive[False]],
            NUMBERS[moving],
            NUMBERS[max(0, moving - 1)],
        }
    if kind == "colour":
        named = [actor["colour"] for actor in cast if actor["name"] in words]
        return answer in (named or [actor["colour"] for actor in cast if actor["way"] > 5])
    done = {event[1] for event in events}
    if kind in ("action", "order"):
        return answer in done
    coloured = [actor["name"] for actor in cast if actor["colour"] in words]
    if "hit" in words:
        targets = {cast[event[3]]["name"] for event in events if event[1] == "hit"}
        return answer in targets and len(coloured) == 1
    return answer in names and (not coloured or coloured == [answer])


def test_every_look_can_be_drawn() -> None:
    for look in (*SHARED_LOOKS, *PLAIN_LOOKS, *CREATURES):
        right, left = (draw(generator_for(1), look, 16.0, (0.8, 0.2, 0.2), facing)[0] for facing in (1, -1))
        cover = right.paint[..., 3]
        assert 0.0 <= cover.min() <= cover.max() <= 1.0 + 1e-5
        assert not cover[[0, -1]].any()
        assert not cover[:, [0, -1]].any()
        assert np.allclose(cover, left.paint[:, ::-1, 3])


def test_every_scenario_can_be_told_in_every_scene() -> None:
    seen = set()
    for number in range(240):
        story = tell(generator_for("told", number), SCENES[number % 8], bool(number % 2))
        seen.add(story.scenario)
        assert story.actors
        assert {event.verb for event in events_of(story)} <= set(VERBS)
    assert seen == set(SCENARIOS)


def test_scenes_differ_in_what_is_usual() -> None:
    shared = [name for lore in LORE.values() for name in lore.names]
    assert len(shared) == len(set(shared)) == len(SCENES) * len(SHARED_LOOKS)
    for lore in LORE.values():
        assert set(lore.looks) <= {*SHARED_LOOKS, *PLAIN_LOOKS}
        assert set(lore.colours) <= set(COLOURS)
        assert set(lore.creatures) <= set(CREATURES)
        assert set(lore.scenarios) <= set(SCENARIOS)
    assert min(FAVOUR.values()) > 1


def test_a_world_is_not_written_over(small: Collection) -> None:
    with pytest.raises(InputError, match="already"):
        world.make_world(small.root, clips=2)
    with pytest.raises(InputError, match="at least one"):
        world.make_world(small.root / "none", clips=0)


def test_the_demo_world_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "DEMO_CLIPS", 2)
    first = world.demo_world()
    assert first.name == "demo-world"
    assert len(first.clips) == 2
    monkeypatch.setattr(make, "make_world", None)  # would fail if it were called again
    assert world.demo_world() == first
    assert [path.name for path in first.root.parent.iterdir()] == ["demo-world"]


def test_a_demo_world_that_another_process_made_meanwhile_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "DEMO_CLIPS", 1)
    real = make.make_world

    def race(out: Path, clips: int) -> None:
        real(out, clips)
        home = out.parent / "demo-world"
        if not home.exists():
            real(home, clips)

    monkeypatch.setattr(make, "make_world", race)
    assert len(world.demo_world().clips) == 1


def test_a_demo_world_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARAMCAST_CACHE", str(tmp_path))  # the usual one may hold a whole world

    def fail(out: Path, clips: int) -> None:
        (out / "half").touch()
        raise RuntimeError("the disk is full")

    monkeypatch.setattr(make, "make_world", fail)
    with pytest.raises(RuntimeError, match="disk is full"):
        world.demo_world()
    parent = make.cache_dir("world", f"r{make._REVISION}-{make.DEMO_CLIPS}")
    assert not list(parent.iterdir())
