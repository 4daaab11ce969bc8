"""Make the demo world: draw random stories, render them as video files and write them as a collection."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from paramcast.errors import InputError, ParamcastError
from paramcast.files import write_bytes
from paramcast.paths import cache_dir
from paramcast.training.seeding import generator_for
from paramcast.video.data.collection import Collection
from paramcast.video.world.events import events_of
from paramcast.video.world.language import ask, caption
from paramcast.video.world.lore import SCENES
from paramcast.video.world.physics import FPS, Story, tell
from paramcast.video.world.render import render

DEMO_CLIPS = 1400
_REVISION = 1  # of the world: raise it when the clips change, so that a cached world is made again
_PLAIN_SHARE = 0.6
_CLIPS_A_PROCESS = 32  # for fewer clips, starting a process takes more time than it saves


def demo_world() -> Collection:
    """Return the demo world with all its clips; make it on first use and keep it in the cache.

    Making it takes under a minute on two cores. The world is built in a temporary folder and then moved to
    its final place, so that two processes that start at the same time both get a complete world.
    """
    home = cache_dir("world", f"r{_REVISION}-{DEMO_CLIPS}") / "demo-world"
    if not (home / "clips.jsonl").is_file():
        draft = Path(tempfile.mkdtemp(dir=home.parent, prefix=".making-"))
        try:
            make_world(draft, DEMO_CLIPS)
            draft.chmod(0o755)
            try:
                draft.rename(home)
            except OSError:  # another process was faster; its world is identical
                if not (home / "clips.jsonl").is_file():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return Collection.open(home)


def make_world(out: Path | str, clips: int = 1200, seed: int = 0) -> Collection:
    """Make a collection of short videos of moving things, with questions, answers and captions.

    Args:
        out: Folder to write to; it is made if it does not exist.
        clips: Number of clips; clip n is the same in a small and in a large world.
        seed: Seed of the whole world.

    Raises:
        InputError: `clips` is below 1, or the folder holds a collection already.
        ParamcastError: A process that makes clips failed; it prints the reason to the standard error.
    """
    out = Path(out)
    if clips < 1:
        raise InputError(f"a world needs at least one clip, not {clips}")
    if (out / "clips.jsonl").exists():
        raise InputError(f"{out} holds a collection already; choose another folder or remove it")
    (out / "videos").mkdir(parents=True, exist_ok=True)
    lines = _in_parallel(out, seed, clips)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_bytes(out / "clips.jsonl", text.encode())  # last: without this file, a folder is no collection
    return Collection.open(out)


def make_clip(out: Path, seed: int, number: int) -> dict[str, Any]:
    """Make one clip below `out` and return its line of `clips.jsonl`.

    In addition to the keys of the collection format, the line has `plain` (the backdrop does not show the
    scene), `kinds` (the kind of each question) and `log` (the actors and events from which the answers
    follow).
    """
    scene = SCENES[number % len(SCENES)]
    name = f"{scene}-{number:05d}"
    rng = generator_for("world", seed, number)
    story = _visible_story(rng, scene)
    events = events_of(story)
    asked = ask(rng, story, events)
    captions = caption(rng, story, events)
    write_video(out / "videos" / f"{name}.mp4", render(rng, story))
    cast = [{"name": a.name, "look": a.look, "colour": a.colour, "way": round(a.path)} for a in story.actors]
    return {
        "id": name,
        "video": f"videos/{name}.mp4",
        "captions": captions,
        "qa": [{"question": one.question, "answer": one.answer} for one in asked],
        "category": scene,
        "plain": story.plain,
        "kinds": [one.kind for one in asked],
        "log": {
            "scenario": story.scenario,
            "cast": cast,
            "events": [[event.frame, event.verb, event.subject, event.target] for event in events],
        },
    }


def _visible_story(rng: np.random.Generator, scene: str) -> Story:
    """Draw a story that shows every actor in at least 3 frames and in which the first actor moves."""
    while True:
        story = tell(rng, scene, bool(rng.random() < _PLAIN_SHARE))
        if all(actor.visible.sum() >= 3 for actor in story.actors) and story.actors[0].path > 20:
            return story


def write_video(path: Path, frames: np.ndarray, fps: int = FPS) -> None:
    """Encode (T, H, W, 3) uint8 RGB frames as H.264; height and width must be even."""
    import av

    with av.open(str(path), "w", format="mp4") as writer:
        stream = writer.add_stream(
            "libx264", rate=Fraction(fps), options={"crf": "22", "preset": "superfast"}
        )
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.thread_count = "yuv420p", 1
        for frame in frames:
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        writer.mux(stream.encode())


def _in_parallel(out: Path, seed: int, clips: int) -> list[dict[str, Any]]:
    """Make all clips and return their lines, in order; with enough clips, use one process for each core."""
    workers = max(1, min(os.cpu_count() or 1, clips // _CLIPS_A_PROCESS))
    with tqdm(total=clips, desc="making the world", unit="clip", disable=None) as bar:
        if workers == 1:
            return [_counted(make_clip(out, seed, number), bar) for number in range(clips)]
        shares = [range(first, clips, workers) for first in range(workers)]
        with ThreadPoolExecutor(workers) as threads:
            made = list(threads.map(lambda numbers: _in_process(out, seed, numbers, bar), shares))
    lines: list[dict[str, Any]] = [{}] * clips
    for first, share in enumerate(made):
        lines[first::workers] = share
    return lines


def _in_process(out: Path, seed: int, numbers: range, bar: tqdm) -> list[dict[str, Any]]:
    """Make clips in another interpreter and return their lines.

    This does not use multiprocessing: a fork copies the locks of torch's threads, and a spawn runs the
    caller's script again if the script has no `__main__` guard.
    """
    words = map(str, (out.absolute(), seed, numbers.start, numbers.stop, numbers.step))
    command = [sys.executable, "-m", "paramcast.video.world", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        lines = [_counted(json.loads(line), bar) for line in process.stdout]
    if process.returncode:
        raise ParamcastError(f"a process that makes the demo world failed with code {process.returncode}")
    return lines


def _counted(line: dict[str, Any], bar: tqdm) -> dict[str, Any]:
    bar.update()
    return line
